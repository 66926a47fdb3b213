/** What each style looks like here: the newest picture of each, as far as the page has seen. */

/** @typedef {{job: string, index: number, url: string, original: string, when: string}} Look */

/** @type {Map<string, Look>} */
const newest = new Map();

export const looks = {
  /** @param {string | undefined} style */
  of: (style) => newest.get(style ?? ""),
  /** Of any style: the newest first. @returns {Look | undefined} */
  get any() {
    return [...newest.values()].sort((a, b) => b.when.localeCompare(a.when))[0];
  },
  /** @param {import("../types.js").Job} job */
  learn: (job) => {
    const image = job.images[0];
    const style = job.request.style_id;
    if (job.kind !== "generate" || !image || !style) return;
    const known = newest.get(style);
    if (known && known.when >= job.created_at) return;
    newest.set(style, { job: job.job_id, index: image.index, url: image.url, original: image.original_url, when: job.created_at });
  },
};
