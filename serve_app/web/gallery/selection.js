/** The pictures that are selected, wherever they are shown. */

/** @typedef {import("./list.js").Item} Item */

/** @type {Map<string, Item>} */
const chosen = new Map();
/** @type {Set<() => void>} */
const watchers = new Set();

function changed() {
  for (const watcher of watchers) watcher();
}

export const selection = {
  get items() {
    return [...chosen.values()];
  },
  get size() {
    return chosen.size;
  },
  /** @param {string} key */
  has: (key) => chosen.has(key),
  /** @param {Item} item */
  toggle(item) {
    if (!chosen.delete(item.key)) chosen.set(item.key, item);
    changed();
  },
  /** @param {Item[]} items */
  add(items) {
    for (const item of items) chosen.set(item.key, item);
    changed();
  },
  clear() {
    chosen.clear();
    changed();
  },
  /** @param {() => void} watcher @returns {() => void} Ends it. */
  watch(watcher) {
    watchers.add(watcher);
    return () => watchers.delete(watcher);
  },
};
