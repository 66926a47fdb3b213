/** A picture that is dropped or pasted anywhere: if a recipe is in it, it is offered. */

import { T } from "../texts.js";
import { get, sendFile } from "../lib/api.js";
import { dialog } from "../lib/dialog.js";
import { sentences } from "../lib/format.js";
import { store, trying } from "../lib/store.js";
import { h, hint } from "../lib/view.js";
import { wish } from "../lib/wishes.js";
import { bring } from "../order/source.js";
import { draftOf } from "../order/draft.js";

/** @typedef {import("../types.js").Inspected} Inspected */

/** @param {() => void} changed */
export function dropZone(changed) {
  let over = false;
  /** @type {{found: Inspected, file: Blob, look: string} | null} */
  let offer = null;

  /** @param {Blob} file */
  const inspect = (file) => trying(async () => {
    const found = /** @type {Inspected} */ (await sendFile("/v1/inspect", file));
    // Of a job that is still here, the order as it was sent says more than the file.
    const mine = found.recipe?.record.job_id;
    const job = mine ? await get(`/v1/jobs/${encodeURIComponent(mine)}`).catch(() => null) : null;
    if (job?.kind === "generate") found.order = { ...job.request, n: 1, seed: found.recipe?.seed ?? job.request.seed };
    close();
    offer = { found, file, look: URL.createObjectURL(file) };
    changed();
  });

  const close = () => {
    if (offer) URL.revokeObjectURL(offer.look);
    offer = null;
    changed();
  };

  const use = () => {
    if (offer?.found.order) wish(draftOf(offer.found.order, store.catalog?.order.properties ?? {}));
    close();
  };

  const startFrom = () => trying(async () => {
    if (offer) wish({ source: await bring(offer.file), mask: null });
    close();
  });

  return {
    /** @param {any} event */
    heard(event) {
      if (store.session !== "in") return;
      const data = event.dataTransfer ?? event.clipboardData;
      const files = [...(data?.files ?? [])].filter((file) => file.type.startsWith("image/"));
      if (event.type === "paste") {
        if (files[0]) void inspect(files[0]);
        return;
      }
      if (!data?.types.includes("Files")) return;
      event.preventDefault();
      const before = over;
      over = event.type === "dragover" || (event.type === "dragleave" && event.relatedTarget !== null);
      if (over !== before) changed();
      if (event.type === "drop" && files[0]) void inspect(files[0]);
    },
    view() {
      if (over) return h("div", { class: "drop-here", key: "drop" }, h("p", null, T.drop.here));
      if (!offer) return null;
      const { found, look } = offer;
      return dialog({ name: "offer", title: found.order ? T.drop.title : T.source.title, close },
        h("div", { class: "recipe" },
          h("img", { src: look, alt: "" }),
          h("div", null,
            h("p", { class: "long" }, found.order?.prompt ?? T.drop.none),
            found.recipe && hint(T.drop.by(found.recipe.program)),
            found.notes.length > 0 && h("div", null, hint(T.drop.leftOut), h("ul", null, sentences(found.notes).map((note) => h("li", { key: note }, note)))),
          ),
        ),
        [h("button", { class: "quiet", onclick: close }, T.drop.no), h("button", { class: found.order ? "" : "main", onclick: () => void startFrom() }, T.drop.start),
          found.order && h("button", { class: "main", onclick: use }, T.drop.use)],
      );
    },
  };
}
