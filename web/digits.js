// Signed binary digits, rounding, ranges: what all of the integer arithmetic is made of.

/** The canonical signed digit form of an int32: [{shift, negative}], low digit first. */
export function digits(value) {
  const found = [];
  for (let rest = value, shift = 0; rest !== 0; rest = Math.floor(rest / 2), shift++) {
    if (rest % 2 !== 0) {
      // Remainder 1 or −1, such that what is left is a multiple of 4.
      const digit = 2 - (((rest % 4) + 4) % 4);
      found.push({ shift, negative: digit < 0 });
      rest -= digit;
    }
  }
  return found;
}

/** Σ 2^shift over the digits: the factor by which partial sums can grow. */
export const magnitude = (value) => digits(value).reduce((sum, d) => sum + 2 ** d.shift, 0);

/** x times a constant by shifts and additions, modulo 2^32. */
export function times(x, terms) {
  let sum = 0;
  for (const { shift, negative } of terms) sum = (negative ? sum - (x << shift) : sum + (x << shift)) | 0;
  return sum;
}

/** (x + 2^(shift − 1)) >> shift: half up; a shift by 0 adds nothing. */
export const roundShift = (x, shift) => (shift === 0 ? x : ((x + (1 << (shift - 1))) | 0) >> shift);

/** What rounding adds before a shift. */
export const half = (shift) => (shift > 0 ? 2 ** (shift - 1) : 0);

/** How far each side of an addition and its sum are shifted: exponents of both sides and of the output. */
export function addition(a, b, out) {
  const low = Math.min(a, b, out);
  return [a - low, b - low, out - low];
}

const RANGES = { i8: [-128, 127], u8: [0, 255], i32: [-(2 ** 31), 2 ** 31 - 1] };

/** The smallest and largest value of a kind: i8, u8 or i32. */
export const range = (kind) => RANGES[kind];

/** The largest magnitude of a kind. */
export const maxAbs = (kind) => Math.max(-RANGES[kind][0], RANGES[kind][1]);
