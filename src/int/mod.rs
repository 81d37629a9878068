//! Integer shift-add networks: what a trained network becomes, and the reference that runs it.
//!
//! ```text
//! checkpoint ─▶ float (graph with composed weights) ─▶ calibrate (exponents) ─▶ freeze (M_c, B_c, n_c, proof) ─▶ model
//! model ─▶ file (safetensors)   ─▶ plain, fast, gpu (the same logits)   ─▶ counts   ─▶ export (C, npz, hex)
//! ```
//!
//! Everything from the u8 pixels to the int32 logits is integer arithmetic, so every program gives the same bits.

pub mod calibrate;
pub mod check;
mod correct;
pub mod counts;
pub mod digits;
pub mod evaluate;
pub mod export;
pub mod fast;
pub mod file;
pub mod float;
pub mod freeze;
pub mod gpu;
pub mod model;
pub mod packing;
pub mod picture;
pub mod plain;
pub mod planes;
pub mod proof;

pub use fast::Fast;
pub use model::Model;
