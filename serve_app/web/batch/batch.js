/** Many orders at once: a table as CSV, checked by the service while it is written, each mistake in its row. */

import { T } from "../texts.js";
import { Problem, get } from "../lib/api.js";
import { dialog, leave } from "../lib/dialog.js";
import { duration } from "../lib/format.js";
import { recall, remember } from "../lib/remember.js";
import { notify, orderBatch, why } from "../lib/store.js";
import { View, h, hint } from "../lib/view.js";
import { rows } from "./csv.js";

const ASK_MS = 500;
/** Rows that are shown as a table, beside those that are wrong. */
const MOST_SHOWN = 100;

class BatchMaker extends View {
  text = recall("batch", T.batch.example);
  name = "";
  /** @type {Problem["errors"]} */
  errors = [];
  /** @type {{size: number, images: number, to_make: number, reused: {count: number}, estimated_seconds: number | null} | null} */
  plan = null;
  said = "";
  busy = false;
  asked = new AbortController();
  /** @type {number | undefined} */
  timer = undefined;

  start() {
    this.hear(document, "drop", (event) => {
      const file = [...event.dataTransfer.files].find((one) => /\.(csv|tsv|txt)$/i.test(one.name));
      if (file) void this.read(file);
    });
    this.until(() => clearTimeout(this.timer));
    this.ask();
  }

  /** @param {File} file */
  async read(file) {
    this.name ||= file.name.replace(/\.[^.]*$/, "").replace(/[^A-Za-z0-9_.:/-]+/g, "-").slice(0, 64);
    this.write(await file.text());
  }

  /** @param {string} text */
  write(text) {
    this.text = text;
    remember("batch", text);
    this.ask();
    this.refresh();
  }

  ask() {
    clearTimeout(this.timer);
    this.asked.abort();
    this.timer = setTimeout(() => void this.check(), ASK_MS);
  }

  /** @param {Record<string, string>} [more] */
  path(more) {
    return `/v1/batches?${new URLSearchParams({ ...(this.name && { name: this.name }), ...more })}`;
  }

  get file() {
    return new Blob([this.text], { type: "text/csv" });
  }

  async check() {
    const asked = (this.asked = new AbortController());
    try {
      this.plan = await get(this.path({ dry_run: "true" }), { method: "POST", body: this.file, signal: asked.signal });
      this.errors = [];
      this.said = "";
    } catch (error) {
      if (asked.signal.aborted) return;
      this.blame(error);
    }
    this.refresh();
  }

  /** @param {unknown} error */
  blame(error) {
    this.plan = null;
    this.errors = error instanceof Problem ? error.errors.filter((one) => one.row) : [];
    this.said = this.errors.length ? T.batch.wrong(this.errors.length) : why(error);
  }

  async send() {
    this.busy = true;
    this.refresh();
    try {
      const batch = await orderBatch(this.path(), this.file);
      notify(T.batch.ordered(batch.size), "good");
      leave();
    } catch (error) {
      this.blame(error);
    }
    this.busy = false;
    this.refresh();
  }

  view() {
    const { plan } = this;
    return dialog({ name: "batch", title: T.batch.title, wide: true },
      h("div", { class: "sides" },
        h("div", { class: "written" },
          h("label", { for: "batch-text" }, T.batch.text),
          h("textarea", { id: "batch-text", spellcheck: "false", value: this.text, oninput: (event) => this.write(event.target.value) }),
          h("div", { class: "row" },
            h("label", { class: "button pick" }, T.batch.file, h("input", { type: "file", accept: ".csv,.tsv,.txt,text/csv", onchange: (event) => event.target.files[0] && void this.read(event.target.files[0]) })),
            h("input", {
              "aria-label": T.batch.name, placeholder: T.batch.name, title: T.batch.nameHint, value: this.name,
              onchange: (event) => ((this.name = event.target.value.trim()), this.ask(), this.refresh()),
            }),
          ),
        ),
        h("div", { class: "editor" }, this.table()),
      ),
      [
        h("p", { class: this.said ? "error" : "hint", role: "status" }, this.said || (plan && this.planned(plan))),
        h("button", { class: "main", disabled: this.busy || !plan, onclick: () => void this.send() }, plan ? T.batch.order(plan.to_make) : T.batch.check),
      ],
    );
  }

  /** @param {NonNullable<BatchMaker["plan"]>} plan */
  planned({ images, reused, estimated_seconds: seconds }) {
    return [T.batch.images(images), reused.count > 0 && T.batch.reused(reused.count), seconds !== null && T.order.takes(duration(seconds))].filter(Boolean).join(" · ");
  }

  table() {
    const [head = [], ...all] = rows(this.text);
    const wrong = Map.groupBy(this.errors, (one) => one.row);
    const shown = all.map((cells, at) => /** @type {const} */ ([at + 1, cells])).filter(([row], at) => at < MOST_SHOWN || wrong.has(row));
    return h("div", { class: "table", tabindex: 0, role: "group", "aria-label": T.batch.table }, h("table", null,
      h("thead", null, h("tr", null, h("th", { scope: "col" }, T.batch.row), head.map((name, at) => h("th", { key: at, scope: "col" }, name)))),
      h("tbody", null, shown.map(([row, cells]) => {
        const mistakes = wrong.get(row) ?? [];
        return [
          h("tr", { key: row }, h("th", { scope: "row" }, row), head.map((name, at) => h("td", {
            key: at, class: mistakes.some((one) => one.field.split(".")[0] === name.trim()) ? "wrong" : "",
          }, cells[at] ?? ""))),
          mistakes.length > 0 && h("tr", { key: `${row} wrong`, class: "why" }, h("td", { colspan: head.length + 1 }, mistakes.map((one) => h("p", { class: "error" }, `${one.field}: ${one.detail}`)))),
        ];
      })),
    ), all.length > shown.length && hint(T.queue.more(all.length - shown.length)));
  }
}

customElements.define("above-batch", BatchMaker);

