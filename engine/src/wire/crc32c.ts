/**
 * CRC32c (Castagnoli, reflected polynomial 0x82F63B78), as SCTP uses it (RFC 9260 appendix A).
 *
 * Works on the bare register: start with -1, complement at the end. Values are signed 32-bit integers. Slices by
 * eight: one table row per byte of an 8-byte step.
 *
 *     TABLES[row * 256 + byte]   effect of `byte` followed by `row` zero bytes
 */

const POLYNOMIAL = 0x82f63b78;
const TABLES = makeTables();

function makeTables(): Int32Array {
  const tables = new Int32Array(8 * 256);
  for (let byte = 0; byte < 256; byte++) {
    let crc = byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ ((crc & 1) === 0 ? 0 : POLYNOMIAL);
    tables[byte] = crc;
  }
  for (let at = 256; at < tables.length; at++) {
    const before = tables[at - 256];
    tables[at] = (before >>> 8) ^ tables[before & 255];
  }
  return tables;
}

/** The register after `length` bytes from `off`; all must lie inside `bytes`. */
export function crc32cUpdate(crc: number, bytes: Uint8Array, off: number, length: number): number {
  const t = TABLES;
  const end = off + length;
  for (; end - off >= 8; off += 8) {
    crc ^= bytes[off] | (bytes[off + 1] << 8) | (bytes[off + 2] << 16) | (bytes[off + 3] << 24);
    crc =
      t[1792 + (crc & 255)] ^
      t[1536 + ((crc >>> 8) & 255)] ^
      t[1280 + ((crc >>> 16) & 255)] ^
      t[1024 + (crc >>> 24)] ^
      t[768 + bytes[off + 4]] ^
      t[512 + bytes[off + 5]] ^
      t[256 + bytes[off + 6]] ^
      t[bytes[off + 7]];
  }
  for (; off < end; off++) crc = (crc >>> 8) ^ t[(crc ^ bytes[off]) & 255];
  return crc;
}

/** The register after `length` zero bytes. */
export function crc32cZeros(crc: number, length: number): number {
  const t = TABLES;
  for (; length >= 4; length -= 4) {
    crc = t[768 + (crc & 255)] ^ t[512 + ((crc >>> 8) & 255)] ^ t[256 + ((crc >>> 16) & 255)] ^ t[crc >>> 24];
  }
  for (; length > 0; length--) crc = (crc >>> 8) ^ t[crc & 255];
  return crc;
}

/** CRC32c of a run of bytes, signed. */
export function crc32c(bytes: Uint8Array, off: number, length: number): number {
  return ~crc32cUpdate(-1, bytes, off, length);
}

/**
 * CRC32c of a message in which one 32-bit word changed, without the rest of the message: the CRC is linear, so the
 * difference of the words followed by `tail` zero bytes is the difference of the CRCs.
 * @param oldWord, newWord the word as big-endian integers
 * @param tail bytes of the message behind the word
 */
export function updateCrc32c(crc: number, oldWord: number, newWord: number, tail: number): number {
  const difference = oldWord ^ newWord;
  const reflected =
    (difference >>> 24) | ((difference >>> 8) & 0xff00) | ((difference << 8) & 0xff0000) | (difference << 24);
  return crc ^ crc32cZeros(reflected, tail + 4);
}
