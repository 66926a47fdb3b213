/**
 * Form fields: a label, what is typed, what is wrong with it; and a field of a JSON Schema.
 *
 * Knows schemas as the service describes its bodies; nothing of which body it is.
 */

import { T } from "../texts.js";
import { listed, readable } from "./format.js";
import { h } from "./view.js";

/** @typedef {import("../types.js").Schema} Schema */
/** @typedef {import("./view.js").Content} Content */
/** @typedef {{id: string, label: string, hint?: string, error?: string, wide?: boolean}} Frame */

/**
 * A label around a control, with its error beside it.
 * @param {Frame} frame @param {Content} control
 */
export function field({ id, label, hint, error, wide }, control) {
  return h(
    "div",
    { class: `field${wide ? " wide" : ""}${error ? " wrong" : ""}`, key: id },
    h("label", { for: id }, label),
    control,
    error ? h("p", { class: "error", id: `${id}-error` }, error) : hint && h("p", { class: "hint", id: `${id}-hint` }, hint),
  );
}

/** What is typed. @param {Frame} frame @param {import("./view.js").Props} about */
export function textField(frame, about) {
  return field(frame, h("input", { ...tied(frame), autocomplete: "off", ...about }));
}

/** One of several. @param {Frame} frame @param {string} value @param {[value: string, text: string][]} options @param {(value: string) => void} choose @param {string} [title] */
export function choice(frame, value, options, choose, title) {
  return field(frame, h("select", { ...tied(frame), title, value, onchange: (event) => choose(event.target.value) },
    options.map(([one, text]) => h("option", { value: one, key: one }, text))));
}

/** One of a few. @param {string} name @param {string} chosen @param {[value: string, text: string, pick: () => void][]} ways */
export function segments(name, chosen, ways) {
  return h("div", { class: "joined segments" }, ways.map(([value, text, pick]) => h("label", { key: value },
    h("input", { type: "radio", name, value, checked: chosen === value, onchange: pick }), h("span", null, text))));
}

/** Attributes that tie a control to what is said of it. @param {Frame} frame */
export function tied({ id, hint, error }) {
  const about = error ? `${id}-error` : hint ? `${id}-hint` : undefined;
  return { id, "aria-invalid": error ? "true" : undefined, "aria-describedby": about };
}

/**
 * One field of a schema. `otherwise`: what counts while nothing is chosen.
 * @param {{id: string, name: string, schema: Schema, value: any, error?: string, required?: boolean,
 *   otherwise?: any, choices?: any[], choose: (value: any) => void}} given
 */
export function schemaField({ id, name, schema, value, error, required, otherwise, choices, choose }) {
  const kind = plain(schema);
  const hint = (schema.description ?? "").replaceAll("`", "");
  const frame = { id, label: readable(name), error };
  const fallback = otherwise ?? defaultOf(schema);
  const options = choices ?? kind.enum ?? (kind.type === "boolean" ? [true, false] : null);
  if (options) {
    const all = options.map((one) => /** @type {[string, string]} */ ([JSON.stringify(one), said(one)]));
    if (!required) all.unshift(["", fallbackText(fallback)]);
    return choice(frame, JSON.stringify(value ?? undefined) ?? "", all, (one) => choose(one ? JSON.parse(one) : undefined), hint);
  }
  const number = kind.type === "integer" || kind.type === "number";
  const color = kind.type === "string" && kind.pattern?.startsWith("^#");
  const shown = value === undefined || value === null ? "" : number || kind.type === "string" ? String(value) : written(value);
  return textField(frame, {
    title: hint,
    type: number ? "number" : "text",
    min: kind.minimum ?? kind.exclusiveMinimum,
    max: kind.maximum,
    step: kind.type === "integer" ? 1 : "any",
    maxlength: kind.maxLength,
    placeholder: color ? "#rrggbb" : fallbackText(fallback),
    value: shown,
    onchange: (event) => choose(read(event.target.value.trim(), kind)),
  });
}

/** What counts if nothing is sent: of bodies it is told in words, at the end of the description. @param {Schema} schema */
export function defaultOf(schema) {
  const [, told] = /Default: (.+)\.$/s.exec(schema.description ?? "") ?? [];
  return told === undefined ? (schema.default ?? undefined) : JSON.parse(told);
}

/** The schema without its null, and of several kinds the first. @param {Schema} schema @returns {Schema} */
export function plain(schema) {
  const kinds = (schema.anyOf ?? []).filter((one) => one.type !== "null");
  if (kinds.length === 1) return { ...schema, ...kinds[0] };
  return kinds.length ? { ...schema, type: undefined } : schema;
}

/** @param {any} value */
function said(value) {
  if (typeof value === "boolean") return value ? T.yes : T.no;
  return readable(String(value));
}

/** @param {any} fallback */
function fallbackText(fallback) {
  if (fallback === undefined || fallback === "" || typeof fallback === "object") return "";
  return said(fallback);
}

/** A list of words with commas between, anything else as JSON. @param {any} value */
function written(value) {
  const words = Array.isArray(value) && value.every((one) => typeof one === "string");
  return words ? value.join(", ") : JSON.stringify(value);
}

/** What was typed, as the schema wants it; a text that cannot be that goes as it is, and the service says why.
 * @param {string} text @param {Schema} kind */
function read(text, kind) {
  if (text === "") return undefined;
  if (kind.type === "string") return text;
  if (kind.type === "integer" || kind.type === "number") return Number(text);
  try {
    return JSON.parse(text);
  } catch {
    return listed(text);
  }
}
