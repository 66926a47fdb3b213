/** The filters of the gallery. They stand in the URL, so a link shows the same pictures. */

import { T } from "../texts.js";
import { h } from "../lib/view.js";

/** @typedef {import("./list.js").Filters} Filters */

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

/**
 * @param {Filters} filters @param {import("../types.js").Style[]} styles
 * @param {{side: number, choose: (words: Record<string, string | null>) => void, resize: (side: number) => void}} how
 */
export function filterBar(filters, styles, { side, choose, resize }) {
  const pick = (/** @type {string} */ name) => (/** @type {any} */ event) => choose({ [name]: event.target.value.trim() || null });
  const options = (/** @type {[string, string][]} */ all) => all.map(([value, text]) => h("option", { value, key: value }, text));
  const some = filters.words || filters.style || filters.tag || filters.mark || filters.from || filters.until || filters.status !== "SUCCESS";
  return h("div", { class: "filters", role: "search" },
    h("input", {
      type: "search", "aria-label": T.gallery.words, placeholder: T.gallery.words, value: filters.words, onchange: pick("find"), class: "find",
    }),
    h("details", { class: "filter-menu" },
      h("summary", { class: some ? "on" : "" }, T.gallery.filters),
      h("div", { class: "panel" },
        labelled("filter-style", T.gallery.style, h("select", { id: "filter-style", value: filters.style, onchange: pick("style") },
          options([["", T.gallery.anyStyle], ...styles.map((style) => /** @type {[string, string]} */ ([style.style_id, style.title]))]))),
        labelled("filter-tag", T.gallery.tag, h("input", { id: "filter-tag", value: filters.tag, autocomplete: "off", onchange: pick("tag") })),
        labelled("filter-state", T.gallery.status, h("select", {
          id: "filter-state", value: filters.status || "ALL",
          onchange: (event) => choose({ state: event.target.value === "SUCCESS" ? null : event.target.value }),
        }, options([["SUCCESS", T.gallery.statuses.SUCCESS], ["FAILURE", T.gallery.statuses.FAILURE], ["REVOKED", T.gallery.statuses.REVOKED], ["ALL", T.gallery.statuses[""]]]))),
        labelled("filter-mark", T.gallery.marks, h("select", { id: "filter-mark", value: filters.mark, onchange: pick("mark"), title: T.gallery.marksNote },
          options([["", T.gallery.anyMark], ["star", T.gallery.starred], ["kept", T.gallery.unrejected], ["3", T.gallery.rated(3)], ["4", T.gallery.rated(4)], ["5", T.gallery.rated(5)]]))),
        labelled("filter-from", T.gallery.from, h("input", { id: "filter-from", type: "date", value: filters.from, onchange: pick("from") })),
        labelled("filter-until", T.gallery.until, h("input", { id: "filter-until", type: "date", value: filters.until, onchange: pick("until") })),
        h("p", { class: "hint" }, T.gallery.marksNote),
      ),
    ),
    some && h("button", {
      type: "button", class: "quiet", key: "clear",
      onclick: () => choose({ find: null, style: null, tag: null, mark: null, from: null, until: null, state: null }),
    }, T.gallery.clear),
    h("input", {
      type: "range", min: 0, max: 2, step: 1, value: String(side), "aria-label": T.gallery.tileSize, title: T.gallery.tileSize, class: "sizes",
      oninput: (event) => resize(Number(event.target.value)),
    }),
  );
}

/** @param {string} id @param {string} text @param {import("../lib/view.js").Content} control */
function labelled(id, text, control) {
  return h("div", { class: "field" }, h("label", { for: id }, text), control);
}
