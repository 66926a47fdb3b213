/** The filters of the gallery. They stand in the URL, so a link shows the same pictures. */

import { T } from "../texts.js";
import { field } from "../lib/fields.js";
import { ICONS } from "../lib/icons.js";
import { saveFrom } from "../lib/save.js";
import { h, icon } from "../lib/view.js";
import { query } from "./list.js";

/** @typedef {import("./list.js").Filters} Filters */

const ENDS = /** @type {const} */ (["SUCCESS", "FAILURE", "REVOKED"]);

/** @param {URLSearchParams} words @returns {Filters} */
export function filtersOf(words) {
  const said = (/** @type {string} */ name) => words.get(name) ?? "";
  const day = (/** @type {string} */ name) => (/^\d{4}-\d{2}-\d{2}$/.test(said(name)) ? said(name) : "");
  const status = words.has("state") ? said("state") : "SUCCESS";
  return {
    words: said("find"), style: said("style"), tag: said("tag"), mark: said("mark"),
    status: status === "ALL" ? "" : status, from: day("from"), until: day("until"),
  };
}

/** @param {Filters} filters */
export function filtered({ status, ...others }) {
  return status !== "SUCCESS" || Object.values(others).some(Boolean);
}

/**
 * @param {Filters} filters @param {import("../types.js").Style[]} styles
 * @param {{side: number, choose: (words: Record<string, string | null>) => void, resize: (side: number) => void}} how
 */
export function filterBar(filters, styles, { side, choose, resize }) {
  const pick = (/** @type {string} */ name) => (/** @type {any} */ event) => choose({ [name]: event.target.value.trim() || null });
  const options = (/** @type {[string, string][]} */ all) => all.map(([value, text]) => h("option", { value, key: value }, text));
  const some = filtered(filters);
  return h("div", { class: "filters", role: "search" },
    h("input", {
      type: "search", "aria-label": T.gallery.words, placeholder: T.gallery.words, value: filters.words, onchange: pick("find"), class: "find",
    }),
    h("details", { class: "filter-menu" },
      h("summary", { class: some ? "on" : "" }, T.gallery.filters),
      h("div", { class: "panel" },
        field({ id: "filter-style", label: T.gallery.style }, h("select", { id: "filter-style", value: filters.style, onchange: pick("style") },
          options([["", T.gallery.anyStyle], ...styles.map((style) => /** @type {[string, string]} */ ([style.style_id, style.title]))]))),
        field({ id: "filter-tag", label: T.gallery.tag }, h("input", { id: "filter-tag", value: filters.tag, autocomplete: "off", onchange: pick("tag") })),
        field({ id: "filter-state", label: T.gallery.status }, h("select", {
          id: "filter-state", value: filters.status || "ALL",
          onchange: (event) => choose({ state: event.target.value === "SUCCESS" ? null : event.target.value }),
        }, options([...ENDS.map((one) => /** @type {[string, string]} */ ([one, T.states[one]])), ["ALL", T.gallery.anyState]]))),
        field({ id: "filter-mark", label: T.gallery.marks }, h("select", { id: "filter-mark", value: filters.mark, onchange: pick("mark") },
          options([["", T.gallery.anyMark], ["star", T.gallery.starred], ["kept", T.gallery.unrejected], ["3", T.gallery.rated(3)], ["4", T.gallery.rated(4)], ["5", T.gallery.rated(5)]]))),
        field({ id: "filter-from", label: T.gallery.from }, h("input", { id: "filter-from", type: "date", value: filters.from, onchange: pick("from") })),
        field({ id: "filter-until", label: T.gallery.until }, h("input", { id: "filter-until", type: "date", value: filters.until, onchange: pick("until") })),
        h("button", { onclick: () => void saveFrom(`/v1/ledger?${query(filters)}`, "ledger.csv"), title: T.gallery.ledgerHint }, icon(ICONS.download), T.gallery.ledger),
      ),
    ),
    some && h("button", {
      class: "quiet", key: "clear",
      onclick: () => choose({ find: null, style: null, tag: null, mark: null, from: null, until: null, state: null }),
    }, T.gallery.clear),
    h("input", {
      type: "range", min: 0, max: 2, step: 1, value: String(side), "aria-label": T.gallery.tileSize, title: T.gallery.tileSize, class: "sizes",
      oninput: (event) => resize(Number(event.target.value)),
    }),
  );
}
