/** Which part of the picture that an order starts from is drawn anew: painted by hand, or by keys. */

import { T } from "../texts.js";
import { dialog } from "../lib/dialog.js";
import { ICONS } from "../lib/icons.js";
import { go } from "../lib/place.js";
import { trying } from "../lib/store.js";
import { View, h, icon } from "../lib/view.js";
import { masks } from "../lib/wishes.js";
import { load } from "../order/draft.js";
import { bring } from "../order/source.js";

/** Of the picture's longer side: what one key moves, and the brush at first. */
const STEP = 1 / 40;
const BRUSH = 12;

class MaskPainter extends View {
  source = load().source;
  /** Pixels of the picture that is painted on. @type {[number, number] | null} */
  pixels = null;
  erases = false;
  /** Width of the brush, in hundredths of the longer side. */
  brush = BRUSH;
  /** Where the brush is, in pixels. */
  x = 0;
  y = 0;

  get canvas() {
    return this.querySelector("canvas");
  }

  get side() {
    return Math.max(...(this.pixels ?? [1]));
  }

  /** Draw from where the brush is. @param {number} x @param {number} y */
  stroke(x, y) {
    const pen = this.canvas?.getContext("2d");
    if (!pen) return;
    pen.globalCompositeOperation = this.erases ? "destination-out" : "source-over";
    pen.strokeStyle = "#7b3ff2";
    pen.lineCap = "round";
    pen.lineWidth = (this.brush * this.side) / 100;
    pen.beginPath();
    pen.moveTo(this.x, this.y);
    // a line without length is not drawn
    pen.lineTo(x + 0.01, y);
    pen.stroke();
    [this.x, this.y] = [x, y];
  }

  /** @param {PointerEvent} event */
  pointed(event) {
    const canvas = /** @type {HTMLCanvasElement} */ (event.currentTarget);
    const scale = canvas.width / canvas.clientWidth;
    const at = /** @type {const} */ ([event.offsetX * scale, event.offsetY * scale]);
    if (event.type === "pointerdown") {
      canvas.setPointerCapture(event.pointerId);
      [this.x, this.y] = at;
    }
    if (event.buttons & 1) this.stroke(...at);
    this.refresh();
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const ways = /** @type {Record<string, [number, number]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0] });
    const way = ways[event.key];
    if (!way || !this.pixels) return;
    event.preventDefault();
    const [x, y] = [this.x, this.y].map((was, axis) => Math.max(0, Math.min(this.pixels?.[axis] ?? 0, was + way[axis] * STEP * this.side)));
    if (event.shiftKey || event.key === " ") this.stroke(x, y);
    [this.x, this.y] = [x, y];
    this.refresh();
  }

  clear() {
    const { canvas } = this;
    // a canvas that is given a width is empty
    if (canvas) canvas.width = this.pixels?.[0] ?? 0;
  }

  /** White where something is painted, black elsewhere. */
  async use() {
    const { canvas } = this;
    const paper = document.createElement("canvas");
    const pen = paper.getContext("2d");
    if (!canvas || !pen) return;
    [paper.width, paper.height] = [canvas.width, canvas.height];
    pen.drawImage(canvas, 0, 0);
    pen.globalCompositeOperation = "source-in";
    pen.fillStyle = "#fff";
    pen.fillRect(0, 0, paper.width, paper.height);
    pen.globalCompositeOperation = "destination-over";
    pen.fillStyle = "#000";
    pen.fillRect(0, 0, paper.width, paper.height);
    const file = await new Promise((done) => paper.toBlob(done, "image/png"));
    masks.tell(await bring(file));
    go({ do: null });
  }

  view() {
    const { source, pixels, brush, erases } = this;
    if (!source) return null;
    const part = (/** @type {number} */ length, /** @type {0 | 1} */ axis) => `${(100 * length) / (pixels?.[axis] ?? 1)}%`;
    const width = (brush * this.side) / 100;
    return dialog({ name: "mask", title: T.mask.title, close: () => go({ do: null }), wide: true },
      h("div", { class: "paper on-checker", style: { "aspect-ratio": pixels?.join(" / ") ?? "1", width: pixels && `min(100%, ${(66 * pixels[0]) / pixels[1]}vh)` } },
        h("img", {
          src: source.picture ?? source.look, alt: T.source.title,
          onload: ({ target }) => {
            this.pixels = source.size ?? [target.naturalWidth, target.naturalHeight];
            [this.x, this.y] = this.pixels.map((side) => side / 2);
            this.refresh();
          },
          onerror: ({ target }) => target.getAttribute("src") !== source.look && (target.src = source.look),
        }),
        pixels && h("canvas", {
          width: pixels[0], height: pixels[1], tabindex: 0, role: "application", "aria-label": T.mask.hint,
          onpointerdown: (event) => this.pointed(event), onpointermove: (event) => this.pointed(event), onkeydown: (event) => this.pressed(event),
        }),
        pixels && h("span", { class: "brush", style: { left: part(this.x, 0), top: part(this.y, 1), width: part(width, 0), height: part(width, 1) } }),
      ),
      [
        h("p", { class: "hint" }, T.mask.hint),
        h("label", null, T.mask.brush, h("input", { type: "range", min: 1, max: 40, value: String(brush), oninput: (event) => ((this.brush = Number(event.target.value)), this.refresh()) })),
        h("button", { "aria-pressed": String(erases), onclick: () => ((this.erases = !erases), this.refresh()) }, T.mask.erase),
        h("button", { onclick: () => this.clear() }, icon(ICONS.trash), T.mask.clear),
        h("button", { class: "main", onclick: () => void trying(() => this.use()) }, T.mask.use),
      ],
    );
  }
}

customElements.define("mask-painter", MaskPainter);
