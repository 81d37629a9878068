//! s3gpu.

pub mod bench;
pub mod cli;
pub mod data;
pub mod error;
pub mod files;
pub mod gpu;
pub mod graph;
pub mod kernels;
pub mod methods;
pub mod model;
pub mod train;
pub use error::{Error, Result};
