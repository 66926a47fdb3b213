/** Something that others want to hear of. */

/** @template {any[]} Given */
export class Signal {
  /** @type {Set<(...given: Given) => void>} */
  #heard = new Set();

  /** @param {(...given: Given) => void} heard @returns {() => void} Ends it. */
  hear = (heard) => {
    this.#heard.add(heard);
    return () => this.#heard.delete(heard);
  };

  /** @param {Given} given */
  tell = (...given) => {
    for (const heard of this.#heard) heard(...given);
  };
}
