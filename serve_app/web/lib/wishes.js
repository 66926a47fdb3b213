/** What one view asks of another: an order to be written, a picture to start from. */

import { Signal } from "./signal.js";

/** Write this order into the form. @type {Signal<[import("../order/draft.js").Draft]>} */
export const drafts = new Signal();

/** Let the order that is written start from this picture. @type {Signal<[import("../order/source.js").Source]>} */
export const sources = new Signal();

/** Draw only this part of it anew. @type {Signal<[import("../order/source.js").Source]>} */
export const masks = new Signal();
