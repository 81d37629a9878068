//! Training methods: how latents become weights, and how gradients come back.
//!
//! A method is one file here, its kernels in [`crate::kernels::compose`], and one word in [`METHODS`].

mod fp32;
pub mod levels;
mod s3;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result};
use crate::graph::{Call, Ref};
use crate::kernels::optim::SgdParams;
use levels::Levels;

/// How latents start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum LatentInit {
    /// As `normal`, then folded so that every weight starts nonzero and at the smallest level.
    #[default]
    Dense,
    /// Every latent ~ N(0, 2/n), n = k·k·Cout.
    Normal,
}

/// A convolution weight's shape.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WeightShape {
    /// Output channels.
    pub cout: u32,
    /// Input channels.
    pub cin: u32,
    /// Kernel size.
    pub k: u32,
}

impl WeightShape {
    /// Weights.
    pub fn count(&self) -> usize {
        (self.cout * self.cin * self.k * self.k) as usize
    }
    /// √(2/n), n = k·k·Cout: the standard deviation of every latent.
    pub fn init_std(&self) -> f64 {
        (2.0 / f64::from(self.k * self.k * self.cout)).sqrt()
    }
}

/// The buffers of one dispatch over a slab's layers of one method.
#[derive(Clone, Copy, Debug)]
pub struct Bound {
    /// Parameter group.
    pub group: usize,
    /// Workgroups in the segment table.
    pub groups: u32,
    /// Segment table.
    pub table: Ref,
    /// Parameter slab.
    pub params: Ref,
    /// Composed weights.
    pub weight: Ref,
    /// Composed weights, transposed.
    pub weight_t: Ref,
    /// dL/dW.
    pub dweight: Ref,
    /// Gradients of the parameter slab.
    pub grads: Ref,
    /// Momenta of the parameter slab.
    pub momenta: Ref,
    /// Partial sums of the regularizer.
    pub regularizer: Ref,
    /// The dispatch's first partial sum there.
    pub regularizer_at: u32,
}

/// A training method.
pub trait Method: Sync {
    /// Name on the command line and in files.
    fn name(&self) -> &'static str;
    /// Bit widths that it has; empty for fp32.
    fn bits(&self) -> &'static [u32];
    /// Names of its latents, as they follow the layer's name in a checkpoint.
    fn latents(&self, bits: u32) -> Vec<String>;
    /// Whether `--latent-lr` applies.
    fn scales_latent_rate(&self) -> bool;
    /// Latents of a new layer, each in PyTorch's order [Cout, Cin, kh, kw].
    fn init(&self, bits: u32, shape: WeightShape, how: LatentInit, rng: &mut ChaCha8Rng) -> Vec<Vec<f32>>;
    /// Names that other programs give to the latents, in the order of [`Method::latents`].
    fn foreign_names(&self, bits: u32) -> Vec<String>;
    /// W from a layer's latents, on the host, exactly as [`Method::compose`] gives it: for files and reports.
    fn weight(&self, bits: u32, latents: &[&[f32]]) -> Vec<f32>;
    /// The dispatch that composes W.
    fn compose(&self, bits: u32, b: &Bound) -> Call;
    /// The dispatch that turns dL/dW into latent gradients; `alpha` is the regularizer's factor.
    fn backward(&self, bits: u32, b: &Bound, alpha: f32) -> Call;
    /// The dispatch that does the work of [`Method::backward`], [`Method::regularizer`] and the optimizer on all of the layers' latents
    /// at once, where there is one; `sgd` holds the optimizer's settings.
    fn update(&self, bits: u32, b: &Bound, alpha: f32, sgd: SgdParams) -> Option<Call>;
    /// The dispatch that sums the regularizer, where there is one: as many partial sums as workgroups.
    fn regularizer(&self, b: &Bound) -> Option<Call>;
    /// Whether every weight, all through a training, is 0 or ± 2^k with k from −63 to 63, so that convolutions may read it as a byte.
    fn powers_of_two(&self) -> bool;
    /// The levels that a layer's trained weights W lie on, for integer inference; none where they are plain floats.
    fn levels(&self, bits: u32, weight: &[f32]) -> Option<Levels>;
}

/// Every method.
pub const METHODS: &[&dyn Method] = &[&fp32::Fp32, &s3::S3];

/// A method at a bit width.
#[derive(Clone, Copy)]
pub struct MethodSpec {
    /// The method.
    pub method: &'static dyn Method,
    /// Its bit width; 0 for fp32.
    pub bits: u32,
}

impl PartialEq for MethodSpec {
    fn eq(&self, other: &Self) -> bool {
        self.method.name() == other.method.name() && self.bits == other.bits
    }
}

impl std::fmt::Debug for MethodSpec {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.title())
    }
}

impl MethodSpec {
    /// fp32.
    pub const FP32: Self = Self { method: &fp32::Fp32, bits: 0 };

    /// A method by name; no bits means its default (3 for S3).
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name or a bit width that the method lacks.
    pub fn find(name: &str, bits: Option<u32>) -> Result<Self> {
        let Some(method) = METHODS.iter().find(|m| m.name() == name).copied() else {
            let known = METHODS.iter().map(|m| m.name()).collect::<Vec<_>>().join(", ");
            return Err(Error::usage(format!("unknown method `{name}`"), format!("known methods: {known}")));
        };
        match (method.bits(), bits) {
            ([], None | Some(0)) => Ok(Self { method, bits: 0 }),
            ([], Some(b)) => {
                Err(Error::usage(format!("{name} has no bit width, but --bits is {b}"), "leave --bits out"))
            }
            (all, None) => Ok(Self { method, bits: if all.contains(&3) { 3 } else { all[0] } }),
            (all, Some(bits)) if all.contains(&bits) => Ok(Self { method, bits }),
            (all, Some(bits)) => {
                let all = all.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
                Err(Error::usage(format!("{name} has no {bits}-bit form"), format!("choose --bits from {all}")))
            }
        }
    }

    /// Whether its one latent is a `weight` that composition quantizes.
    pub fn quantizes_weight(&self) -> bool {
        *self != Self::FP32 && self.method.latents(self.bits) == ["weight"]
    }

    /// `s3 3-bit`, `fp32`.
    pub fn title(&self) -> String {
        if self.bits == 0 { self.method.name().into() } else { format!("{} {}-bit", self.method.name(), self.bits) }
    }
}

/// `count` values ~ N(0, std²).
fn normal(count: usize, std: f64, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..count).map(|_| (std * rng.sample::<f64, _>(rand_distr::StandardNormal)) as f32).collect()
}
