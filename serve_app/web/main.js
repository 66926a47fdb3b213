/** Starts the page: what is seen first is loaded first, and the store begins to listen. */

import "./app/app.js";
import "./order/order.js";
import "./queue/queue.js";
import "./gallery/gallery.js";
import { begin } from "./lib/store.js";

void begin().finally(() => import("./later.js"));
