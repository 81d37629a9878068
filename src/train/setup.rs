//! What a run is before it has touched a device or a folder: checked settings, the data set's manifest, the network.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use super::checkpoint::{self, Identity};
use super::config::Config;
use super::folder;
use crate::data::{Format, Manifest};
use crate::error::Result;
use crate::gpu::Gpu;
use crate::graph::lower::{Options, RungChoice, lower};
use crate::graph::{Graph, Plan, Shape};
use crate::model::Arch;
use crate::model::resnet::ModelOptions;

/// The shape of a data set's images.
pub fn input_shape(manifest: &Manifest) -> Shape {
    Shape { h: manifest.height as u32, w: manifest.width as u32, c: manifest.channels as u32 }
}

/// The graph of a weight file or configuration on a data set's images.
///
/// # Errors
/// As [`Arch::build`].
pub fn build_graph(identity: &Identity, manifest: &Manifest, classes: u32) -> Result<Graph> {
    let Identity { method, first_last, shortcut, width, .. } = *identity;
    let options = ModelOptions { input: input_shape(manifest), classes, method, first_last, shortcut, width };
    Arch::find(&identity.model)?.build(&options)
}

/// What a run is before it has touched a device or a folder.
pub struct Setup {
    /// The resolved configuration.
    pub config: Config,
    /// The data set.
    pub manifest: Manifest,
    /// The network.
    pub graph: Graph,
    /// How it is named in files.
    pub identity: Identity,
    /// Rungs that were measured to be fastest, as [`crate::tune::rungs`] gives them; none at first.
    pub tuned: BTreeMap<String, String>,
    /// How long all this took.
    pub took: Duration,
}

impl Setup {
    /// Checks the configuration and builds the network.
    ///
    /// # Errors
    /// [`crate::Error::Usage`] and [`crate::Error::Shape`].
    pub fn new(config: Config) -> Result<Self> {
        let manifest = config.manifest()?;
        Self::on(config, manifest)
    }

    /// As [`Setup::new`], on a data set of any manifest.
    ///
    /// # Errors
    /// As [`Setup::new`].
    pub fn on(config: Config, manifest: Manifest) -> Result<Self> {
        let started = Instant::now();
        config.check()?;
        checkpoint::check_channels(&config.mean, &config.std, manifest.channels, Path::new(folder::CONFIG))?;
        let arch = Arch::find(&config.model)?;
        let identity = Identity {
            model: config.model.clone(),
            width: config.width,
            shortcut: arch.shortcut(config.shortcut),
            method: config.method()?,
            first_last: config.first_last,
            mean: Some(config.mean.clone()),
            std: Some(config.std.clone()),
        };
        let graph = build_graph(&identity, &manifest, manifest.classes.len() as u32)?;
        Ok(Self { config, manifest, graph, identity, tuned: BTreeMap::new(), took: started.elapsed() })
    }

    /// What the programs depend on.
    pub fn options(&self, rungs: RungChoice) -> Options {
        let c = &self.config;
        Options {
            batch: c.part_size(),
            accumulate: c.accumulate,
            dynamics: true,
            mean: c.mean.clone(),
            std: c.std.clone(),
            pad: if c.augment { self.manifest.pad as u32 } else { 0 },
            flip: c.augment && self.manifest.flip,
            // The shader's counters are 32 bits wide.
            seed: (c.seed ^ (c.seed >> 32)) as u32,
            smoothing: c.label_smoothing,
            optimizer: c.optimizer,
            momentum: c.momentum,
            nesterov: c.nesterov,
            decay: c.weight_decay,
            latent_rate: c.latent_lr,
            alpha: c.dense_reg,
            rungs: RungChoice { tuned: self.tuned.clone(), ..rungs },
            ..Options::default()
        }
    }

    /// The plan on a device, of which nothing is allocated or checked yet.
    ///
    /// # Errors
    /// As [`lower()`].
    pub fn plan(&self, gpu: &Gpu, rungs: RungChoice) -> Result<Plan> {
        Ok(lower(&self.graph, &self.options(rungs).on(gpu))?.plan())
    }

    /// What a weight file says after `step` steps.
    pub(super) fn meta(&self, step: u64, per_epoch: u64) -> BTreeMap<String, String> {
        let mut meta = self.identity.meta(&self.manifest.classes);
        meta.insert("dataset".into(), self.manifest.name.clone());
        meta.insert("version".into(), env!("CARGO_PKG_VERSION").into());
        if self.manifest.format == Format::Folder {
            // What an evaluation has to do alike.
            meta.insert("image_size".into(), self.manifest.height.to_string());
            meta.insert("pad".into(), self.manifest.pad.to_string());
            meta.insert("seed".into(), self.config.seed.to_string());
            meta.extend(self.config.val_split.map(|share| ("val_split".into(), share.to_string())));
        }
        meta.insert("step".into(), step.to_string());
        meta.insert("epoch".into(), (step.saturating_sub(1) / per_epoch).to_string());
        meta
    }

    /// Whether `step` steps end an epoch after which the network is evaluated.
    pub(super) fn evaluates(&self, step: u64, per_epoch: u64) -> bool {
        let (epochs, c) = (step / per_epoch, &self.config);
        step.is_multiple_of(per_epoch)
            && (epochs == c.epochs || !c.eval_only_last && epochs.is_multiple_of(c.eval_every))
    }

    /// Whether `step` steps end an epoch after which the network is evaluated as integers.
    pub(super) fn evaluates_int(&self, step: u64, per_epoch: u64) -> bool {
        let (epochs, c) = (step / per_epoch, &self.config);
        let due = epochs == c.epochs || epochs.is_multiple_of(c.eval_int_every);
        c.eval_int_every > 0 && step.is_multiple_of(per_epoch) && due
    }
}
