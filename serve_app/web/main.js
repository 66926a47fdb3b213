/** Starts the page: the views make themselves known, and the store begins to listen. */

import "./app/app.js";
import "./order/order.js";
import "./queue/queue.js";
import "./gallery/gallery.js";
import "./picture/picture.js";
import "./compare/compare.js";
import "./finish/finish.js";
import "./sheet/sheet.js";
import "./batch/batch.js";
import "./mask/mask.js";
import { begin } from "./lib/store.js";

void begin();
