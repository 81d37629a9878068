//! s3gpu trains low-bit shift networks on any GPU through wgpu and hand-written WGSL.
//!
//! The rooms of the house, in the order in which data walks through them:
//!
//! | room | what happens there |
//! |---|---|
//! | [`data`] | data sets: manifests, CIFAR, IDX and image folders, drawn shapes, decoding ahead, the order of an epoch |
//! | [`model`] | ResNets as graphs, and a network's values by PyTorch's names |
//! | [`methods`] | how latents become weights (fp32, S3), one file a method |
//! | [`graph`] | builder with checked shapes, lowering with one backward rule an operation, plan, executors |
//! | [`kernels`] | every kernel: parameters, bindings, CPU twin, cases, cost, and the registry |
//! | [`gpu`] | adapter, shader joiner, pipelines, buffers |
//! | [`train`] | the loop, checkpoints, metrics, curves |
//! | [`compare`] | sweeps: many runs side by side, with means over seeds |
//! | [`report`] | an evaluation as a page |
//! | [`int`] | trained networks as integers: freezing, the file, the reference that runs it, counts, exports |
//! | [`web`] | an integer network as a page that runs in a browser: plan, samples, server |
//! | [`tune`] | which convolution rung is fastest for each shape, here |
//! | [`files`] | files written whole or not at all, safetensors |
//! | [`mod@bench`] | timing kernels where they stand in a real step |
//! | [`cli`] | one file a command |
//!
//! `shaders/` holds the WGSL: a file's stem is its entry point, its label and its name in the registry.

//!
//! # From Rust
//!
//! `examples/train.rs` trains a network and `examples/eval.rs` evaluates one, in some forty lines each:
//!
//! 1. [`train::Config`] has every setting; [`train::Config::on`] starts from the command line's defaults on a data set.
//! 2. [`train::Setup`] checks it and builds the network; [`data::load`] reads the images, [`gpu::open`] opens an adapter.
//! 3. [`train::Run`] trains, fills the run's folder and tells a [`train::Observer`].
//! 4. [`train::Trained`] reads a checkpoint; its [`train::Engine`] evaluates images.
//!
//! These items, [`data::Manifest`], [`data::Records`] and [`Error`], with the files that runs leave (config.toml, metrics.jsonl, the
//! safetensors and their metadata), are the crate's interface: they change in a minor version at most, and a newer version reads the
//! files of an older one. Everything else is public for the benches, the tests and whoever wants to look inside, and may change in any
//! version.
//!
//! Pixels are bytes, N × C × H × W; labels are class indices from 0; losses are natural logarithms, means over images; top-1 and top-5
//! are percent; epochs and steps in records count from 0. Bad input comes back as an [`Error`] that names the way out; a panic is a bug.

pub mod bench;
pub mod cli;
pub mod compare;
pub mod data;
pub mod error;
pub mod files;
pub mod gpu;
pub mod graph;
pub mod int;
pub mod kernels;
pub mod methods;
pub mod model;
pub mod report;
pub mod train;
pub mod tune;
mod version;
pub mod web;
pub use error::{Error, Result};
