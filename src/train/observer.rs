//! How a run tells of itself, and how it ended.

use super::dynamics::DynamicsRecord;
use super::metrics::{EvalRecord, TrainRecord};
use crate::error::Result;
use crate::gpu::Startup;

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// All epochs done.
    Finished,
    /// As many evaluations without a better top-1 as `patience` allows.
    OutOfPatience,
    /// `--steps` reached.
    StepsReached,
    /// Asked to stop.
    Interrupted,
}

/// What the loop tells whoever shows it; by default nobody listens.
pub trait Observer {
    /// After the first step: how long each part of the start took.
    fn started(&mut self, _startup: &Startup) {}
    /// After weights were frozen: the share of each layer that now is.
    fn froze(&mut self, _share: f64) {}
    /// After each step: steps done of all, from 1, and the metrics of the last full interval.
    fn step(&mut self, _done: u64, _total: u64, _latest: Option<&TrainRecord>) {}
    /// After each evaluation, with the last metrics of training and the seconds that the epoch took.
    fn eval(&mut self, _record: &EvalRecord, _train: Option<&TrainRecord>, _seconds: f64) {}
    /// After each evaluation as integers, with its seconds: the record, or why the network cannot be frozen as it is now.
    fn eval_int(&mut self, _outcome: &Result<EvalRecord>, _seconds: f64) {}
    /// After each observation of how the weights moved.
    fn dynamics(&mut self, _record: &DynamicsRecord) {}
}

/// Nobody listens.
impl Observer for () {}
