/**
 * A job that only tries something: ordered a moment after the last change, and deleted before the next one.
 *
 * Knows when to order and what became of it; whoever tries says what, and shows it.
 */

import { get } from "./api.js";
import { FINAL, faults, onEnd, onLeave, remove } from "./store.js";

/** @typedef {import("../types.js").Job} Job */

/** Until then more may change. */
const PAUSE_MS = 600;

export class Trial {
  busy = false;
  /** The last that succeeded. @type {Job | null} */
  job = null;
  /** What is wrong, by field. @type {Record<string, string>} */
  errors = {};
  /** Job that is there, and is to be deleted. */
  #id = "";
  #turn = 0;
  /** @type {number | undefined} */
  #timer = undefined;
  #ends;

  /** @param {() => void} changed @param {string} field Of what is wrong with the whole. */
  constructor(changed, field) {
    this.changed = changed;
    this.field = field;
    this.#ends = [onEnd((job) => this.#ended(job)), onLeave(() => this.#leave())];
  }

  /** @param {() => Promise<Job>} order */
  later(order) {
    this.stop();
    this.busy = true;
    this.#timer = setTimeout(() => void this.#now(order, this.#turn), PAUSE_MS);
  }

  /** Whatever is tried now does not matter any more. */
  stop() {
    clearTimeout(this.#timer);
    this.#turn++;
    this.busy = false;
  }

  /** The job stays. */
  keep() {
    this.#id = "";
  }

  /** Nobody looks any more. */
  end() {
    this.#leave();
    for (const end of this.#ends) end();
  }

  #leave() {
    this.stop();
    void this.#forget();
  }

  /** @param {() => Promise<Job>} order @param {number} turn */
  async #now(order, turn) {
    try {
      const job = await order();
      const before = this.#forget();
      this.#id = job.job_id;
      if (turn !== this.#turn) return void this.#forget();
      this.errors = {};
      await before;
      // It may have ended before anybody here knew its name.
      this.#ended(await get(`/v1/jobs/${job.job_id}`));
    } catch (error) {
      if (turn !== this.#turn) return;
      this.busy = false;
      this.errors = faults(error, this.field);
    }
    this.changed();
  }

  async #forget() {
    const id = this.#id;
    this.keep();
    // what is gone already needs no deleting
    if (id) await remove(id).catch(() => {});
  }

  /** @param {Job} job */
  #ended(job) {
    if (job.job_id !== this.#id || !this.busy || !FINAL.has(job.status)) return;
    this.busy = false;
    if (job.images.length) this.job = job;
    this.errors = job.error ? { [this.field]: job.error.detail } : {};
    this.changed();
  }
}
