/**
 * Calls of the service: with the key, the prefix of the links, and problems as errors.
 *
 * Knows HTTP; nothing of what is done with the answers.
 */

/** Prefix of every path of the service. */
export const ROOT = meta("root");
/** Where the files of this version of the page are. */
export const FILES = meta("files");

const KEY = "assets.key";
/** How often something is sent while nobody answers. */
const TRIES = 4;

/** @param {string} name */
function meta(name) {
  return document.querySelector(`meta[name="${name}"]`)?.getAttribute("content") ?? "";
}

/** What the service refused, as RFC 9457 says it. */
export class Problem extends Error {
  /** @param {number} status @param {any} body @param {number | null} retryAfter Seconds. */
  constructor(status, body, retryAfter) {
    super(body?.detail || body?.title || `HTTP ${status}`);
    this.status = status;
    /** @type {string} */
    this.code = body?.code ?? "";
    /** @type {{field: string, detail: string, row?: number}[]} `detail` says what is allowed, too. */
    this.errors = (body?.errors ?? []).map((/** @type {any} */ one) => (
      one.allowed?.length ? { ...one, detail: `${one.detail} (${one.allowed.join(", ")})` } : one
    ));
    this.retryAfter = retryAfter;
  }

  /** What is wrong, by field. @returns {Record<string, string>} */
  get fields() {
    return Object.fromEntries(this.errors.map((one) => [one.field, one.detail]));
  }
}

/** The key of this tab; it goes with the tab. */
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  /** @param {string} value */
  set: (value) => (value ? sessionStorage.setItem(KEY, value) : sessionStorage.removeItem(KEY)),
};

/** @type {(problem: Problem) => void} Told of every 401. */
let refused = () => {};

/** @param {(problem: Problem) => void} heard */
export function onRefused(heard) {
  refused = heard;
}

/**
 * The answer, which is a success. Throws Problem, or TypeError where nobody answers.
 * @param {string} path Below ROOT, or a link of an answer.
 * @param {RequestInit & {json?: any}} [options]
 * @returns {Promise<Response>}
 */
export async function ask(path, options = {}) {
  const headers = new Headers(options.headers);
  if (key.get()) headers.set("Authorization", `Bearer ${key.get()}`);
  const { json, ...rest } = options;
  if (json !== undefined) {
    headers.set("Content-Type", "application/json");
    rest.body = JSON.stringify(json);
    rest.method ??= "POST";
  }
  const url = ROOT && !path.startsWith(`${ROOT}/`) ? ROOT + path : path;
  const response = await fetch(url, { ...rest, headers });
  if (response.ok) return response;
  const body = await response.json().catch(() => null);
  const wait = Number(response.headers.get("Retry-After"));
  const problem = new Problem(response.status, body, wait || null);
  if (problem.status === 401) refused(problem);
  throw problem;
}

/**
 * @param {string} path
 * @param {RequestInit & {json?: any}} [options]
 * @returns {Promise<any>}
 */
export async function get(path, options) {
  return (await ask(path, options)).json();
}

/** @param {string} path @param {Blob} file With its type. @returns {Promise<any>} */
export function sendFile(path, file) {
  return get(path, { method: "POST", body: file });
}

/**
 * A POST or PATCH that is safe to repeat, and is repeated while the service is away for a moment.
 * @param {string} path @param {any} content A file with its type as it is, anything else as JSON. @param {string} [method]
 * @returns {Promise<any>}
 */
export async function post(path, content, method = "POST") {
  const headers = { "Idempotency-Key": name() };
  const body = content instanceof Blob ? { body: content } : { json: content };
  for (let left = TRIES; ; left--) {
    try {
      return await get(path, { method, headers, ...body });
    } catch (error) {
      const away = !(error instanceof Problem) || (error.status === 503 && error.code !== "storage_failed");
      if (!away || left <= 1) throw error;
      await pause(error instanceof Problem ? 1000 * (error.retryAfter ?? 1) : 700);
    }
  }
}

/** @param {number} ms @returns {Promise<void>} */
export function pause(ms) {
  return new Promise((done) => setTimeout(done, ms));
}

/** A name that nobody else chooses. `crypto.randomUUID` is not there without TLS. */
function name() {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (b) => b.toString(16).padStart(2, "0")).join("");
}

/** A small look at a finished picture. @param {string} url @param {number} side Pixels. */
export function thumbnail(url, side) {
  return `${url}?thumb=${side}`;
}
