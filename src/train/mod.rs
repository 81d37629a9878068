//! Training: configuration, the engine that runs steps, the loop, checkpoints and metrics.

pub mod assess;
pub mod checkpoint;
pub mod config;
pub mod curves;
pub mod engine;
pub mod folder;
pub mod layers;
pub mod metrics;
pub mod network;
pub mod run;
pub mod setup;
pub mod summary;

pub use config::{Config, Schedule};
pub use engine::{Engine, Figures};
