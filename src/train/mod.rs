//! Training.
pub mod curves;
pub mod metrics;
