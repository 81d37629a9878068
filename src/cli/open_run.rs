//! What `train` and `compare` share: images, a run that goes on from its last checkpoint, and Ctrl-C.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::data::ReadArgs;
use super::watch;
use crate::data::{self, Dataset, Source, Splits};
use crate::error::{Error, Result};
use crate::files::tensors::TensorFile;
use crate::gpu::Gpu;
use crate::train::checkpoint::{self, Identity, Progress};
use crate::train::folder::{Claim, LAST};
use crate::train::{Run, Setup};

/// The images of a run.
pub(super) fn load(setup: &Setup, read: &ReadArgs) -> Result<Dataset> {
    let c = &setup.config;
    data::open(&setup.manifest, c.data_dir.as_deref(), Splits::BOTH, &read.how(c.reading()))
}

/// Refuses a batch of more images than there are.
pub(super) fn check_batch(setup: &Setup, data: &Dataset) -> Result<()> {
    let count = data.train.as_ref().map_or(0, Source::len);
    if setup.config.batch_size as usize <= count {
        return Ok(());
    }
    let what = format!("--batch-size {} is larger than the training set of {count} images", setup.config.batch_size);
    Err(Error::usage(what, format!("choose at most {count}")))
}

/// Where a run stands by its last.safetensors, which must be of the network that its configuration names.
pub(super) fn standing(setup: &Setup, last: &TensorFile, path: &Path) -> Result<Progress> {
    if let Some((key, found, wanted)) = Identity::read(last, path)?.difference(&setup.identity) {
        let what = format!("its {key} is {found}, but the run's config.toml says {wanted}");
        return Err(Error::checkpoint(
            path,
            what,
            "one of the two files comes from another run: put the right one back",
        ));
    }
    let classes = setup.manifest.classes.join(",");
    if let Some(found) = last.meta.get("class_names").filter(|found| **found != classes) {
        let what = format!("its classes are {found}, but the data set now has {classes}");
        return Err(Error::checkpoint(path, what, "give the run's own --data-dir"));
    }
    checkpoint::progress(last, path)
}

/// A run that stopped, with its last checkpoint, which was read under the claim.
pub(super) struct Stopped {
    claim: Claim,
    last: TensorFile,
    progress: Progress,
}

impl Stopped {
    /// Claims a run's folder and reads its last checkpoint.
    pub(super) fn take(setup: &Setup, out: &Path) -> Result<Self> {
        let claim = Claim::take(out)?;
        let path = out.join(LAST);
        if !path.exists() {
            let hint = "it stopped before its first checkpoint: start it again with --force";
            return Err(Error::checkpoint(out, format!("this run has no {LAST} yet"), hint));
        }
        let last = checkpoint::read(&path)?;
        let progress = standing(setup, &last, &path)?;
        Ok(Self { claim, last, progress })
    }

    /// Refuses other images than the run had.
    pub(super) fn check_images(&self, data: &Dataset) -> Result<()> {
        let (found, had) = (data.both()?.map(|d| d.len() as u64), self.progress.images);
        if found == had {
            return Ok(());
        }
        let ([train, test], [had, had_test]) = (found, had);
        let what = format!(
            "its run has {had} training and {had_test} test images, but the data set now has {train} and {test}"
        );
        Err(Error::checkpoint(self.claim.path().join(LAST), what, "give the run's own --data-dir"))
    }

    /// Goes on; `tell` hears what is not as it was.
    pub(super) fn go_on<'a>(
        self,
        setup: &'a Setup,
        data: &'a Dataset,
        gpu: Gpu,
        tell: &mut dyn FnMut(&str),
    ) -> Result<Run<'a>> {
        let Self { claim, last, progress: before } = self;
        let run = Run::resume(setup, gpu, data.both()?, claim, last)?;
        let now = run.progress();
        if now.rungs != before.rungs {
            tell(
                "this adapter or version lacks some of the kernels that the run took before: it goes on, but not bit for bit",
            );
        } else if now.adapter != before.adapter && !before.adapter.is_empty() {
            tell(&format!("the run was on {} before: it goes on, but not bit for bit", before.adapter));
        }
        tell(&format!("resumed at step {} of {}", before.step, before.total(&setup.config)));
        Ok(run)
    }
}

/// What a run does when it is asked to stop.
pub(super) const STOPPING: &str = "the step is finished and saved first, at an epoch's end with its evaluation";

/// Makes Ctrl-C set a flag, and the second one end the process; also returns what Ctrl-C calls, for who reads keys.
pub(super) fn stop_at_interrupt() -> Result<(Arc<AtomicBool>, impl Fn() + Send + Clone + 'static)> {
    let stop = Arc::new(AtomicBool::new(false));
    let flag = stop.clone();
    let interrupt = move || {
        if flag.swap(true, Ordering::Relaxed) {
            watch::restore();
            std::process::exit(130);
        }
        if !watch::is_open() {
            note!("\nstopping: {STOPPING}; Ctrl-C again ends at once");
        }
    };
    ctrlc::set_handler(interrupt.clone()).map_err(|e| Error::usage(format!("Ctrl-C cannot be caught: {e}"), ""))?;
    Ok((stop, interrupt))
}
