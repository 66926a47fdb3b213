/** Effects as they look on a picture that exists: before and after beside each other, anew with each change. */

import { T } from "../texts.js";
import { TRIAL, derive } from "../lib/store.js";
import { Trial } from "../lib/trial.js";
import { h } from "../lib/view.js";

export class EffectTrial extends Trial {
  /** How much of the picture is shown as it was, in percent. */
  share = 50;
  /** The picture before. @type {HTMLImageElement | null} */
  whole = null;
  picture = "";
  wanted = "";

  /** @param {() => void} changed */
  constructor(changed) {
    super(changed, "effects");
  }

  /** @param {{job: string, index: number}} picture @param {import("../types.js").Effect[]} effects */
  try({ job, index }, effects) {
    const picture = `${job}:${index}`;
    const wanted = JSON.stringify([picture, effects]);
    if (picture !== this.picture) this.job = null;
    if (wanted === this.wanted) return;
    [this.picture, this.wanted] = [picture, wanted];
    if (effects.length) this.later(() => derive(job, { effects, indices: [index], tags: [TRIAL] }));
    else this.stop();
  }

  /** What lost its rim is shown at the size that it had within; what grew fits. @param {{width: number, height: number}} after */
  asLarge({ width, height }) {
    const { whole } = this;
    if (!whole) return {};
    const { clientWidth, clientHeight, naturalWidth, naturalHeight } = whole;
    const scale = Math.min(clientWidth / Math.max(width, naturalWidth), clientHeight / Math.max(height, naturalHeight));
    return { width: `${width * scale}px`, height: `${height * scale}px` };
  }

  /** @param {string} url Of the picture, until something is tried. */
  view(url) {
    const { share } = this;
    const after = this.job?.images[0];
    const before = after?.original_url ?? url;
    return h("div", { class: "looks trial" },
      h("div", { class: "frame on-checker" },
        h("img", {
          key: before, src: before, alt: T.trial.before, style: { "clip-path": after ? `inset(0 ${100 - share}% 0 0)` : "none" },
          onload: (event) => ((this.whole = event.target), this.changed()),
        }),
        after && h("div", { class: "after", style: { "clip-path": `inset(0 0 0 ${share}%)` } },
          h("img", { key: after.url, src: after.url, alt: T.trial.after, style: this.asLarge(after) })),
      ),
      h("input", {
        type: "range", min: 0, max: 100, value: String(share), disabled: !after, "aria-label": T.trial.slider,
        oninput: (event) => ((this.share = Number(event.target.value)), this.changed()),
      }),
      h("p", { class: "hint" }, T.trial.before, h("span", { role: "status" }, this.busy && T.trial.busy), T.trial.after),
    );
  }
}
