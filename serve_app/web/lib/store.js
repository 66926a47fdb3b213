/**
 * The one store: what the page knows of the service, kept fresh by one event stream.
 *
 * Views read it and are told when it has changed. Only this module writes to it.
 */

import { Problem, get, key, onRefused, pause, post, ask } from "./api.js";
import { follow } from "./events.js";
import { Signal } from "./signal.js";
import { T } from "../texts.js";

/** @typedef {import("../types.js").Job} Job */
/** @typedef {import("../types.js").Catalog} Catalog */

export const FINAL = new Set(["SUCCESS", "FAILURE", "REVOKED"]);
/** A tag of jobs that only try something. No view shows them, but for the one that tries. */
export const TRIAL = "trial";
/** Ended jobs that are kept to be shown beside those that live. */
const MOST_ENDED = 12;
/** How long a job that succeeded is shown as done; its pictures are in the gallery. */
const DONE_MS = 10_000;
/** Waiting jobs whose place is asked for: the stream tells a place only when its job changes. */
const MOST_PLACES = 100;
const PLACES_MS = 2_500;
/** After a reconnect, the stream has named every job that lives by then. */
const NAMED_MS = 3_000;

/** @param {Job} job */
export const waits = (job) => job.status === "PENDING" || job.status === "RETRY";

/** @type {Signal<[]>} */
export const { tell: changed, hear: watch } = new Signal();
/** Of each job that ends. @type {Signal<[Job]>} */
export const { tell: ended, hear: onEnd } = new Signal();
/** The page is left, or signed out of: the key is still there. @type {Signal<[]>} */
export const { tell: leaving, hear: onLeave } = new Signal();
window.addEventListener("pagehide", () => leaving());

export const store = {
  /** @type {"asking" | "signed out" | "in"} */
  session: "asking",
  /** @type {"connecting" | "live" | "lost"} */
  connection: "connecting",
  /** @type {Catalog | null} */
  catalog: null,
  /** @type {Map<string, Job>} Jobs that wait or run, and the last that ended here. */
  jobs: new Map(),
  /** @type {Map<string, import("../types.js").Batch>} Those that live, and that ended here. */
  batches: new Map(),
  /** @type {Map<string, string[]>} By job: what its images look like so far, as links. */
  previews: new Map(),
  /** @type {{id: number, text: string, kind: "good" | "bad", action?: {text: string, act: () => void}}[]} */
  notices: [],
};

// ---- session ----

let life = new AbortController();

/** Ask who we are, read what may be ordered, and begin to listen. */
export async function begin() {
  life.abort();
  life = new AbortController();
  const { signal } = life;
  onRefused(() => signOut(T.signIn.refused));
  // what the form needs to be seen
  const [styles, models, effects, capabilities] = await answersOf(["styles", "models", "effects", "capabilities"].map((name) => `/v1/${name}`), signal);
  if (signal.aborted) return;
  store.catalog = { styles: styles.results, models: models.results, effects: effects.results, capabilities, palettes: [], loras: [], order: {}, sheet: {} };
  store.session = "in";
  changed();
  void follow("/v1/events?preview=true", { told, connected, lost }, signal);
  void askPlaces(signal);
  void describe(signal);
}

/** @param {string} given */
export async function signIn(given) {
  key.set(given.trim());
  store.session = "asking";
  changed();
  await begin();
}

/** @param {string} [why] */
export function signOut(why) {
  life.abort();
  const had = key.get();
  leaving();
  key.set("");
  Object.assign(store, { session: "signed out", catalog: null, jobs: new Map(), batches: new Map(), previews: new Map() });
  if (why && had) notify(why, "bad");
  changed();
}

/** Of all paths, however long it takes: together at first, then one after the other, lest a rate allow no more.
 * @param {string[]} paths @param {AbortSignal} signal @returns {Promise<any[]>} Some, if the signal aborts. */
async function answersOf(paths, signal) {
  /** @type {any[]} */
  const found = [];
  const answer = async (/** @type {string} */ path, /** @type {number} */ at) => (found[at] ??= await get(path, { signal }));
  for (let tries = 0; !signal.aborted; tries++) {
    try {
      if (!tries) await Promise.all(paths.map(answer));
      else for (const [at, path] of paths.entries()) await answer(path, at);
      break;
    } catch (error) {
      if (signal.aborted) break;
      const { status, retryAfter } = /** @type {Partial<Problem>} */ (error);
      if (status === 403) signOut(why(error));
      // once signed in, the stream says that nobody answers
      else if (status !== 429 && store.session !== "in") lost();
      await pause(retryAfter ? 1000 * retryAfter : Math.min(300 * 2 ** tries, 5_000));
    }
  }
  return found;
}

/** The rest of what may be ordered, for which nobody waits. @param {AbortSignal} signal */
async function describe(signal) {
  const [palettes, loras, description] = await answersOf(["/v1/palettes", "/v1/loras", "/openapi.json"], signal);
  if (signal.aborted || !store.catalog) return;
  const names = (/** @type {{results: {name: string}[]}} */ { results }) => results.map((one) => one.name);
  const { GenerateRequest: order, SheetRequest: sheet } = description.components.schemas;
  Object.assign(store.catalog, { palettes: names(palettes), loras: names(loras), order, sheet });
  changed();
}

// ---- what the stream says ----

let connectedAt = 0;
/** @type {Set<string>} Jobs that were named since the stream connected. */
let named = new Set();

function connected() {
  store.connection = "live";
  const at = (connectedAt = Date.now());
  named = new Set();
  const before = [...store.jobs.values()].filter((job) => !FINAL.has(job.status)).map((job) => job.job_id);
  if (before.length) setTimeout(() => connectedAt === at && void askUnnamed(before), NAMED_MS);
  changed();
}

function lost() {
  store.connection = "lost";
  changed();
}

/** Jobs that lived when the stream broke and that it has not named since: they ended, or were deleted.
 * @param {string[]} before */
async function askUnnamed(before) {
  for (const id of before.filter((one) => !named.has(one) && store.jobs.has(one))) {
    try {
      take(await get(`/v1/jobs/${id}`));
    } catch (error) {
      if (error instanceof Problem && [404, 410].includes(error.status)) forget(id);
    }
  }
}

/** @param {import("./events.js").Told} event */
function told({ event, data }) {
  if (event === "batch") {
    if (store.batches.has(data.batch_id) || !FINAL.has(data.status)) store.batches.set(data.batch_id, data);
    forgetEnded(store.batches);
    return changed();
  }
  if (Date.now() - connectedAt < NAMED_MS) named.add(data.job_id);
  if (event === "status") return take(data);
  const job = store.jobs.get(data.job_id);
  // what comes after the end says nothing
  if (!job || FINAL.has(job.status)) return;
  if (event === "progress") store.jobs.set(data.job_id, { ...job, ...data });
  else if (event === "preview") {
    const looks = [...(store.previews.get(data.job_id) ?? [])];
    looks[data.index] = `data:${data.content_type};base64,${data.data}`;
    store.previews.set(data.job_id, looks);
  }
  changed();
}

/** Take in a whole job. @param {Job} job */
export function take(job) {
  const final = FINAL.has(job.status);
  if (job.tags.includes(TRIAL)) {
    if (final) ended(job);
    return;
  }
  const before = store.jobs.get(job.job_id);
  const over = before && FINAL.has(before.status);
  // an end is an end
  if (over && !final) return;
  if (final) {
    store.previews.delete(job.job_id);
    if (before) store.jobs.set(job.job_id, job);
    if (before && !over && job.status === "SUCCESS") setTimeout(() => forget(job.job_id), DONE_MS);
    ended(job);
    forgetEnded(store.jobs);
  } else {
    store.jobs.set(job.job_id, job);
  }
  changed();
}

/** Of those that have ended, the last stay. @param {Map<string, {status: string}>} all */
function forgetEnded(all) {
  const ids = [...all].filter(([, one]) => FINAL.has(one.status)).map(([id]) => id);
  for (const id of ids.slice(0, -MOST_ENDED)) all.delete(id);
}

/** @param {string} id */
export function forget(id) {
  store.jobs.delete(id);
  store.previews.delete(id);
  changed();
}

/** Places in line change without a change of the job. @param {AbortSignal} signal */
async function askPlaces(signal) {
  while (!signal.aborted) {
    await pause(PLACES_MS);
    if (document.hidden || store.connection !== "live") continue;
    // the stream finds out by itself that nobody answers
    await askBatches().catch(() => {});
    if (![...store.jobs.values()].some(waits)) continue;
    try {
      const page = await get(`/v1/jobs?status=PENDING&status=RETRY&limit=${MOST_PLACES}`, { signal });
      for (const job of page.results) {
        const known = store.jobs.get(job.job_id);
        if (!known || !waits(known)) continue;
        const { queue_position, eta_seconds, waiting_for } = job;
        store.jobs.set(job.job_id, { ...known, queue_position, eta_seconds, waiting_for });
      }
      changed();
    } catch {
      // As above.
    }
  }
}

/** A batch is rolled up by the service; its jobs come by the stream like others. */
async function askBatches() {
  const known = [...store.batches.values()].filter((batch) => !FINAL.has(batch.status));
  const strangers = [...store.jobs.values()].some((job) => job.batch_id && !store.batches.has(job.batch_id));
  if (!known.length && !strangers) return;
  const live = strangers ? (await get("/v1/batches?status=PENDING&status=STARTED&limit=20")).results : [];
  const found = await Promise.all(known.map((batch) => get(`/v1/batches/${batch.batch_id}`)));
  [...live, ...found].forEach(takeBatch);
}

// ---- what people do ----

/** Order a job. @param {string} path @param {Record<string, any>} body @returns {Promise<Job>} */
async function send(path, body) {
  const job = await post(path, body);
  take(job);
  return job;
}

/** @param {Record<string, any>} order */
export const order = (order) => send("/v1/generate", order);

/** @param {string} id @param {Record<string, any>} body */
export const derive = (id, body) => send(`/v1/jobs/${id}/derive`, body);

/** @param {string} path @param {Blob} csv @returns {Promise<import("../types.js").Batch>} */
export async function orderBatch(path, csv) {
  return takeBatch(await post(path, csv));
}

/** @param {import("../types.js").Batch} batch */
function takeBatch(batch) {
  store.batches.set(batch.batch_id, batch);
  changed();
  return batch;
}

/** @param {string} id @param {"cancel" | "retry"} what */
export const batchDo = (id, what) => trying(async () => void takeBatch(await post(`/v1/batches/${id}/${what}`, undefined)));

/** @param {string} id */
export function forgetBatch(id) {
  store.batches.delete(id);
  changed();
}

/** Other tags, marks or priority. @param {string} id @param {Record<string, any>} changes @returns {Promise<Job>} */
export async function change(id, changes) {
  const job = await post(`/v1/jobs/${id}`, changes, "PATCH");
  if (!FINAL.has(job.status)) take(job);
  return job;
}

/** @param {string} id */
export const cancel = (id) => trying(async () => take(await get(`/v1/jobs/${id}/cancel`, { method: "POST" })));

/** @param {string} id */
export async function retry(id) {
  await trying(async () => {
    take(await post(`/v1/jobs/${id}/retry`, undefined));
    if (FINAL.has(store.jobs.get(id)?.status ?? "")) forget(id);
  });
}

/** @param {string} id */
export async function remove(id) {
  await ask(`/v1/jobs/${id}`, { method: "DELETE", keepalive: true });
  forget(id);
}

/** Run it, and say so if it fails. @param {() => Promise<void>} work */
export async function trying(work) {
  try {
    await work();
  } catch (error) {
    notify(why(error), "bad");
  }
}

/** What is wrong, by field; what is of no field is said of `otherwise`. @param {unknown} error @param {string} otherwise @returns {Record<string, string>} */
export function faults(error, otherwise) {
  return error instanceof Problem && error.errors.length ? error.fields : { [otherwise]: why(error) };
}

/** @param {unknown} error */
export function why(error) {
  if (error instanceof Problem) return error.message;
  return error instanceof TypeError ? T.unreachable : String(error);
}

let notices = 0;
const NOTICE_MS = 6_000;

/** @param {string} text @param {"good" | "bad"} kind @param {{text: string, act: () => void}} [action] */
export function notify(text, kind, action) {
  const id = ++notices;
  store.notices = [...store.notices.slice(-2), { id, text, kind, action }];
  setTimeout(() => dismiss(id), NOTICE_MS);
  changed();
}

/** @param {number} id */
export function dismiss(id) {
  store.notices = store.notices.filter((one) => one.id !== id);
  changed();
}
