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

/** Little-endian numbers. @param {...[bytes: number, value: number]} fields */
function packed(...fields) {
  const view = new DataView(new ArrayBuffer(fields.reduce((sum, [bytes]) => sum + bytes, 0)));
  let at = 0;
  for (const [bytes, value] of fields) {
    if (bytes === 2) view.setUint16(at, value, true);
    else view.setUint32(at, value, true);
    at += bytes;
  }
  return new Uint8Array(view.buffer);
}

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
    const about = packed([2, 20], [2, UTF8_NAMES], [2, 0], [2, 0], [2, DAY], [4, crc32(data)], [4, data.length], [4, data.length], [2, title.length], [2, 0]);
    const entry = packed([4, 0x02014b50], [2, 20]);
    const place = packed([2, 0], [2, 0], [2, 0], [4, 0], [4, at]);
    parts.push(packed([4, 0x04034b50]), about, title, data);
    index.push(entry, about, place, title);
    at += 30 + title.length + data.length;
    indexed += 46 + title.length;
  }
  const end = packed([4, 0x06054b50], [2, 0], [2, 0], [2, files.length], [2, files.length], [4, indexed], [4, at], [2, 0]);
  return new Blob([...parts, ...index, end], { type: "application/zip" });
}
