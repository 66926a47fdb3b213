/** The pictures that are selected, wherever they are shown. */

import { Signal } from "../lib/signal.js";

/** @typedef {import("./list.js").Item} Item */

/** @type {Map<string, Item>} */
const chosen = new Map();
/** @type {Signal<[]>} */
const { tell: changed, hear } = new Signal();

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
  watch: hear,
};
