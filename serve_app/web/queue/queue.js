/** The jobs that wait and run, as they are: place, time, step, and what their pictures look like so far. */

import { T } from "../texts.js";
import { thumbnail } from "../lib/api.js";
import { duration, sentences, serious, whyWaiting, wordsOf } from "../lib/format.js";
import { ICONS } from "../lib/icons.js";
import { looks } from "../lib/looks.js";
import { FINAL, cancel, change, forget, retry, store, trying, waits, watch } from "../lib/store.js";
import { bar, batchCard } from "./batches.js";
import { View, h, hint, smallButton } from "../lib/view.js";
import { showPicture } from "../lib/place.js";

/** @typedef {import("../types.js").Job} Job */

/** Cards; beyond it a number says how many more there are. */
const MOST_SHOWN = 60;
const PRIORITIES = /** @type {const} */ (["low", "normal", "high"]);

class JobQueue extends View {
  start() {
    this.redrawOn(watch);
  }

  view() {
    const batches = [...store.batches.values()].reverse();
    const all = [...store.jobs.values()];
    // What waits or has ended of a batch is told by its card.
    const alone = all.filter((job) => job.status === "STARTED" || !store.batches.has(job.batch_id ?? ""));
    const jobs = inOrder(alone);
    const running = all.filter((job) => job.status === "STARTED").length;
    const waiting = alone.filter(waits).length
      + batches.reduce((sum, { counts }) => sum + counts.PENDING + counts.RETRY, 0);
    const shown = jobs.slice(0, MOST_SHOWN);
    return h("section", { "aria-labelledby": "queue-title" },
      h("h2", { id: "queue-title" }, T.queue.title, h("span", { class: "summary", role: "status" }, T.queue.summary(running, waiting))),
      jobs.length + batches.length === 0
        ? h("p", { class: "hint empty" }, T.queue.empty)
        : h("ul", null, batches.map(batchCard), shown.map((job) => card(job))),
      jobs.length > shown.length && hint(T.queue.more(jobs.length - shown.length)),
    );
  }
}

/** Those that run, then the line as it stands, then what has ended. @param {Job[]} jobs */
function inOrder(jobs) {
  const rank = (/** @type {Job} */ job) => (job.status === "STARTED" ? 0 : waits(job) ? 1 : 2);
  const place = (/** @type {Job} */ job) => (waits(job) ? (job.queue_position ?? Infinity) : 0);
  const when = (/** @type {Job} */ job) => Date.parse(job.created_at) * (FINAL.has(job.status) ? -1 : 1);
  return jobs.sort((a, b) => rank(a) - rank(b) || place(a) - place(b) || when(a) - when(b));
}

/** @param {Job} job */
function card(job) {
  const words = wordsOf(job);
  return h("li", { key: job.job_id, class: `job ${job.status.toLowerCase()}`, "data-job": job.job_id },
    look(job, words),
    h("div", { class: "about" },
      h("p", { class: "words", title: words }, words),
      h("p", { class: "state" }, state(job)),
      job.error && job.status === "FAILURE" && h("p", { class: "error" }, job.error.detail),
      sentences(job.images[0]?.notes.filter(serious) ?? []).slice(0, 1).map((note) => h("p", { class: "noted", title: note, key: note }, note)),
      job.status === "STARTED" && bar(job.progress?.value ?? 0, T.states.STARTED),
    ),
    actions(job, words),
  );
}

/** @param {Job} job @param {string} words */
function look(job, words) {
  const done = job.status === "SUCCESS" ? job.images.filter((one) => one.content_type.startsWith("image/")) : [];
  const pictures = done.length ? done.map((one) => thumbnail(one.url, 256)) : (store.previews.get(job.job_id) ?? []).filter(Boolean);
  const label = done.length ? words : T.queue.forming(words);
  const most = pictures.slice(0, 4);
  const inside = most.map((source, at) => h("img", { src: source, alt: at ? "" : label, key: at, decoding: "async", class: done.length ? "" : "forming" }));
  const kind = `look of-${most.length > 1 ? 4 : 1}`;
  if (!done.length) return h("div", { class: kind, key: "look" }, inside.length ? inside : ghost(job));
  return h("button", { class: kind, key: "open", onclick: () => showPicture(job.job_id, done[0].index) }, inside);
}

/** Before there is anything to see: what its style looks like. @param {Job} job */
function ghost(job) {
  const look = FINAL.has(job.status) ? undefined : looks.of(job.request.style_id);
  return look && h("img", { src: thumbnail(look.url, 128), alt: "", key: "ghost", class: "ghost" });
}

/** @param {Job} job */
function state(job) {
  if (FINAL.has(job.status)) return T.states[job.status];
  if (job.status === "STARTED") {
    const { progress } = job;
    if (progress?.stage === "denoising" && progress.steps) return T.queue.steps(progress.step, progress.steps);
    return T.stages[/** @type {keyof typeof T.stages} */ (progress?.stage ?? "denoising")] ?? progress?.stage;
  }
  const parts = [];
  if (job.queue_position !== null) parts.push(T.queue.place(job.queue_position));
  if (job.priority !== "normal") parts.push(T.order.priorities[job.priority]);
  if (job.waiting_for && job.waiting_for !== "turn") parts.push(whyWaiting(job));
  if (job.eta_seconds !== null) parts.push(T.queue.eta(duration(job.eta_seconds)));
  return parts.join(" · ") || T.states[job.status];
}

/** @param {Job} job @param {string} words */
function actions(job, words) {
  const button = (/** @type {string} */ text, /** @type {string} */ shape, /** @type {() => void} */ act, /** @type {boolean} */ off = false) =>
    smallButton(`${text}: ${words}`, shape, act, { key: text, title: text, disabled: off });
  if (!FINAL.has(job.status)) {
    const at = PRIORITIES.indexOf(job.priority);
    const move = (/** @type {string} */ text, /** @type {string} */ shape, /** @type {number} */ by) => job.status === "PENDING" &&
      button(text, shape, () => void trying(async () => void (await change(job.job_id, { priority: PRIORITIES[at + by] }))), !(at + by in PRIORITIES));
    return h("div", { class: "after", key: "live" }, move(T.queue.sooner, ICONS.up, 1), move(T.queue.later, ICONS.down, -1),
      button(T.queue.cancel, ICONS.close, () => void cancel(job.job_id)));
  }
  return h("div", { class: "after", key: "after" },
    job.status !== "SUCCESS" && button(T.queue.retry, ICONS.again, () => void retry(job.job_id)),
    button(T.queue.hide, ICONS.close, () => forget(job.job_id)),
  );
}

customElements.define("job-queue", JobQueue);
