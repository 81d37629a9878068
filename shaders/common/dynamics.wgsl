// A layer's counters: WORDS words, of which these come first; from BINS on, the weights by sign and exponent.
const WORDS: u32 = 264u;
const CHANGED: u32 = 0u;         // from one sign to the other
const ZEROED: u32 = 1u;          // to or from zero
const THROUGH: u32 = 2u;         // from zero to the sign that the last nonzero value did not have
const LOW: u32 = 3u;             // |W| ≤ τ
const LATENT_CHANGED: u32 = 4u;
const LATENT_LOW: u32 = 5u;
const MAX: u32 = 6u;             // max|W| as bits, and behind it max|latent|
const BINS: u32 = 8u;

fn counters_of(first: u32, layer: u32) -> u32 {
    return (first + layer) * WORDS;
}

// The bits of |v|. Integers throughout: floats that are not finite stay what they are.
fn magnitude(v: f32) -> u32 {
    return bitcast<u32>(v) & 0x7fffffffu;
}

// What is kept of a value: 1 for a zero of either sign, 2 for positive, 3 for negative; 0 where none was seen.
fn sign_seen(v: f32) -> u32 {
    return select(2u + (bitcast<u32>(v) >> 31u), 1u, magnitude(v) == 0u);
}

// 0 for zeros, else the exponent k of 2^k ≤ |v| < 2^(k + 1) as k + 64, and 128 more if negative; k ends at −63 and 63.
fn bin_of(v: f32) -> u32 {
    let exponent = clamp(magnitude(v) >> 23u, 64u, 190u) - 63u;
    return select(((bitcast<u32>(v) >> 31u) << 7u) | exponent, 0u, magnitude(v) == 0u);
}
