/** Cards of the styles, each with a picture: the newest that this service drew in it, or a sample. */

import { T } from "../texts.js";
import { FILES, thumbnail } from "../lib/api.js";
import { looks } from "../lib/looks.js";
import { alert, h, hint } from "../lib/view.js";
import { SAMPLES } from "../samples/index.js";

/** @typedef {import("../types.js").Style} Style */

/**
 * @param {Style[]} styles @param {string | null} chosen Null: the default of the service.
 * @param {(style: string) => void} choose @param {string} [error]
 */
export function styleCards(styles, chosen, choose, error) {
  const drawable = styles.filter((style) => style.drawable);
  const others = styles.length - drawable.length;
  const current = chosen ?? styles.find((style) => style.default)?.style_id;
  return h("fieldset", { class: "styles" },
    h("legend", null, T.order.style),
    h("div", { class: "cards" }, drawable.map((style) => card(style, style.style_id === current, choose))),
    alert(error) ?? (others > 0 && hint(T.order.undrawable(others))),
  );
}

/** @param {Style} style @param {boolean} checked @param {(style: string) => void} choose */
function card(style, checked, choose) {
  const look = looks.of(style.style_id);
  const sample = SAMPLES.has(style.style_id) ? `${FILES}/samples/${style.style_id}.webp` : "";
  const source = look ? thumbnail(look.url, 128) : sample;
  return h("label", { class: "card", key: style.style_id, title: style.description },
    h("input", { type: "radio", name: "style", value: style.style_id, checked, onchange: () => choose(style.style_id) }),
    h("span", { class: "sample" }, source
      ? h("img", { key: "sample", src: source, alt: "", width: 96, height: 96, decoding: "async" })
      : h("span", { class: "letter", key: "letter", "aria-hidden": "true" }, style.title.charAt(0))),
    h("span", { class: "name" }, style.title),
  );
}
