//! What a finished cell came to, from its run's log.

use std::path::Path;

use serde::Serialize;

use crate::error::{Error, Result};
use crate::train::Config;
use crate::train::folder::METRICS;
use crate::train::metrics::{self, Record};

/// A finished cell's figures.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Figures {
    /// Epochs done.
    pub epochs: u64,
    /// Top-1 of the last evaluation, in percent.
    pub last_top1: f64,
    /// Top-1 of the best evaluation, in percent.
    pub best_top1: f64,
    /// Test loss of the last evaluation.
    pub test_loss: f64,
    /// Training loss of the last interval.
    pub train_loss: f64,
    /// Top-1 as integers at the end, in percent, where it was measured.
    pub int_top1: Option<f64>,
    /// Minutes of training, evaluations left out.
    pub minutes: f64,
    /// Share of zero weights at the end, 0 … 1.
    pub zero: Option<f64>,
    /// Weight sign variation rate of the last observation.
    pub wsvr: Option<f64>,
    /// Weight low-value rate of the last observation.
    pub wlvr: Option<f64>,
    /// The adapter of its last step.
    pub adapter: String,
    /// The programs that trained it.
    pub programs: Vec<String>,
}

impl Figures {
    /// Reads the log of a run that is finished.
    ///
    /// # Errors
    /// [`Error::Io`]; [`Error::Checkpoint`] where the log is damaged or lacks its end.
    pub fn read(run: &Path, config: &Config, adapter: String, programs: Vec<String>) -> Result<Self> {
        let path = run.join(METRICS);
        let lacks = |what: &str| {
            let hint = "put the run's own file back, or move this folder away to train the cell anew";
            Error::checkpoint(&path, format!("it has no {what}, though its run is finished"), hint)
        };
        if !path.exists() {
            return Err(lacks("line"));
        }
        let records = metrics::read(&path)?;
        let (mut train, mut eval, mut int, mut dynamics) = (None, None, None, None);
        let (mut best_top1, mut seconds) = (f64::NEG_INFINITY, 0.0);
        for record in &records {
            match record {
                Record::Train(r) => {
                    if r.images_per_s > 0.0 {
                        seconds += r.count as f64 / r.images_per_s;
                    }
                    train = Some(r);
                }
                Record::Eval(r) => {
                    if config.is_whole(r.epoch) {
                        best_top1 = r.top1.max(best_top1);
                    }
                    eval = Some(r);
                }
                Record::Int(r) => int = Some(r),
                Record::Dynamics(r) => dynamics = Some(&r.whole),
            }
        }
        let eval = eval.ok_or_else(|| lacks("evaluation"))?;
        let train = train.ok_or_else(|| lacks("record of training"))?;
        Ok(Self {
            epochs: train.epoch + 1,
            last_top1: eval.top1,
            best_top1,
            test_loss: eval.loss,
            train_loss: train.loss,
            int_top1: int.map(|r| r.top1),
            minutes: seconds / 60.0,
            zero: dynamics.map(|d| d.zero),
            wsvr: dynamics.and_then(|d| d.wsvr),
            wlvr: dynamics.map(|d| d.wlvr),
            adapter,
            programs,
        })
    }
}
