/** What other views ask of the order that is written. */

import { go } from "./place.js";
import { Signal } from "./signal.js";

/** @type {Signal<[Partial<import("../order/draft.js").Draft>]>} */
const { tell, hear } = new Signal();
export const onWish = hear;

/** Let the order be so, and show it. @param {Partial<import("../order/draft.js").Draft>} changes */
export function wish(changes) {
  tell(changes);
  go({ job: null, image: null, do: null }, { pane: "order" });
}
