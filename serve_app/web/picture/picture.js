/** One picture, as large as the screen, with everything that is known of how it was made. */

import { T } from "../texts.js";
import { get, thumbnail } from "../lib/api.js";
import { ICONS } from "../lib/icons.js";
import { learnMarks, mark, markOf, marked, toggle } from "../lib/marks.js";
import { go, onPlace, place, showPicture } from "../lib/place.js";
import { recall, remember } from "../lib/remember.js";
import { change, notify, order, retry, store, trying, watch, why } from "../lib/store.js";
import { View, h, icon, iconButton, wordButton } from "../lib/view.js";
import { wish } from "../lib/wishes.js";
import { gallery } from "../gallery/gallery.js";
import { itemsOf } from "../gallery/list.js";
import { selection } from "../gallery/selection.js";
import { draftOf } from "../order/draft.js";
import { wordsOf } from "../lib/format.js";
import { facts } from "./facts.js";
import { Stage, zoomBar } from "./stage.js";

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
    gallery()?.focusOn(key);
  }

  /** @param {number} by */
  step(by) {
    const item = gallery()?.neighbour(this.key, by);
    if (item) showPicture(item.job, item.index);
  }

  view() {
    if (!place().words.has("job") || store.session !== "in") return null;
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
    const { key } = this;
    const { starred, rejected, rating } = markOf(key);
    return h("header", { class: "viewer-bar" },
      iconButton(T.picture.previous, ICONS.left, () => this.step(-1)),
      iconButton(T.picture.next, ICONS.right, () => this.step(1)),
      h("p", { class: "words" }, this.job ? wordsOf(this.job) : ""),
      iconButton(T.mark.star, ICONS.star, () => toggle([key], "starred"), { "aria-pressed": starred }),
      h("span", { class: "rating", role: "group", "aria-label": T.gallery.mark }, [1, 2, 3, 4, 5].map((stars) => h("button", {
        key: stars, class: "quiet dot", "aria-label": T.mark.rating(stars), "aria-pressed": rating >= stars,
        onclick: () => mark([key], { rating: rating === stars ? 0 : stars }),
      }))),
      iconButton(T.mark.reject, ICONS.reject, () => toggle([key], "rejected"), { "aria-pressed": rejected }),
      iconButton(T.close, ICONS.close, () => this.close()),
    );
  }

  picture() {
    const { image, job, stage } = this;
    if (job && !image) {
      return h("div", { class: "stage gone" }, h("h3", null, T.states[job.status]), h("p", null, job.error?.detail),
        job.status !== "SUCCESS" && wordButton(T.queue.retry, ICONS.again, () => void retry(job.job_id)));
    }
    if (this.error) return h("p", { class: "stage gone" }, this.error);
    const original = this.shown === "original";
    const source = original ? image?.original_url : image?.url;
    const derived = image?.original_url !== image?.url;
    return h("div", { class: "middle" },
      h("div", { class: `stage on-${this.ground}`, tabindex: 0, role: "group", "aria-label": T.picture.zoom },
        image && h("img", {
          key: source, src: source,
          alt: this.job ? T.gallery.alt(wordsOf(this.job), image.seed) : "",
          draggable: "false",
          width: image.width, height: image.height,
          style: stage.style(image, this.shown),
        }),
      ),
      h("div", { class: "viewer-tools" },
        h("div", { class: "grounds", role: "group", "aria-label": T.picture.grounds }, GROUNDS.map((ground) => h("button", {
          key: ground, class: `quiet swatch on-${ground}`, title: T.picture.ground[ground], "aria-label": T.picture.ground[ground],
          "aria-pressed": this.ground === ground, onclick: () => this.choose(ground),
        }))),
        zoomBar((by) => stage.zoom(by), h("button", { class: "quiet wide", onclick: () => stage.reset() }, stage.said())),
        derived && h("button", {
          class: "quiet", "aria-pressed": original,
          onclick: () => {
            this.shown = original ? "asset" : "original";
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
      drawn && wordButton(T.picture.again, ICONS.again, () => void this.again(job, image, 1, image.seed)),
      drawn && wordButton(T.picture.vary(VARIATIONS), ICONS.vary, () => void this.again(job, image, VARIATIONS, -1)),
      drawn && wordButton(T.picture.use, ICONS.copy, () => this.use(job, image)),
      drawn && "init_image" in (store.catalog?.order.properties ?? {}) && wordButton(T.picture.input, ICONS.plus, () => this.startFrom(job, image)),
      wordButton(T.selection.finish, ICONS.brush, () => this.finish(job, image)),
      iconButton(T.picture.remove, ICONS.trash, () => this.remove()),
      h("a", { class: "button", href: image.url, download: "" }, icon(ICONS.download), T.picture.download),
    );
  }

  /** @param {Job} job @param {Image} image */
  startFrom(job, image) {
    this.dialog?.close();
    wish({ source: { image: { job_id: job.job_id, index: image.index }, look: thumbnail(image.original_url, 128), picture: image.original_url }, mask: null });
    notify(T.source.used, "good");
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
    gallery()?.removeSelected();
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
      await order({ ...stripped(job.request), n, seed });
      notify(T.order.done, "good");
    });
  }

  /** @param {Job} job @param {Image} image */
  use(job, image) {
    const fields = store.catalog?.order.properties ?? {};
    this.dialog?.close();
    wish(draftOf({ ...job.request, tags: job.tags, n: 1, seed: image.seed }, fields));
    notify(T.picture.used, "good");
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
      b: () => this.choose(GROUNDS[(GROUNDS.indexOf(this.ground) + 1) % GROUNDS.length]),
      Delete: () => this.remove(),
    });
    if (event.key === "0" && !this.stage.fits) this.stage.reset();
    else if (event.key in keys) keys[event.key]();
    else if (!marked(event.key, [this.key])) return;
    event.preventDefault();
    event.stopPropagation();
    this.refresh();
  }
}

/** An order as it was, without what is null: the service resolves that again. @param {import("../types.js").Order} request */
function stripped(request) {
  return Object.fromEntries(Object.entries(request).filter(([, value]) => value !== null));
}

customElements.define("picture-viewer", PictureViewer);
