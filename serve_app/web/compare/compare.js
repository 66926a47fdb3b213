/** Two to four pictures side by side, at one zoom and one place. */

import { T } from "../texts.js";
import { dialog } from "../lib/dialog.js";
import { ICONS } from "../lib/icons.js";
import { markOf, toggleReject, toggleStar } from "../lib/marks.js";
import { go, showPicture } from "../lib/place.js";
import { recall } from "../lib/remember.js";
import { View, h, icon } from "../lib/view.js";
import { selection } from "../gallery/selection.js";

const MOST = 4;
const SCALES = [1, 2, 4, 8];

class PictureCompare extends View {
  items = selection.items.filter((item) => item.url).slice(0, MOST);
  /** Times as large as what fits. */
  scale = 1;

  view() {
    const { scale } = this;
    const zoom = (/** @type {number} */ by) => () => this.zoom(by);
    const close = () => go({ do: null });
    return dialog({ name: "compare", title: T.selection.compare, close, wide: true },
      h("div", { class: `pictures of-${this.items.length}` }, this.items.map((item) => {
        const marked = markOf(item.key);
        const button = (/** @type {string} */ text, /** @type {string} */ shape, /** @type {(key: string) => void} */ act, /** @type {boolean} */ on) => h("button", {
          type: "button", class: "quiet small", title: text, "aria-label": `${text}: ${item.words}`, "aria-pressed": String(on),
          onclick: () => (act(item.key), this.refresh()),
        }, icon(shape));
        return h("figure", { key: item.key, class: marked.reject ? "rejected" : "" },
          h("div", {
            class: `frame on-${recall("ground", "checker")}`, tabindex: 0, role: "group", "aria-label": T.gallery.alt(item.words, item.seed),
            onscroll: (event) => this.follow(event.target),
            onwheel: (event) => event.ctrlKey && (event.preventDefault(), this.zoom(event.deltaY < 0 ? 1 : -1)),
          }, h("img", { src: item.url, alt: "", draggable: "false", style: { width: `${100 * scale}%`, height: `${100 * scale}%`, "image-rendering": scale > 2 ? "pixelated" : "auto" } })),
          h("figcaption", null, h("span", null, item.words, h("b", null, item.seed)),
            button(T.mark.star, ICONS.star, toggleStar, Boolean(marked.star)),
            button(T.mark.reject, ICONS.reject, toggleReject, Boolean(marked.reject)),
            h("button", { type: "button", class: "small", onclick: () => (close(), showPicture(item.job, item.index)) }, T.selection.open)),
        );
      })),
      h("div", { class: "joined zoom", role: "group", "aria-label": T.picture.zoom },
        h("button", { type: "button", class: "quiet", "aria-label": "−", onclick: zoom(-1) }, "−"),
        h("span", null, `× ${scale}`),
        h("button", { type: "button", class: "quiet", "aria-label": "+", onclick: zoom(1) }, "+"),
      ),
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

customElements.define("picture-compare", PictureCompare);
