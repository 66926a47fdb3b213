/** A ZIP of files that are compressed already: stored as they are. */

const CRC = Uint32Array.from({ length: 256 }, (_, byte) => {
  let sum = byte;
  for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
  return sum;
});

/** @param {Uint8Array} data */
function crc32(data) {
  let sum = 0xffffffff;
  for (const byte of data) sum = CRC[(sum ^ byte) & 255] ^ (sum >>> 8);
  return ~sum >>> 0;
}

/** Two words of a number of 32 bits. @param {number} value */
const long = (value) => [value & 0xffff, value >>> 16];

/** Words of 16 bits, little-endian as wherever there are browsers. @param {...number} values */
const words = (...values) => new Uint8Array(Uint16Array.from(values).buffer);

const UTF8_NAMES = 0x800;
/** 1 January 1980: what is stored has its own time. */
const DAY = 0x21;

/** @param {{name: string, data: Uint8Array<ArrayBuffer>}[]} files @returns {Blob} */
export function zip(files) {
  const parts = /** @type {BlobPart[]} */ ([]);
  const index = /** @type {BlobPart[]} */ ([]);
  let at = 0;
  let indexed = 0;
  for (const { name, data } of files) {
    const title = new TextEncoder().encode(name);
    const about = words(20, UTF8_NAMES, 0, 0, DAY, ...long(crc32(data)), ...long(data.length), ...long(data.length), title.length, 0);
    parts.push(words(...long(0x04034b50)), about, title, data);
    index.push(words(...long(0x02014b50), 20), about, words(0, 0, 0, 0, 0, ...long(at)), title);
    at += 30 + title.length + data.length;
    indexed += 46 + title.length;
  }
  const end = words(...long(0x06054b50), 0, 0, files.length, files.length, ...long(indexed), ...long(at), 0);
  return new Blob([...parts, ...index, end], { type: "application/zip" });
}
