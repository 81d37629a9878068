//! A trained network, from its weight file to its accuracy.

use std::path::{Path, PathBuf};

use super::checkpoint::{self, Identity};
use super::engine::{Engine, Figures};
use super::folder;
use super::metrics::EvalRecord;
use super::run::eval_record;
use super::setup::build_graph;
use crate::data::Manifest;
use crate::error::{Error, Result};
use crate::files::tensors::TensorFile;
use crate::gpu::Gpu;
use crate::graph::Graph;
use crate::graph::lower::{Options, RungChoice};
use crate::model::Values;

/// A weight file that says which network it is.
pub struct Trained {
    /// The file.
    pub path: PathBuf,
    /// Its tensors and metadata.
    pub file: TensorFile,
    /// What it says of itself.
    pub identity: Identity,
    /// Outputs of its classifier.
    pub classes: u32,
}

impl Trained {
    /// Reads a checkpoint (safetensors), or the best one of a run's folder.
    ///
    /// # Errors
    /// [`Error::Io`] for a file that cannot be read; [`Error::Checkpoint`] for one that is damaged or does not say what it is.
    pub fn read(weights: impl AsRef<Path>) -> Result<Self> {
        let weights = weights.as_ref();
        let path = if weights.is_dir() { weights.join(folder::BEST) } else { weights.into() };
        let file = checkpoint::read(&path)?;
        let (identity, classes) = (Identity::read(&file, &path)?, checkpoint::classes(&file, &path)?);
        Ok(Self { path, file, identity, classes })
    }

    /// The network on a data set's images.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where the data set has another number of classes or channels; as [`build_graph`].
    pub fn graph(&self, manifest: &Manifest) -> Result<Graph> {
        if self.classes as usize != manifest.classes.len() {
            let [ours, theirs] = [self.classes as usize, manifest.classes.len()];
            let what = format!("it tells {ours} classes apart, but {} has {theirs}", manifest.name);
            return Err(Error::checkpoint(&self.path, what, "choose the --dataset that it was trained on"));
        }
        let [mean, std] = self.normalization(manifest);
        checkpoint::check_channels(&mean, &std, manifest.channels, &self.path)?;
        build_graph(&self.identity, manifest, self.classes)
    }

    /// Mean and standard deviation a channel: the file's own, else the data set's.
    pub(crate) fn normalization(&self, manifest: &Manifest) -> [Vec<f32>; 2] {
        let (mean, std) = (self.identity.mean.clone(), self.identity.std.clone());
        [mean.unwrap_or_else(|| manifest.mean.clone()), std.unwrap_or_else(|| manifest.std.clone())]
    }

    /// The network on a device, at most `batch` images at a time; kernels of the names in `rungs` come first where they fit.
    ///
    /// # Errors
    /// As [`Trained::graph`] and [`Engine::new`]; [`Error::Checkpoint`] for tensors that are another network's.
    pub fn engine(&self, manifest: &Manifest, gpu: Gpu, batch: u32, rungs: &[String]) -> Result<Engine> {
        let graph = self.graph(manifest)?;
        let [mean, std] = self.normalization(manifest);
        let rungs = RungChoice { forced: rungs.to_vec(), ..Default::default() };
        let engine = Engine::new(gpu, &graph, &Options { batch, mean, std, rungs, ..Default::default() })?;
        engine.load(&Values::from_file(&graph, &engine.layout, &self.file, &self.path)?);
        Ok(engine)
    }

    /// What [`Engine::evaluate`] gave, as a record that carries the epoch and step of the file.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where the loss is not a finite number: then the counts mean nothing.
    pub fn record(&self, figures: &Figures, manifest: &Manifest) -> Result<EvalRecord> {
        let number = |key: &str| self.file.meta.get(key).and_then(|s| s.parse().ok()).unwrap_or(0u64);
        let record = eval_record(figures, number("epoch"), number("step").saturating_sub(1));
        if record.loss.is_finite() {
            return Ok(record);
        }
        let (name, loss) = (&manifest.name, record.loss);
        let what = format!("its logits on {name} are not finite (loss {loss}), so no accuracy is claimed");
        let hint = "these weights are not those of a trained network: choose an earlier checkpoint";
        Err(Error::checkpoint(&self.path, what, hint))
    }
}
