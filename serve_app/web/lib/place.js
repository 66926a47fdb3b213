/**
 * Where the page is, as its URL says: which pane, which filters, which picture. A link leads back there.
 *
 * Knows `location.hash` only; views say what the words mean.
 */

import { Signal } from "./signal.js";

/** @typedef {"order" | "queue" | "pictures"} Pane */
/** @type {Pane[]} */
export const PANES = ["order", "queue", "pictures"];

/** @type {Signal<[]>} */
const moved = new Signal();
export const onPlace = moved.hear;

/** @returns {{pane: Pane, words: URLSearchParams}} */
export function place() {
  const [pane, words] = location.hash.replace(/^#\/?/, "").split("?");
  const known = PANES.find((one) => one === pane);
  return { pane: known ?? "order", words: new URLSearchParams(words) };
}

/**
 * Go there. `step`: Back leads here again.
 * @param {Record<string, string | null>} words Null: no longer said. @param {{pane?: Pane, step?: boolean}} [way]
 */
export function go(words, { pane, step = false } = {}) {
  const here = place();
  for (const [name, value] of Object.entries(words)) {
    if (value) here.words.set(name, value);
    else here.words.delete(name);
  }
  const text = here.words.toString();
  const hash = `#/${pane ?? here.pane}${text && `?${text}`}`;
  if (hash === location.hash) return;
  if (step) history.pushState(null, "", hash);
  else history.replaceState(null, "", hash);
  moved.tell();
}

/** @param {string} job @param {number} index */
export function showPicture(job, index) {
  const open = place().words.has("job");
  go({ job, image: String(index) }, { step: !open });
}

window.addEventListener("popstate", () => moved.tell());
window.addEventListener("hashchange", () => moved.tell());
