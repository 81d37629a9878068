//! From fp32 weights to a method's levels, layer by layer.

use super::levels::Levels;

/// Weights brought to levels ±2^(shift + exponent), and 0 where there is a zero.
pub struct Fit {
    /// c, with which c · w lies nearest the levels: ‖w − q(c · w)/c‖ is least.
    pub factor: f64,
    /// Each weight's level: its shift, none for zero.
    pub levels: Vec<Option<u8>>,
}

/// Candidates of c between two powers of two, and rounds of refinement from the best.
const STEPS: i32 = 16;
const ROUNDS: usize = 8;

impl Fit {
    /// The best of candidates over all octaves in which c · w meets the levels, then made better in turn with the levels. Where there are so
    /// many levels that octaves hardly differ, the best c's multiple by 2^k nearest 1: latents c · w of a large c would learn slowly, and
    /// layers at rates of their own.
    pub fn new(weight: &[f32], levels: &Levels) -> Self {
        let largest = weight.iter().fold(0.0f64, |m, w| m.max(f64::from(w.abs())));
        let shifts = || levels.table.iter().flatten().copied();
        let (least, most) = (shifts().min().unwrap_or(0), shifts().max().unwrap_or(0));
        let has_zero = levels.has_zero();
        if largest == 0.0 {
            return Self { factor: 1.0, levels: vec![(!has_zero).then_some(least); weight.len()] };
        }
        let nearest = |c: f64| -> Vec<Option<u8>> {
            weight.iter().map(|w| nearest([least, most], has_zero, c * f64::from(w.abs()))).collect()
        };
        let octaves = i32::from(most - least).max(2);
        let candidates = (-octaves * STEPS..=6 * STEPS)
            .map(|i| f64::from(most).exp2() / largest * (f64::from(i) / f64::from(STEPS)).exp2());
        let of = |c: f64| error(weight, &nearest(c), c);
        let best = candidates.map(|c| (of(c), c)).min_by(|a, b| a.0.total_cmp(&b.0));
        let (least_error, mut factor) = best.unwrap_or((0.0, 1.0));
        let from_one = |c: f64| (c.log2() + f64::from(levels.exponent)).abs();
        let alike = (-octaves..=octaves).map(|k| factor * f64::from(k).exp2()).filter(|c| of(*c) <= 1.01 * least_error);
        factor = alike.min_by(|a, b| from_one(*a).total_cmp(&from_one(*b))).unwrap_or(factor);
        for _ in 0..ROUNDS {
            let q: Vec<f32> = nearest(factor).iter().zip(weight).map(|(l, w)| value(*l) * w.signum()).collect();
            factor = Self::factor(weight, &q);
        }
        Self { levels: nearest(factor), factor: factor * f64::from(levels.exponent).exp2() }
    }

    /// c for which ‖w − q/c‖ is least, of weights and their levels; 1 where all levels are zero.
    pub fn factor(weight: &[f32], q: &[f32]) -> f64 {
        let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(*a) * f64::from(*b)).sum::<f64>();
        let (qq, wq) = (dot(q, q), dot(weight, q));
        if qq > 0.0 && wq > 0.0 { qq / wq } else { 1.0 }
    }
}

fn value(level: Option<u8>) -> f32 {
    level.map_or(0.0, |s| f32::from(s).exp2())
}

/// The nearest of 2^least … 2^most, or zero, to x ≥ 0; a table has every power in between.
fn nearest([least, most]: [u8; 2], has_zero: bool, x: f64) -> Option<u8> {
    if has_zero && x < 0.5 * f64::from(least).exp2() {
        return None;
    }
    // The exponent by its bits: 0 and what is tiny are below all levels anyway.
    let exponent = (x.to_bits() >> 52) as i32 - 1023;
    let above = x > 1.5 * f64::from(exponent).exp2();
    Some((exponent + i32::from(above)).clamp(least.into(), most.into()) as u8)
}

/// ‖w − q/c‖².
fn error(weight: &[f32], levels: &[Option<u8>], c: f64) -> f64 {
    weight.iter().zip(levels).map(|(w, l)| (f64::from(w.abs()) - f64::from(value(*l)) / c).powi(2)).sum()
}

/// Gates of ± `gate` with which the shift recursion of T = `shifts` latents gives each weight's shift: the last ones open.
pub(super) fn gated(levels: &[Option<u8>], shifts: u32, gate: f32) -> Vec<Vec<f32>> {
    let latent = |t: u32| {
        let open = |level: &Option<u8>| t + u32::from(level.unwrap_or(0)) > shifts;
        levels.iter().map(|l| if open(l) { gate } else { -gate }).collect()
    };
    (1..=shifts).map(latent).collect()
}

#[cfg(test)]
mod tests {
    use super::super::{METHODS, MethodSpec, WeightShape};
    use super::*;

    const SHAPE: WeightShape = WeightShape { cout: 8, cin: 4, k: 3 };

    /// Bell-shaped weights, of both signs.
    fn weights() -> Vec<f32> {
        let mut x = 0.37f32;
        let mut next = || {
            x = 3.99 * x * (1.0 - x);
            x - 0.5
        };
        (0..SHAPE.count()).map(|_| 0.1 * (next() + next() + next())).collect()
    }

    #[test]
    fn weights_on_the_levels_come_back_exactly() {
        for name in ["s3", "denseshift"] {
            for bits in [2, 3, 4] {
                let spec = MethodSpec::find(name, Some(bits)).unwrap();
                let levels = spec.method.levels(bits, &[]).unwrap();
                let table: Vec<_> = levels.table.clone();
                let on = |i: usize| value(table[i % table.len()]) * if i.is_multiple_of(3) { -0.03 } else { 0.03 };
                let weight: Vec<f32> = (0..SHAPE.count()).map(on).collect();
                let got = spec.method.convert(bits, SHAPE, &weight);
                let latents: Vec<_> = got.latents.iter().map(|l| &l[..]).collect();
                let composed = spec.method.weight(bits, SHAPE, &latents);
                for (w, c) in weight.iter().zip(&composed) {
                    assert!((f64::from(*c) / got.factor - f64::from(*w)).abs() < 1e-6, "{name} {bits}: {c} for {w}");
                }
            }
        }
    }

    #[test]
    fn where_octaves_are_alike_the_factor_is_near_one() {
        let spec = MethodSpec::find("deepshift-q", Some(5)).unwrap();
        for size in [0.02, 0.3, 1.0] {
            let weight: Vec<_> = weights().iter().map(|w| size * w).collect();
            let got = spec.method.convert(5, SHAPE, &weight).factor;
            assert!((0.6..1.7).contains(&got), "{got} at {size}");
        }
    }

    #[test]
    fn every_method_stays_near_the_weights_it_came_from() {
        let weight = weights();
        let norm = weight.iter().map(|w| f64::from(w * w)).sum::<f64>().sqrt();
        for method in METHODS {
            let bits = method.default_bits();
            let got = method.convert(bits, SHAPE, &weight);
            assert_eq!(got.latents.len(), method.latents(bits).len(), "{}", method.name());
            let latents: Vec<_> = got.latents.iter().map(|l| &l[..]).collect();
            let composed = method.weight(bits, SHAPE, &latents);
            let off = composed.iter().zip(&weight).map(|(c, w)| (f64::from(*c) / got.factor - f64::from(*w)).powi(2));
            let off = off.sum::<f64>().sqrt() / norm;
            // A sign with one scale keeps some 60 % of a bell, three levels and zero some 90 %.
            let most = match (method.name(), method.bits()) {
                ("fp32", _) => 0.0,
                ("bwn", _) => 0.65,
                ("twn", _) => 0.5,
                _ => 0.3,
            };
            assert!(off <= most, "{} {bits}: {off}", method.name());
        }
    }

    #[test]
    fn zeros_alone_convert() {
        for method in METHODS {
            let got = method.convert(method.default_bits(), SHAPE, &vec![0.0; SHAPE.count()]);
            assert!(got.factor == 1.0 && got.latents.iter().flatten().all(|v| v.is_finite()), "{}", method.name());
        }
    }
}
