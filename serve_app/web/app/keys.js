/** Which keys do what. */

import { T } from "../texts.js";
import { dialog } from "../lib/dialog.js";
import { h } from "../lib/view.js";

/** @param {() => void} close */
export function keyHelp(close) {
  return dialog({ name: "keys", title: T.keys.title, close }, h("div", { class: "columns" }, T.keys.groups.map(([title, keys]) => h("section", { key: title },
    h("h3", null, title),
    h("dl", null, /** @type {[string, string][]} */ (keys).map(([press, what]) => h("div", { key: press }, h("dt", null, h("kbd", null, press)), h("dd", null, what)))),
  ))));
}
