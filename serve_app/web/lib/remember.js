/**
 * What this browser remembers between visits: the order that is being written, and choices of the person.
 *
 * Knows local storage, which may be full or forbidden: then it is remembered until the page is closed.
 */

const PREFIX = "assets.";
/** As JSON, what was remembered since the page was opened. @type {Record<string, string>} */
const kept = {};

/** @param {string} name @param {any} otherwise */
export function recall(name, otherwise) {
  try {
    return JSON.parse(kept[name] ?? localStorage.getItem(PREFIX + name) ?? "");
  } catch {
    return otherwise;
  }
}

/** @param {string} name @param {any} value */
export function remember(name, value) {
  kept[name] = JSON.stringify(value);
  try {
    localStorage.setItem(PREFIX + name, kept[name]);
  } catch {
    // Full or forbidden.
  }
}
