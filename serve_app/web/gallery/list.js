/**
 * The pictures behind the gallery: read page by page from the service, newest first, and added to as jobs end.
 *
 * Of each job it keeps what a tile shows, so that a hundred thousand fit into memory. Knows no elements.
 */

import { get } from "../lib/api.js";
import { serious, wordsOf } from "../lib/format.js";
import { looks } from "../lib/looks.js";
import { learnMarks, markOf, settled } from "../lib/marks.js";
import { FINAL, TRIAL } from "../lib/store.js";

/** @typedef {import("../types.js").Job} Job */
/**
 * @typedef {{key: string, job: string, index: number, url: string, width: number, height: number, seed: number,
 *   words: string, when: string, status: import("../types.js").Status,
 *   kind: string, error: string, noted: boolean}} Item `url` empty: the job has no picture.
 * @typedef {{words: string, style: string, model: string, tag: string, status: string, from: string, until: string, mark: string}} Filters
 */

/** What the service is asked for. @type {Record<string, {starred?: any, rejected?: any, rating?: any}>} */
const MARKS = { star: { starred: true }, kept: { rejected: false }, 3: { rating: 3 }, 4: { rating: 4 }, 5: { rating: 5 } };
/** Jobs of one page; the first is small, so that something is there at once. */
const FIRST = 40;
const PAGE = 100;

/** @param {Job} job @returns {Item[]} */
export function itemsOf(job) {
  const common = {
    job: job.job_id, words: wordsOf(job), when: job.created_at,
    status: job.status, kind: job.kind, error: job.error?.detail ?? "",
  };
  const images = job.images.filter((image) => image.content_type.startsWith("image/"));
  if (!images.length) return [{ ...common, key: `${job.job_id}:`, index: 0, url: "", width: 1, height: 1, seed: 0, noted: false }];
  return images.map(({ index, url, width, height, seed, notes }) => ({
    ...common, key: `${job.job_id}:${index}`, index, url, width, height, seed, noted: notes.some(serious),
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
  /** @type {"idle" | "loading" | "failed" | "end"} */
  state = "idle";
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

  /** Read on, until at least one page of pictures more is there. */
  async more() {
    if (this.state === "loading" || this.state === "end") return;
    this.state = "loading";
    this.changed();
    try {
      if (this.filters.mark) await settled();
      const before = this.items.length;
      while (this.#next !== null && this.items.length < before + FIRST) {
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
    const { words, style, model, status, mark } = this.filters;
    const wanted = query(this.filters, { limit: String(FIRST), ...MARKS[mark] });
    if (wordsIn(words).length) wanted.set("q", words);
    if (style) wanted.set("style_id", style);
    if (model) wanted.set("model", model);
    for (const one of status ? [status] : FINAL) wanted.append("status", one);
    return `/v1/jobs?${wanted}`;
  }

  /** @param {Job} job */
  #add(job) {
    looks.learn(job);
    learnMarks(job);
    if (this.#known.has(job.job_id) || job.tags.includes(TRIAL)) return;
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
    learnMarks(job);
    const last = this.items.at(-1);
    // its page is still to come
    const below = last && this.#next !== null && job.created_at < last.when;
    if (this.#known.has(job.job_id) || below || !this.#asked(job)) return;
    this.#known.add(job.job_id);
    const all = itemsOf(job);
    const parent = this.items.find((item) => item.job === job.derived_from);
    if (parent) for (const item of all) item.words = parent.words;
    const said = wordsIn(all[0].words);
    if (!wordsIn(this.filters.words).every((word) => said.some((one) => one.startsWith(word)))) return;
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
    const { style, model, tag, status, from, until } = this.filters;
    if (status && job.status !== status) return false;
    if (style && job.request.style_id !== style) return false;
    if (model && job.request.model !== model) return false;
    if (tag && !job.tags.includes(tag)) return false;
    const day = job.created_at.slice(0, 10);
    return (!from || day >= from) && (!until || day <= until);
  }

  /** Of a job with several pictures, those that are marked so. @param {Item} item */
  fits(item) {
    const { starred = false, rejected = true, rating = 0 } = MARKS[this.filters.mark] ?? {};
    const marked = markOf(item.key);
    return (!starred || marked.starred) && (rejected || !marked.rejected) && marked.rating >= rating;
  }
}

/** What every list can be asked for. @param {Filters} filters @param {Record<string, string>} [more] */
export function query({ tag, from, until }, more) {
  const wanted = new URLSearchParams(more);
  if (tag) wanted.set("tag", tag);
  if (from) wanted.set("created_after", new Date(`${from}T00:00`).toISOString());
  if (until) wanted.set("created_before", new Date(new Date(`${until}T00:00`).getTime() + 86_400_000).toISOString());
  return wanted;
}

/** As the service divides a text. @param {string} text */
function wordsIn(text) {
  return text.normalize("NFD").replace(/\p{M}/gu, "").toLowerCase().match(/[\p{L}\p{N}]+/gu) ?? [];
}

/** @param {Item} a @param {Item} b */
function newestFirst(a, b) {
  return a.when < b.when ? 1 : a.when > b.when ? -1 : a.job === b.job ? a.index - b.index : a.job < b.job ? 1 : -1;
}
