/**
 * The rendering helper: what a view should look like becomes elements, with as few changes as possible.
 *
 * Text stays text: nothing here reads HTML, so no prompt, tag or file name can become a part of the page.
 * Knows elements only; nothing of jobs or of the service.
 */

/**
 * @typedef {{tag: string, props: Record<string, any>, children: (Wanted | string)[]}} Wanted
 * @typedef {Wanted | string | number | false | null | undefined | Content[]} Content
 * @typedef {{[event: `on${string}`]: ((event: any) => any) | undefined, [name: string]: unknown}} Props
 */

/** Set as properties: their attributes are only where they begin. */
const PROPERTIES = new Set(["value", "checked", "indeterminate", "open", "scrollTop"]);
/** Where a link may lead. CSP refuses scripts in links as well. */
const LINK = /^(?:[/#?]|https?:|blob:|data:image\/)/;

/** @type {WeakMap<Node, Wanted>} What each element was made of. */
const made = new WeakMap();
/** @type {WeakMap<Node, Record<string, (event: any) => void>>} */
const listeners = new WeakMap();

/**
 * An element that is wanted. In `props`, `onclick` listens, `.name` sets a property, `key` tells one of many
 * from the others, `ref` is called with the element when it is made. False, null and undefined: no attribute. A
 * button sends no form unless it says so.
 * @param {string} tag
 * @param {Props | null} [props]
 * @param {...Content} children
 * @returns {Wanted}
 */
export function h(tag, props, ...children) {
  return { tag, props: tag === "button" ? { type: "button", ...props } : props ?? {}, children: flat(children) };
}

/**
 * Make the children of `parent` what is wanted.
 * @param {Element} parent
 * @param {...Content} content
 */
export function render(parent, ...content) {
  setChildren(parent, flat(content));
}

/** @param {Content[]} content @returns {(Wanted | string)[]} */
function flat(content) {
  return content.flatMap((one) => {
    if (Array.isArray(one)) return flat(one);
    if (one === false || one === null || one === undefined || one === "") return [];
    return typeof one === "object" ? [one] : [String(one)];
  });
}

/** @param {Element} parent @param {(Wanted | string)[]} wanted */
function setChildren(parent, wanted) {
  const keys = new Set(wanted.map((one) => (typeof one === "string" ? undefined : one.props.key)));
  /** @type {Map<any, ChildNode>} */
  const kept = new Map();
  for (const child of [...parent.childNodes]) {
    const key = made.get(child)?.props.key;
    if (key === undefined) continue;
    if (keys.has(key)) kept.set(key, child);
    else child.remove();
  }
  let at = parent.firstChild;
  for (const one of wanted) {
    const node = fitting(one, typeof one !== "string" && kept.get(one.props.key), at) ?? created(one);
    if (typeof one === "string") {
      if (node.nodeValue !== one) node.nodeValue = one;
    } else {
      update(/** @type {HTMLElement} */ (node), one);
    }
    if (node === at) at = at.nextSibling;
    else parent.insertBefore(node, at);
  }
  while (at) {
    const next = at.nextSibling;
    at.remove();
    at = next;
  }
}

/**
 * The node that is there already and can become `one`.
 * @param {Wanted | string} one
 * @param {ChildNode | false | undefined} keyed
 * @param {ChildNode | null} at
 * @returns {ChildNode | null}
 */
function fitting(one, keyed, at) {
  if (typeof one === "string") return at?.nodeType === Node.TEXT_NODE ? at : null;
  const node = one.props.key === undefined ? at : keyed;
  const was = node && made.get(node);
  return was && was.tag === one.tag && was.props.key === one.props.key ? node : null;
}

/** @param {Wanted | string} one @returns {ChildNode} */
function created(one) {
  if (typeof one === "string") return document.createTextNode(one);
  const svg = one.tag === "svg" || one.tag === "path" || one.tag === "circle";
  const node = svg
    ? document.createElementNS("http://www.w3.org/2000/svg", one.tag)
    : document.createElement(one.tag);
  made.set(node, { tag: one.tag, props: { key: one.props.key }, children: [] });
  one.props.ref?.(node);
  return node;
}

/** @param {HTMLElement} node @param {Wanted} wanted */
function update(node, wanted) {
  const before = /** @type {Wanted} */ (made.get(node)).props;
  made.set(node, wanted);
  for (const name in before) {
    if (!(name in wanted.props) && !PROPERTIES.has(name)) set(node, name, undefined, before[name]);
  }
  // A value is set after what bounds it, and options exist before one of them is chosen.
  if (!wanted.tag.includes("-")) setChildren(node, wanted.children);
  for (const name in wanted.props) set(node, name, wanted.props[name], before[name]);
}

/** @param {HTMLElement} node @param {string} name @param {any} value @param {any} before */
function set(node, name, value, before) {
  if (name === "key" || name === "ref") return;
  if (name.startsWith("on")) return listen(node, name.slice(2), value);
  if (PROPERTIES.has(name)) {
    // Somebody may be typing: only a change of what is wanted replaces what is there.
    if (value === before && node === document.activeElement) return;
    const property = /** @type {any} */ (node);
    if (property[name] !== (value ?? "")) property[name] = value ?? "";
    return;
  }
  if (value === before) return;
  if (name.startsWith(".")) /** @type {any} */ (node)[name.slice(1)] = value;
  else if (name === "style") {
    for (const [rule, setting] of Object.entries(value ?? {})) node.style.setProperty(rule, setting);
  } else if (value === undefined || value === null || (value === false && !name.startsWith("aria-"))) {
    node.removeAttribute(name);
  } else if ((name === "href" || name === "src") && !LINK.test(value)) {
    node.removeAttribute(name);
  } else node.setAttribute(name, value === true && !name.startsWith("aria-") ? "" : String(value));
}

/** @param {HTMLElement} node @param {string} event @param {any} heard */
function listen(node, event, heard) {
  let mine = listeners.get(node);
  if (!mine) listeners.set(node, (mine = {}));
  if (!(event in mine)) node.addEventListener(event, (given) => mine[event]?.(given));
  mine[event] = heard;
}

/** An element that draws itself again, once a frame at most, when something it shows may have changed. */
export class View extends HTMLElement {
  #asked = false;
  /** @type {(() => void)[]} */
  #ends = [];

  connectedCallback() {
    this.start();
    this.draw();
  }

  disconnectedCallback() {
    for (const end of this.#ends.splice(0)) end();
  }

  /** Called when the element comes into the page. */
  start() {}

  /** @returns {Content} */
  view() {
    return [];
  }

  /** Called after each drawing. */
  drawn() {}

  /** Call `end` when the element leaves the page. @param {() => void} end */
  until(end) {
    this.#ends.push(end);
  }

  /** Draw again whenever one of these tells something. @param {...(heard: () => void) => () => void} signals */
  redrawOn(...signals) {
    for (const hear of signals) this.until(hear(() => this.refresh()));
  }

  /** Listen until the element leaves the page.
   * @param {EventTarget} target @param {string} event @param {(event: any) => void} heard
   * @param {AddEventListenerOptions} [options] */
  hear(target, event, heard, options) {
    target.addEventListener(event, heard, options);
    this.until(() => target.removeEventListener(event, heard, options));
  }

  refresh() {
    if (this.#asked) return;
    this.#asked = true;
    requestAnimationFrame(() => {
      this.#asked = false;
      if (this.isConnected) this.draw();
    });
  }

  draw() {
    render(this, this.view());
    this.drawn();
  }
}

/** A button that shows an icon, or a sign, and says what it does. @param {string} label @param {string} shape
 * @param {() => void} act @param {Props} [more] */
export function iconButton(label, shape, act, more) {
  return h("button", { class: "quiet", title: label, "aria-label": label, onclick: act, ...more }, shape.length > 1 ? icon(shape) : shape);
}

/** A smaller one. @param {string} label @param {string} shape @param {() => void} act @param {Props} [more] */
export function smallButton(label, shape, act, more) {
  return iconButton(label, shape, act, { class: "quiet small", ...more });
}

/** A button with an icon before its words. @param {string} words @param {string} shape @param {() => void} act @param {Props} [more] */
export function wordButton(words, shape, act, more) {
  return h("button", { onclick: act, ...more }, icon(shape), words);
}

/** Said beside something. @param {...Content} words */
export function hint(...words) {
  return h("p", { class: "hint" }, words);
}

/** What is wrong, which is read aloud as it appears. @param {string | undefined} error */
export function alert(error) {
  return error && h("p", { class: "error", role: "alert" }, error);
}

/** @param {string} path A path of 24 x 24. @returns {Wanted} */
export function icon(path) {
  return h("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true" }, h("path", { d: path }));
}
