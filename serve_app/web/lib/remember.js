/**
 * What this browser remembers between visits: marks of pictures, and choices of the person.
 *
 * Knows local storage, which may be full or forbidden: then it is remembered until the page is closed.
 */

const PREFIX = "assets.";
/** @type {Map<string, any>} */
const here = new Map();

/** @param {string} name @param {any} otherwise */
export function recall(name, otherwise) {
  if (here.has(name)) return here.get(name);
  try {
    const text = localStorage.getItem(PREFIX + name);
    return text === null ? otherwise : JSON.parse(text);
  } catch {
    return otherwise;
  }
}

/** @param {string} name @param {any} value */
export function remember(name, value) {
  here.set(name, value);
  try {
    localStorage.setItem(PREFIX + name, JSON.stringify(value));
  } catch {
    // Full or forbidden: `here` has it.
  }
}
