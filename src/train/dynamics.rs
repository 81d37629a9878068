//! Weight dynamics as a run's log keeps them: how the composed weights moved since the observation before.
//!
//! The S3 paper (NeurIPS 2021) names the two rates and does not fix them; these are this project's definitions. With W the composed
//! weight now, W' the one a distance of D steps ago, and N its elements:
//!
//! - WSVR, the weight sign variation rate: the share of weights whose sign is another than before, both nonzero.
//! - WLVR, the weight low-value rate: the share with |W| ≤ τ; τ = 0 where weights are levels, 0.05 · max|W| for fp32.

use serde::{Deserialize, Serialize};

/// One observation of all layers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DynamicsRecord {
    /// Epoch of the last step before it, from 0.
    pub epoch: u64,
    /// Steps trained before it; 0: the start.
    pub steps: u64,
    /// D: steps since the observation before; 0 in a run's first.
    pub distance: u64,
    /// All layers that carry the method together; the stem only where it does.
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
    /// Share at the smallest nonzero level; none where weights are plain floats.
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
