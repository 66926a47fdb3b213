/** Which keys do what. */

import { T } from "../texts.js";
import { ICONS } from "../lib/icons.js";
import { h, icon } from "../lib/view.js";

/** @param {() => void} close */
export function keyHelp(close) {
  return h("dialog", {
    class: "sheet", key: "help", "aria-labelledby": "help-title", onclose: close,
    ref: (/** @type {HTMLDialogElement} */ node) => queueMicrotask(() => node.isConnected && node.showModal()),
    onclick: (/** @type {Event} */ event) => event.target === event.currentTarget && close(),
  },
    h("header", null, h("h2", { id: "help-title" }, T.keys.title),
      h("button", { type: "button", class: "quiet", "aria-label": T.close, onclick: close }, icon(ICONS.close))),
    h("div", { class: "columns" }, T.keys.groups.map(([title, keys]) => h("section", { key: title },
      h("h3", null, title),
      h("dl", null, /** @type {[string, string][]} */ (keys).map(([press, what]) => h("div", { key: press }, h("dt", null, h("kbd", null, press)), h("dd", null, what)))),
    ))),
  );
}
