/** The filters of the gallery. They stand in the URL, so a link shows the same pictures. */

import { T } from "../texts.js";
import { choice, textField } from "../lib/fields.js";
import { ICONS } from "../lib/icons.js";
import { saveFrom } from "../lib/save.js";
import { h, wordButton } from "../lib/view.js";
import { query } from "./list.js";

/** @typedef {import("./list.js").Filters} Filters */

const ENDS = /** @type {const} */ (["SUCCESS", "FAILURE", "REVOKED"]);

/** @param {URLSearchParams} words @returns {Filters} */
export function filtersOf(words) {
  const said = (/** @type {string} */ name) => words.get(name) ?? "";
  const day = (/** @type {string} */ name) => (/^\d{4}-\d{2}-\d{2}$/.test(said(name)) ? said(name) : "");
  const status = words.has("state") ? said("state") : "SUCCESS";
  return {
    words: said("find"), style: said("style"), model: said("model"), tag: said("tag"), mark: said("mark"),
    status: status === "ALL" ? "" : status, from: day("from"), until: day("until"),
  };
}

/** @param {Filters} filters */
export function filtered({ status, ...others }) {
  return status !== "SUCCESS" || Object.values(others).some(Boolean);
}

/**
 * @param {Filters} filters @param {import("../types.js").Catalog} catalog
 * @param {{side: number, choose: (words: Record<string, string | null>) => void, resize: (side: number) => void}} how
 */
export function filterBar(filters, { styles, models }, { side, choose, resize }) {
  const pick = (/** @type {string} */ name) => (/** @type {any} */ event) => choose({ [name]: event.target.value.trim() || null });
  const some = filtered(filters);
  /** @type {(name: "style" | "model" | "mark", options: [string, string][]) => import("../lib/view.js").Wanted} */
  const select = (name, options) => choice({ id: `filter-${name}`, label: T.gallery[name] }, filters[name], options, (value) => choose({ [name]: value || null }));
  const input = (/** @type {"tag" | "from" | "until"} */ name, type = "date") => textField(
    { id: `filter-${name}`, label: T.gallery[name] }, { type, value: filters[name], onchange: pick(name) });
  return h("div", { class: "filters", role: "search" },
    h("input", {
      type: "search", "aria-label": T.gallery.words, placeholder: T.gallery.words, value: filters.words, onchange: pick("find"), class: "find",
    }),
    h("details", { class: "filter-menu" },
      h("summary", { class: some ? "on" : "" }, T.gallery.filters),
      h("div", { class: "panel" },
        select("style", [["", T.gallery.anyStyle], ...styles.map((style) => /** @type {[string, string]} */ ([style.style_id, style.title]))]),
        select("model", [["", T.gallery.anyModel], ...models.map((model) => /** @type {[string, string]} */ ([model.name, model.title]))]),
        input("tag", "text"),
        choice({ id: "filter-state", label: T.gallery.status }, filters.status || "ALL", [...ENDS.map((one) => /** @type {[string, string]} */ ([one, T.states[one]])), ["ALL", T.gallery.anyState]],
          (state) => choose({ state: state === "SUCCESS" ? null : state })),
        input("from"),
        input("until"),
        select("mark", [["", T.gallery.anyMark], ["star", T.gallery.starred], ["kept", T.gallery.unrejected], ...[3, 4, 5].map((stars) => /** @type {[string, string]} */ ([String(stars), T.gallery.rated(stars)]))]),
        wordButton(T.gallery.ledger, ICONS.download, () => void saveFrom(`/v1/ledger?${query(filters)}`, "ledger.csv"), { title: T.gallery.ledgerHint }),
      ),
    ),
    some && h("button", {
      class: "quiet", key: "clear",
      onclick: () => choose(Object.fromEntries(["find", "style", "model", "tag", "mark", "from", "until", "state"].map((name) => [name, null]))),
    }, T.gallery.clear),
    h("input", {
      type: "range", min: 0, max: 2, step: 1, value: String(side), "aria-label": T.gallery.tileSize, title: T.gallery.tileSize, class: "sizes",
      oninput: (event) => resize(Number(event.target.value)),
    }),
  );
}
