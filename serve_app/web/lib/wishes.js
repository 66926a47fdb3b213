/** What one view asks of another: an order to be written, a picture to be looked at. */

/** @typedef {import("../order/draft.js").Draft} Draft */

/** @type {Set<(draft: Draft) => void>} */
const drafts = new Set();

/** @param {(draft: Draft) => void} heard @returns {() => void} Ends it. */
export function onDraft(heard) {
  drafts.add(heard);
  return () => drafts.delete(heard);
}

/** Write this order into the form. @param {Draft} draft */
export function wishDraft(draft) {
  for (const heard of drafts) heard(draft);
}

/** @type {Set<(source: import("../order/source.js").Source) => void>} */
const sources = new Set();

/** @param {(source: import("../order/source.js").Source) => void} heard @returns {() => void} Ends it. */
export function onSource(heard) {
  sources.add(heard);
  return () => sources.delete(heard);
}

/** Let the order that is written start from this picture. @param {import("../order/source.js").Source} source */
export function wishSource(source) {
  for (const heard of sources) heard(source);
}
