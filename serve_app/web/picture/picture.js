/** One picture, as large as the screen, with everything that is known of how it was made. */

import { T } from "../texts.js";
import { get, thumbnail } from "../lib/api.js";
import { ICONS } from "../lib/icons.js";
import { learnMarks, mark, markOf, toggle } from "../lib/marks.js";
import { go, onPlace, place, showPicture } from "../lib/place.js";
import { recall, remember } from "../lib/remember.js";
import { change, notify, order, retry, store, trying, watch, why } from "../lib/store.js";
import { View, h, icon, iconButton } from "../lib/view.js";
import { drafts, sources } from "../lib/wishes.js";
import { itemsOf } from "../gallery/list.js";
import { selection } from "../gallery/selection.js";
import { draftOf } from "../order/draft.js";
import { wordsOf } from "../lib/format.js";
import { facts } from "./facts.js";
import { Stage } from "./stage.js";

/** @typedef {import("../types.js").Job} Job */
/** @typedef {import("../types.js").Image} Image */

const GROUNDS = /** @type {const} */ (["checker", "black", "white", "violet"]);
const VARIATIONS = 4;

class PictureViewer extends View {
  /** @type {Job | null} */
  job = null;
  index = 0;
  /** The job that was asked for last. @type {string | null} */
  asked = null;
  error = "";
  /** @type {"asset" | "original"} */
  shown = "asset";
  ground = recall("ground", "checker");
  stage = new Stage(() => this.refresh());

  start() {
    this.until(onPlace(() => this.moved()));
    this.until(watch(() => {
      void this.load();
      this.refresh();
    }));
    this.hear(this, "keydown", (event) => this.pressed(event));
    this.moved();
  }

  /** @returns {Image | undefined} */
  get image() {
    return this.job?.images.find((one) => one.index === this.index);
  }

  get key() {
    return `${place().words.get("job")}:${this.index}`;
  }

  get dialog() {
    return this.querySelector("dialog");
  }

  /** The URL names another picture, or none. */
  moved() {
    this.index = Number(place().words.get("image") ?? 0);
    this.shown = "asset";
    this.stage.reset();
    void this.load();
  }

  /** Ask for the job that the URL names, once. */
  async load() {
    const id = place().words.get("job");
    if (store.session !== "in" || id === this.asked) return;
    this.asked = id;
    this.job = null;
    this.error = "";
    if (id) {
      try {
        const job = await get(`/v1/jobs/${encodeURIComponent(id)}`);
        if (this.asked === id) learnMarks((this.job = job));
      } catch (error) {
        if (this.asked === id) this.error = why(error);
      }
    }
    this.refresh();
  }

  close() {
    const key = this.key;
    // until then nothing behind it takes the focus
    this.dialog?.close();
    go({ job: null, image: null });
    this.draw();
    const gallery = /** @type {import("../gallery/gallery.js").Gallery | null} */ (document.querySelector("picture-gallery"));
    gallery?.focusOn(key);
  }

  /** @param {number} by */
  step(by) {
    const gallery = /** @type {import("../gallery/gallery.js").Gallery | null} */ (document.querySelector("picture-gallery"));
    const item = gallery?.neighbour(this.key, by);
    if (item) showPicture(item.job, item.index);
  }

  view() {
    const open = place().words.has("job") && store.session === "in";
    if (!open) return null;
    return h("dialog", { class: "viewer", "aria-label": T.picture.label, oncancel: (event) => (event.preventDefault(), this.close()) },
      this.top(),
      h("div", { class: "inside" },
        this.picture(),
        this.job && facts(this.job, this.image, (tags) => void this.retag(tags)),
      ),
    );
  }

  drawn() {
    const { dialog } = this;
    if (dialog && !dialog.open) dialog.showModal();
    this.stage.attach(this.querySelector(".stage:not(.gone)"));
  }

  top() {
    const marked = markOf(this.key);
    const button = (/** @type {string} */ text, /** @type {string} */ shape, /** @type {() => void} */ act, /** @type {boolean | undefined} */ on = undefined) =>
      iconButton(text, shape, act, on === undefined ? {} : { "aria-pressed": String(on) });
    const again = (/** @type {() => void} */ act) => () => {
      act();
      this.refresh();
    };
    return h("header", { class: "viewer-bar" },
      button(T.picture.previous, ICONS.left, () => this.step(-1)),
      button(T.picture.next, ICONS.right, () => this.step(1)),
      h("p", { class: "words" }, this.job ? wordsOf(this.job) : ""),
      button(T.mark.star, ICONS.star, again(() => toggle([this.key], "starred")), marked.starred),
      h("span", { class: "rating", role: "group", "aria-label": T.gallery.marks }, [1, 2, 3, 4, 5].map((stars) => h("button", {
        key: stars, class: "quiet dot", "aria-label": T.mark.rating(stars), "aria-pressed": String(marked.rating >= stars),
        onclick: again(() => mark([this.key], { rating: marked.rating === stars ? 0 : stars })),
      }))),
      button(T.mark.reject, ICONS.reject, again(() => toggle([this.key], "rejected")), marked.rejected),
      button(T.close, ICONS.close, () => this.close()),
    );
  }

  picture() {
    const { image, job, stage } = this;
    if (job && !image) {
      return h("div", { class: "stage gone" }, h("h3", null, T.states[job.status]), h("p", null, job.error?.detail),
        job.status !== "SUCCESS" && h("button", { onclick: () => void retry(job.job_id) }, icon(ICONS.again), T.queue.retry));
    }
    if (this.error) return h("p", { class: "stage gone" }, this.error || T.picture.gone);
    const derived = image && image.original_url !== image.url;
    return h("div", { class: "middle" },
      h("div", { class: `stage on-${this.ground}`, tabindex: 0, role: "group", "aria-label": T.picture.zoom },
        image && h("img", {
          key: this.shown === "original" ? image.original_url : image.url,
          src: this.shown === "original" ? image.original_url : image.url,
          alt: this.job ? T.gallery.alt(wordsOf(this.job), image.seed) : "",
          draggable: "false",
          width: image.width, height: image.height,
          style: stage.style(image, this.shown),
        }),
      ),
      h("div", { class: "viewer-tools" },
        h("div", { class: "grounds", role: "group", "aria-label": T.picture.grounds }, GROUNDS.map((ground) => h("button", {
          key: ground, class: `quiet swatch on-${ground}`, title: T.picture.ground[ground], "aria-label": T.picture.ground[ground],
          "aria-pressed": String(this.ground === ground), onclick: () => this.choose(ground),
        }))),
        h("div", { class: "joined zoom", role: "group", "aria-label": T.picture.zoom },
          iconButton("−", "−", () => stage.zoom(-1)),
          h("button", { class: "quiet wide", onclick: () => stage.reset() }, stage.said()),
          iconButton("+", "+", () => stage.zoom(1)),
        ),
        derived && h("button", {
          class: "quiet", "aria-pressed": String(this.shown === "original"),
          onclick: () => {
            this.shown = this.shown === "original" ? "asset" : "original";
            this.refresh();
          },
        }, T.picture.original),
        this.actions(),
      ),
    );
  }

  actions() {
    const { job, image } = this;
    if (!job || !image) return null;
    const drawn = job.kind === "generate";
    return h("div", { class: "actions" },
      drawn && h("button", { onclick: () => void this.again(job, image, 1, image.seed) }, icon(ICONS.again), T.picture.again),
      drawn && h("button", { onclick: () => void this.again(job, image, VARIATIONS, -1) }, icon(ICONS.vary), T.picture.vary(VARIATIONS)),
      drawn && h("button", { onclick: () => this.use(job, image) }, icon(ICONS.copy), T.picture.use),
      drawn && "init_image" in (store.catalog?.order.properties ?? {}) && h("button", { onclick: () => this.startFrom(job, image) }, icon(ICONS.plus), T.picture.input),
      h("button", { onclick: () => this.finish(job, image) }, icon(ICONS.brush), T.selection.finish),
      iconButton(T.picture.remove, ICONS.trash, () => this.remove()),
      h("a", { class: "button", href: image.url, download: "" }, icon(ICONS.download), T.picture.download),
    );
  }

  /** @param {Job} job @param {Image} image */
  startFrom(job, image) {
    sources.tell({ image: { job_id: job.job_id, index: image.index }, look: thumbnail(image.original_url, 128), picture: image.original_url });
    notify(T.source.used, "good");
    this.close();
    go({}, { pane: "order" });
  }

  /** @param {Job} job @param {Image} image */
  finish(job, image) {
    const item = itemsOf(job).find((one) => one.index === image.index);
    this.close();
    selection.clear();
    if (item) selection.add([item]);
    go({ do: "finish" }, { step: true });
  }

  /** @param {string[]} tags */
  retag(tags) {
    const id = this.job?.job_id ?? "";
    return trying(async () => {
      this.job = await change(id, { tags });
      this.refresh();
    });
  }

  remove() {
    const { job } = this;
    if (!job) return;
    this.close();
    selection.clear();
    selection.add(itemsOf(job));
    /** @type {import("../gallery/gallery.js").Gallery | null} */ (document.querySelector("picture-gallery"))?.removeSelected();
  }

  /** @param {string} ground */
  choose(ground) {
    this.ground = ground;
    remember("ground", ground);
    this.refresh();
  }

  /** Order it again: the same picture, or others of the same words. @param {Job} job @param {Image} image @param {number} n @param {number} seed */
  again(job, image, n, seed) {
    return trying(async () => {
      const { request } = job;
      await order({ ...stripped(request), n, seed });
      notify(T.order.done, "good");
    });
  }

  /** @param {Job} job @param {Image} image */
  use(job, image) {
    const fields = store.catalog?.order.properties ?? {};
    drafts.tell(draftOf({ ...job.request, tags: job.tags, n: 1, seed: image.seed }, fields));
    notify(T.picture.used, "good");
    this.close();
    go({}, { pane: "order" });
  }

  /** @param {KeyboardEvent} event */
  pressed(event) {
    const typing = event.target instanceof HTMLElement && event.target.matches("input, select, textarea");
    if (typing || event.ctrlKey || event.metaKey || event.altKey) return;
    const keys = /** @type {Record<string, () => void>} */ ({
      ArrowLeft: () => this.step(-1),
      ArrowRight: () => this.step(1),
      "+": () => this.stage.zoom(1),
      "=": () => this.stage.zoom(1),
      "-": () => this.stage.zoom(-1),
      0: () => (this.stage.fits ? mark([this.key], { rating: 0 }) : this.stage.reset()),
      b: () => this.choose(GROUNDS[(GROUNDS.indexOf(this.ground) + 1) % GROUNDS.length]),
      Delete: () => this.remove(),
      f: () => toggle([this.key], "starred"),
      x: () => toggle([this.key], "rejected"),
    });
    const stars = /^[1-5]$/.test(event.key);
    if (!stars && !(event.key in keys)) return;
    event.preventDefault();
    event.stopPropagation();
    if (stars) mark([this.key], { rating: Number(event.key) });
    else keys[event.key]();
    this.refresh();
  }
}

/** An order as it was, without what is null: the service resolves that again. @param {import("../types.js").Order} request */
function stripped(request) {
  return Object.fromEntries(Object.entries(request).filter(([, value]) => value !== null));
}

customElements.define("picture-viewer", PictureViewer);
