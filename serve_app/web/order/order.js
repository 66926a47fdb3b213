/** The form of an order: what to draw, in which style, and everything else that the service lets one choose. */

import { T } from "../texts.js";
import { Problem, get } from "../lib/api.js";
import { duration, listed, sentences } from "../lib/format.js";
import { choice, field, schemaField, segments, textField, tied } from "../lib/fields.js";
import { ICONS } from "../lib/icons.js";
import { looks } from "../lib/looks.js";
import { go } from "../lib/place.js";
import { notify, order, store, watch, why } from "../lib/store.js";
import { View, h, hint, iconButton } from "../lib/view.js";
import { onWish } from "../lib/wishes.js";
import { OWN, blank, body, load, save } from "./draft.js";
import { effectsField } from "./effects.js";
import { EffectTrial } from "./trial.js";
import { sourceField } from "./source.js";
import { styleCards } from "./styles.js";

/** @typedef {import("../types.js").Catalog} Catalog */
/** @typedef {import("../types.js").Model} Model */

/** How long nobody types before the service is asked what the order would be. */
const ASK_MS = 450;
/** Shown elsewhere in the form, or of no use in it. */
const ELSEWHERE = new Set([...OWN, "model", "tags", "strength", "loras"]);

class OrderForm extends View {
  draft = load();
  /** @type {Record<string, string>} What is wrong, by field. */
  errors = {};
  /** @type {import("../types.js").Estimate | null} */
  estimate = null;
  busy = false;
  trial = new EffectTrial(() => this.refresh());
  asked = new AbortController();
  /** @type {number | undefined} */
  timer = undefined;

  start() {
    this.redrawOn(watch);
    this.until(() => this.trial.end());
    this.until(onWish((changes) => this.change(changes)));
    this.hear(this, "keydown", (event) => {
      if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
        event.preventDefault();
        void this.send();
      }
    });
    this.ask();
  }

  /** @param {Partial<import("./draft.js").Draft>} changes */
  change(changes) {
    this.draft = { ...this.draft, ...changes };
    for (const name of Object.keys(changes)) this.forgive(name);
    this.settled();
  }

  /** @param {string} name @param {any} value Undefined or an empty list: nothing is said of it. */
  changeMore(name, value) {
    const { [name]: _, ...rest } = this.draft.more;
    this.forgive(name);
    this.change({ more: value === undefined || value.length === 0 ? rest : { ...rest, [name]: value } });
  }

  /** @param {string} name */
  forgive(name) {
    this.errors = Object.fromEntries(Object.entries(this.errors).filter(([at]) => !within(at, name)));
  }

  settled() {
    save(this.draft);
    this.refresh();
    this.ask();
    const { look } = this;
    if (look && this.draft.effects) this.trial.try(look, this.draft.effects);
  }

  get chosenStyle() {
    const { style_id } = this.draft;
    return store.catalog?.styles.find((one) => (style_id ? one.style_id === style_id : one.default));
  }

  /** The picture that effects are tried on. */
  get look() {
    return looks.of(this.chosenStyle?.style_id) ?? looks.any;
  }

  /** Ask what the order would be, once nobody has typed for a moment. */
  ask() {
    clearTimeout(this.timer);
    this.asked.abort();
    if (!this.draft.prompt.trim()) {
      this.estimate = null;
      return;
    }
    this.timer = setTimeout(() => void this.askNow(), ASK_MS);
  }

  async askNow() {
    if (store.session !== "in") return;
    const asked = (this.asked = new AbortController());
    try {
      this.estimate = await get("/v1/generate", { json: { ...body(this.draft), dry_run: true }, signal: asked.signal });
      this.errors = {};
    } catch (error) {
      if (asked.signal.aborted) return;
      this.estimate = null;
      if (error instanceof Problem) this.errors = error.fields;
    }
    this.refresh();
  }

  async send() {
    if (this.busy) return;
    if (!this.draft.prompt.trim()) {
      this.errors = { prompt: T.order.needPrompt };
      this.draw();
      this.querySelector("textarea")?.focus();
      return;
    }
    this.busy = true;
    this.refresh();
    try {
      const job = await order(body(this.draft));
      this.errors = {};
      if (this.draft.locked && this.draft.seed === null) this.change({ seed: job.request.seed });
      else if (!this.draft.locked && this.draft.seed !== null) this.change({ seed: null });
      notify(T.order.done, "good");
    } catch (error) {
      if (error instanceof Problem && error.errors.length) this.errors = error.fields;
      else notify(why(error), "bad");
    } finally {
      this.busy = false;
      this.draw();
    }
    const wrong = this.querySelector('[aria-invalid="true"]');
    if (wrong instanceof HTMLElement) wrong.focus();
  }

  view() {
    const { catalog } = store;
    if (!catalog) return h("div", { class: "waiting-form", "aria-hidden": "true" });
    const { draft, errors, look, trial } = this;
    return h(
      "form",
      { onsubmit: (event) => (event.preventDefault(), void this.send()), novalidate: true, "aria-label": T.order.title },
      h("div", { class: "fields" },
        this.prompt(catalog),
        styleCards(catalog.styles, draft.style_id, (style_id) => this.change({ style_id }), errors.style_id),
        h("div", { class: "row" }, this.count(catalog), this.size(drawing(catalog, draft.more.model))),
        served(catalog).length > 1 && this.model(catalog),
        h("div", { class: "row" }, this.seed(catalog), this.priority()),
        effectsField({
          kinds: catalog.effects,
          styles: this.chosenStyle?.effects ?? [],
          effects: draft.effects,
          palettes: catalog.palettes,
          errors: draft.effects ? { ...trial.errors, ...errors } : errors,
          choose: (effects) => this.change({ effects }),
          tried: look && trial.view(look.original),
        }),
        // Until the fields are known it is there, lest something moves.
        "init_image" in (catalog.order.properties ?? { init_image: 0 }) && sourceField(
          draft, errorBelow(errors, "init_image") ?? errorBelow(errors, "mask_image") ?? errors.strength, (changes) => this.change(changes),
        ),
        this.more(catalog),
      ),
      this.foot(),
    );
  }

  /** @param {Catalog} catalog */
  prompt(catalog) {
    const frame = { id: "order-prompt", label: T.order.prompt, error: this.errors.prompt, wide: true };
    return field(frame, h("textarea", {
      ...tied(frame),
      rows: 3,
      maxlength: catalog.capabilities.limits.prompt_chars,
      placeholder: T.order.promptExample,
      value: this.draft.prompt,
      oninput: (event) => this.change({ prompt: event.target.value }),
    }));
  }

  /** @param {Catalog} catalog */
  count(catalog) {
    const most = catalog.capabilities.limits.images;
    const frame = { id: "order-n", label: T.order.count, error: this.errors.n };
    const { n } = this.draft;
    const step = (/** @type {number} */ by) => () => this.change({ n: Math.max(1, Math.min(most, n + by)) });
    return field(frame, h("div", { class: "stepper" },
      iconButton("−1", "−", step(-1), { disabled: n <= 1 }),
      h("input", {
        ...tied(frame), type: "number", min: 1, max: most, value: String(n),
        onchange: (event) => this.change({ n: Math.round(Number(event.target.value)) || 1 }),
      }),
      iconButton("+1", "+", step(1), { disabled: n >= most }),
    ));
  }

  /** @param {Catalog} catalog */
  model(catalog) {
    const frame = { id: "order-model", label: T.order.model, error: this.errors.model, wide: true };
    const models = served(catalog).map(({ name, title }) => /** @type {[string, string]} */ ([name, title]));
    return choice(frame, this.draft.more.model ?? "", [["", T.order.modelByStyle], ...models], (name) => this.changeMore("model", name || undefined));
  }

  /** @param {Model} model */
  size(model) {
    const { size } = this.draft;
    const wrong = this.errors.size ?? this.errors.width ?? this.errors.height;
    const frame = { id: "order-size", label: T.order.size, error: wrong };
    const sizes = [...sizesOf(model), ...(size ? [size] : [])].map((one) => /** @type {[string, string]} */ ([one.join("x"), one.join(" × ")]));
    return choice(frame, size?.join("x") ?? "", [["", T.order.sizeByStyle], ...new Map(sizes)], (chosen) => (
      this.change({ size: chosen ? /** @type {[number, number]} */ (chosen.split("x").map(Number)) : null })));
  }

  /** @param {Catalog} catalog */
  seed(catalog) {
    const { seed, locked } = this.draft;
    const most = catalog.capabilities.limits.seed;
    const frame = { id: "order-seed", label: T.order.seed, error: this.errors.seed };
    return field(frame, h("div", { class: "joined" },
      h("input", {
        ...tied(frame), inputmode: "numeric", autocomplete: "off", placeholder: T.order.seedRandom, value: seed === null ? "" : String(seed),
        onchange: (event) => {
          const text = event.target.value.trim();
          const number = /^\d+$/.test(text) ? Math.min(most, Number(text)) : null;
          this.change({ seed: number, locked: number !== null });
        },
      }),
      iconButton(T.order.dice, ICONS.dice, () => this.change({ seed: Math.floor(Math.random() * Math.min(most, 2 ** 31)) })),
      iconButton(T.order.lock, ICONS.lock, () => this.change(locked ? { locked: false, seed: null } : { locked: true }), {
        "aria-pressed": locked, title: locked ? T.order.unlock : T.order.lock,
      }),
    ));
  }

  priority() {
    return h("fieldset", { class: "field segments" },
      h("legend", null, T.order.priority),
      segments("priority", this.draft.priority, /** @type {const} */ (["low", "normal", "high"]).map((one) => [one, T.order.priorities[one], () => this.change({ priority: one })])),
    );
  }

  /** @param {Catalog} catalog */
  more(catalog) {
    const fields = Object.entries(catalog.order.properties ?? {}).filter(([name]) => !ELSEWHERE.has(name));
    const { more } = this.draft;
    const changed = Object.keys(more).filter((name) => name !== "strength" && name !== "model").length;
    const wrong = fields.some(([name]) => this.errors[name]);
    const tags = { id: "order-tags", label: T.order.tags, hint: T.order.tagsHint, error: errorBelow(this.errors, "tags"), wide: true };
    return h("details", { class: "more", ...(wrong ? { open: true } : {}) },
      h("summary", null, T.order.advanced, changed > 0 && h("span", { class: "count" }, changed)),
      h("div", { class: "grid" },
        textField(tags, { value: (more.tags ?? []).join(", "), onchange: (event) => this.changeMore("tags", listed(event.target.value)) }),
        catalog.loras.length > 0 && this.loras(catalog.loras),
        fields.map(([name, schema]) => schemaField({
          id: `order-${name}`,
          name,
          schema,
          value: more[name],
          error: errorBelow(this.errors, name),
          otherwise: this.estimate?.request[name],
          choices: name === "scheduler" ? drawing(catalog, more.model).schedulers : undefined,
          choose: (value) => this.changeMore(name, value),
        })),
      ),
    );
  }

  /** @param {string[]} names */
  loras(names) {
    const frame = { id: "order-loras", label: T.order.loras, hint: T.order.lorasHint(names.join(", ")), error: errorBelow(this.errors, "loras"), wide: true };
    const chosen = /** @type {{name: string, weight?: number}[]} */ (this.draft.more.loras ?? []);
    return textField(frame, {
      value: chosen.map(({ name, weight = 1 }) => `${name}:${weight}`).join(", "),
      onchange: (event) => this.changeMore("loras", listed(event.target.value).map((word) => {
        const [, name, weight] = /** @type {RegExpExecArray} */ (/^(.*?)(?::([-\d.]+))?$/.exec(word));
        return { name, weight: Number(weight ?? 1) };
      })),
    });
  }

  foot() {
    const { estimate } = this;
    const shown = store.catalog?.order.properties ?? {};
    const left = Object.entries(this.errors).filter(([name]) => !(name.split(".")[0] in shown) || name === "model");
    return h("div", { class: "foot" },
      h("div", { class: "told", role: "status" },
        left.map(([name, text]) => h("p", { class: "error", key: name }, `${name}: ${text}`)),
        estimate && sentences(estimate.notes).map((note) => h("p", { class: "note", key: note }, note)),
        estimate && !estimate.possible && estimate.reason && h("p", { class: "note" }, T.order.impossible(estimate.reason)),
        estimate?.possible && estimate.estimated_seconds !== null && hint(T.order.takes(duration(estimate.estimated_seconds))),
      ),
      h("div", { class: "go" },
        h("button", { type: "submit", class: "main", disabled: this.busy }, T.order.button(this.draft.n), h("kbd", null, T.order.keys)),
        iconButton(T.order.many, ICONS.rows, () => go({ do: "batch" }, { step: true })),
        iconButton(T.order.reset, ICONS.again, () => {
          this.draft = blank();
          this.errors = {};
          this.settled();
        }),
      ),
    );
  }
}

/** The error of a field or of a place within. @param {Record<string, string>} errors @param {string} name */
function errorBelow(errors, name) {
  return Object.entries(errors).find(([at]) => within(at, name))?.[1];
}

/** @param {string} at @param {string} name */
function within(at, name) {
  return at === name || at.startsWith(`${name}.`);
}

/** The model that was chosen, or the active one. @param {Catalog} catalog @param {string} [chosen] @returns {Model} */
function drawing(catalog, chosen) {
  const named = (/** @type {string | undefined} */ name) => served(catalog).find((model) => model.name === name);
  return /** @type {Model} */ (named(chosen) ?? named(catalog.capabilities.model));
}

/** @param {Catalog} catalog */
function served(catalog) {
  return catalog.models.filter((model) => model.served);
}

/** Sizes worth offering: those of the model, or good shapes within its range. @param {Model} model @returns {[number, number][]} */
function sizesOf(model) {
  if (model.sizes) return [...model.sizes];
  const { side, native_size: [width, height] } = model;
  if (!side) return [[width, height]];
  const fit = (/** @type {number} */ pixels) => Math.round(Math.max(side.min, Math.min(side.max, pixels)) / side.multiple) * side.multiple;
  /** @type {[number, number][]} */
  const shapes = [[1, 1], [4 / 3, 1], [1, 4 / 3], [3 / 2, 1], [1, 3 / 2], [0.5, 0.5], [1.5, 1.5], [2, 2]];
  const made = shapes.map(([x, y]) => /** @type {[number, number]} */ ([fit(width * x), fit(height * y)]));
  return [...new Map(made.map((one) => [one.join(), one])).values()];
}

customElements.define("order-form", OrderForm);
