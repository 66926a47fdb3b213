/**
 * Finishing what is drawn already: a chain of effects, tried on one picture with its before and after beside
 * each other, then done with all that are selected. The pictures stay as they are; each result is a job.
 */

import { T } from "../texts.js";
import { Problem, get } from "../lib/api.js";
import { dialog } from "../lib/dialog.js";
import { go } from "../lib/place.js";
import { recall, remember } from "../lib/remember.js";
import { derive, notify, onEnd, remove, store, trying, why } from "../lib/store.js";
import { View, h } from "../lib/view.js";
import { selection } from "../gallery/selection.js";
import { TRIAL } from "../gallery/list.js";
import { chain } from "../order/effects.js";

/** @typedef {import("../types.js").Effect} Effect */
/** @typedef {import("../gallery/list.js").Item} Item */

class PictureFinish extends View {
  items = selection.items.filter((item) => item.url && item.kind !== "sheet");
  /** @type {Effect[]} */
  effects = recall("chain", [{ op: "cutout" }, { op: "trim", padding: 2 }]);
  /** @type {Record<string, string>} */
  errors = {};
  /** @type {string | null} Job of the last trial. */
  trial = null;
  /** @type {{before: string, after: string, width: number, height: number} | null} */
  looks = null;
  /** The picture before. @type {HTMLImageElement | null} */
  whole = null;
  busy = false;
  share = 50;

  start() {
    this.until(onEnd((job) => void this.ended(job)));
    this.until(() => void this.forget());
  }

  async forget() {
    const id = this.trial;
    this.trial = null;
    // what is gone already needs no deleting
    if (id) await remove(id).catch(() => {});
  }

  /** @param {import("../types.js").Job} job */
  ended(job) {
    if (job.job_id !== this.trial) return;
    this.busy = false;
    const image = job.images[0];
    if (image) this.looks = { before: image.original_url, after: image.url, width: image.width, height: image.height };
    else if (job.error) this.errors = { effects: job.error.detail };
    this.refresh();
  }

  /** What lost its rim is shown at the size that it had within; what grew fits. @param {{width: number, height: number}} after */
  asLarge({ width, height }) {
    const { whole } = this;
    if (!whole) return {};
    const frame = whole.getBoundingClientRect();
    const scale = Math.min(frame.width / Math.max(width, whole.naturalWidth), frame.height / Math.max(height, whole.naturalHeight));
    return { width: `${width * scale}px`, height: `${height * scale}px` };
  }

  async try() {
    this.busy = true;
    this.refresh();
    await this.forget();
    const [{ job, index }] = this.items;
    try {
      const started = await derive(job, { effects: this.effects, indices: [index], tags: [TRIAL] });
      this.trial = started.job_id;
      this.errors = {};
      const now = await get(`/v1/jobs/${started.job_id}`);
      if (now.status === "SUCCESS" || now.status === "FAILURE") this.ended(now);
    } catch (error) {
      this.busy = false;
      this.blame(error);
    }
    this.refresh();
  }

  /** @param {unknown} error */
  blame(error) {
    this.errors = error instanceof Problem && error.errors.length ? error.fields : { effects: why(error) };
  }

  async all() {
    /** @type {Map<string, number[]>} */
    const jobs = new Map();
    for (const { job, index } of this.items) jobs.set(job, [...(jobs.get(job) ?? []), index]);
    await trying(async () => {
      for (const [job, indices] of jobs) await derive(job, { effects: this.effects, indices });
      notify(T.finish.ordered(jobs.size), "good");
      selection.clear();
      go({ do: null });
    });
  }

  view() {
    if (!store.catalog || !this.items.length) return null;
    const { items, effects, looks, share } = this;
    const before = looks?.before ?? items[0].url;
    return dialog({ name: "finish", title: T.finish.title(items.length), close: () => go({ do: null }), wide: true },
      h("div", { class: "sides" },
        h("div", { class: "looks" },
          h("div", { class: "frame on-checker" },
            h("img", {
              key: before, src: before, alt: T.finish.before, style: { "clip-path": looks ? `inset(0 ${100 - share}% 0 0)` : "none" },
              onload: (event) => ((this.whole = event.target), this.refresh()),
            }),
            looks && h("div", { class: "after", style: { "clip-path": `inset(0 0 0 ${share}%)` } },
              h("img", { key: looks.after, src: looks.after, alt: T.finish.after, style: this.asLarge(looks) })),
            looks && h("input", {
              type: "range", min: 0, max: 100, value: String(share), "aria-label": T.finish.slider,
              oninput: (event) => ((this.share = Number(event.target.value)), this.refresh()),
            }),
          ),
          h("p", { class: "hint", role: "status" }, this.busy ? T.finish.trying : looks ? T.finish.compare : T.finish.hint),
        ),
        h("div", { class: "editor" },
          chain({
            kinds: store.catalog.effects, effects, palettes: store.catalog.palettes, errors: this.errors, prefix: "finish",
            choose: (chosen) => {
              this.effects = chosen;
              remember("chain", chosen);
              this.refresh();
            },
          }),
          this.errors.effects && h("p", { class: "error", role: "alert" }, this.errors.effects),
          h("details", null, h("summary", null, T.finish.style), h("p", { class: "hint" }, T.finish.styleHint),
            h("textarea", { readonly: true, rows: 3, "aria-label": T.finish.style, value: `effects: ${JSON.stringify(effects)}` })),
        ),
      ),
      [
        h("button", { disabled: this.busy || !effects.length, onclick: () => void this.try() }, T.finish.try),
        h("button", { class: "main", disabled: !effects.length, onclick: () => void this.all() }, T.finish.all(items.length)),
      ],
    );
  }
}

customElements.define("picture-finish", PictureFinish);
