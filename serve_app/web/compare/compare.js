/** Two to four pictures side by side, at one zoom and one place. */

import { T } from "../texts.js";
import { dialog, leave } from "../lib/dialog.js";
import { ICONS } from "../lib/icons.js";
import { markOf, toggle } from "../lib/marks.js";
import { showPicture } from "../lib/place.js";
import { recall } from "../lib/remember.js";
import { watch } from "../lib/store.js";
import { View, h, smallButton } from "../lib/view.js";
import { zoomBar } from "../picture/stage.js";
import { selection } from "../gallery/selection.js";

const MOST = 4;
const SCALES = [1, 2, 4, 8];

class PictureCompare extends View {
  items = selection.items.filter((item) => item.url).slice(0, MOST);
  /** Times as large as what fits. */
  scale = 1;

  start() {
    this.redrawOn(watch);
  }

  view() {
    const { scale } = this;
    return dialog({ name: "compare", title: T.selection.compare, wide: true },
      h("div", { class: `pictures of-${this.items.length}` }, this.items.map((item) => {
        const marked = markOf(item.key);
        const button = (/** @type {string} */ text, /** @type {string} */ shape, /** @type {"starred" | "rejected"} */ name) =>
          smallButton(`${text}: ${item.words}`, shape, () => toggle([item.key], name), { "aria-pressed": marked[name] });
        return h("figure", { key: item.key, class: marked.rejected ? "rejected" : "" },
          h("div", {
            class: `frame on-${recall("ground", "checker")}`, tabindex: 0, role: "group", "aria-label": T.gallery.alt(item.words, item.seed),
            onscroll: (event) => this.follow(event.target),
            onwheel: (event) => event.ctrlKey && (event.preventDefault(), this.zoom(event.deltaY < 0 ? 1 : -1)),
          }, h("img", { src: item.url, alt: "", draggable: "false", style: { width: `${100 * scale}%`, height: `${100 * scale}%`, "image-rendering": scale > 2 ? "pixelated" : "auto" } })),
          h("figcaption", null, h("span", null, item.words, h("b", null, item.seed)),
            button(T.mark.star, ICONS.star, "starred"),
            button(T.mark.reject, ICONS.reject, "rejected"),
            h("button", { class: "small", onclick: () => (leave(), showPicture(item.job, item.index)) }, T.selection.open)),
        );
      })),
      zoomBar((by) => this.zoom(by), h("span", null, `× ${scale}`)),
    );
  }

  /** @param {number} by */
  zoom(by) {
    this.scale = SCALES[Math.max(0, Math.min(SCALES.length - 1, SCALES.indexOf(this.scale) + by))];
    this.refresh();
  }

  /** All show the same part. @param {Element} leader */
  follow(leader) {
    for (const frame of this.querySelectorAll(".frame")) {
      if (frame !== leader && (frame.scrollLeft !== leader.scrollLeft || frame.scrollTop !== leader.scrollTop)) {
        frame.scrollTo(leader.scrollLeft, leader.scrollTop);
      }
    }
  }
}

customElements.define("above-compare", PictureCompare);
