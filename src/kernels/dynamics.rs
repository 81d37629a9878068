//! Weight dynamics: how the signs of all weights changed since the observation before, how many weights are low, where they lie.
//!
//! Two dispatches over a segment table, behind the composition: [`WeightMax`], which fixes what counts as low, and [`WeightChanges`]. They
//! count in integers, whose sums do not depend on the order. The host clears the counters before each observation.

use super::compose::{SHARE, Segment, segments, table};
use super::{Case, Fill, Tolerance, read, read_u32, update_u32};

/// Words of a layer's counters.
pub const WORDS: usize = 264;
/// Weights whose sign changed, nonzero before and now.
pub const CHANGED: usize = 0;
/// Weights that became or were zero, and are or were not.
pub const ZEROED: usize = 1;
/// Weights that were zero before and now have the sign that their last nonzero value did not have.
pub const THROUGH: usize = 2;
/// Weights with |W| ≤ τ.
pub const LOW: usize = 3;
/// As [`CHANGED`], of the latent.
pub const LATENT_CHANGED: usize = 4;
/// As [`LOW`], of the latent.
pub const LATENT_LOW: usize = 5;
/// max|W| as the bits of an f32; behind it the latent's.
pub const MAX: usize = 6;
/// First of 256 counts of weights by [`bin_of`].
pub const BINS: usize = 8;

/// τ of floats is this share of the largest.
pub const LOW_SHARE: f32 = 0.05;

/// Largest word that [`WeightChanges`] keeps of a weight: three codes of two bits.
pub const SEEN_MAX: u32 = 63;

/// 0 for zeros, else k + 64 for 2^k ≤ |v| < 2^(k + 1), and 128 more if negative. The bins of k = −63 and 63 hold all beyond them, too.
pub fn bin_of(v: f32) -> usize {
    let exponent = (magnitude(v) >> 23).clamp(64, 190) - 63;
    if magnitude(v) == 0 { 0 } else { (v.to_bits() >> 31 << 7 | exponent) as usize }
}

/// The level at a bin's lower end: 0, or ± 2^k.
pub fn level_of(bin: usize) -> f64 {
    let power = 2f64.powi((bin & 127) as i32 - 64);
    match bin {
        0 => 0.0,
        1..128 => power,
        _ => -power,
    }
}

fn magnitude(v: f32) -> u32 {
    v.to_bits() & 0x7fff_ffff
}

/// What is kept of a value: 1 zero, 2 positive, 3 negative.
fn sign_seen(v: f32) -> u32 {
    if magnitude(v) == 0 { 1 } else { 2 + (v.to_bits() >> 31) }
}

crate::params! {
    /// The observation of a segment table's layers.
    pub struct DynamicsParams {
        /// Workgroups in the segment table.
        groups: u32,
        /// Counters of the table's first layer.
        first: u32,
        /// 1: what is not plain has one latent, which is quantized to W.
        latent: u32,
    }
}

/// Layers with odd channel counts and gaps between them, the first one plain; each with one latent.
fn example() -> Vec<Segment> {
    let (mut base, mut w) = (8, 4);
    let mut layers = Vec::new();
    for (cin, cout, taps) in [(3, 5, 9), (7, 6, 4), (4, 8, 1), (16, 16, 9)] {
        let mut s = Segment { base, cin, cout, taps, w, plain: layers.is_empty(), ..Segment::default() };
        s.stride = s.count().next_multiple_of(4);
        (base, w) = (base + s.stride + 4, w + s.padded() + 8);
        layers.push(s);
    }
    layers
}

/// Words of the slabs of [`example`], parameters and weights, and of its counters.
fn example_words(p: &DynamicsParams) -> [usize; 3] {
    let layers = example();
    let last = layers.last().expect("layers");
    let counters = (p.first as usize + layers.len()) * WORDS;
    [(last.base + last.stride) as usize, (last.w + last.padded()) as usize, counters]
}

/// Levels, zeros of both signs, values far beyond the bins, and others.
fn mixed(words: usize) -> Fill {
    let value = |i: usize| match i % 11 {
        0 => 0.0,
        1 => -0.0,
        2 | 3 => 1.0,
        4 | 5 => -4.0,
        6 => 2f32.powi(-80) * if i.is_multiple_of(2) { 1.0 } else { -1.0 },
        7 if i > words / 2 => -2f32.powi(70),
        _ => ((i * 7919 % 1000) as f32 - 500.0) / 400.0,
    };
    Fill::Floats((0..words).map(value).collect())
}

/// Counters that have counted before, with maxima as [`WeightMax`] leaves them.
fn counted(words: usize) -> Fill {
    let word = |i: usize| match i % WORDS {
        MAX => 4f32.to_bits(),
        j if j == MAX + 1 => 1.25f32.to_bits(),
        j => j as u32 % 3,
    };
    Fill::Table((0..words).map(word).collect())
}

/// With what lies between the weights and the counters.
fn cases(between: &[Fill]) -> Vec<Case<DynamicsParams>> {
    let case = |(first, latent): (u32, u32)| {
        let (words, groups) = table(&example());
        let p = DynamicsParams { groups, first, latent };
        let [params, weights, counters] = example_words(&p);
        let mut fills = vec![Fill::Table(words), mixed(params), mixed(weights)];
        fills.extend(between.iter().cloned().chain([counted(counters)]));
        Case::new(format!("counters from {first}, latent {latent}"), p, fills)
    };
    [(0, 0), (2, 1)].map(case).to_vec()
}

crate::kernel! {
    /// max|W| and max|latent| of each layer.
    pub WeightMax(p: DynamicsParams) {
        source: crate::wgsl!("dynamics/weight_max"; "grid", "segment", "dynamics"),
        bindings: [read_u32("table"), read("params"), read("weight"), update_u32("counters")],
        consts: [],
        groups: p.groups.into(),
        lens: [p.groups, example_words(p)[0], example_words(p)[1], example_words(p)[2]],
        tolerance: Tolerance::Exact,
        cost: (SHARE * p.groups, SHARE * (1 + p.latent) * p.groups),
        cases: cases(&[]),
        twin(a): {
            let (layers, params, weight, counters) = (segments(a.u(0), p.groups), a.f(1), a.f(2), a.out_u32(3));
            for (layer, s) in layers.iter().enumerate() {
                let out = &mut counters[(p.first as usize + layer) * WORDS..][..WORDS];
                for i in 0..s.count() {
                    out[MAX] = out[MAX].max(magnitude(weight[s.indices(i)[0]] as f32));
                    if p.latent == 1 && !s.plain {
                        out[MAX + 1] = out[MAX + 1].max(magnitude(params[(s.base + i) as usize] as f32));
                    }
                }
            }
        }
    }
}

crate::kernel! {
    /// Counts each layer's changes of sign, low weights and levels, and keeps the signs.
    pub WeightChanges(p: DynamicsParams) {
        source: crate::wgsl!("dynamics/weight_changes"; "grid", "segment", "dynamics"),
        bindings: [read_u32("table"), read("params"), read("weight"), update_u32("seen"), update_u32("counters")],
        consts: [],
        groups: p.groups.into(),
        lens: [p.groups, example_words(p)[0], example_words(p)[1], example_words(p)[1], example_words(p)[2]],
        tolerance: Tolerance::Exact,
        cost: (8 * SHARE * p.groups, SHARE * (3 + p.latent) * p.groups),
        cases: cases(&[Fill::Below(SEEN_MAX + 1)]),
        twin(a): {
            let (layers, params, weight) = (segments(a.u(0), p.groups), a.f(1), a.f(2));
            let (seen, counters) = (a.out_u32(3), a.out_u32(4));
            for (layer, s) in layers.iter().enumerate() {
                let out = &mut counters[(p.first as usize + layer) * WORDS..][..WORDS];
                let threshold = |max: u32| (LOW_SHARE * f32::from_bits(max)).to_bits();
                let tau = if s.plain { threshold(out[MAX]) } else { 0 };
                let latent_tau = threshold(out[MAX + 1]);
                for i in 0..s.count() {
                    let at = s.indices(i)[0];
                    let (w, before) = (weight[at] as f32, seen[at]);
                    let (now, old, last) = (sign_seen(w), before & 3, before >> 2 & 3);
                    let mut count = |word: usize, found: bool| out[word] += u32::from(found);
                    count(CHANGED, now > 1 && old > 1 && now != old);
                    count(ZEROED, old != 0 && (now == 1) != (old == 1));
                    count(THROUGH, now > 1 && old == 1 && last > 1 && now != last);
                    count(LOW, magnitude(w) <= tau);
                    count(BINS + bin_of(w), true);
                    let nonzero = if now > 1 { now } else { last };
                    seen[at] = now | nonzero << 2;
                    if p.latent == 1 && !s.plain {
                        let latent = params[(s.base + i) as usize] as f32;
                        let (now, old) = (sign_seen(latent), before >> 4 & 3);
                        count(LATENT_CHANGED, now > 1 && old > 1 && now != old);
                        count(LATENT_LOW, magnitude(latent) <= latent_tau);
                        seen[at] |= now << 4;
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bins_are_the_powers_of_two() {
        for k in -63..=63 {
            for w in [2f32.powi(k), -2f32.powi(k)] {
                assert_eq!(level_of(bin_of(w)), f64::from(w));
                assert_eq!(bin_of(1.99 * w), bin_of(w));
            }
        }
        assert_eq!([0.0, -0.0].map(bin_of), [0, 0]);
        let (least, most) = (2f64.powi(-63), 2f64.powi(63));
        assert_eq!([f32::MIN_POSITIVE, -1e-45].map(|w| level_of(bin_of(w))), [least, -least]);
        assert_eq!([f32::INFINITY, -1e30].map(|w| level_of(bin_of(w))), [most, -most]);
    }
}
