/** How large a picture is shown, and which part of it. Knows an element that scrolls, and the picture's size. */

import { T } from "../texts.js";
import { h, iconButton } from "../lib/view.js";

const SCALES = [0.125, 0.25, 0.5, 1, 2, 3, 4, 6, 8, 12, 16, 24, 32];
/** From here on a pixel is a square, and is shown as one. */
const SQUARES = 6;
const SMALL = 96;
const MARGIN = 48;

export class Stage {
  /** @type {number | null} Null: as large as fits. */
  scale = null;
  /** @type {HTMLElement | null} */
  element = null;
  /** @type {{width: number, height: number} | undefined} */
  image = undefined;

  /** @param {() => void} changed */
  constructor(changed) {
    this.changed = changed;
  }

  get fits() {
    return this.scale === null;
  }

  /** @param {Element | null} element */
  attach(element) {
    if (element === this.element || !(element instanceof HTMLElement)) return;
    this.element = element;
    element.addEventListener("wheel", (event) => {
      event.preventDefault();
      this.zoom(event.deltaY < 0 ? 1 : -1, event);
    }, { passive: false });
    element.addEventListener("pointerdown", (event) => event.button === 0 && element.setPointerCapture(event.pointerId));
    element.addEventListener("pointermove", (event) => element.hasPointerCapture(event.pointerId) && element.scrollBy(-event.movementX, -event.movementY));
    new ResizeObserver(() => this.changed()).observe(element);
  }

  reset() {
    this.scale = null;
    this.changed();
  }

  /** Whole steps where a picture is enlarged: pixels stay even. */
  fitting() {
    const { element, image } = this;
    if (!element || !image) return 1;
    const most = Math.min((element.clientWidth - MARGIN) / image.width, (element.clientHeight - MARGIN) / image.height);
    return most >= 1 ? Math.min(SQUARES, Math.floor(most)) : Math.max(0.02, most);
  }

  /** @param {number} by Steps. @param {MouseEvent} [at] What is there stays there. */
  zoom(by, at) {
    const { element } = this;
    const before = this.scale ?? this.fitting();
    const wanted = by > 0 ? SCALES.find((one) => one > before + 1e-6) : SCALES.findLast((one) => one < before - 1e-6);
    if (!wanted || !element) return;
    const box = element.getBoundingClientRect();
    const [x, y] = at ? [at.clientX - box.left, at.clientY - box.top] : [box.width / 2, box.height / 2];
    const grown = wanted / before;
    const [left, top] = [(element.scrollLeft + x) * grown - x, (element.scrollTop + y) * grown - y];
    this.scale = wanted;
    this.changed();
    requestAnimationFrame(() => requestAnimationFrame(() => element.scrollTo(left, top)));
  }

  /** @param {{width: number, height: number}} image @param {"asset" | "original"} shown */
  style(image, shown) {
    this.image = image;
    const scale = this.scale ?? this.fitting();
    const squares = scale >= SQUARES || (scale > 1 && Math.max(image.width, image.height) <= SMALL);
    /** @type {Record<string, string>} */
    const style = { "image-rendering": squares ? "pixelated" : "auto" };
    // The original may have another size: it is shown as high as the result.
    style.width = shown === "asset" ? `${image.width * scale}px` : "auto";
    style.height = `${image.height * scale}px`;
    return style;
  }

  said() {
    return this.scale === null ? `${T.picture.fit} · ${percent(this.fitting())}` : percent(this.scale);
  }
}

/** @param {(by: number) => void} zoom @param {import("../lib/view.js").Content} said How large it is. */
export function zoomBar(zoom, said) {
  return h("div", { class: "joined zoom", role: "group", "aria-label": T.picture.zoom },
    iconButton("−", "−", () => zoom(-1)), said, iconButton("+", "+", () => zoom(1)));
}

/** @param {number} scale */
function percent(scale) {
  return `${Math.round(100 * scale)} %`;
}
