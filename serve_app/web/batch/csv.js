/** A CSV as the service reads it: commas, semicolons or tabs, and quotes around what holds them. */

/** @param {string} text @returns {string[][]} Rows of cells; empty lines are left out. */
export function rows(text) {
  const [first] = text.split("\n", 1);
  const divider = [",", ";", "\t"].sort((a, b) => first.split(b).length - first.split(a).length)[0];
  const found = [[""]];
  let quoted = false;
  for (let at = 0; at < text.length; at++) {
    const letter = text[at];
    const row = found[found.length - 1];
    const last = row.length - 1;
    if (quoted && letter === '"' && text[at + 1] === '"') row[last] += text[at++];
    else if (letter === '"') quoted = !quoted;
    else if (!quoted && letter === divider) row.push("");
    else if (!quoted && letter === "\n") found.push([""]);
    else if (letter !== "\r") row[last] += letter;
  }
  return found.filter((row) => row.some((cell) => cell.trim()));
}
