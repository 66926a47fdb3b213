/**
 * The gallery: every finished picture, newest first, of which only those in sight are in the page.
 *
 * Tiles have one size, so where each stands is a multiplication, and nothing moves when a picture arrives.
 */

import { T } from "../texts.js";
import { recall, remember } from "../lib/remember.js";
import { notify, onEnd, remove, store, trying, watch } from "../lib/store.js";
import { ICONS } from "../lib/icons.js";
import { View, h, wordButton } from "../lib/view.js";
import { go, onPlace, place, showPicture } from "../lib/place.js";
import { markOf, marked } from "../lib/marks.js";
import { PictureList } from "./list.js";
import { filterBar, filtered, filtersOf } from "./filters.js";
import { selection } from "./selection.js";
import { tile } from "./tile.js";

/** @typedef {import("./list.js").Item} Item */

const GAP = 10;
const CAPTION = 26;
/** Rows beyond each edge of what is seen. */
const SPARE_ROWS = 3;
/** Side of a tile, wished for: it grows until the row is full. */
const SIDES = [110, 168, 260];
/** On a wide screen pictures are larger, not only more: shares of its width. */
const SHARES = [0.055, 0.1, 0.16];
/** How many pictures before the end of what is loaded the next page is asked for, in screens. */
const AHEAD = 2;
/** How long a deletion can be taken back. */
const UNDO_MS = 5_500;

class PictureGallery extends View {
  list = this.newList();
  side = recall("tile", 1);
  /** Place of the tile that has the focus, or would have it. */
  current = 0;
  columns = 1;
  width = 0;
  /** Where the grid begins in what scrolls, at the last drawing. */
  top = 0;
  /** @type {HTMLElement | null} */
  scroller = null;
  /** Rows that were drawn last. */
  sight = "";
  /** Where a selection of several began. */
  anchor = 0;
  /** A touch selects. With keys or a mouse nobody needs it. */
  selecting = false;

  newList() {
    return new PictureList(filtersOf(place().words), () => this.refresh());
  }

  start() {
    this.scroller = this.closest("[data-scroller]");
    const { scroller } = this;
    if (!scroller) return;
    this.redrawOn(watch, selection.watch);
    this.until(onEnd((job) => {
      this.list.take(job);
      if (this.atTop()) this.list.merge();
    }));
    this.until(onPlace(() => this.moved()));
    this.hear(scroller, "scroll", () => this.inSight().join() !== this.sight && this.refresh(), { passive: true });
    this.hear(this, "keydown", (event) => this.pressed(event));
    const sizes = new ResizeObserver(() => this.refresh());
    sizes.observe(this);
    sizes.observe(scroller);
    this.until(() => (sizes.disconnect(), this.list.end()));
    void this.list.more();
  }

  /** The URL says something else now. */
  moved() {
    if (JSON.stringify(filtersOf(place().words)) === JSON.stringify(this.list.filters)) return;
    this.list.end();
    this.list = this.newList();
    this.showFresh();
    void this.list.more();
    this.refresh();
  }

  /** Whoever looks at the newest pictures sees newer ones come in; nobody else's view moves. */
  atTop() {
    return !this.scroller || this.scroller.scrollTop <= Math.max(0, this.top - 80);
  }

  view() {
    const { list } = this;
    this.measure();
    const { columns, row, rows } = this;
    const [first, end] = this.inSight();
    this.sight = `${first},${end}`;
    const shown = list.items.slice(first * columns, end * columns).map((item, at) => /** @type {const} */ ([item, first * columns + at]));
    const current = list.items[this.current];
    // It keeps the focus while it is out of sight.
    if (current && !shown.some(([item]) => item === current)) shown.push([current, this.current]);
    const { catalog } = store;
    return [
      h("section", { "aria-labelledby": "gallery-title", class: "gallery" },
        h("header", { class: "bar" },
          h("h2", { id: "gallery-title" }, T.gallery.title),
          wordButton(T.gallery.select, ICONS.check, () => ((this.selecting = !this.selecting), this.refresh()), {
            class: "quiet select", key: "select", "aria-pressed": this.selecting,
          }),
          catalog && filterBar(list.filters, catalog, {
            side: this.side,
            choose: (words) => go(words),
            resize: (side) => {
              this.side = side;
              remember("tile", side);
              this.refresh();
            },
          }),
        ),
        list.fresh.length > 0 && h("button", { class: "fresh", key: "fresh", onclick: () => this.showFresh() }, T.gallery.fresh(list.fresh.length)),
        h("div", {
          class: "grid", key: "grid", role: "listbox", "aria-label": T.gallery.label, "aria-multiselectable": "true",
          hidden: list.items.length === 0,
          style: { height: `${Math.max(0, rows * row - GAP)}px`, "--side": `${this.tileSide}px` },
        },
          shown.map(([item, index]) => tile(item, {
              x: (index % columns) * (this.tileSide + GAP),
              y: Math.floor(index / columns) * row,
              side: this.tileSide,
              place: index,
              current: index === this.current,
              selected: selection.has(item.key),
              mark: markOf(item.key),
              press: (event) => this.chosen(event, index),
              focus: () => this.seen(index),
          })),
        ),
        this.end(),
      ),
    ];
  }

  end() {
    const { list } = this;
    const { state, items } = list;
    const say = (/** @type {import("../lib/view.js").Content[]} */ ...words) => h("p", { class: "end", key: "end" }, words);
    if (state === "failed") return say(T.gallery.failed, " ", h("button", { onclick: () => void list.more() }, T.gallery.tryAgain));
    if (state === "loading") return items.length > 0 && say(T.gallery.loading);
    if (state !== "end") return null;
    return say(items.length ? T.gallery.end : filtered(list.filters) ? T.gallery.none : T.gallery.empty);
  }

  drawn() {
    this.keepStill();
    const { list, scroller } = this;
    if (!scroller || list.state !== "idle") return;
    const bottom = this.top + this.rows * this.row;
    if (bottom < scroller.scrollTop + (1 + AHEAD) * scroller.clientHeight) void list.more();
  }

  get tileSide() {
    return Math.max(40, (this.width - (this.columns - 1) * GAP) / this.columns);
  }

  get row() {
    return this.tileSide + (this.side > 0 ? CAPTION : 0) + GAP;
  }

  measure() {
    const inside = this.querySelector(".grid")?.parentElement ?? this;
    const style = getComputedStyle(inside);
    this.width = inside.clientWidth - parseFloat(style.paddingLeft) - parseFloat(style.paddingRight);
    const side = Math.max(SIDES[this.side], SHARES[this.side] * this.width);
    const wished = Math.min(side, (this.width - GAP) / 2);
    const columns = Math.max(1, Math.floor((this.width + GAP) / (wished + GAP)));
    if (columns === this.columns) return;
    const anchor = this.firstSeen();
    this.columns = columns;
    if (anchor > 0 && this.scroller) this.scroller.scrollTop = this.top + Math.floor(anchor / columns) * this.row;
  }

  /** The first picture that is in sight. */
  firstSeen() {
    const past = (this.scroller?.scrollTop ?? 0) - this.top;
    return past > 0 ? Math.floor(past / this.row) * this.columns : 0;
  }

  get rows() {
    return Math.ceil(this.list.items.length / this.columns);
  }

  /** The first row that is drawn, and the one after the last. @returns {[number, number]} */
  inSight() {
    const { rows, row, scroller } = this;
    if (!scroller) return [0, Math.min(rows, 10)];
    const above = scroller.scrollTop - this.top;
    const first = Math.max(0, Math.floor(above / row) - SPARE_ROWS);
    const end = Math.ceil((above + scroller.clientHeight) / row) + SPARE_ROWS;
    return [Math.min(first, Math.max(0, rows - 1)), Math.max(0, Math.min(rows, end))];
  }

  /** When what is above the grid grows or shrinks, whoever has scrolled past it sees nothing move. */
  keepStill() {
    const grid = this.querySelector(".grid");
    const { scroller } = this;
    if (!grid || !scroller) return;
    const top = grid.getBoundingClientRect().top - scroller.getBoundingClientRect().top + scroller.scrollTop;
    const moved = top - this.top;
    if (Math.abs(moved) < 0.5) return;
    const past = scroller.scrollTop > this.top && this.top > 0;
    this.top = top;
    if (past) scroller.scrollTop += moved;
    else this.refresh();
  }

  showFresh() {
    this.list.merge();
    this.current = 0;
    this.scroller?.scrollTo({ top: 0 });
  }

  /** @param {number} index */
  seen(index) {
    if (this.current === index) return;
    this.current = index;
    this.refresh();
  }

  /** A tile was clicked. @param {MouseEvent} event @param {number} index */
  chosen(event, index) {
    this.current = index;
    const item = this.list.items[index];
    if (event.shiftKey) this.selectTo(index);
    else if (event.ctrlKey || event.metaKey || selection.size || this.selecting) {
      selection.toggle(item);
      this.anchor = index;
    } else this.open(index);
    this.refresh();
  }

  /** Delete the jobs of what is selected, unless it is taken back in time. */
  removeSelected() {
    const jobs = new Set(selection.items.map((item) => item.job));
    const dropped = this.list.drop((item) => jobs.has(item.job));
    this.current = Math.max(0, Math.min(this.current, this.list.items.length - 1));
    selection.clear();
    const timer = setTimeout(() => void trying(async () => {
      for (const job of jobs) await remove(job);
    }), UNDO_MS);
    notify(T.selection.removed(jobs.size), "good", {
      text: T.selection.undo,
      act: () => {
        clearTimeout(timer);
        this.list.putBack(dropped);
      },
    });
  }

  /** @param {number} index */
  open(index) {
    const item = this.list.items[index];
    if (item) showPicture(item.job, item.index);
  }

  /** @param {number} index */
  selectTo(index) {
    const [from, to] = [this.anchor, index].sort((a, b) => a - b);
    selection.add(this.list.items.slice(from, to + 1));
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    if (!(event.target instanceof HTMLElement) || event.target.getAttribute("role") !== "option" || event.altKey) return;
    const item = this.list.items[this.current];
    const steps = /** @type {Record<string, number>} */ ({
      ArrowLeft: -1, ArrowRight: 1, ArrowUp: -this.columns, ArrowDown: this.columns,
      PageUp: -5 * this.columns, PageDown: 5 * this.columns, Home: -Infinity, End: Infinity,
    });
    if (event.key in steps) {
      event.preventDefault();
      if (!event.shiftKey) this.anchor = this.current;
      this.move(this.current + steps[event.key]);
      if (event.shiftKey) this.selectTo(this.current);
    } else if (event.key === "Enter") this.open(this.current);
    else if (event.key === " ") {
      event.preventDefault();
      this.anchor = this.current;
      selection.toggle(item);
    } else if (event.key === "c" && selection.size > 1) go({ do: "compare" }, { step: true });
    else if (event.key === "Delete") {
      if (!selection.has(item.key)) selection.clear();
      selection.add([item]);
      this.removeSelected();
      this.move(this.current);
    } else if (event.key.toLowerCase() === "a" && (event.ctrlKey || event.metaKey)) {
      event.preventDefault();
      selection.add(this.list.items);
    } else if (event.ctrlKey || event.metaKey || !marked(event.key, selection.has(item.key) ? selection.items.map((one) => one.key) : [item.key])) return;
    event.stopPropagation();
    this.refresh();
  }

  /** Move the focus there, and bring it into sight. @param {number} to */
  move(to) {
    const { scroller } = this;
    this.current = Math.max(0, Math.min(this.list.items.length - 1, to));
    if (!scroller) return;
    const y = this.top + Math.floor(this.current / this.columns) * this.row;
    if (y < scroller.scrollTop + 60) scroller.scrollTop = y - 60;
    else scroller.scrollTop = Math.max(scroller.scrollTop, y + this.row - scroller.clientHeight);
    this.draw();
    const tile = this.querySelector(`[data-place="${this.current}"]`);
    if (tile instanceof HTMLElement) tile.focus({ preventScroll: true });
  }

  /** @param {string} key */
  at(key) {
    return this.list.items.findIndex((item) => item.key === key);
  }

  /** The picture before or after this one. @param {string} key @param {number} by @returns {Item | undefined} */
  neighbour(key, by) {
    const at = this.at(key);
    return at < 0 ? undefined : this.list.items[at + by];
  }

  /** Back from the picture: the focus is where it was. @param {string} key */
  focusOn(key) {
    if (this.at(key) >= 0) this.move(this.at(key));
  }
}

customElements.define("picture-gallery", PictureGallery);

/** The one of the page, while somebody is signed in. */
export const gallery = () => /** @type {PictureGallery | null} */ (document.querySelector("picture-gallery"));
