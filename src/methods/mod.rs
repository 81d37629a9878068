//! Training methods: how latents become weights, and how gradients come back.
//!
//! A method is one file here, its kernels in [`crate::kernels::compose`], and one word in [`METHODS`].

mod bwn;
pub mod convert;
mod deep_shift_ps;
mod deep_shift_q;
mod dense_shift;
mod fp32;
mod inq;
pub mod levels;
mod s3;
mod twn;

use rand::RngExt;
use rand_chacha::ChaCha8Rng;

use crate::error::{Error, Result, did_you_mean};
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

/// What stands beside the levels of TWN and BWN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Scale {
    /// α, a mean of the latents' magnitudes.
    Mean,
    /// 1: BinaryConnect for BWN.
    None,
}

impl Scale {
    /// As on the command line and in files.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::None => "none",
        }
    }
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
    /// Weights of an output channel.
    pub fn row(&self) -> usize {
        (self.cin * self.k * self.k) as usize
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
    /// Layers in it.
    pub segments: u32,
    /// Workgroups that sum over the largest of them, [`crate::kernels::compose::parts`].
    pub parts: u32,
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
    /// The layers' scales, [`Method::scales`] words each, where the method has such.
    pub scales: Ref,
    /// Running values and [`Method::flags`].
    pub state: Ref,
    /// Partial sums of the regularizer.
    pub regularizer: Ref,
    /// The dispatch's first partial sum there.
    pub regularizer_at: u32,
}

/// A training method. What is given here is what one with a single latent `weight` and no peculiarities does.
pub trait Method: Sync {
    /// Name on the command line and in files.
    fn name(&self) -> &'static str;
    /// Which scale this form of the method has; none where it has no choice.
    fn scale(&self) -> Option<Scale> {
        None
    }
    /// Bit widths that it has; empty for fp32.
    fn bits(&self) -> &'static [u32];
    /// The bit width where none is asked for.
    fn default_bits(&self) -> u32;
    /// Names of its latents, as they follow the layer's name in a checkpoint.
    fn latents(&self, _bits: u32) -> Vec<String> {
        vec!["weight".into()]
    }
    /// Names of flags that it keeps for each weight beside the latents; no optimizer touches them.
    fn flags(&self) -> &'static [&'static str] {
        &[]
    }
    /// Words of scales that it keeps for a layer while it trains.
    fn scales(&self, _shape: WeightShape) -> u32 {
        0
    }
    /// Whether `--latent-lr` and `--latent-scale` apply: W shows its latents' signs alone and not their size.
    fn scales_latent_rate(&self) -> bool {
        false
    }
    /// Latents of a new layer, each in PyTorch's order [Cout, Cin, kh, kw].
    fn init(&self, _bits: u32, shape: WeightShape, _how: LatentInit, rng: &mut ChaCha8Rng) -> Vec<Vec<f32>> {
        vec![normal(shape.count(), shape.init_std(), rng)]
    }
    /// Latents and flags that stand for pretrained fp32 weights W as well as the method can.
    fn convert(&self, bits: u32, shape: WeightShape, weight: &[f32]) -> Converted;
    /// Names that other programs give to the latents, in the order of [`Method::latents`].
    fn foreign_names(&self, bits: u32) -> Vec<String> {
        self.latents(bits)
    }
    /// W from a layer's latents, on the host, as [`Method::compose`] gives it: for files and reports.
    fn weight(&self, bits: u32, shape: WeightShape, latents: &[&[f32]]) -> Vec<f32>;
    /// The dispatches that compose W; they may clamp latents in place.
    fn compose(&self, bits: u32, b: &Bound) -> Vec<Call>;
    /// The dispatch that turns dL/dW into latent gradients; `alpha` is the regularizer's factor.
    fn backward(&self, bits: u32, b: &Bound, alpha: f32) -> Call;
    /// The dispatch that does the work of [`Method::backward`], [`Method::regularizer`] and SGD on all of the layers' latents at once, where
    /// there is one; `sgd` holds the optimizer's settings. One latent is not worth a kernel: the optimizer's pass over the slab is due anyway.
    fn update(&self, _bits: u32, _b: &Bound, _alpha: f32, _sgd: SgdParams) -> Option<Call> {
        None
    }
    /// The dispatch that sums the regularizer, where there is one: as many partial sums as workgroups.
    fn regularizer(&self, _b: &Bound) -> Option<Call> {
        None
    }
    /// The dispatch behind the optimizer's that undoes what it did to frozen weights, where there are such.
    fn hold(&self, _b: &Bound) -> Option<Call> {
        None
    }
    /// Whether every weight, all through a training, is 0 or ± 2^k with k from −63 to 63, so that convolutions may read it as a byte.
    fn powers_of_two(&self) -> bool;
    /// The levels that a layer's trained weights W lie on, for integer inference; none where they are plain floats.
    fn levels(&self, bits: u32, weight: &[f32]) -> Option<Levels>;
    /// Shares of a layer's weights that are frozen, from the start of each of as many equal parts of the training on; empty where none is.
    fn portions(&self) -> &'static [f64] {
        &[]
    }
    /// Freezes the largest weights of a layer that are not frozen yet, until `share` of all are; `flags` as [`Method::flags`].
    fn freeze(&self, _bits: u32, _share: f64, _weight: &mut [f32], _flags: &mut [f32]) {}
}

/// A layer brought from fp32 to a method.
#[derive(Clone, Debug, PartialEq)]
pub struct Converted {
    /// Latents, in the order of [`Method::latents`].
    pub latents: Vec<Vec<f32>>,
    /// c: the composed weights stand for c · w, which the batch norm behind the layer has to be told.
    pub factor: f64,
}

/// Every method.
pub const METHODS: &[&dyn Method] = &[
    &fp32::Fp32,
    &s3::S3,
    &dense_shift::DenseShift,
    &deep_shift_q::DeepShiftQ,
    &deep_shift_ps::DeepShiftPs,
    &inq::Inq,
    &twn::Twn(Scale::Mean),
    &twn::Twn(Scale::None),
    &bwn::Bwn(Scale::Mean),
    &bwn::Bwn(Scale::None),
];

/// The methods' names, each once.
pub fn names() -> Vec<&'static str> {
    let mut names: Vec<_> = METHODS.iter().map(|m| m.name()).collect();
    names.dedup();
    names
}

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
        let identity = |s: &Self| (s.method.name(), s.method.scale(), s.bits);
        identity(self) == identity(other)
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

    /// A method by name; no bits means its default.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name or a bit width that the method lacks.
    pub fn find(name: &str, bits: Option<u32>) -> Result<Self> {
        let Some(method) = METHODS.iter().find(|m| m.name() == name).copied() else {
            let hint = format!("{}known methods: {}", did_you_mean(name, names()), names().join(", "));
            return Err(Error::usage(format!("unknown method `{name}`"), hint));
        };
        match (method.bits(), bits) {
            ([], None | Some(0)) => Ok(Self { method, bits: 0 }),
            ([], Some(b)) => {
                Err(Error::usage(format!("{name} has no bit width, but --bits is {b}"), "leave --bits out"))
            }
            (_, None) => Ok(Self { method, bits: method.default_bits() }),
            (all, Some(bits)) if all.contains(&bits) => Ok(Self { method, bits }),
            (all, Some(bits)) => {
                let all = all.iter().map(u32::to_string).collect::<Vec<_>>().join(", ");
                Err(Error::usage(format!("{name} has no {bits}-bit form"), format!("choose --bits from {all}")))
            }
        }
    }

    /// The same method with another scale, or the same where none is asked for.
    ///
    /// # Errors
    /// [`Error::Usage`] where the method has no scale.
    pub fn with_scale(self, scale: Option<Scale>) -> Result<Self> {
        let Some(wanted) = scale else { return Ok(self) };
        let (name, is_it) = (self.method.name(), |m: &&&dyn Method| m.scale() == Some(wanted));
        match METHODS.iter().filter(|m| m.name() == name).find(is_it) {
            Some(method) => Ok(Self { method: *method, ..self }),
            None => {
                let what = format!("{name} has no scale, but --scale is {}", wanted.name());
                Err(Error::usage(what, "leave --scale out: it goes with twn and bwn"))
            }
        }
    }

    /// Whether its one latent is a `weight` that composition quantizes.
    pub fn quantizes_weight(&self) -> bool {
        *self != Self::FP32 && self.method.latents(self.bits) == ["weight"]
    }

    /// `s3 3-bit`, `fp32`, `twn 2-bit unscaled`.
    pub fn title(&self) -> String {
        let name = self.method.name();
        let bits = if self.bits == 0 { String::new() } else { format!(" {}-bit", self.bits) };
        let scale = if self.method.scale() == Some(Scale::None) { " unscaled" } else { "" };
        format!("{name}{bits}{scale}")
    }
}

/// `count` values ~ N(0, std²).
fn normal(count: usize, std: f64, rng: &mut ChaCha8Rng) -> Vec<f32> {
    (0..count).map(|_| (std * rng.sample::<f64, _>(rand_distr::StandardNormal)) as f32).collect()
}
