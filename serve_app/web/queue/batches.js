/** The card of a batch: how far its orders are together, what failed, and all its files. */

import { T } from "../texts.js";
import { ROOT, ask, key } from "../lib/api.js";
import { duration } from "../lib/format.js";
import { ICONS } from "../lib/icons.js";
import { FINAL, batchDo, forgetBatch, trying } from "../lib/store.js";
import { h, icon } from "../lib/view.js";

/** @typedef {import("../types.js").Batch} Batch */

/** @param {Batch} batch */
export function batchCard(batch) {
  const { batch_id: id, progress, counts, eta_seconds: eta } = batch;
  const final = FINAL.has(batch.status);
  const name = batch.name ?? T.batch.unnamed;
  const said = [T.batch.done(progress.done, progress.total), counts.FAILURE > 0 && T.batch.failed(counts.FAILURE), eta !== null && T.queue.eta(duration(eta))];
  const button = (/** @type {string} */ text, /** @type {string} */ shape, /** @type {() => void} */ act) =>
    h("button", { key: text, class: "quiet small", type: "button", title: text, "aria-label": `${text}: ${name}`, onclick: act }, icon(shape));
  return h("li", { key: id, class: `job batch-card ${batch.status.toLowerCase()}`, "data-batch": id },
    h("div", { class: "about" },
      h("p", { class: "words" }, name),
      h("p", { class: "state" }, said.filter(Boolean).join(" · ")),
      batch.failed.slice(0, 2).map((one) => h("p", { class: "error", key: one.row }, T.batch.row_failed(one.row, one.detail))),
      h("div", { class: "bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(100 * progress.value), "aria-label": name },
        h("span", { style: { transform: `scaleX(${progress.value})` } })),
    ),
    h("div", { class: "after" },
      !final && button(T.queue.cancel, ICONS.close, () => void batchDo(id, "cancel")),
      final && counts.SUCCESS + batch.reused.count > 0 && button(T.batch.archive, ICONS.download, () => void archive(id)),
      final && counts.FAILURE + counts.REVOKED > 0 && button(T.batch.retry, ICONS.again, () => void batchDo(id, "retry")),
      final && button(T.queue.hide, ICONS.close, () => forgetBatch(id)),
    ),
  );
}

/** All files of a batch. A link can send no key, so with one they are fetched first. @param {string} id */
function archive(id) {
  const path = `/v1/batches/${id}/archive`;
  return trying(async () => {
    const fetched = key.get() && URL.createObjectURL(await (await ask(path)).blob());
    const link = document.createElement("a");
    link.href = fetched || ROOT + path;
    link.download = `${id}.zip`;
    link.click();
    if (fetched) setTimeout(() => URL.revokeObjectURL(fetched), 60_000);
  });
}
