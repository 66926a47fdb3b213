/** Files that the browser keeps. */

import { ROOT, ask, key } from "./api.js";
import { trying } from "./store.js";

/** @param {string} url @param {string} name */
export function save(url, name) {
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  if (url.startsWith("blob:")) setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

/** What the service makes. A link can send no key, so with one it is fetched first. @param {string} path @param {string} name */
export function saveFrom(path, name) {
  return trying(async () => save(key.get() ? URL.createObjectURL(await (await ask(path)).blob()) : ROOT + path, name));
}
