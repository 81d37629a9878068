//! The kernels: each is one WGSL file and one implementation of [`Kernel`], and one word in [`registry`].
//!
//! | family | file |
//! |---|---|
//! | batch from u8 pixels | [`augment`] |
//! | convolution and its gradients | [`conv`] |
//! | batch norm | [`norm`] |
//! | ReLU, addition | [`act`] |
//! | shortcut, pools | [`pool`] |
//! | classifier | [`linear`] |
//! | loss and a step's figures | [`loss`] |
//! | latents to weights and back | [`compose`] |
//! | optimizer | [`optim`] |
//! | how weights move | [`dynamics`] |
//! | integer networks | [`int`] |
//! | an adapter's ceilings | [`mod@bench`] |
//! | subgroup probe | [`probe`] |

pub mod act;
pub mod augment;
pub mod bench;
pub mod check;
pub mod compose;
pub mod conv;
pub mod doctor;
pub mod dynamics;
pub mod int;
mod kernel;
pub mod linear;
pub mod loss;
pub mod norm;
pub mod optim;
pub mod pool;
pub mod probe;
mod twin;

pub use check::{Case, Fill, Tolerance};
pub use kernel::{
    Access, AnyCase, AnyKernel, Binding, Const, Cost, Elem, Field, GROUP, Kernel, Params, Source, WgslType, groups_for,
    read, read_u32, update, update_u32, write, write_u32,
};
pub use twin::{Arg, Args, Data, Out, Output};

/// Every kernel. Validation, tests, benches and `s3gpu doctor` walk this list.
pub fn registry() -> Vec<&'static dyn AnyKernel> {
    vec![
        &augment::Augment,
        &conv::rungs::FORWARD_NAIVE,
        &conv::rungs::FORWARD_DIRECT,
        &conv::rungs::FORWARD_DIRECT_PACKED,
        &conv::rungs::FORWARD_GEMM,
        &conv::ForwardStatsGemm,
        &conv::BackwardInputStatsGemm,
        &conv::rungs::FORWARD_SUBGROUP,
        &conv::rungs::FORWARD_SUBGROUP_PACKED,
        &conv::rungs::BACKWARD_INPUT_NAIVE,
        &conv::rungs::BACKWARD_INPUT_DIRECT,
        &conv::rungs::BACKWARD_INPUT_DIRECT_PACKED,
        &conv::rungs::BACKWARD_INPUT_GEMM,
        &conv::rungs::BACKWARD_INPUT_SUBGROUP,
        &conv::rungs::BACKWARD_INPUT_SUBGROUP_PACKED,
        &conv::rungs::BACKWARD_WEIGHT_NAIVE,
        &conv::rungs::BACKWARD_WEIGHT_DIRECT,
        &conv::rungs::BACKWARD_WEIGHT_GEMM,
        &conv::rungs::BACKWARD_WEIGHT_SUBGROUP,
        &conv::SumPartials,
        &norm::BnStats,
        &norm::BnStatsMerge,
        &norm::BnApply,
        &norm::BnEval,
        &norm::BnBackwardStats,
        &norm::BnBackwardMerge,
        &norm::BnBackwardApply,
        &act::Relu,
        &act::ReluBackward,
        &act::Add,
        &pool::PadShortcut,
        &pool::PadShortcutBackward,
        &pool::MaxPool,
        &pool::MaxPoolBackward,
        &pool::GlobalAvgPool,
        &pool::GlobalAvgPoolBackward,
        &linear::LinearForward,
        &linear::LinearBackwardInput,
        &linear::LinearBackwardWeight,
        &linear::LogitsForward,
        &linear::LogitsBackward,
        &loss::SoftmaxCrossEntropy,
        &loss::Metrics,
        &compose::PackWeights,
        &compose::fp32::Fp32Compose,
        &compose::fp32::Fp32Backward,
        &compose::s3::S3Compose,
        &compose::s3::S3Backward,
        &compose::s3::S3Regularizer,
        &compose::s3::S3Update,
        &compose::dense_shift::DenseShiftCompose,
        &compose::dense_shift::DenseShiftBackward,
        &compose::dense_shift::DenseShiftUpdate,
        &compose::deep_shift::DeepShiftQCompose,
        &compose::deep_shift::DeepShiftPsCompose,
        &compose::deep_shift::DeepShiftPsBackward,
        &compose::twn::TwnSums,
        &compose::twn::TwnScales,
        &compose::twn::TwnCompose,
        &compose::bwn::BwnScales,
        &compose::bwn::BwnCompose,
        &compose::bwn::BwnBackward,
        &compose::inq::InqBackward,
        &compose::inq::InqHold,
        &optim::Accumulate,
        &optim::Sgd,
        &optim::Adam,
        &dynamics::WeightMax,
        &dynamics::WeightChanges,
        &int::ops::IntLookup,
        &int::CONV_DIGITS,
        &int::CONV_PAIRS_SHIFT,
        &int::CONV_PAIRS,
        &int::CONV_DOT,
        &int::CONV_SUBGROUP,
        &int::CONV_SUBGROUP_SHIFT,
        &int::ops::IntAdd,
        &int::ops::IntPadShortcut,
        &int::ops::IntMaxPool,
        &int::ops::IntGlobalSum,
        &int::ops::IntClassifier,
        &bench::Copy,
        &bench::MultiplyAdd,
        &probe::SubgroupLanes,
    ]
}
