/** The views that open above the page: nobody sees them before the page itself is there. */

import "./picture/picture.js";
import "./compare/compare.js";
import "./finish/finish.js";
import "./sheet/sheet.js";
import "./batch/batch.js";
import "./mask/mask.js";
