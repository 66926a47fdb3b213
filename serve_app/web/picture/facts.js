/** The whole recipe of a picture, and its files. */

import { T } from "../texts.js";
import { duration, fullMoment, listed, readable, sentences, serious, size } from "../lib/format.js";
import { go } from "../lib/place.js";
import { notify } from "../lib/store.js";
import { h } from "../lib/view.js";

/** @typedef {import("../types.js").Job} Job */
/** @typedef {import("../types.js").Image} Image */
/** @typedef {import("../lib/view.js").Content} Content */

/** Settings of an order that are said in a place of their own, or not at all. */
const SAID = new Set(["prompt", "negative_prompt", "seed", "n", "width", "height", "style_id", "model", "effects", "require", "indices"]);

/** What orders mostly have, and nobody needs to read. */
const USUAL = /** @type {Record<string, any>} */ ({
  guidance_rescale: 0, tile: "none", prompt_syntax: "plain", clip_skip: 1, quality: "full", redraws: 0, on_fail: "keep", format: "png",
});

/** @param {Job} job @param {Image | undefined} image A job that failed has none. @param {(tags: string[]) => void} retag */
export function facts(job, image, retag) {
  const { request, resolved } = job;
  const notes = image?.notes ?? [];
  const others = notes.filter((note) => !serious(note));
  const ms = job.metrics.execution_ms;
  const settings = Object.entries(request).filter(([name, value]) => !SAID.has(name) && USUAL[name] !== value && plain(value));
  return h("aside", { class: "facts", tabindex: 0, "aria-label": T.picture.recipe },
    said(notes.filter(serious), "note"),
    request.prompt && text(T.picture.prompt, request.prompt),
    request.negative_prompt && text(T.picture.negative, request.negative_prompt),
    h("dl", null,
      image && fact(T.picture.size, `${image.width} × ${image.height}`),
      fact(T.picture.seed, String(image?.seed ?? request.seed)),
      request.style_id && fact(T.picture.style, request.style_id),
      request.model && fact(T.picture.model, request.model),
      settings.map(([name, value]) => fact(readable(name), String(value))),
      fact(T.picture.ordered, fullMoment(job.created_at)),
      ms !== null && fact(T.picture.took, duration(ms / 1000)),
      fact(T.picture.job, h("button", { class: "quiet small id", title: T.picture.copy, onclick: () => void copy(job.job_id) }, job.job_id)),
    ),
    request.effects?.length > 0 && section(T.effects.title, h("ol", { class: "steps" }, request.effects.map(effect))),
    image?.quality && section(T.picture.quality, h("pre", null, JSON.stringify(image.quality, null, 1))),
    others.length > 0 && section(T.picture.notes, said(others, "hint")),
    section(T.picture.tags, h("p", { class: "tags" }, job.tags.map((tag) => h("button", {
      class: "tag", key: tag, onclick: () => go({ tag, job: null, image: null }, { pane: "pictures" }),
    }, tag)), h("input", {
      key: "tags", "aria-label": T.picture.tags, placeholder: T.picture.tags, title: T.order.tagsHint, value: job.tags.join(", "), autocomplete: "off",
      onchange: (event) => retag(listed(event.target.value)),
    }))),
    resolved && h("details", { key: "given" }, h("summary", null, T.picture.given), text(T.picture.prompt, resolved.prompt), resolved.negative_prompt && text(T.picture.negative, resolved.negative_prompt)),
    image && section(T.picture.files, h("ul", { class: "files" }, image.files.map((file) => h("li", { key: file.url },
      h("a", { href: file.url, download: "" }, file.name ?? readable(file.role)), h("span", null, size(file.size_bytes)))))),
  );
}

/** @param {string[]} notes @param {string} kind */
function said(notes, kind) {
  return sentences(notes).map((note) => h("p", { class: kind, key: note }, note));
}

/** @param {any} value */
function plain(value) {
  return value !== null && value !== "" && typeof value !== "object";
}

/** @param {string} title @param {string} words */
function text(title, words) {
  return section(title, h("p", { class: "long" }, words));
}

/** @param {string} title @param {Content} content */
function section(title, content) {
  return h("section", { key: title }, h("h3", null, title), content);
}

/** @param {string} name @param {Content} value */
function fact(name, value) {
  return h("div", { key: name }, h("dt", null, name), h("dd", null, value));
}

/** @param {import("../types.js").Effect} given */
function effect({ op, ...rest }) {
  const settings = Object.entries(rest).filter(([, value]) => value !== null).map(([name, value]) => `${readable(name).toLowerCase()} ${value}`);
  return h("li", null, h("strong", null, readable(op)), settings.length ? ` ${settings.join(", ")}` : "");
}

/** @param {string} words */
async function copy(words) {
  try {
    await navigator.clipboard.writeText(words);
    notify(T.picture.copied, "good");
  } catch {
    // no clipboard without TLS: at least it can be marked
    notify(words, "good");
  }
}
