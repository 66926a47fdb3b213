/** A dialog above the page: a title, what it is about, and what can be done. */

import { T } from "../texts.js";
import { ICONS } from "./icons.js";
import { go } from "./place.js";
import { h, iconButton } from "./view.js";

/** @typedef {import("./view.js").Content} Content */

/**
 * `close` left out: what the URL says is done above the page is done no longer.
 * @param {{name: string, title: string, close?: () => void, wide?: boolean}} about
 * @param {Content} content @param {Content} [foot]
 */
export function dialog({ name, title, close = leave, wide }, content, foot) {
  return h("dialog", {
    class: `sheet ${name}${wide ? " wide" : ""}`, key: name, "aria-labelledby": `${name}-title`,
    ref: (/** @type {HTMLDialogElement} */ node) => queueMicrotask(() => node.isConnected && node.showModal()),
    oncancel: (event) => (event.preventDefault(), close()),
    onclick: (event) => event.target === event.currentTarget && close(),
  },
    h("header", null, h("h2", { id: `${name}-title` }, title),
      iconButton(T.close, ICONS.close, close)),
    content,
    foot && h("footer", null, foot),
  );
}

/** Nothing is done above the page any more. */
export function leave() {
  go({ do: null });
}
