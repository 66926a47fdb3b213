/**
 * A sheet of the selected pictures: packed as its fields are changed, and shown with its pictures played as a clip.
 * What is shown is a trial, which stays if one keeps it.
 */

import { T } from "../texts.js";
import { get, post } from "../lib/api.js";
import { dialog, leave } from "../lib/dialog.js";
import { schemaField } from "../lib/fields.js";
import { readable } from "../lib/format.js";
import { TRIAL, change, notify, store, take, trying, watch } from "../lib/store.js";
import { Trial } from "../lib/trial.js";
import { View, h } from "../lib/view.js";
import { selection } from "../gallery/selection.js";

/** @typedef {import("../types.js").Job} Job */
/** @typedef {{x: number, y: number, w: number, h: number}} Box */

const FIELDS = ["name", "padding", "extrude", "max_size", "power_of_two", "trim", "filter"];
/** Read here to show where each picture is; others are written beside it. */
const READ = "texturepacker_hash";
const FPS = 8;

class SheetMaker extends View {
  items = selection.items.filter((item) => item.url && item.kind !== "sheet");
  /** @type {Record<string, any>} */
  spec = { formats: [READ] };
  fps = FPS;
  clip = "";
  trial = new Trial(() => void this.show(), "items");
  /** The job of `frames`. */
  shown = "";
  /** @type {[string, Box][]} Pictures of the first page, by name. */
  frames = [];

  start() {
    this.redrawOn(watch);
    this.until(() => this.trial.end());
    if (this.items.length) this.change();
    const play = () => {
      this.play();
      if (this.isConnected) requestAnimationFrame(play);
    };
    play();
  }

  /** Pack it anew. @param {string} [name] @param {any} [value] Undefined: what the service takes by itself. */
  change(name, value) {
    if (name) this.spec[name] = value;
    const { clip, fps } = this;
    const items = this.items.map(({ job, index }, at) => ({ job_id: job, index, ...(clip && { name: `${clip}_${at}` }) }));
    const clips = clip ? [{ name: clip, frames: items.map((_, at) => `${clip}_${at}`), fps }] : undefined;
    this.trial.later(() => post("/v1/sheets", { ...this.spec, items, clips, tags: [TRIAL] }));
    this.refresh();
  }

  async show() {
    const { job } = this.trial;
    const atlas = job?.images[0].files.find((file) => file.role === "atlas" || file.role === "atlas_0");
    if (job && atlas && job.job_id !== this.shown) {
      const { frames } = await get(atlas.url);
      this.frames = Object.entries(frames).map(([name, { frame }]) => [name.replace(/\.png$/, ""), frame]);
      this.shown = job.job_id;
    }
    this.refresh();
  }

  /** @param {Job} job */
  keep(job) {
    return trying(async () => {
      this.trial.keep();
      take(await change(job.job_id, { tags: [] }));
      notify(T.sheet.kept, "good");
      selection.clear();
      leave();
    });
  }

  view() {
    const schema = store.catalog?.sheet;
    if (!schema?.properties || !this.items.length) return null;
    const formats = schema.properties?.formats?.items?.enum ?? [];
    const { job, busy, errors } = this.trial;
    const others = Object.entries(errors).filter(([name]) => !FIELDS.includes(name));
    return dialog({ name: "packing", title: T.sheet.title(this.items.length), wide: true },
      h("div", { class: "sides" },
        h("div", { class: "looks" }, job && this.page(job), h("p", { class: "hint", role: "status", key: "said" }, busy ? T.sheet.packing : job && this.said(job))),
        h("div", { class: "editor" },
          h("fieldset", { class: "field" }, h("legend", null, T.sheet.formats), h("div", { class: "checks" }, formats.map((format) => h("label", { key: format },
            h("input", {
              type: "checkbox", checked: this.spec.formats.includes(format), disabled: format === READ,
              onchange: () => {
                const chosen = new Set(this.spec.formats);
                if (!chosen.delete(format)) chosen.add(format);
                this.change("formats", [...chosen]);
              },
            }), readable(format))))),
          h("div", { class: "grid" },
            FIELDS.map((name) => schemaField({
              id: `sheet-${name}`, name, schema: schema.properties?.[name] ?? {}, value: this.spec[name], error: errors[name],
              choose: (value) => this.change(name, value),
            })),
            schemaField({ id: "sheet-clip", name: T.sheet.clip, schema: { type: "string", description: T.sheet.clipHint }, value: this.clip, choose: (value) => ((this.clip = value ?? ""), this.change()) }),
            schemaField({ id: "sheet-fps", name: T.sheet.fps, schema: { type: "number", minimum: 0.1, maximum: 240 }, value: this.fps, choose: (value) => ((this.fps = value ?? FPS), this.change()) }),
          ),
          others.map(([name, text]) => h("p", { class: "error", role: "alert", key: name }, `${name}: ${text}`)),
        ),
      ),
      h("button", { class: "main", disabled: busy || !job || Object.keys(errors).length > 0, onclick: () => job && void this.keep(job) }, T.sheet.keep),
    );
  }

  /** @param {Job} job */
  said({ images }) {
    return [`${images[0].width} × ${images[0].height}`, images.length > 1 && T.sheet.pages(images.length)].filter(Boolean).join(" · ");
  }

  /** The first page, with a line around each picture. @param {Job} job */
  page(job) {
    const [image] = job.images;
    const archive = image.files.find((file) => file.role === "archive");
    const part = (/** @type {number} */ length, /** @type {number} */ whole) => `${(100 * length) / whole}%`;
    return [
      h("div", { class: "frame on-checker", key: "page", style: { "aspect-ratio": `${image.width} / ${image.height}`, width: `min(100%, ${(54 * image.width) / image.height}vh)` } },
        h("img", { src: image.url, alt: T.sheet.page }),
        this.frames.map(([name, box]) => h("span", {
          key: name, class: "box", title: name,
          style: { left: part(box.x, image.width), top: part(box.y, image.height), width: part(box.w, image.width), height: part(box.h, image.height) },
        }))),
      h("div", { class: "row", key: "row" },
        h("canvas", { width: 128, height: 128, class: "on-checker", role: "img", "aria-label": T.sheet.player }),
        archive && h("a", { class: "button", href: archive.url, download: "" }, T.sheet.download)),
    ];
  }

  /** The picture of the clip that its rate wants now. */
  play() {
    const canvas = this.querySelector("canvas");
    const page = this.querySelector(".frame img");
    const at = Math.floor((performance.now() / 1000) * this.fps);
    const frame = this.frames[at % this.frames.length]?.[1];
    if (!canvas || !(page instanceof HTMLImageElement) || !frame || !page.complete) return;
    const pen = canvas.getContext("2d");
    const scale = Math.min(canvas.width / frame.w, canvas.height / frame.h);
    pen?.clearRect(0, 0, canvas.width, canvas.height);
    pen?.drawImage(page, frame.x, frame.y, frame.w, frame.h, (canvas.width - frame.w * scale) / 2, (canvas.height - frame.h * scale) / 2, frame.w * scale, frame.h * scale);
  }
}

customElements.define("above-sheet", SheetMaker);
