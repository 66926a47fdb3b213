/** Starts the page: what is seen first is loaded first, and the store begins to listen. */

import "./app/app.js";
import "./order/order.js";
import "./queue/queue.js";
import "./gallery/gallery.js";
import { pause } from "./lib/api.js";
import { begin } from "./lib/store.js";

const RETRY_MS = 1_000;

/** The network may be lost in between. */
async function others() {
  await import("./later.js").catch(() => pause(RETRY_MS).then(others));
}

void begin().finally(others);
