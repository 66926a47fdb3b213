/**
 * A sheet of the selected pictures: ordered with the fields that the service describes, shown as it was packed,
 * with its pictures played as a clip.
 */

import { T } from "../texts.js";
import { Problem, get, post } from "../lib/api.js";
import { dialog } from "../lib/dialog.js";
import { schemaField } from "../lib/fields.js";
import { readable } from "../lib/format.js";
import { go } from "../lib/place.js";
import { notify, onEnd, store, take, why } from "../lib/store.js";
import { View, h } from "../lib/view.js";
import { selection } from "../gallery/selection.js";

/** @typedef {import("../types.js").Job} Job */
/** @typedef {{x: number, y: number, w: number, h: number}} Box */

const FIELDS = ["name", "padding", "extrude", "max_size", "power_of_two", "trim", "filter"];
/** Read here to show where each picture is; others are written beside it. */
const READ = "texturepacker_hash";

class SheetMaker extends View {
  items = selection.items.filter((item) => item.url && item.kind !== "sheet");
  /** @type {Record<string, any>} */
  spec = { formats: [READ] };
  fps = 8;
  clip = "";
  /** @type {Record<string, string>} */
  errors = {};
  /** @type {string | null} */
  asked = null;
  /** @type {Job | null} */
  made = null;
  /** @type {[string, Box][]} Pictures of the first page, by name. */
  frames = [];
  at = 0;

  start() {
    this.until(onEnd((job) => job.job_id === this.asked && void this.show(job)));
  }

  /** @param {Job} job */
  async show(job) {
    if (job.error) this.errors = { items: job.error.detail };
    const atlas = job.images[0]?.files.find((file) => file.role === "atlas" || file.role === "atlas_0");
    if (atlas) {
      const { frames } = await get(atlas.url);
      this.frames = Object.entries(frames).map(([name, { frame }]) => [name.replace(/\.png$/, ""), frame]);
    }
    this.made = job;
    this.asked = null;
    this.refresh();
    const timer = setInterval(() => (this.at++, this.play()), 1000 / this.fps);
    this.until(() => clearInterval(timer));
  }

  async send() {
    this.errors = {};
    this.made = null;
    const items = this.items.map(({ job, index }) => ({ job_id: job, index }));
    const clips = this.clip ? [{ name: this.clip, frames: this.items.map((_, at) => `${this.clip}_${at}`), fps: this.fps }] : [];
    const named = this.clip ? items.map((item, at) => ({ ...item, name: `${this.clip}_${at}` })) : items;
    try {
      const job = await post("/v1/sheets", { ...this.spec, items: named, ...(clips.length ? { clips } : {}) });
      this.asked = job.job_id;
      take(job);
      const now = await get(`/v1/jobs/${job.job_id}`);
      if (now.status === "SUCCESS" || now.status === "FAILURE") await this.show(now);
    } catch (error) {
      if (error instanceof Problem && error.errors.length) this.errors = error.fields;
      else notify(why(error), "bad");
    }
    this.refresh();
  }

  view() {
    const schema = store.catalog?.sheet;
    if (!schema?.properties || !this.items.length) return null;
    const formats = schema.properties?.formats?.items?.enum ?? [];
    const others = Object.entries(this.errors).filter(([name]) => !FIELDS.includes(name));
    return dialog({ name: "packing", title: T.sheet.title(this.items.length), close: () => go({ do: null }), wide: true },
      h("div", { class: "sides" },
        h("div", { class: "looks" }, this.made?.images[0] ? this.page(this.made) : h("p", { class: "hint", role: "status" }, this.asked ? T.sheet.packing : T.sheet.hint)),
        h("div", { class: "editor" },
          h("fieldset", { class: "field" }, h("legend", null, T.sheet.formats), h("div", { class: "checks" }, formats.map((format) => h("label", { key: format },
            h("input", {
              type: "checkbox", checked: this.spec.formats.includes(format), disabled: format === READ,
              onchange: () => {
                const chosen = new Set(this.spec.formats);
                if (!chosen.delete(format)) chosen.add(format);
                this.spec.formats = [...chosen];
              },
            }), readable(format))))),
          h("div", { class: "grid" },
            FIELDS.map((name) => schemaField({
              id: `sheet-${name}`, name, schema: schema.properties?.[name] ?? {}, value: this.spec[name], error: this.errors[name],
              choose: (value) => {
                this.spec[name] = value;
                if (value === undefined) delete this.spec[name];
                this.refresh();
              },
            })),
            schemaField({ id: "sheet-clip", name: T.sheet.clip, schema: { type: "string", description: T.sheet.clipHint }, value: this.clip, choose: (value) => (this.clip = value ?? "") }),
            schemaField({ id: "sheet-fps", name: T.sheet.fps, schema: { type: "number", minimum: 0.1, maximum: 240 }, value: this.fps, choose: (value) => (this.fps = value ?? 8) }),
          ),
          others.map(([name, text]) => h("p", { class: "error", role: "alert", key: name }, `${name}: ${text}`)),
        ),
      ),
      h("button", { class: "main", disabled: this.asked !== null, onclick: () => void this.send() }, T.sheet.pack),
    );
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
      h("p", { class: "hint", key: "size" }, `${image.width} × ${image.height}`, job.images.length > 1 && ` · ${T.sheet.pages(job.images.length)}`),
      h("div", { class: "row", key: "row" },
        h("canvas", { width: 128, height: 128, class: "on-checker", role: "img", "aria-label": T.sheet.player }),
        archive && h("a", { class: "button", href: archive.url, download: "" }, T.sheet.download)),
    ];
  }

  /** The next picture of the clip. */
  play() {
    const canvas = this.querySelector("canvas");
    const page = this.querySelector(".frame img");
    const frame = this.frames[this.at % this.frames.length]?.[1];
    if (!canvas || !(page instanceof HTMLImageElement) || !frame || !page.complete) return;
    const pen = canvas.getContext("2d");
    const scale = Math.min(canvas.width / frame.w, canvas.height / frame.h);
    pen?.clearRect(0, 0, canvas.width, canvas.height);
    pen?.drawImage(page, frame.x, frame.y, frame.w, frame.h, (canvas.width - frame.w * scale) / 2, (canvas.height - frame.h * scale) / 2, frame.w * scale, frame.h * scale);
  }
}

customElements.define("sheet-maker", SheetMaker);
