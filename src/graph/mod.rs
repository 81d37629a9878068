//! The network as a graph of typed operations, and its way to the adapter.
//!
//! ```text
//! Graph (builder, shapes checked) ─▶ Layout (parameters in slabs) ─▶ Program (forward, loss, backward, update as calls)
//!       ─▶ Plan (tensors coloured into slot buffers) ─▶ exec (GPU: one encoder, one submit a step) or exec_cpu (the twins)
//! ```

mod builder;
pub mod exec;
pub mod exec_cpu;
pub mod layout;
pub mod lower;
mod plan;
mod program;

pub use builder::{Graph, LOGIT_SCALE, Layer, LayerId, LayerKind, Node, NodeId, Op, Shape};
pub use exec::Executor;
pub use exec_cpu::CpuExecutor;
pub use layout::{Layout, NamedTensor, Role};
pub use lower::{Lowered, Observation, ObservedLayer, Options, RungChoice, lower};
pub use plan::{BufferSpec, Plan, Step};
pub use program::{Call, Program, Ref, TensorSpec, Vars};
