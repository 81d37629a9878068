//! The GPU side: adapter and device, shader text, pipelines, buffers and their way back to the host.

mod buffers;
mod context;
mod pipeline;
pub mod shader;

pub use buffers::{download, try_upload, upload};
pub use context::{AdapterEntry, Gpu, adapters, describe, open};
pub use pipeline::{Pipeline, Pipelines, Single, UNIFORM_STRIDE, fold, uniform_size};
