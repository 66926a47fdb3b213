/** Which part of the picture that an order starts from is drawn anew: painted by hand, or by keys. */

import { T } from "../texts.js";
import { dialog } from "../lib/dialog.js";
import { ICONS } from "../lib/icons.js";
import { trying } from "../lib/store.js";
import { View, h, hint, iconButton, wordButton } from "../lib/view.js";
import { wish } from "../lib/wishes.js";
import { load } from "../order/draft.js";
import { bring } from "../order/source.js";

/** Of the picture's longer side: what one key moves, and the brush at first. */
const STEP = 1 / 40;
const BRUSH = 12;
const INK = "#7b3ff2";

/** @typedef {{erases: boolean, width: number, points: [number, number][]}} Stroke `width` and `points` in pixels. */

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
  /** That began the last stroke. */
  pointer = 0;
  /** All that was painted, after each stroke: the way back and forth. @type {Stroke[][]} */
  states = [[]];
  at = 0;

  start() {
    this.hear(this, "keydown", (event) => this.pressed(event));
  }

  get canvas() {
    return this.querySelector("canvas");
  }

  get side() {
    return Math.max(...(this.pixels ?? [1]));
  }

  /** What is painted now. */
  get strokes() {
    return this.states[this.at];
  }

  /** From where the brush is. @param {[number, number]} [to] */
  begin(to = [this.x, this.y]) {
    /** @type {[number, number]} */
    const from = [this.x, this.y];
    const stroke = { erases: this.erases, width: (this.brush * this.side) / 100, points: [from, to] };
    this.become([...this.strokes, stroke]);
  }

  /** What was undone is forgotten. @param {Stroke[]} strokes */
  become(strokes) {
    this.states = [...this.states.slice(0, this.at + 1), strokes];
    this.go(1);
  }

  /** @param {1 | -1} by Redo, undo. */
  go(by) {
    this.at = Math.max(0, Math.min(this.states.length - 1, this.at + by));
    const { canvas } = this;
    // a canvas that is given a width is empty
    if (canvas) canvas.width = this.pixels?.[0] ?? 0;
    this.paint(canvas, INK);
    this.refresh();
  }

  /** @param {HTMLCanvasElement | null} canvas @param {string} ink @param {Stroke[]} [strokes] */
  paint(canvas, ink, strokes = this.strokes) {
    const pen = canvas?.getContext("2d");
    if (!pen) return;
    for (const { erases, width, points } of strokes) {
      pen.globalCompositeOperation = erases ? "destination-out" : "source-over";
      pen.strokeStyle = ink;
      [pen.lineCap, pen.lineJoin, pen.lineWidth] = ["round", "round", width];
      pen.beginPath();
      // a line without length is not drawn
      points.forEach(([x, y], at) => pen.lineTo(x + (at && 0.01), y));
      pen.stroke();
    }
  }

  /** @param {PointerEvent} event */
  pointed(event) {
    // a second finger is captured as well
    if (event.button > 0 || !event.isPrimary) return;
    const canvas = /** @type {HTMLCanvasElement} */ (event.currentTarget);
    const scale = canvas.width / canvas.clientWidth;
    /** @type {[number, number]} */
    const at = [event.offsetX * scale, event.offsetY * scale];
    const stroke = this.strokes.at(-1);
    if (event.type === "pointerdown") {
      this.pointer = event.pointerId;
      canvas.setPointerCapture(this.pointer);
      [this.x, this.y] = at;
      this.begin();
    } else if (stroke && event.pointerId === this.pointer && canvas.hasPointerCapture(this.pointer)) {
      stroke.points.push(at);
      this.paint(canvas, INK, [{ ...stroke, points: stroke.points.slice(-2) }]);
    }
    [this.x, this.y] = at;
    this.refresh();
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const redo = event.key === "y" || (event.key.toLowerCase() === "z" && event.shiftKey);
    if ((event.ctrlKey || event.metaKey) && (redo || event.key === "z")) {
      event.preventDefault();
      return this.go(redo ? 1 : -1);
    }
    const ways = /** @type {Record<string, [number, number]>} */ ({ ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1], " ": [0, 0] });
    const way = ways[event.key];
    if (!way || !this.pixels || !(event.target instanceof HTMLCanvasElement)) return;
    event.preventDefault();
    const [x, y] = [this.x, this.y].map((was, axis) => Math.max(0, Math.min(this.pixels?.[axis] ?? 0, was + way[axis] * STEP * this.side)));
    if (event.shiftKey || event.key === " ") this.begin([x, y]);
    [this.x, this.y] = [x, y];
    this.refresh();
  }

  /** White where something is painted, black elsewhere. */
  async use() {
    const { canvas } = this;
    const paper = document.createElement("canvas");
    const pen = paper.getContext("2d");
    if (!canvas || !pen) return;
    [paper.width, paper.height] = [canvas.width, canvas.height];
    this.paint(paper, "#fff");
    pen.globalCompositeOperation = "destination-over";
    pen.fillRect(0, 0, paper.width, paper.height);
    const file = await new Promise((done) => paper.toBlob(done, "image/png"));
    wish({ mask: await bring(file) });
  }

  view() {
    const { source, pixels, brush, erases } = this;
    if (!source) return null;
    const part = (/** @type {number} */ length, /** @type {0 | 1} */ axis) => `${(100 * length) / (pixels?.[axis] ?? 1)}%`;
    const width = (brush * this.side) / 100;
    const pointed = (/** @type {PointerEvent} */ event) => this.pointed(event);
    return dialog({ name: "mask", title: T.mask.title, wide: true },
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
          onpointerdown: pointed, onpointermove: pointed,
        }),
        pixels && h("span", { class: "brush", style: { left: part(this.x, 0), top: part(this.y, 1), width: part(width, 0), height: part(width, 1) } }),
      ),
      [
        hint(T.mask.hint),
        h("label", null, T.mask.brush, h("input", { type: "range", min: 1, max: 40, value: String(brush), oninput: (event) => ((this.brush = Number(event.target.value)), this.refresh()) })),
        h("button", { "aria-pressed": erases, onclick: () => ((this.erases = !erases), this.refresh()) }, T.mask.erase),
        iconButton(T.mask.undo, ICONS.undo, () => this.go(-1), { disabled: !this.at }),
        iconButton(T.mask.redo, ICONS.redo, () => this.go(1), { disabled: this.at === this.states.length - 1 }),
        wordButton(T.mask.clear, ICONS.trash, () => this.become([])),
        h("button", { class: "main", onclick: () => void trying(() => this.use()) }, T.mask.use),
      ],
    );
  }
}

customElements.define("above-mask", MaskPainter);
