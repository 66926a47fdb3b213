/**
 * The order that is being written: kept while the page is closed, and sent as the service takes it.
 *
 * Knows the fields of an order; no elements.
 */

import { defaultOf } from "../lib/fields.js";
import { recall, remember } from "../lib/remember.js";

/** @typedef {import("../types.js").Effect} Effect */
/**
 * @typedef {{prompt: string, style_id: string | null, n: number, size: [number, number] | null,
 *   seed: number | null, locked: boolean, priority: import("../types.js").Priority,
 *   effects: Effect[] | null, source: import("./source.js").Source | null, mask: import("./source.js").Source | null, more: Record<string, any>}} Draft
 * `more`: the other fields of an order, by name. `effects` null: those of the style.
 */

/** @returns {Draft} */
export function blank() {
  return {
    prompt: "", style_id: null, n: 1, size: null, seed: null, locked: false, priority: "normal", effects: null, source: null, mask: null, more: {},
  };
}

/** @returns {Draft} */
export function load() {
  return { ...blank(), ...recall("draft", {}) };
}

/** @param {Draft} draft */
export function save(draft) {
  remember("draft", draft);
}

/** The body of an order. @param {Draft} draft @returns {import("../types.js").Order} */
export function body(draft) {
  /** @type {import("../types.js").Order} */
  const order = { prompt: draft.prompt, n: draft.n, ...draft.more };
  if (draft.style_id) order.style_id = draft.style_id;
  if (draft.size) [order.width, order.height] = draft.size;
  if (draft.seed !== null) order.seed = draft.seed;
  if (draft.priority !== "normal") order.priority = draft.priority;
  if (draft.effects) order.effects = draft.effects;
  if (draft.source) order.init_image = draft.source.image;
  else delete order.strength;
  if (draft.source && draft.mask) order.mask_image = draft.mask.image;
  return order;
}

/** Values that say nothing. */
const NOTHING = new Set(["{}", "[]", '""']);
/** Fields of an order that have a place of their own in the form. */
export const OWN = new Set(["prompt", "style_id", "n", "width", "height", "size", "seed", "priority", "effects", "dry_run", "init_image", "mask_image"]);

/**
 * A draft of an order that was made before. What equals the default of the service is left out.
 * @param {import("../types.js").Order} order @param {Record<string, import("../types.js").Schema>} fields Of an order.
 * @returns {Draft}
 */
export function draftOf(order, fields) {
  const more = Object.entries(order).filter(([name, value]) => {
    if (OWN.has(name) || !(name in fields) || value === null) return false;
    const text = JSON.stringify(value);
    return text !== JSON.stringify(defaultOf(fields[name])) && !NOTHING.has(text);
  });
  const seed = order.seed ?? -1;
  return {
    ...blank(),
    prompt: order.prompt ?? "",
    style_id: order.style_id ?? null,
    n: order.n ?? 1,
    size: order.width && order.height ? [order.width, order.height] : null,
    seed: seed >= 0 ? seed : null,
    locked: seed >= 0,
    effects: order.effects ?? null,
    source: order.init_image ? { image: order.init_image, look: "" } : null,
    mask: order.mask_image ? { image: order.mask_image, look: "" } : null,
    more: Object.fromEntries(more),
  };
}
