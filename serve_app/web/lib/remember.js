/**
 * What this browser remembers between visits: the order that is being written, and choices of the person.
 *
 * Knows local storage, which may be full or forbidden: then nothing is remembered.
 */

const PREFIX = "assets.";

/** @param {string} name @param {any} otherwise */
export function recall(name, otherwise) {
  try {
    return JSON.parse(localStorage.getItem(PREFIX + name) ?? "");
  } catch {
    return otherwise;
  }
}

/** @param {string} name @param {any} value */
export function remember(name, value) {
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Full or forbidden.
  }
}
