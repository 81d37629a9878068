//! s3gpu.

pub mod data;
pub mod error;
pub mod files;
pub mod gpu;
pub mod kernels;
pub mod train;
pub use error::{Error, Result};
