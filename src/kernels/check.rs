//! A kernel's cases: how buffers are filled and how far the shader may stray from its twin.

use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::compose::byte_of;
use super::kernel::{Access, AnyCase, AnyKernel, Elem};
use super::twin::{Arg, Args, Data, Output};

/// How a binding is filled before a case.
#[derive(Clone, Debug)]
pub enum Fill {
    /// A written binding: starts as NaN bits, so that nothing leans on zeros.
    Out,
    /// Normal with this standard deviation.
    Normal(f32),
    /// Normal with this standard deviation, negative values made zero: what a ReLU hands on, and gates by.
    Rectified(f32),
    /// Standard normal, every eighth a NaN.
    Nans,
    /// Uniform in the range.
    Uniform(f32, f32),
    /// Random words.
    Words,
    /// Random words below the limit.
    Below(u32),
    /// Weights as bytes ([`super::compose::PackWeights`]), on levels around 1, zero among them.
    Packed,
    /// These floats.
    Floats(Vec<f32>),
    /// These words.
    Table(Vec<u32>),
}

/// One case of a kernel.
#[derive(Clone, Debug)]
pub struct Case<P> {
    /// What it is about.
    pub name: String,
    /// The parameters.
    pub params: P,
    /// One fill a binding.
    pub fills: Vec<Fill>,
}

impl<P> Case<P> {
    /// A case.
    pub fn new(name: impl Into<String>, params: P, fills: Vec<Fill>) -> Self {
        Self { name: name.into(), params, fills }
    }
}

/// How far a shader's f32 may stray from the twin's f64.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Tolerance {
    /// Bit for bit (a zero's sign apart, which no consumer can see).
    Exact,
    /// |gpu − twin| ≤ c · ε · log2(terms + 2) · Σ|terms|, with the twin's Σ|terms|; ε = 2^−24.
    Budget {
        /// The factor, with its reason beside it where the kernel states it.
        c: f64,
        /// Terms in the longest sum.
        terms: u64,
    },
}

/// An element that is not what the twin says.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// The binding's name.
    pub binding: &'static str,
    /// Word index.
    pub index: usize,
    /// The shader's value.
    pub got: f64,
    /// The twin's value.
    pub want: f64,
    /// The difference that would have been allowed.
    pub allowed: f64,
}

/// The bits of an untouched output: a quiet NaN that no kernel computes.
pub const UNTOUCHED: u32 = 0x7fc0_5a5a;

/// A case's initial buffers as words, one a binding.
pub fn fill_case(kernel: &dyn AnyKernel, case: &AnyCase) -> Vec<Vec<u32>> {
    let seed =
        case.name.bytes().chain(kernel.name().bytes()).fold(7u64, |h, b| h.wrapping_mul(31).wrapping_add(b.into()));
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let lens = kernel.lens(&case.params);
    assert_eq!(lens.len(), case.fills.len(), "{}: one fill a binding", kernel.name());
    let words = |(fill, len): (&Fill, usize)| fill_words(fill, len, &mut rng);
    case.fills.iter().zip(lens).map(words).collect()
}

fn fill_words(fill: &Fill, len: usize, rng: &mut ChaCha8Rng) -> Vec<u32> {
    let normal = rand_distr::StandardNormal;
    match fill {
        Fill::Out => vec![UNTOUCHED; len],
        Fill::Normal(s) => (0..len).map(|_| (s * rng.sample::<f32, _>(normal)).to_bits()).collect(),
        Fill::Rectified(s) => (0..len).map(|_| (s * rng.sample::<f32, _>(normal)).max(0.0).to_bits()).collect(),
        Fill::Nans => {
            let value = |i| if i % 8 == 3 { f32::NAN } else { rng.sample::<f32, _>(normal) };
            (0..len).map(value).map(f32::to_bits).collect()
        }
        Fill::Uniform(lo, hi) => (0..len).map(|_| (lo + (hi - lo) * rng.random::<f32>()).to_bits()).collect(),
        Fill::Words => (0..len).map(|_| rng.next_u32()).collect(),
        Fill::Below(limit) => (0..len).map(|_| rng.random_range(0..*limit)).collect(),
        Fill::Packed => {
            let mut level = || match rng.random_range(0..8) {
                0 => 0,
                k => {
                    let sign = if rng.random() { 1.0 } else { -1.0 };
                    byte_of(sign * 2f32.powi(k - 5))
                }
            };
            (0..len).map(|_| u32::from_be_bytes([0; 4].map(|_| level()))).collect()
        }
        Fill::Floats(v) => {
            assert!(v.len() >= len, "{} floats for a binding of {len}", v.len());
            v.iter().map(|x| x.to_bits()).collect()
        }
        Fill::Table(v) => {
            assert!(v.len() >= len, "{} words for a binding of {len}", v.len());
            v.clone()
        }
    }
}

/// Runs the twin on the words of a dispatch's bindings; outputs carry magnitudes.
pub fn run_twin(kernel: &dyn AnyKernel, params: &[u8], before: &[Vec<u32>]) -> Vec<Option<Output>> {
    let bindings = kernel.bindings();
    let mut inputs = Vec::new();
    let mut outputs = Vec::new();
    for (b, words) in bindings.iter().zip(before) {
        let data = Data::from_bits(b.elem, words);
        match b.access {
            Access::Read => {
                inputs.push(Some(data));
                outputs.push(None);
            }
            Access::Write | Access::Update => {
                inputs.push(None);
                outputs.push(Some(Output::new(data, true)));
            }
        }
    }
    let args = inputs.iter().zip(outputs.iter_mut()).map(|(i, o)| match (i, o) {
        (Some(data), _) => Arg::In(data),
        (None, Some(out)) => Arg::Out(out),
        (None, None) => Arg::Taken,
    });
    kernel.twin(params, &mut Args(args.collect()));
    outputs
}

/// Holds a dispatch's buffers after it against the twin: every mismatch, and the worst share of the allowed error used.
pub fn compare(kernel: &dyn AnyKernel, params: &[u8], before: &[Vec<u32>], after: &[Vec<u32>]) -> (Vec<Mismatch>, f64) {
    let wanted = run_twin(kernel, params, before);
    let tolerance = kernel.tolerance(params);
    let mut bad = Vec::new();
    let mut worst = 0.0f64;
    for (k, b) in kernel.bindings().iter().enumerate() {
        let Some(want) = &wanted[k] else {
            for (i, (x, y)) in before[k].iter().zip(&after[k]).enumerate().filter(|(_, (x, y))| x != y) {
                bad.push(Mismatch { binding: b.name, index: i, got: f64::from(*y), want: f64::from(*x), allowed: 0.0 });
            }
            continue;
        };
        for (i, &bits) in after[k].iter().enumerate() {
            let (got, value, allowed) = match (&want.data, b.elem) {
                (Data::F32(v), _) => {
                    let value = v[i];
                    // An element that the twin left alone must keep its bits.
                    if value.to_bits() == f64::from(f32::from_bits(before[k][i])).to_bits() && bits == before[k][i] {
                        continue;
                    }
                    (f64::from(f32::from_bits(bits)), value, allowed_error(tolerance, want.mag[i]))
                }
                (Data::U32(v), Elem::U32 | Elem::F32) => (f64::from(bits), f64::from(v[i]), 0.0),
            };
            // Any NaN is as good as another, but for the one that was there before.
            if got.is_nan() && value.is_nan() && bits != before[k][i] {
                continue;
            }
            let off = (got - value).abs();
            if off <= allowed {
                if allowed > 0.0 {
                    worst = worst.max(off / allowed);
                }
            } else {
                bad.push(Mismatch { binding: b.name, index: i, got, want: value, allowed });
            }
        }
    }
    (bad, worst)
}

fn allowed_error(t: Tolerance, mag: f64) -> f64 {
    match t {
        Tolerance::Exact => 0.0,
        // The smallest normal number stands in where all terms are tiny or zero: adapters may flush subnormals.
        Tolerance::Budget { c, terms } => {
            c * f64::from(f32::EPSILON) / 2.0 * ((terms + 2) as f64).log2() * mag + f64::from(f32::MIN_POSITIVE)
        }
    }
}
