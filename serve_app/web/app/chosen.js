/** What can be done with the pictures that are selected. */

import { T } from "../texts.js";
import { ask } from "../lib/api.js";
import { ICONS } from "../lib/icons.js";
import { go } from "../lib/place.js";
import { save } from "../lib/save.js";
import { trying } from "../lib/store.js";
import { h, iconButton, wordButton } from "../lib/view.js";
import { zip } from "../lib/zip.js";
import { gallery } from "../gallery/gallery.js";
import { selection } from "../gallery/selection.js";

export function selectionBar() {
  if (!selection.size) return null;
  const pictures = selection.items.filter((item) => item.url).length;
  const open = (/** @type {string} */ view) => () => go({ do: view }, { step: true });
  return h("div", { class: "chosen", key: "chosen", role: "toolbar", "aria-label": T.selection.count(selection.size) },
    h("p", { role: "status" }, T.selection.count(selection.size)),
    pictures > 1 && pictures <= 4 && wordButton(T.selection.compare, ICONS.compare, open("compare"), { key: "compare" }),
    pictures > 0 && wordButton(T.selection.finish, ICONS.brush, open("finish"), { key: "finish" }),
    pictures > 0 && wordButton(T.selection.sheet, ICONS.vary, open("sheet"), { key: "sheet" }),
    pictures > 0 && wordButton(T.selection.download, ICONS.download, () => void download(), { key: "download" }),
    wordButton(T.selection.remove, ICONS.trash, () => gallery()?.removeSelected(), { key: "remove" }),
    iconButton(T.selection.clear, ICONS.close, () => selection.clear()),
  );
}

/** One as it is, several as a ZIP. */
function download() {
  const urls = selection.items.flatMap((item) => item.url || []);
  if (urls.length === 1) return save(urls[0], "");
  return trying(async () => {
    const files = [];
    for (const url of urls) {
      const data = new Uint8Array(await (await ask(url)).arrayBuffer());
      files.push({ name: decodeURIComponent(url.slice(url.lastIndexOf("/") + 1)), data });
    }
    save(URL.createObjectURL(zip(files)), `${T.selection.archive}.zip`);
  });
}
