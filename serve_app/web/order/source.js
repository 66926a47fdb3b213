/** The picture that an order starts from: an upload or a picture of ours, and how much of it is drawn anew. */

import { T } from "../texts.js";
import { sendFile } from "../lib/api.js";
import { ICONS } from "../lib/icons.js";
import { go } from "../lib/place.js";
import { trying } from "../lib/store.js";
import { alert, h, icon, smallButton, wordButton } from "../lib/view.js";

/**
 * @typedef {{image: {upload_id: string} | {job_id: string, index: number}, look: string, picture?: string, size?: [number, number]}} Source
 * `look`: a small link. `picture`: the whole, which of an upload only this visit has.
 */

const SIDE = 96;
/** What the service takes if nothing is said. */
export const STRENGTH = 0.6;

/** Bring a file to the service. @param {Blob} file @returns {Promise<Source>} */
export async function bring(file) {
  const { upload_id, width, height } = await sendFile("/v1/uploads", file);
  return { image: { upload_id }, look: await small(file), picture: URL.createObjectURL(file), size: [width, height] };
}

/** A look that fits into what the browser remembers. @param {Blob} file */
async function small(file) {
  const bitmap = await createImageBitmap(file);
  const scale = Math.min(1, SIDE / Math.max(bitmap.width, bitmap.height));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, bitmap.width * scale);
  canvas.height = Math.max(1, bitmap.height * scale);
  canvas.getContext("2d")?.drawImage(bitmap, 0, 0, canvas.width, canvas.height);
  return canvas.toDataURL("image/webp", 0.8);
}

/**
 * @param {import("./draft.js").Draft} draft @param {string | undefined} error
 * @param {(changes: Partial<import("./draft.js").Draft>) => void} change
 */
export function sourceField({ source, mask, more }, error, change) {
  const strength = more.strength ?? (mask ? 1 : STRENGTH);
  const brought = (/** @type {Blob} */ file) => trying(async () => change({ source: await bring(file), mask: null }));
  return h("fieldset", { class: "field source" },
    h("legend", null, T.source.title),
    source
      ? h("div", { class: "given" },
          h("img", { src: source.look, alt: T.source.title }),
          h("div", { class: "field" },
            h("label", { for: "order-strength" }, T.source.strength, h("output", null, ` ${Math.round(100 * strength)} %`)),
            h("input", { id: "order-strength", type: "range", min: 0, max: 1, step: 0.05, value: String(strength), oninput: (event) => change({ more: { ...more, strength: Number(event.target.value) } }) }),
          ),
          smallButton(T.source.remove, ICONS.close, () => change({ source: null, mask: null })),
        )
      : h("label", { class: "button pick", key: "pick" }, icon(ICONS.plus), T.source.pick,
          h("input", { type: "file", accept: "image/png,image/jpeg,image/webp", onchange: (event) => event.target.files[0] && void brought(event.target.files[0]) })),
    source?.look && h("div", { class: "given", key: "mask" },
      mask && h("img", { src: mask.look, alt: T.mask.title }),
      wordButton(T.mask.title, ICONS.brush, () => go({ do: "mask" }, { step: true })),
      mask && smallButton(T.mask.remove, ICONS.close, () => change({ mask: null }))),
    alert(error),
  );
}
