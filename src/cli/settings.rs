//! The flags that are a configuration's keys, and those that bring whole layers of it.
//!
//! A flag that is not given stays empty here, so that it does not hide what a recipe or a file says; the defaults in the help
//! are [`Config::default`]'s.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::Serialize;
use toml::Table;

use crate::error::Result;
use crate::kernels::optim::Optimizer;
use crate::methods::{LatentInit, Scale};
use crate::model::{FirstLast, Shortcut};
use crate::train::layers::{Layer, Origin, keys};
use crate::train::{Config, Schedule};

/// One field for each key that has a flag, by the key's name.
#[derive(Args, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) struct Settings {
    /// Data set by name, as `s3gpu dataset list` shows them, or the path of its TOML
    #[arg(long)]
    dataset: Option<String>,
    /// Height and width of an image folder's images [default: the data set's own, 224 for most]
    #[arg(long, value_name = "N")]
    image_size: Option<usize>,
    /// Crop from so many black pixels around the image; for an image folder, 0 means random resized crops instead
    /// [default: the data set's own]
    #[arg(long, value_name = "N")]
    pad: Option<usize>,
    /// Share of each class kept to measure on, for an image folder without val/ or test/
    #[arg(long, value_name = "SHARE")]
    val_split: Option<f64>,
    /// Network: resnet8, 14, 20, 32, 44, 56, 110 (CIFAR) or resnet18, 34, 50 (ImageNet)
    #[arg(long)]
    model: Option<String>,
    /// Factor on all channel counts
    #[arg(long)]
    width: Option<u32>,
    /// Shortcut of the CIFAR networks
    #[arg(long, value_enum)]
    shortcut: Option<Shortcut>,
    /// Training method: fp32, s3, denseshift, deepshift-q, deepshift-ps, inq, twn or bwn
    #[arg(long)]
    method: Option<String>,
    /// Bits a weight: 2 to 4 (s3, denseshift), 2 to 6 (deepshift-q, deepshift-ps), 3 to 5 (inq) [default: the method's own, 3 for s3]
    #[arg(long)]
    bits: Option<u32>,
    /// Scale of twn and bwn beside the levels; `none` makes BinaryConnect of bwn [default: mean]
    #[arg(long, value_enum)]
    scale: Option<Scale>,
    /// Stem and classifier: in fp32, or of the method like all between them; the classifier's levels are then multiplied by 2^-3, and its
    /// bias stays fp32 [default: fp32]
    #[arg(long, value_enum)]
    first_last: Option<FirstLast>,
    /// How latents start
    #[arg(long, value_enum)]
    latent_init: Option<LatentInit>,
    /// Factor on the latents at the start, of s3 and denseshift; W stays, and the latents are as much harder or easier to turn
    #[arg(long)]
    latent_scale: Option<f32>,
    /// Factor on the latents' learning rate, of s3 and denseshift
    #[arg(long)]
    latent_lr: Option<f32>,
    /// Factor of the dense-weight regularizer
    #[arg(long)]
    dense_reg: Option<f32>,
    /// Start from these weights (safetensors with PyTorch's names, or the authors' of S3 and DenseShift); fp32 ones are brought to the
    /// method's levels first
    #[arg(long, value_name = "FILE")]
    init: Option<PathBuf>,
    /// Epochs; also the schedule's horizon
    #[arg(long)]
    epochs: Option<u64>,
    /// Images in a step
    #[arg(long)]
    batch_size: Option<u32>,
    /// What makes a step of the gradients
    #[arg(long, value_enum)]
    optimizer: Option<Optimizer>,
    /// Learning rate
    #[arg(long)]
    lr: Option<f32>,
    /// How the learning rate falls; `step` divides by 10 at 50 % and 75 %
    #[arg(long, value_enum)]
    schedule: Option<Schedule>,
    /// Epochs over which the learning rate rises at the start
    #[arg(long, value_name = "EPOCHS")]
    warmup: Option<f64>,
    /// SGD's momentum
    #[arg(long)]
    momentum: Option<f32>,
    /// Nesterov momentum
    #[arg(long, num_args = 0, default_missing_value = "true")]
    nesterov: Option<bool>,
    /// Weight decay, on every parameter
    #[arg(long)]
    weight_decay: Option<f32>,
    /// Share of the target spread over all classes
    #[arg(long)]
    label_smoothing: Option<f32>,
    /// Seed of initialization, order and augmentation
    #[arg(long)]
    seed: Option<u64>,
    /// Train on the images as they are, without crop and mirror
    #[arg(long = "no-augment", num_args = 0, default_missing_value = "false")]
    augment: Option<bool>,
    /// Train on the images in the files' order
    #[arg(long = "no-shuffle", num_args = 0, default_missing_value = "false")]
    shuffle: Option<bool>,
    /// Steps from one metrics line to the next
    #[arg(long)]
    log_every: Option<u64>,
    /// Epochs from one evaluation to the next
    #[arg(long)]
    eval_every: Option<u64>,
    /// After every N epochs, and after the last, also measure the network as integers: a copy is frozen as `s3gpu export` does by
    /// default and runs over the whole test set on the CPU, while training waits and stays the same bit for bit; 0 never does
    #[arg(long, value_name = "N")]
    eval_int_every: Option<u64>,
    /// Also observe how the weights move after every N steps: how many changed their sign (WSVR), how many are low (WLVR), which levels
    /// they are on. Each epoch's end is observed in any case; 0 leaves it at that
    #[arg(long, value_name = "N")]
    dynamics_every: Option<u64>,
    /// Compute each step in N parts, so that a large batch fits a small card. --batch-size stays the whole step's; the result is that of
    /// the batch at once but for batch norm, which takes mean and variance of one part at a time
    #[arg(long, value_name = "N")]
    accumulate: Option<u32>,
    /// End the run after this many evaluations in a row without a better top-1
    #[arg(long, value_name = "EVALUATIONS", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "eval_only_last")]
    patience: Option<u64>,
    /// Evaluate after the last epoch only
    #[arg(long, num_args = 0, default_missing_value = "true", conflicts_with = "eval_every")]
    eval_only_last: Option<bool>,
    /// Keep the checkpoints of the last N epochs, as epoch-0001.safetensors and so on
    #[arg(long, value_name = "N")]
    keep: Option<u64>,
    /// Convolution rung that comes first where it fits; may be repeated
    #[arg(long = "rung", value_name = "KERNEL")]
    #[serde(skip_serializing_if = "Vec::is_empty")]
    rungs: Vec<String>,
}

impl Settings {
    /// The flags that were given.
    pub(super) fn layer(&self, data_dir: Option<&Path>) -> Result<Layer> {
        let mut keys = Table::try_from(self).expect("flags are a table");
        if let Some(dir) = data_dir {
            keys.insert("data-dir".into(), dir.to_string_lossy().into_owned().into());
        }
        Layer::new(keys, Origin::Flag)
    }
}

/// Layers below the flags.
#[derive(Args)]
pub(super) struct LayerArgs {
    /// Settings by name, or of a TOML file, below all others: `published`, or `default` in place of the data set's own recipe
    #[arg(long, value_name = "NAME|FILE", help_heading = "Configuration", conflicts_with = "resume")]
    recipe: Option<String>,
    /// Settings of a TOML file, such as `s3gpu config` prints and a run's folder holds; above the recipe
    #[arg(long, value_name = "FILE", help_heading = "Configuration", conflicts_with = "resume")]
    config: Option<PathBuf>,
    /// One setting, by its key in a TOML file; may be repeated; above --config and below the flags
    #[arg(long, value_name = "KEY=VALUE", help_heading = "Configuration", conflicts_with = "resume")]
    set: Vec<String>,
}

impl LayerArgs {
    /// The recipe, and the layers of --config and --set.
    pub(super) fn read(&self) -> Result<(Option<Layer>, Vec<Layer>)> {
        let recipe = self.recipe.as_deref().map(Layer::recipe).transpose()?;
        let mut upper = Vec::new();
        if let Some(path) = &self.config {
            upper.push(Layer::read(path, Origin::File)?);
        }
        if !self.set.is_empty() {
            upper.push(Layer::set(&self.set)?);
        }
        Ok((recipe, upper))
    }
}

/// Tells every flag that is a key what its default is, by [`Config::default`], and that a resumed run has a value of its own.
pub(super) fn finish(command: clap::Command) -> clap::Command {
    let text = toml::to_string(&Config::default()).unwrap_or_default();
    let lines: Vec<_> = text.lines().filter_map(|l| l.split_once(" = ")).collect();
    command.mut_args(|arg| {
        let key = arg.get_id().as_str().replace('_', "-");
        if !keys().contains(&&*key) || key == "data-dir" {
            return arg;
        }
        let arg = arg.conflicts_with("resume");
        let is_switch = |value: &str| value == "true" || value == "false";
        let default = lines.iter().find(|(k, v)| *k == key && !is_switch(v)).map(|(_, v)| v.trim_matches('"'));
        match (default, arg.get_help()) {
            // These depend on other keys.
            _ if ["dataset", "bits"].contains(&&*key) => arg,
            (Some(_), Some(help)) if ["lr", "latent-lr", "optimizer"].contains(&&*key) => {
                let help = format!("{help} [default: by method and data set, as `s3gpu config` shows]");
                arg.help(help)
            }
            (Some(default), Some(help)) => {
                let help = format!("{help} [default: {default}]");
                arg.help(help)
            }
            _ => arg,
        }
    })
}
