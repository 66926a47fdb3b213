/** A tile of the gallery. Knows what it shows; the gallery knows where it stands. */

import { T } from "../texts.js";
import { thumbnail } from "../lib/api.js";
import { ICONS } from "../lib/icons.js";
import { h, icon } from "../lib/view.js";

/** Sides of thumbnails that the service makes. */
const THUMBS = [128, 256, 512];

/**
 * @param {import("./list.js").Item} item
 * @param {{x: number, y: number, side: number, place: number, current: boolean, selected: boolean,
 *   mark: import("../lib/marks.js").Mark, press: (event: MouseEvent) => void, focus: () => void}} how
 */
export function tile(item, { x, y, side, place, current, selected, mark, press, focus }) {
  const wished = side * Math.min(2, window.devicePixelRatio || 1);
  const thumb = THUMBS.find((one) => one >= wished) ?? 512;
  const marks = [mark.starred && T.gallery.starred, mark.rating && T.mark.rating(mark.rating), mark.rejected && T.mark.reject, item.noted && T.gallery.noted].filter(Boolean);
  return h("div", {
    key: item.key,
    class: `tile${mark.rejected ? " rejected" : ""}`,
    role: "option",
    tabindex: current ? 0 : -1,
    "aria-selected": selected,
    "aria-label": item.url ? [T.gallery.alt(item.words, item.seed), ...marks].join(", ") : undefined,
    "aria-posinset": place + 1,
    "aria-setsize": -1,
    "data-place": place,
    "data-job": item.job,
    style: { transform: `translate(${x}px, ${y}px)` },
    onclick: press,
    onfocus: focus,
  },
    item.url
      ? h("img", {
          key: item.url, src: thumbnail(item.url, thumb), alt: "", width: item.width, height: item.height, decoding: "async",
          draggable: "true",
          onerror: (event) => event.target.classList.add("missing"),
        })
      : h("span", { class: "without" }, h("strong", null, T.states[item.status]), " ", item.error),
    (mark.starred || mark.rating > 0) && h("span", { class: "marks" }, mark.starred && icon(ICONS.star), mark.rating > 0 && h("b", null, mark.rating)),
    item.noted && h("span", { class: "noted", title: T.gallery.noted }, "i"),
    selected && h("span", { class: "tick" }, icon(ICONS.check)),
    h("span", { class: "caption" }, item.words),
  );
}
