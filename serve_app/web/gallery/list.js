/**
 * The pictures behind the gallery: read page by page from the service, newest first, and added to as jobs end.
 *
 * Of each job it keeps what a tile shows, so that a hundred thousand fit into memory. Knows no elements.
 */

import { get } from "../lib/api.js";
import { wordsOf } from "../lib/format.js";
import { looks } from "../lib/looks.js";
import { markOf } from "../lib/marks.js";

/** @typedef {import("../types.js").Job} Job */
/**
 * @typedef {{key: string, job: string, index: number, url: string, width: number, height: number, seed: number,
 *   words: string, style: string, tags: string[], when: string, status: import("../types.js").Status,
 *   kind: string, error: string}} Item `url` empty: the job has no picture.
 * @typedef {{words: string, style: string, tag: string, status: string, from: string, until: string, mark: string}} Filters
 */

/** Jobs of one page; the first is small, so that something is there at once. */
const FIRST = 40;
const PAGE = 100;
/** On jobs that only try something, and are deleted when the next is tried. */
export const TRIAL = "trial";
/** Pages that one look for words reads before it asks whether to go on. */
const PAGES_A_LOOK = 20;

/** @param {Job} job @returns {Item[]} */
export function itemsOf(job) {
  const common = {
    job: job.job_id, words: wordsOf(job), style: job.request.style_id ?? "", tags: job.tags, when: job.created_at,
    status: job.status, kind: job.kind, error: job.error?.detail ?? "",
  };
  const images = job.images.filter((image) => image.content_type.startsWith("image/"));
  if (!images.length) return [{ ...common, key: `${job.job_id}:`, index: 0, url: "", width: 1, height: 1, seed: 0 }];
  return images.map(({ index, url, width, height, seed }) => ({
    ...common, key: `${job.job_id}:${index}`, index, url, width, height, seed,
  }));
}

export class PictureList {
  /** @type {Item[]} Newest first, as far as they are loaded and fit the filters. */
  items = [];
  /** @type {Item[]} Newer than all items, and not among them yet. */
  fresh = [];
  /** @type {Set<string>} Jobs that are in `items` or in `fresh`. */
  #known = new Set();
  /** @type {Map<string, Item[]>} By job: what was finished from its pictures, and has its words. */
  #children = new Map();
  /** @type {string | null} */
  #next = "";
  /** @type {"idle" | "loading" | "failed" | "end" | "paused"} */
  state = "idle";
  looked = 0;
  /** @type {AbortController} */
  #asking = new AbortController();

  /** @param {Filters} filters @param {() => void} changed */
  constructor(filters, changed) {
    this.filters = filters;
    this.changed = changed;
  }

  end() {
    this.#asking.abort();
  }

  /** Read on, until at least one page of pictures more is there. @param {boolean} [further] After a pause. */
  async more(further = false) {
    if (this.state === "loading" || this.state === "end" || (this.state === "paused" && !further)) return;
    this.state = "loading";
    this.changed();
    try {
      const before = this.items.length;
      for (let pages = 0; this.#next !== null && this.items.length < before + FIRST; pages++) {
        if (pages === PAGES_A_LOOK) {
          this.state = "paused";
          return this.changed();
        }
        const page = await get(this.#next || this.#path(), { signal: this.#asking.signal });
        this.#next = page.next?.replace(/limit=\d+/, `limit=${PAGE}`) ?? null;
        for (const job of page.results) this.#add(job);
        this.changed();
      }
      this.state = this.#next === null ? "end" : "idle";
    } catch {
      if (this.#asking.signal.aborted) return;
      this.state = "failed";
    }
    this.changed();
  }

  #path() {
    const { style, tag, status, from, until } = this.filters;
    const query = new URLSearchParams({ limit: String(FIRST) });
    if (style) query.set("style_id", style);
    if (tag) query.set("tag", tag);
    for (const one of status ? [status] : ["SUCCESS", "FAILURE", "REVOKED"]) query.append("status", one);
    if (from) query.set("created_after", new Date(`${from}T00:00`).toISOString());
    if (until) query.set("created_before", new Date(new Date(`${until}T00:00`).getTime() + 86_400_000).toISOString());
    return `/v1/jobs?${query}`;
  }

  /** @param {Job} job */
  #add(job) {
    this.looked++;
    looks.learn(job);
    if (this.#known.has(job.job_id)) return;
    this.#known.add(job.job_id);
    const items = itemsOf(job);
    if (job.derived_from) this.#children.set(job.derived_from, items);
    // A child is newer than its parent, so it comes first.
    for (const child of this.#children.get(job.job_id) ?? []) child.words = items[0].words;
    for (const item of items) if (this.fits(item)) this.items.push(item);
  }

  /** A job has ended. @param {Job} job */
  take(job) {
    looks.learn(job);
    if (this.#known.has(job.job_id) || !this.#asked(job)) return;
    this.#known.add(job.job_id);
    const all = itemsOf(job);
    const parent = this.items.find((item) => item.job === job.derived_from);
    if (parent) for (const item of all) item.words = parent.words;
    const items = all.filter((item) => this.fits(item));
    if (items.length) this.fresh = [...items, ...this.fresh].sort(newestFirst);
    this.changed();
  }

  /** Put what is fresh among the items, each at its place. */
  merge() {
    if (!this.fresh.length) return;
    const fresh = this.fresh;
    this.fresh = [];
    const oldest = fresh[fresh.length - 1].when;
    let upTo = 0;
    while (upTo < this.items.length && this.items[upTo].when >= oldest) upTo++;
    this.items = [...[...fresh, ...this.items.slice(0, upTo)].sort(newestFirst), ...this.items.slice(upTo)];
    this.changed();
  }

  /** @param {(item: Item) => boolean} which @returns {Item[]} What was dropped. */
  drop(which) {
    const dropped = [...this.fresh, ...this.items].filter(which);
    this.items = this.items.filter((item) => !which(item));
    this.fresh = this.fresh.filter((item) => !which(item));
    this.changed();
    return dropped;
  }

  /** @param {Item[]} items Sorted. */
  putBack(items) {
    this.fresh = [...this.fresh, ...items].sort(newestFirst);
    this.merge();
  }

  /** What the service was asked for. @param {Job} job */
  #asked(job) {
    if (job.tags.includes(TRIAL)) return false;
    const { style, tag, status, from, until } = this.filters;
    if (status && job.status !== status) return false;
    if (style && job.request.style_id !== style) return false;
    if (tag && !job.tags.includes(tag)) return false;
    const day = job.created_at.slice(0, 10);
    return (!from || day >= from) && (!until || day <= until);
  }

  /** What the service cannot be asked for: words of the prompt, and the marks of this browser. @param {Item} item */
  fits(item) {
    const { words, mark } = this.filters;
    const text = item.words.toLowerCase();
    if (!words.toLowerCase().split(/\s+/).every((word) => text.includes(word))) return false;
    if (!mark) return true;
    const marked = markOf(item.key);
    if (mark === "star") return Boolean(marked.star);
    if (mark === "kept") return !marked.reject;
    return (marked.rating ?? 0) >= Number(mark);
  }
}

/** @param {Item} a @param {Item} b */
function newestFirst(a, b) {
  return a.when < b.when ? 1 : a.when > b.when ? -1 : a.job === b.job ? a.index - b.index : a.job < b.job ? 1 : -1;
}
