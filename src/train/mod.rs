//! Training: configuration, the engine that runs steps, the loop, checkpoints and metrics.

pub mod assess;
pub mod checkpoint;
pub mod config;
pub mod curves;
pub mod dynamics;
pub mod engine;
pub mod events;
pub mod folder;
mod integer;
pub mod layers;
pub mod metrics;
pub mod network;
pub mod observer;
pub mod run;
pub mod setup;
pub mod summary;
pub mod trained;

pub use config::{Config, Schedule};
pub use engine::{Engine, Figures};
pub use metrics::{EvalRecord, TrainRecord};
pub use observer::{Observer, Outcome};
pub use run::Run;
pub use setup::Setup;
pub use trained::Trained;
