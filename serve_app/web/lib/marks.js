/** Stars, ratings and rejections of pictures. They are kept in this browser only: the service has no place for them. */

import { recall, remember } from "./remember.js";
import { changed } from "./store.js";

/** @typedef {{star?: boolean, reject?: boolean, rating?: number}} Mark */

/** @type {Record<string, Mark>} */
const marks = recall("marks", {});

/** @param {string} key Of a picture. @returns {Mark} */
export function markOf(key) {
  return marks[key] ?? {};
}

/** @param {string} key @param {Mark} changes */
export function mark(key, changes) {
  const mark = { ...marks[key], ...changes };
  for (const name of /** @type {(keyof Mark)[]} */ (Object.keys(mark))) if (!mark[name]) delete mark[name];
  if (Object.keys(mark).length) marks[key] = mark;
  else delete marks[key];
  remember("marks", marks);
  changed();
}

/** @param {string} key */
export function toggleStar(key) {
  mark(key, { star: !markOf(key).star, reject: false });
}

/** @param {string} key */
export function toggleReject(key) {
  mark(key, { reject: !markOf(key).reject, star: false });
}
