//! Observations of the weights, at a run's start, at each epoch's end, and in between where that is asked for.

use std::time::Instant;

use super::Run;
use crate::error::Result;
use crate::train::Observer;
use crate::train::dynamics::{DynamicsRecord, largest};
use crate::train::metrics::Record;

impl Run<'_> {
    /// Compares the weights with those of the observation before, and logs how they moved.
    pub(super) fn observe(&mut self, observer: &mut dyn Observer) -> Result<()> {
        // Steps under way are training time, what follows is not.
        self.count()?;
        let paused = Instant::now();
        let counters = self.engine.observe()?;
        let (layers, steps) = (self.engine.observed(), self.progress.step);
        if let Some((layer, _)) = layers.iter().zip(&counters).find(|(_, words)| !largest(words).is_finite()) {
            let what = format!("finite, but the weights of {} are not,", layer.name);
            return Err(self.diverged(steps.saturating_sub(1), what));
        }
        let whole = self.setup.config.is_whole(steps.saturating_sub(1) / self.per_epoch);
        let record = DynamicsRecord::new(layers, &counters, [steps, self.per_epoch], self.progress.observed, whole);
        self.record(&Record::Dynamics(Box::new(record.clone())))?;
        self.progress.observed = Some(steps);
        observer.dynamics(&record);
        tracing::info!(steps, seconds = paused.elapsed().as_secs_f32(), "observed");
        self.clock += paused.elapsed();
        Ok(())
    }
}
