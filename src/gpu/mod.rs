//! The GPU side: adapter and device, shader text, pipelines, buffers and their way back to the host.

mod buffers;
mod context;
pub mod driver_cache;
mod pipeline;
pub mod shader;
mod startup;
mod subgroups;

pub use buffers::{download, try_upload, upload};
pub use context::{AdapterEntry, Gpu, adapters, describe, open};
pub use driver_cache::{DriverCache, Kept};
pub use pipeline::{Pipeline, Pipelines, Single, UNIFORM_STRIDE, fold, uniform_size};
pub use startup::Startup;
pub use subgroups::Subgroups;
