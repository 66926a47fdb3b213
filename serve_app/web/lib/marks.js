/** Stars, rejections and ratings of pictures, as the service keeps them. What one marks is shown at once. */

import { change, changed, notify, why } from "./store.js";

/** @typedef {{starred: boolean, rejected: boolean, rating: number}} Mark */

const NONE = { starred: false, rejected: false, rating: 0 };
/** @type {Map<string, Mark>} By key of the picture. */
const marks = new Map();
/** @type {Map<string, number>} Changes on their way, by job: until they are there, the service tells what was. */
const sent = new Map();
/** Ends when all that was marked has been said. @type {Promise<void>} */
let last = Promise.resolve();

export const settled = () => last;

/** @param {string} key Of a picture. @returns {Mark} */
export function markOf(key) {
  return marks.get(key) ?? NONE;
}

/** @param {import("../types.js").Job} job */
export function learnMarks(job) {
  if (sent.get(job.job_id)) return;
  for (const { index, starred, rejected, rating } of job.images) {
    const key = `${job.job_id}:${index}`;
    if (starred || rejected || rating) marks.set(key, { starred, rejected, rating });
    else marks.delete(key);
  }
}

/** @param {string[]} keys @param {Partial<Mark>} said */
export function mark(keys, said) {
  const pictures = keys.filter((key) => !key.endsWith(":"));
  const before = pictures.map((key) => /** @type {const} */ ([key, markOf(key)]));
  for (const key of pictures) marks.set(key, { ...markOf(key), ...said });
  changed();
  for (const [job, mine] of Map.groupBy(pictures, (key) => key.split(":")[0])) {
    const images = mine.map((key) => ({ index: Number(key.split(":")[1]), ...said }));
    sent.set(job, (sent.get(job) ?? 0) + 1);
    // One after the other, so that the last word counts.
    last = last.then(() => change(job, { images })).finally(() => (sent.get(job) === 1 ? sent.delete(job) : sent.set(job, (sent.get(job) ?? 1) - 1))).then(learnMarks, (error) => {
      for (const [key, was] of before) if (mine.includes(key)) marks.set(key, was);
      notify(why(error), "bad");
    }).then(changed);
  }
}

/** Keys that mark: whether this is one. @param {string} pressed @param {string[]} keys Of the pictures. */
export function marked(pressed, keys) {
  if (pressed === "f") toggle(keys, "starred");
  else if (pressed === "x") toggle(keys, "rejected");
  else if (/^[0-5]$/.test(pressed)) mark(keys, { rating: Number(pressed) });
  else return false;
  return true;
}

/** All of them, or none if all are so already. @param {string[]} keys @param {"starred" | "rejected"} name */
export function toggle(keys, name) {
  const value = !keys.every((key) => markOf(key)[name]);
  mark(keys, { starred: false, rejected: false, [name]: value });
}
