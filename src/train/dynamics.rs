//! Weight dynamics as a run's log keeps them: how the composed weights moved since the observation before.
//!
//! The S3 paper (NeurIPS 2021) names the two rates and does not fix them; these are this project's definitions. With W the composed
//! weight now, W' the one a distance of D steps ago, and N its elements:
//!
//! - WSVR, the weight sign variation rate: the share of weights whose sign is another than before, both nonzero.
//! - WLVR, the weight low-value rate: the share with |W| ≤ τ; τ = 0 where weights are levels, 0.05 · max|W| for fp32.

use serde::{Deserialize, Serialize};

use crate::graph::ObservedLayer;
use crate::kernels::dynamics::{
    BINS, CHANGED, LATENT_CHANGED, LATENT_LOW, LOW, LOW_SHARE, MAX, THROUGH, ZEROED, level_of,
};

/// One observation of all layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DynamicsRecord {
    /// Epoch of the last step before it, from 0.
    pub epoch: u64,
    /// Steps trained before it; 0: the start.
    pub steps: u64,
    /// D: steps since the observation before; 0 in a run's first.
    pub distance: u64,
    /// All layers that carry the method together; of an fp32 network all but the stem, so that methods compare on the same layers.
    pub whole: Dynamics,
    /// Each convolution, the stem included.
    pub layers: Vec<LayerDynamics>,
}

/// One layer's.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LayerDynamics {
    /// PyTorch's module name, as `layer1.0.conv1`.
    pub name: String,
    /// Its figures.
    #[serde(flatten)]
    pub dynamics: Dynamics,
}

/// Shares of a layer's weights, or of several layers'.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Dynamics {
    /// N.
    pub count: u64,
    /// WSVR; none in a run's first observation.
    pub wsvr: Option<f64>,
    /// The same with changes to and from zero counted.
    pub wsvr_zero: Option<f64>,
    /// WLVR.
    pub wlvr: f64,
    /// τ; none where several layers have each its own.
    pub tau: Option<f64>,
    /// Share of exact zeros.
    pub zero: f64,
    /// Share at the smallest nonzero level; none where weights are plain floats, as INQ's until the last are frozen.
    pub lowest: Option<f64>,
    /// Of all changes from one sign to the other, whether at once or by way of zeros seen in between, the share that went by way of
    /// zero; none where there was no change.
    pub through_zero: Option<f64>,
    /// The latent's own, where the method's one latent is `weight`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latent: Option<LatentDynamics>,
    /// How many weights lie where, from the lowest: (±2^k, n) stands for n weights of that sign with 2^k ≤ |W| < 2^(k+1), (0, n) for
    /// zeros; empty bins are left out.
    pub levels: Vec<(f64, u64)>,
}

/// A latent `weight`'s signs and low values.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct LatentDynamics {
    /// As [`Dynamics::wsvr`], of the latent.
    pub wsvr: Option<f64>,
    /// As [`Dynamics::wlvr`], of the latent.
    pub wlvr: f64,
    /// 0.05 · max|latent|; none where several layers have each its own.
    pub tau: Option<f64>,
}

impl DynamicsRecord {
    /// Of the counters of each layer, after `steps` steps of which `per_epoch` are an epoch; `before` is where the observation before was,
    /// and `on_levels` says that no weight waits to be frozen.
    pub(super) fn new(
        layers: &[ObservedLayer],
        counters: &[Vec<u32>],
        [steps, per_epoch]: [u64; 2],
        before: Option<u64>,
        on_levels: bool,
    ) -> Self {
        let sums: Vec<_> = layers.iter().zip(counters).map(|(layer, words)| Sum::of(layer, words, on_levels)).collect();
        let whole = layers.iter().zip(&sums).filter(|(layer, _)| layer.counts).map(|(_, sum)| sum.clone());
        let shares = |sum: &Sum| sum.shares(before.is_none());
        let layer =
            |(layer, sum): (&ObservedLayer, &Sum)| LayerDynamics { name: layer.name.clone(), dynamics: shares(sum) };
        Self {
            epoch: steps.saturating_sub(1) / per_epoch,
            steps,
            distance: steps - before.unwrap_or(steps),
            whole: shares(&whole.reduce(Sum::plus).unwrap_or_default()),
            layers: layers.iter().zip(&sums).map(layer).collect(),
        }
    }
}

/// The largest |W| or |latent| of an observation: not finite where training diverged.
pub(super) fn largest(words: &[u32]) -> f32 {
    f32::from_bits(words[MAX].max(words[MAX + 1]))
}

/// Counts of a layer, or of several.
#[derive(Clone, Debug, Default)]
struct Sum {
    weights: u64,
    changed: u64,
    zeroed: u64,
    through: u64,
    low: u64,
    tau: Option<f64>,
    lowest: Option<u64>,
    latent: Option<LatentSum>,
    bins: Vec<u64>,
}

#[derive(Clone, Copy, Debug)]
struct LatentSum {
    changed: u64,
    low: u64,
    tau: Option<f64>,
}

impl Sum {
    fn of(layer: &ObservedLayer, words: &[u32], on_levels: bool) -> Self {
        let at = |word: usize| u64::from(words[word]);
        let tau = |word: usize| f64::from(LOW_SHARE * f32::from_bits(words[word]));
        let bins: Vec<u64> = words[BINS..].iter().map(|n| u64::from(*n)).collect();
        let latent = LatentSum { changed: at(LATENT_CHANGED), low: at(LATENT_LOW), tau: Some(tau(MAX + 1)) };
        Self {
            weights: layer.segment.count().into(),
            changed: at(CHANGED),
            zeroed: at(ZEROED),
            through: at(THROUGH),
            low: at(LOW),
            tau: Some(if layer.segment.plain { tau(MAX) } else { 0.0 }),
            lowest: if on_levels { lowest(layer, f32::from_bits(words[MAX]), &bins) } else { None },
            latent: layer.method.quantizes_weight().then_some(latent),
            bins,
        }
    }

    fn plus(self, o: Self) -> Self {
        let same = |a: Option<f64>, b: Option<f64>| a.filter(|_| a == b);
        Self {
            weights: self.weights + o.weights,
            changed: self.changed + o.changed,
            zeroed: self.zeroed + o.zeroed,
            through: self.through + o.through,
            low: self.low + o.low,
            tau: same(self.tau, o.tau),
            lowest: self.lowest.zip(o.lowest).map(|(a, b)| a + b),
            latent: self.latent.zip(o.latent).map(|(a, b)| LatentSum {
                changed: a.changed + b.changed,
                low: a.low + b.low,
                tau: same(a.tau, b.tau),
            }),
            bins: self.bins.iter().zip(&o.bins).map(|(a, b)| a + b).collect(),
        }
    }

    fn shares(&self, first: bool) -> Dynamics {
        let share = |n: u64| n as f64 / self.weights.max(1) as f64;
        let change = |n: u64| (!first).then(|| share(n));
        let turned = self.changed + self.through;
        let mut levels: Vec<_> = self.bins.iter().enumerate().map(|(bin, n)| (level_of(bin), *n)).collect();
        levels.retain(|(_, n)| *n > 0);
        levels.sort_by(|a, b| a.0.total_cmp(&b.0));
        Dynamics {
            count: self.weights,
            wsvr: change(self.changed),
            wsvr_zero: change(self.changed + self.zeroed),
            wlvr: share(self.low),
            tau: self.tau,
            zero: share(self.bins.first().copied().unwrap_or_default()),
            lowest: self.lowest.map(share),
            through_zero: (turned > 0).then(|| self.through as f64 / turned as f64),
            latent: self.latent.map(|l| LatentDynamics { wsvr: change(l.changed), wlvr: share(l.low), tau: l.tau }),
            levels,
        }
    }
}

/// Weights at the smallest level but zero that the method has in this layer, whose largest weight is `max`.
fn lowest(layer: &ObservedLayer, max: f32, bins: &[u64]) -> Option<u64> {
    let levels = layer.method.method.levels(layer.method.bits, &[max])?;
    let shifts: Vec<_> = levels.table.iter().flatten().collect();
    let smallest = f64::from(levels.exponent + i32::from(**shifts.iter().min()?)).exp2();
    let at = |(bin, n): (usize, &u64)| {
        // A single level may have another scale in each channel, and be in any bin.
        let there = if shifts.len() == 1 { bin > 0 } else { level_of(bin).abs() == smallest };
        if there { *n } else { 0 }
    };
    Some(bins.iter().enumerate().map(at).sum())
}
