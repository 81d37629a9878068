//! s3gpu trains low-bit shift networks on any GPU through wgpu and hand-written WGSL.
//!
//! The rooms of the house, in the order in which data walks through them:
//!
//! | room | what happens there |
//! |---|---|
//! | [`data`] | data sets: manifests, the CIFAR layouts, drawn shapes, the order of an epoch |
//! | [`model`] | ResNets as graphs, and a network's values by PyTorch's names |
//! | [`methods`] | how latents become weights (fp32, S3), one file a method |
//! | [`graph`] | builder with checked shapes, lowering with one backward rule an operation, plan, executors |
//! | [`kernels`] | every kernel: parameters, bindings, CPU twin, cases, cost, and the registry |
//! | [`gpu`] | adapter, shader joiner, pipelines, buffers |
//! | [`train`] | the loop, checkpoints, metrics, curves |
//! | [`int`] | trained networks as integers: freezing, the file, the reference that runs it, counts, exports |
//! | [`tune`] | which convolution rung is fastest for each shape, here |
//! | [`files`] | files written whole or not at all, safetensors |
//! | [`mod@bench`] | timing kernels where they stand in a real step |
//! | [`cli`] | one file a command |
//!
//! `shaders/` holds the WGSL: a file's stem is its entry point, its label and its name in the registry.

pub mod bench;
pub mod cli;
pub mod data;
pub mod error;
pub mod files;
pub mod gpu;
pub mod graph;
pub mod int;
pub mod kernels;
pub mod methods;
pub mod model;
pub mod train;
pub mod tune;
pub use error::{Error, Result};
