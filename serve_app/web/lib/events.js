/**
 * The one event stream: read with `fetch`, since an EventSource can send no key. It connects again by itself.
 *
 * Knows the wire format and when a connection is dead; the store knows what an event means.
 */

import { Problem, ask } from "./api.js";

/** Comments come every 15 s; after so long without a byte nobody is there, as after a laptop's sleep. */
const SILENCE_MS = 40_000;
const FIRST_PAUSE_MS = 300;
const LONGEST_PAUSE_MS = 8_000;

/**
 * @typedef {{event: string, data: any, id: string}} Told
 * @typedef {{told: (event: Told) => void, connected: () => void, lost: () => void}} Listener
 */

/**
 * Read until `signal` aborts.
 * @param {string} path @param {Listener} listener @param {AbortSignal} signal
 */
export async function follow(path, listener, signal) {
  let last = "";
  let wait = FIRST_PAUSE_MS;
  while (!signal.aborted) {
    const connection = new AbortController();
    const stop = () => connection.abort();
    const ends = { signal: connection.signal };
    signal.addEventListener("abort", stop, ends);
    window.addEventListener("offline", stop, ends);
    let heard = Date.now();
    const guard = setInterval(() => Date.now() - heard > SILENCE_MS && stop(), 2_000);
    try {
      const headers = last ? { "Last-Event-ID": last } : undefined;
      const response = await ask(path, { headers, signal: connection.signal, cache: "no-store" });
      listener.connected();
      wait = FIRST_PAUSE_MS;
      for await (const told of events(response, () => (heard = Date.now()))) {
        last = told.id || last;
        listener.told(told);
      }
    } catch (error) {
      if (error instanceof Problem && error.status === 401) return;
      if (error instanceof Problem && error.retryAfter) wait = Math.max(wait, 1000 * error.retryAfter);
    } finally {
      clearInterval(guard);
      stop();
    }
    if (signal.aborted) return;
    listener.lost();
    await away(wait * (0.5 + Math.random() / 2), signal);
    wait = Math.min(2 * wait, LONGEST_PAUSE_MS);
  }
}

/** A pause that ends early when the network or the person comes back.
 * @param {number} ms @param {AbortSignal} signal @returns {Promise<void>} */
function away(ms, signal) {
  return new Promise((done) => {
    const over = new AbortController();
    const ends = { signal: over.signal };
    const end = () => (over.abort(), done());
    setTimeout(end, ms);
    window.addEventListener("online", end, ends);
    document.addEventListener("visibilitychange", () => document.visibilityState === "visible" && end(), ends);
    signal.addEventListener("abort", end, ends);
  });
}

/** @param {Response} response @param {() => void} heard Called with every byte. @returns {AsyncGenerator<Told>} */
async function* events(response, heard) {
  const reader = /** @type {ReadableStream<Uint8Array>} */ (response.body).getReader();
  const decoder = new TextDecoder();
  let rest = "";
  for (;;) {
    const { done, value } = await reader.read();
    if (done) return;
    heard();
    rest += decoder.decode(value, { stream: true });
    const blocks = rest.split(/\r?\n\r?\n/);
    rest = /** @type {string} */ (blocks.pop());
    for (const block of blocks) {
      const told = parsed(block);
      if (told) yield told;
    }
  }
}

/** @param {string} block @returns {Told | null} Null: a comment. */
function parsed(block) {
  const found = { event: "message", data: "", id: "" };
  for (const line of block.split(/\r?\n/)) {
    const [, name, value] = /^([^:]*)(?:: ?(.*))?$/.exec(line) ?? [];
    if (name === "event") found.event = value ?? "";
    if (name === "id") found.id = value ?? "";
    if (name === "data") found.data += (found.data && "\n") + (value ?? "");
  }
  return found.data ? { ...found, data: JSON.parse(found.data) } : null;
}
