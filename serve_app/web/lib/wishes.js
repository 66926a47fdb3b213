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
