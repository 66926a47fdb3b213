/** The card of a batch: how far its orders are together, what failed, and all its files. */

import { T } from "../texts.js";
import { duration } from "../lib/format.js";
import { ICONS } from "../lib/icons.js";
import { saveFrom } from "../lib/save.js";
import { FINAL, batchDo, forgetBatch } from "../lib/store.js";
import { h, smallButton } from "../lib/view.js";

/** @typedef {import("../types.js").Batch} Batch */

/** @param {Batch} batch */
export function batchCard(batch) {
  const { batch_id: id, progress, counts, eta_seconds: eta } = batch;
  const final = FINAL.has(batch.status);
  const name = batch.name ?? T.batch.unnamed;
  const said = [T.batch.done(progress.done, progress.total), counts.FAILURE > 0 && T.batch.failed(counts.FAILURE), eta !== null && T.queue.eta(duration(eta))];
  const button = (/** @type {string} */ text, /** @type {string} */ shape, /** @type {() => void} */ act) =>
    smallButton(`${text}: ${name}`, shape, act, { key: text, title: text });
  return h("li", { key: id, class: `job batch-card ${batch.status.toLowerCase()}`, "data-batch": id },
    h("div", { class: "about" },
      h("p", { class: "words" }, name),
      h("p", { class: "state" }, said.filter(Boolean).join(" · ")),
      batch.failed.slice(0, 2).map((one) => h("p", { class: "error", key: one.row }, T.batch.row_failed(one.row, one.detail))),
      bar(progress.value, name),
    ),
    h("div", { class: "after" },
      !final && button(T.queue.cancel, ICONS.close, () => void batchDo(id, "cancel")),
      final && counts.SUCCESS + batch.reused.count > 0 && button(T.batch.archive, ICONS.download, () => void saveFrom(`/v1/batches/${id}/archive`, `${id}.zip`)),
      final && counts.FAILURE + counts.REVOKED > 0 && button(T.batch.retry, ICONS.again, () => void batchDo(id, "retry")),
      final && button(T.queue.hide, ICONS.close, () => forgetBatch(id)),
    ),
  );
}

/** @param {number} value 0 to 1. @param {string} label */
export function bar(value, label) {
  return h("div", {
    class: "bar", role: "progressbar", "aria-valuemin": 0, "aria-valuemax": 100, "aria-valuenow": Math.round(100 * value), "aria-label": label, key: "bar",
  }, h("span", { style: { transform: `scaleX(${value})` } }));
}
