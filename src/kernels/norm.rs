//! Batch norm, with the residual addition and the ReLU behind it where there are any: training in statistics, merge and apply;
//! evaluation; backward in the same three parts.

use super::{Case, Fill, Tolerance, groups_for, read, update, write};

crate::params! {
    /// A batch norm over `pixels` = n·h·w values a channel; the seven kernels share it.
    pub struct BatchNormParams {
        /// n·h·w.
        pixels: u32,
        /// Channels / 4, rounded up.
        c4: u32,
        /// Pixels in one partial result.
        tile: u32,
        /// ⌈pixels / tile⌉.
        tiles: u32,
        /// First vec4 of gamma in the parameter and gradient slabs.
        weight: u32,
        /// First vec4 of beta there.
        bias: u32,
        /// First vec4 of the running mean in the state slab.
        running_mean: u32,
        /// First vec4 of the running variance there.
        running_var: u32,
        /// Added to the variance.
        eps: f32,
        /// Share of the new value in the running ones.
        momentum: f32,
        /// 1: a residual is added behind the normalization.
        residual: u32,
        /// 1: a ReLU follows, whose output gates the gradient on its way back.
        relu: u32,
    }
}

impl BatchNormParams {
    /// Pixels in one partial result: short enough to keep many invocations busy, long enough for a short merge.
    pub const TILE: u32 = 128;

    /// A batch norm of `pixels` values in each of `channels`, PyTorch's eps and momentum, slabs at 0.
    pub fn new(pixels: u32, channels: u32) -> Self {
        let tiles = pixels.div_ceil(Self::TILE);
        Self {
            pixels,
            c4: channels.div_ceil(4),
            tile: Self::TILE,
            tiles,
            eps: 1e-5,
            momentum: 0.1,
            ..Default::default()
        }
    }
    /// With partial results of `tile` pixels each.
    pub fn tiled(self, tile: u32) -> Self {
        Self { tile, tiles: self.pixels.div_ceil(tile), ..self }
    }
    /// Words of the activation.
    fn words(&self) -> u32 {
        4 * self.pixels * self.c4
    }
    /// As many elements, for costs: sums of several tensors may pass 32 bits.
    fn elements(&self) -> f64 {
        self.words().into()
    }
    /// Words of the partial results.
    pub fn partials(&self) -> u32 {
        8 * self.tiles * self.c4
    }
    /// Words of the slab up to the last parameter.
    fn slab(&self) -> u32 {
        4 * (self.weight.max(self.bias) + self.c4)
    }
    fn state(&self) -> u32 {
        4 * (self.running_mean.max(self.running_var) + self.c4)
    }
}

fn cases(fills: &[Fill]) -> Vec<Case<BatchNormParams>> {
    [(1, 4), (2, 3), (127, 8), (128, 5), (129, 4), (64 * 128 + 17, 12), (300 * 128, 4)]
        .map(|(pixels, channels)| {
            let mut p = BatchNormParams::new(pixels, channels);
            (p.weight, p.bias, p.running_mean, p.running_var) = (1, 1 + p.c4, 2, 2 + p.c4);
            Case::new(format!("{pixels} pixels, {channels} channels"), p, fills.to_vec())
        })
        .to_vec()
}

/// Far from zero, so that variance by E[x²] − E[x]² would fail.
const OFFSET: Fill = Fill::Uniform(90.0, 100.0);
const NORMAL: Fill = Fill::Normal(1.0);
const POSITIVE: Fill = Fill::Uniform(0.5, 2.0);

crate::kernel! {
    /// Mean and squared deviations of each tile.
    pub BnStats(p: BatchNormParams) {
        source: crate::wgsl!("norm/bn_stats"; "grid"),
        bindings: [read("x"), write("part")],
        consts: [],
        groups: groups_for(u64::from(p.tiles) * u64::from(p.c4)),
        lens: [p.words(), p.partials()],
        // Where most of a tile is one value (a black border), all roundings of Σd² and of Σd agree: up to tile/2 · ε from each.
        tolerance: Tolerance::Budget { c: 20.0, terms: p.tile.into() },
        cost: (4.0 * p.elements(), p.elements() + f64::from(p.partials())),
        cases: {
            let mut all = cases(&[OFFSET, Fill::Out]);
            let p = BatchNormParams::new(300, 4);
            let border = (0..p.words()).map(|i| if i / 4 % p.tile == 0 { 1.0 } else { 0.1 * (i % 4) as f32 });
            all.push(Case::new("one value behind another", p, vec![Fill::Floats(border.collect()), Fill::Out]));
            all
        },
        twin(a): {
            let (x, mut part) = (a.f(0), a.out(1));
            let c = 4 * p.c4 as usize;
            for tile in 0..p.tiles as usize {
                let start = tile * p.tile as usize;
                let end = (start + p.tile as usize).min(p.pixels as usize);
                let n = (end - start) as f64;
                for k in 0..c {
                    let values = || x[start * c + k..].iter().step_by(c).take(end - start);
                    let mean = values().sum::<f64>() / n;
                    let m2 = values().map(|v| (v - mean).powi(2)).sum::<f64>();
                    // The shader's deviations are from the first value: that is the scale of its rounding.
                    let origin = x[start * c + k];
                    let spread = values().map(|v| (v - origin).abs()).sum::<f64>() / n;
                    part.set(tile * 2 * c + k, mean, mean.abs() + origin.abs() + spread);
                    part.set((tile * 2 + 1) * c + k, m2, values().map(|v| (v - origin).powi(2)).sum::<f64>());
                }
            }
        }
    }
}

crate::kernel! {
    /// The batch's statistics, and the running ones.
    pub BnStatsMerge(p: BatchNormParams) {
        source: crate::wgsl!("norm/bn_stats_merge"; "grid", "num"),
        bindings: [read("part"), write("stats"), update("state")],
        consts: [],
        groups: p.c4.into(),
        lens: [p.partials(), 8 * p.c4, p.state()],
        tolerance: Tolerance::Budget { c: 4.0, terms: p.tiles.into() },
        cost: (12 * p.partials(), p.partials() + 8 * p.c4),
        cases: cases(&[POSITIVE, Fill::Out, POSITIVE]),
        twin(a): {
            let (part, mut stats, mut state) = (a.f(0), a.out(1), a.out(2));
            let c = 4 * p.c4 as usize;
            let n = f64::from(p.pixels);
            let count = |t: usize| f64::from(p.tile.min(p.pixels - t as u32 * p.tile));
            for k in 0..c {
                let tiles = || (0..p.tiles as usize).map(|t| (count(t), part[t * 2 * c + k], part[(t * 2 + 1) * c + k]));
                let mean = tiles().map(|(n, mean, _)| n * mean).sum::<f64>() / n;
                let m2 = tiles().map(|(n, m, m2)| m2 + n * (m - mean).powi(2)).sum::<f64>();
                let scale = tiles().map(|(n, m, _)| n * m.abs()).sum::<f64>() / n;
                let inv = (m2 / n + f64::from(p.eps)).sqrt().recip();
                // Between-tile deviations carry the rounding of the means: relative to M2 that is scale²/variance.
                let m2_mag = m2 + tiles().map(|(n, m, _)| n * (m - mean).abs() * scale).sum::<f64>();
                stats.set(k, mean, scale);
                stats.set(c + k, inv, inv * (1.0 + m2_mag / (m2 + n * f64::from(p.eps))));
                let (momentum, unbiased) = (f64::from(p.momentum), m2 / f64::from(p.pixels.max(2) - 1));
                for (at, new, mag) in [(p.running_mean, mean, scale), (p.running_var, unbiased, m2_mag / (n - 1.0).max(1.0))] {
                    let i = 4 * at as usize + k;
                    let old = state.v[i];
                    state.set(i, (1.0 - momentum) * old + momentum * new, old.abs() + mag);
                }
            }
        }
    }
}

/// The cases with and without residual and ReLU, where `flags` of (residual, relu) occur.
fn fused(flags: &[(u32, u32)], fills: &[Fill]) -> Vec<Case<BatchNormParams>> {
    let with = |&(residual, relu): &(u32, u32)| {
        cases(fills).into_iter().map(move |c| {
            let name = format!(
                "{}{}{}",
                c.name,
                [", no residual", ", residual"][residual as usize],
                [", no ReLU", ", ReLU"][relu as usize]
            );
            Case::new(name, BatchNormParams { residual, relu, ..c.params }, c.fills)
        })
    };
    flags.iter().flat_map(with).collect()
}

/// The cases with NaN behind a ReLU: it must reach the loss, which stops the run, and as a gate it is a closed one.
fn nan(fills: &[Fill]) -> impl Iterator<Item = Case<BatchNormParams>> {
    let all = fused(&[(0, 1)], fills).into_iter().filter(|c| c.params.pixels < 200);
    all.map(|c| Case { name: format!("{}, NaN", c.name), ..c })
}

/// Normalizes with per-channel (mean, 1/√(var + eps)) pairs, adds the residual and rectifies; shared by both forward twins, which are
/// the composition of the parts' twins.
fn normalize(
    p: &BatchNormParams,
    [x, params, residual]: [&[f64]; 3],
    y: &mut super::Out,
    moments: impl Fn(usize) -> (f64, f64),
) {
    let c = 4 * p.c4 as usize;
    for i in 0..p.words() as usize {
        let k = i % c;
        let (mean, inv) = moments(k);
        let (scale, bias) = (inv * params[4 * p.weight as usize + k], params[4 * p.bias as usize + k]);
        let (mut v, mut mag) = ((x[i] - mean) * scale + bias, (x[i] - mean).abs() * scale.abs() + bias.abs());
        if p.residual == 1 {
            (v, mag) = (v + residual[i], mag + residual[i].abs());
        }
        // As the shader does, and unlike f64::max, lets NaN through.
        y.set(i, if p.relu == 1 && v <= 0.0 { 0.0 } else { v }, mag);
    }
}

crate::kernel! {
    /// Normalization by the batch's statistics, residual and ReLU.
    pub BnApply(p: BatchNormParams) {
        source: crate::wgsl!("norm/bn_apply"; "grid"),
        bindings: [read("x"), read("stats"), read("params"), read("residual"), write("y")],
        consts: [("RESIDUAL", p.residual), ("RELU", p.relu)],
        groups: groups_for(u64::from(p.pixels.div_ceil(8) * p.c4)),
        lens: [p.words(), 8 * p.c4, p.slab(), p.words(), p.words()],
        tolerance: Tolerance::Budget { c: 4.0, terms: 0 },
        cost: (f64::from(4 + p.residual + p.relu) * p.elements(), f64::from(2 + p.residual) * p.elements()),
        cases: {
            let mut all = fused(&[(0, 0), (0, 1), (1, 0), (1, 1)], &[OFFSET, POSITIVE, NORMAL, NORMAL, Fill::Out]);
            all.extend(nan(&[Fill::Nans, POSITIVE, NORMAL, NORMAL, Fill::Out]));
            all
        },
        twin(a): {
            let (x, stats, params, mut y) = (a.f(0), a.f(1), a.f(2), a.out(4));
            normalize(p, [x, params, a.f(3)], &mut y, |k| (stats[k], stats[4 * p.c4 as usize + k]));
        }
    }
}

crate::kernel! {
    /// Normalization by the running statistics, residual and ReLU.
    pub BnEval(p: BatchNormParams) {
        source: crate::wgsl!("norm/bn_eval"; "grid", "num"),
        bindings: [read("x"), read("state"), read("params"), read("residual"), write("y")],
        consts: [("RESIDUAL", p.residual), ("RELU", p.relu)],
        groups: groups_for(u64::from(p.pixels.div_ceil(8) * p.c4)),
        lens: [p.words(), p.state(), p.slab(), p.words(), p.words()],
        tolerance: Tolerance::Budget { c: 6.0, terms: 0 }, // 2 ulps of rsqrt, one each for difference, product and sum
        cost: (f64::from(8 + p.residual + p.relu) * p.elements(), f64::from(2 + p.residual) * p.elements()),
        cases: {
            let mut all = fused(&[(0, 0), (0, 1), (1, 0), (1, 1)], &[OFFSET, POSITIVE, NORMAL, NORMAL, Fill::Out]);
            all.extend(nan(&[Fill::Nans, POSITIVE, NORMAL, NORMAL, Fill::Out]));
            all
        },
        twin(a): {
            let (x, state, params, mut y) = (a.f(0), a.f(1), a.f(2), a.out(4));
            let running = |at: u32, k: usize| state[4 * at as usize + k];
            let inv = |k| (running(p.running_var, k) + f64::from(p.eps)).sqrt().recip();
            normalize(p, [x, params, a.f(3)], &mut y, |k| (running(p.running_mean, k), inv(k)));
        }
    }
}

crate::kernel! {
    /// Σ dy and Σ dy·x̂ of each tile.
    pub BnBackwardStats(p: BatchNormParams) {
        source: crate::wgsl!("norm/bn_backward_stats"; "grid"),
        bindings: [read("x"), read("dy"), read("stats"), write("part")],
        consts: [],
        groups: groups_for(u64::from(p.tiles) * u64::from(p.c4)),
        lens: [p.words(), p.words(), 8 * p.c4, p.partials()],
        // Behind a global average pool an image's gradients are all the same, and so is each addition's rounding: up to tile/2 · ε.
        tolerance: Tolerance::Budget { c: 10.0, terms: p.tile.into() },
        cost: (4.0 * p.elements(), 2.0 * p.elements() + f64::from(p.partials())),
        cases: {
            let with = |dy| cases(&[OFFSET, dy, POSITIVE, Fill::Out]);
            [NORMAL, Fill::Uniform(0.1, 0.1)].into_iter().flat_map(with).collect()
        },
        twin(a): {
            let (x, dy, stats, mut part) = (a.f(0), a.f(1), a.f(2), a.out(3));
            let c = 4 * p.c4 as usize;
            for (tile, k) in (0..p.tiles as usize).flat_map(|t| (0..c).map(move |k| (t, k))) {
                let start = tile * p.tile as usize;
                let pixels = start..(start + p.tile as usize).min(p.pixels as usize);
                let (mut sum, mut dot) = ([0.0; 2], [0.0; 2]);
                for i in pixels.map(|pixel| pixel * c + k) {
                    let g = dy[i];
                    let product = g * (x[i] - stats[k]) * stats[c + k];
                    sum = [sum[0] + g, sum[1] + g.abs()];
                    dot = [dot[0] + product, dot[1] + product.abs()];
                }
                part.set(tile * 2 * c + k, sum[0], sum[1]);
                part.set((tile * 2 + 1) * c + k, dot[0], dot[1]);
            }
        }
    }
}

crate::kernel! {
    /// dgamma, dbeta, and the coefficients of the input gradient.
    pub BnBackwardMerge(p: BatchNormParams) {
        source: crate::wgsl!("norm/bn_backward_merge"; "grid", "reduce"),
        bindings: [read("part"), read("stats"), read("params"), write("coef"), write("grads")],
        consts: [],
        groups: p.c4.into(),
        lens: [p.partials(), 8 * p.c4, p.slab(), 16 * p.c4, p.slab()],
        tolerance: Tolerance::Budget { c: 4.0, terms: p.tiles.into() },
        cost: (p.partials(), p.partials() + 32 * p.c4),
        cases: cases(&[NORMAL, POSITIVE, NORMAL, Fill::Out, Fill::Out]),
        twin(a): {
            let (part, stats, params, mut coef, mut grads) = (a.f(0), a.f(1), a.f(2), a.out(3), a.out(4));
            let (c, m) = (4 * p.c4 as usize, f64::from(p.pixels));
            for k in 0..c {
                let row = |row: usize| {
                    let tiles = || (0..p.tiles as usize).map(|t| part[(2 * t + row) * c + k]);
                    (tiles().sum::<f64>(), tiles().map(f64::abs).sum::<f64>())
                };
                let ((sum, sum_mag), (dot, dot_mag)) = (row(0), row(1));
                let inv = stats[c + k];
                coef.exact(k, stats[k]);
                coef.exact(c + k, inv * params[4 * p.weight as usize + k]);
                coef.set(2 * c + k, sum / m, sum_mag / m);
                coef.set(3 * c + k, inv * dot / m, inv * dot_mag / m);
                grads.set(4 * p.bias as usize + k, sum, sum_mag);
                grads.set(4 * p.weight as usize + k, dot, dot_mag);
            }
        }
    }
}

crate::kernel! {
    /// The input gradient.
    pub BnBackwardApply(p: BatchNormParams) {
        source: crate::wgsl!("norm/bn_backward_apply"; "grid"),
        bindings: [read("x"), read("dy"), read("coef"), write("dx")],
        consts: [],
        groups: groups_for(u64::from(p.pixels.div_ceil(8) * p.c4)),
        lens: [p.words(), p.words(), 16 * p.c4, p.words()],
        tolerance: Tolerance::Budget { c: 6.0, terms: 0 }, // six roundings on the longest path
        cost: (6.0 * p.elements(), 3.0 * p.elements()),
        cases: cases(&[OFFSET, NORMAL, NORMAL, Fill::Out]),
        twin(a): {
            let (x, dy, coef, mut dx) = (a.f(0), a.f(1), a.f(2), a.out(3));
            let c = 4 * p.c4 as usize;
            for i in 0..p.words() as usize {
                let k = i % c;
                let [mean, scale, mean_g, slope] = [0, 1, 2, 3].map(|row| coef[row * c + k]);
                let terms = [dy[i], -mean_g, -(x[i] - mean) * slope];
                let mag = terms.iter().map(|t| t.abs()).sum::<f64>();
                dx.set(i, scale * terms.iter().sum::<f64>(), scale.abs() * mag);
            }
        }
    }
}
