/** Numbers, times and states in words. Knows no elements. */

import { T } from "../texts.js";

/** @param {number} seconds */
export function duration(seconds) {
  if (seconds < 1) return T.time.moment;
  if (seconds < 90) return T.time.seconds(Math.round(seconds));
  if (seconds < 5400) return T.time.minutes(Math.round(seconds / 60));
  return T.time.hours(Math.round(seconds / 3600));
}

const DAY = new Intl.DateTimeFormat(undefined, { day: "numeric", month: "short" });
const CLOCK = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });
const FULL = new Intl.DateTimeFormat(undefined, { dateStyle: "medium", timeStyle: "short" });

/** @param {string} when RFC 3339. */
export function moment(when) {
  const date = new Date(when);
  const today = date.toDateString() === new Date().toDateString();
  return today ? CLOCK.format(date) : `${DAY.format(date)}, ${CLOCK.format(date)}`;
}

/** @param {string} when RFC 3339. */
export function fullMoment(when) {
  return FULL.format(new Date(when));
}

/** @param {number} bytes */
export function size(bytes) {
  return bytes < 10_000 ? `${bytes} B` : bytes < 1e6 ? `${Math.round(bytes / 1000)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

/** `guidance_scale` -> `Guidance scale`. @param {string} name */
export function readable(name) {
  return capital(name.replaceAll("_", " "));
}

/** What a job was ordered to be, in a few words. @param {import("../types.js").Job} job */
export function wordsOf(job) {
  return job.request.prompt ?? job.request.name ?? T.kinds[job.kind];
}

/** What a waiting job waits for. @param {import("../types.js").Job} job */
export function whyWaiting(job) {
  const [reason, more] = (job.waiting_for ?? "turn").split(": ");
  const said = T.waiting[/** @type {keyof typeof T.waiting} */ (reason)] ?? reason;
  return more ? `${said}: ${more}` : said;
}

const SERIOUS = /^(not_taught|effect_failed|no_grid)|(truncated|_empty|_full|_skipped|_uncertain|_cut|_found)$/;

/** A note that somebody should see before the picture is used. @param {string} note */
export function serious(note) {
  return SERIOUS.test(note.split(":")[0]);
}

/** What is worth knowing of a picture, in sentences. @param {string[]} notes */
export function sentences(notes) {
  return notes.map((note) => {
    const [code, more = code] = note.split(/: (.*)/s);
    return capital([T.notes[/** @type {keyof typeof T.notes} */ (code)], more].filter(Boolean).join(" ").replaceAll("`", ""));
  });
}

/** Words with commas between. @param {string} text */
export function listed(text) {
  return text.split(",").map((one) => one.trim()).filter(Boolean);
}

/** @param {string} text */
function capital(text) {
  return text.charAt(0).toUpperCase() + text.slice(1);
}
