/** The chain of effects of an order: those of the style, or one's own, each with the fields of its schema. */

import { T } from "../texts.js";
import { schemaField, segments } from "../lib/fields.js";
import { readable } from "../lib/format.js";
import { ICONS } from "../lib/icons.js";
import { alert, h, hint, smallButton } from "../lib/view.js";

/** @typedef {import("../types.js").Effect} Effect */
/** @typedef {import("../types.js").EffectKind} EffectKind */

/**
 * @param {{kinds: EffectKind[], styles: Effect[], effects: Effect[] | null, palettes: string[],
 *   errors: Record<string, string>, choose: (effects: Effect[] | null) => void, tried: import("../lib/view.js").Content}} given
 * `tried`: how they look on a picture.
 */
export function effectsField({ kinds, styles, effects, palettes, errors, choose, tried }) {
  const chosen = effects === null ? "style" : effects.length ? "own" : "none";
  return h("fieldset", { class: "field effects" },
    h("legend", null, T.effects.title),
    segments("effects", chosen, [
      ["style", T.effects.byStyle, () => choose(null)],
      ["own", T.effects.own, () => choose(styles.length ? styles : [{ ...kinds[0].example }])],
      ["none", T.effects.none, () => choose([])],
    ]),
    effects === null
      ? styles.length > 0 && hint(styles.map((one) => readable(one.op)).join(" → "))
      : effects.length > 0 && [chain({ kinds, effects, palettes, errors, choose }), tried],
    alert(errors.effects),
  );
}

/**
 * @param {{kinds: EffectKind[], effects: Effect[], palettes: string[], errors: Record<string, string>,
 *   choose: (effects: Effect[]) => void, prefix?: string}} given
 */
export function chain({ kinds, effects, palettes, errors, choose, prefix = "order" }) {
  const put = (/** @type {number} */ at, /** @type {Effect[]} */ ...instead) => [...effects.slice(0, at), ...instead, ...effects.slice(at + 1)];
  const swap = (/** @type {number} */ at) => [...effects.slice(0, at), effects[at + 1], effects[at], ...effects.slice(at + 2)];
  return h("div", { class: "chain" },
    h("ol", null, effects.map((effect, at) => {
      const kind = kinds.find((one) => one.op === effect.op);
      const name = readable(effect.op);
      return h("li", null,
        h("div", { class: "title" },
          h("strong", { title: kind?.title }, name),
          smallButton(T.effects.earlier(name), ICONS.up, () => choose(swap(at - 1)), { disabled: at === 0 }),
          smallButton(T.effects.later(name), ICONS.down, () => choose(swap(at)), { disabled: at === effects.length - 1 }),
          smallButton(T.effects.remove(name), ICONS.close, () => choose(put(at))),
        ),
        errors[`effects.${at}`] && h("p", { class: "error" }, errors[`effects.${at}`]),
        kind && h("div", { class: "grid" }, Object.entries(kind.schema.properties ?? {}).filter(([field]) => field !== "op").map(([field, schema]) => schemaField({
          id: `${prefix}-effect-${at}-${field}`,
          name: field,
          schema,
          value: effect[field],
          required: kind.schema.required?.includes(field),
          error: errors[`effects.${at}.${field}`] ?? errors[`effects.${at}.${effect.op}.${field}`],
          choices: effect.op === "palette" && field === "name" ? palettes : undefined,
          choose: (value) => {
            const { [field]: _, ...rest } = effect;
            choose(put(at, /** @type {Effect} */ (value === undefined ? rest : { ...rest, [field]: value })));
          },
        }))),
      );
    })),
    h("select", {
      "aria-label": T.effects.add, value: "",
      onchange: (event) => {
        const kind = kinds.find((one) => one.op === event.target.value);
        if (kind) choose([...effects, { ...kind.example }]);
      },
    },
      h("option", { value: "" }, T.effects.add),
      kinds.map((kind) => h("option", { value: kind.op, key: kind.op, title: kind.title }, readable(kind.op))),
    ),
  );
}
