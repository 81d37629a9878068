// Checksums: CRC-32 of a model file's content, FNV-1a 64 of logits.

const TABLE = Uint32Array.from({ length: 256 }, (_, n) => {
  let c = n;
  for (let bit = 0; bit < 8; bit++) c = c & 1 ? (c >>> 1) ^ 0xedb88320 : c >>> 1;
  return c;
});

/** CRC-32 over some byte arrays, one behind the other, as eight hex digits. */
export function crc32(parts) {
  let c = -1;
  for (const bytes of parts) for (const byte of bytes) c = TABLE[(c ^ byte) & 255] ^ (c >>> 8);
  return (~c >>> 0).toString(16).padStart(8, '0');
}

/** FNV-1a, 64 bits, over int32 values as little-endian bytes, as 16 hex digits. */
export function logitsHash(logits) {
  let hash = 0xcbf29ce484222325n;
  for (const value of logits) {
    for (let shift = 0; shift < 32; shift += 8) {
      hash = BigInt.asUintN(64, (hash ^ BigInt((value >>> shift) & 255)) * 0x100000001b3n);
    }
  }
  return hash.toString(16).padStart(16, '0');
}
