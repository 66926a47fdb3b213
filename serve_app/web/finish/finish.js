/**
 * Finishing what is drawn already: a chain of effects, tried on one picture as it is written, then done with all
 * that are selected. The pictures stay as they are; each result is a job.
 */

import { T } from "../texts.js";
import { dialog, leave } from "../lib/dialog.js";
import { recall, remember } from "../lib/remember.js";
import { derive, notify, store, trying, watch } from "../lib/store.js";
import { View, alert, h, hint } from "../lib/view.js";
import { selection } from "../gallery/selection.js";
import { chain } from "../order/effects.js";
import { EffectTrial } from "../order/trial.js";

/** @typedef {import("../types.js").Effect} Effect */

class PictureFinish extends View {
  items = selection.items.filter((item) => item.url && item.kind !== "sheet");
  /** @type {Effect[]} */
  effects = recall("chain", [{ op: "cutout" }, { op: "trim", padding: 2 }]);
  trial = new EffectTrial(() => this.refresh());

  start() {
    this.redrawOn(watch);
    this.until(() => this.trial.end());
    this.choose(this.effects);
  }

  /** @param {Effect[]} effects */
  choose(effects) {
    this.effects = effects;
    remember("chain", effects);
    if (this.items.length) this.trial.try(this.items[0], effects);
    this.refresh();
  }

  async all() {
    const jobs = Map.groupBy(this.items, (item) => item.job);
    await trying(async () => {
      for (const [job, items] of jobs) await derive(job, { effects: this.effects, indices: items.map((item) => item.index) });
      notify(T.finish.ordered(jobs.size), "good");
      selection.clear();
      leave();
    });
  }

  view() {
    if (!store.catalog || !this.items.length) return null;
    const { items, effects, trial } = this;
    const { effects: kinds, palettes } = store.catalog;
    return dialog({ name: "finish", title: T.finish.title(items.length), wide: true },
      h("div", { class: "sides" },
        trial.view(items[0].url),
        h("div", { class: "editor" },
          chain({ kinds, effects, palettes, errors: trial.errors, prefix: "finish", choose: (chosen) => this.choose(chosen) }),
          alert(trial.errors.effects),
          h("details", null, h("summary", null, T.finish.style), hint(T.finish.styleHint),
            h("textarea", { readonly: true, rows: 3, "aria-label": T.finish.style, value: `effects: ${JSON.stringify(effects)}` })),
        ),
      ),
      h("button", { class: "main", disabled: !effects.length, onclick: () => void this.all() }, T.finish.all(items.length)),
    );
  }
}

customElements.define("above-finish", PictureFinish);
