/** What each style looks like here: the newest picture of each, as far as the page has seen. */

/** @type {Map<string, {url: string, when: string}>} */
const newest = new Map();

export const looks = {
  /** @param {string} style @returns {string | undefined} Link of a picture. */
  of: (style) => newest.get(style)?.url,
  /** @param {import("../types.js").Job} job */
  learn: (job) => {
    const image = job.images[0];
    const style = job.request.style_id;
    if (job.kind !== "generate" || !image || !style) return;
    const known = newest.get(style);
    if (!known || known.when < job.created_at) newest.set(style, { url: image.url, when: job.created_at });
  },
};
