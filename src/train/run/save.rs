//! What a run keeps: records, the best weights, the checkpoints, the curves.

use std::collections::BTreeMap;
use std::time::Instant;

use super::Run;
use crate::error::Result;
use crate::files::tensors::{self, TensorFile};
use crate::model::Values;
use crate::train::events::EventFile;
use crate::train::folder::{self, BEST, CURVES, LAST, METRICS};
use crate::train::metrics::{self, Record};
use crate::train::{checkpoint, curves};

impl Run<'_> {
    /// Keeps an event file for TensorBoard in the run's folder, too: of all that is logged already, and of what comes.
    ///
    /// # Errors
    /// [`crate::Error::Io`]; [`crate::Error::Checkpoint`] for a damaged log.
    pub fn write_events(&mut self) -> Result<()> {
        let out = self.claim.path();
        self.events = Some(EventFile::create(out, &metrics::read(out.join(METRICS))?)?);
        Ok(())
    }

    /// Logs a record, wherever this run's are kept.
    pub(super) fn record(&mut self, record: &Record) -> Result<()> {
        self.log.append(record)?;
        self.events.as_mut().map_or(Ok(()), |events| events.append(record))
    }

    pub(super) fn save_best(&self) -> Result<()> {
        let values = self.finite(self.engine.values()?)?;
        self.save(BEST, &checkpoint::file(self.meta(), values, None)?)
    }

    fn save(&self, name: &str, file: &TensorFile) -> Result<()> {
        let (path, started) = (self.claim.path().join(name), Instant::now());
        tensors::write(&path, file)?;
        let seconds = started.elapsed().as_secs_f32();
        tracing::info!(path = %path.display(), step = self.progress.step, seconds, "saved");
        Ok(())
    }

    /// Everything that the run needs to go on from here.
    fn checkpoint(&self) -> Result<TensorFile> {
        let (values, mut own) = (self.finite(self.engine.values()?)?, self.finite(self.engine.momenta()?)?);
        own.0.extend(self.engine.seen()?.0);
        checkpoint::file(self.meta(), values, Some((own, &self.progress)))
    }

    pub(super) fn save_last(&self) -> Result<()> {
        self.save(LAST, &self.checkpoint()?)
    }

    /// The checkpoint at an epoch's end, and its copy where such are kept. The older ones go when the new one is on the disk, and the
    /// last one comes last: a process that is killed in between resumes before this epoch and comes to the same files.
    pub(super) fn save_epoch(&self) -> Result<()> {
        let (out, keep, epochs) = (self.claim.path(), self.setup.config.keep, self.progress.step / self.per_epoch);
        let file = self.checkpoint()?;
        if keep > 0 {
            self.save(&folder::epoch_file(epochs), &file)?;
            folder::remove_older(out, epochs, keep)?;
        }
        self.save(LAST, &file)
    }

    fn meta(&self) -> BTreeMap<String, String> {
        self.setup.meta(self.progress.step, self.per_epoch)
    }

    /// A step can spoil the weights after its loss was measured: they must not replace the last good checkpoint.
    pub(super) fn finite(&self, values: Values) -> Result<Values> {
        match values.0.iter().find(|(_, tensor)| tensor.data.iter().any(|v| !v.is_finite())) {
            None => Ok(values),
            Some((name, _)) => Err(self.diverged(self.progress.step - 1, format!("finite, but {name} is not,"))),
        }
    }

    pub(super) fn draw(&self) -> Result<()> {
        let id = &self.setup.identity;
        let title = format!("{} on {}, {}", id.model, self.setup.manifest.name, id.method.title());
        curves::draw(
            &metrics::read(self.claim.path().join(METRICS))?,
            &title,
            self.per_epoch,
            self.claim.path().join(CURVES),
        )
    }
}
