/** What can be done with the pictures that are selected. */

import { T } from "../texts.js";
import { ICONS } from "../lib/icons.js";
import { h, icon } from "../lib/view.js";
import { selection } from "../gallery/selection.js";

export function selectionBar() {
  if (!selection.size) return null;
  return h("div", { class: "chosen", key: "chosen", role: "toolbar", "aria-label": T.selection.count(selection.size) },
    h("p", { role: "status" }, T.selection.count(selection.size)),
    h("button", { type: "button", onclick: () => void download() }, icon(ICONS.download), T.selection.download),
    h("button", { type: "button", onclick: () => gallery()?.removeSelected() }, icon(ICONS.trash), T.selection.remove),
    h("button", { type: "button", class: "quiet", "aria-label": T.selection.clear, title: T.selection.clear, onclick: () => selection.clear() }, icon(ICONS.close)),
  );
}

/** Each as a file of its own. */
async function download() {
  for (const item of selection.items.filter((one) => one.url)) {
    const link = document.createElement("a");
    link.href = item.url;
    link.download = "";
    link.click();
    await new Promise((done) => setTimeout(done, 150)); // browsers drop downloads that come all at once
  }
}

function gallery() {
  return /** @type {import("../gallery/gallery.js").Gallery | null} */ (document.querySelector("picture-gallery"));
}
