//! A run's configuration, as its folder keeps it in config.toml.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::data::{self, Manifest, Reading};
use crate::error::{Error, Result};
use crate::graph::lower::RING_SLOTS;
use crate::kernels::optim::Optimizer;
use crate::methods::{LatentInit, MethodSpec, Scale};
use crate::model::{FirstLast, Shortcut};

/// How the learning rate falls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Schedule {
    /// lr/2 · (1 + cos(π·epoch/epochs)).
    #[default]
    Cosine,
    /// Divided by 10 at 50 % and at 75 % of the epochs.
    Step,
    /// Unchanged.
    Constant,
}

/// Everything that decides a run's result, beside the adapter and the version.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct Config {
    /// Data set.
    pub dataset: String,
    /// Where its files are.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub data_dir: Option<PathBuf>,
    /// Height and width of an image folder's images, where they are not the data set's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub image_size: Option<usize>,
    /// Black pixels around an image before the crop, where they are not the data set's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pad: Option<usize>,
    /// Share of each class that is kept to measure on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub val_split: Option<f64>,
    /// Names of the classes, where the data set leaves them to an image folder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Network.
    pub model: String,
    /// Factor on its channel counts.
    pub width: u32,
    /// Shortcut of CIFAR's networks.
    pub shortcut: Shortcut,
    /// Training method.
    pub method: String,
    /// Bits a weight; 0 for fp32.
    pub bits: u32,
    /// Scale beside the levels, where it is not the method's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scale: Option<Scale>,
    /// Whether stem and classifier are of the method too.
    #[serde(default, skip_serializing_if = "FirstLast::is_fp32")]
    pub first_last: FirstLast,
    /// How latents start.
    pub latent_init: LatentInit,
    /// Factor on the latents at the start.
    #[serde(default = "unscaled")]
    pub latent_scale: f32,
    /// Factor on the latents' learning rate.
    pub latent_lr: f32,
    /// Factor of the dense-weight regularizer.
    pub dense_reg: f32,
    /// Weights to start from.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub init: Option<PathBuf>,
    /// Epochs, the schedule's horizon.
    pub epochs: u64,
    /// Images in a step.
    pub batch_size: u32,
    /// Parts that a step is computed in, one after the other.
    #[serde(default = "one")]
    pub accumulate: u32,
    /// What makes a step of the gradients.
    #[serde(default)]
    pub optimizer: Optimizer,
    /// Learning rate.
    pub lr: f32,
    /// How it falls.
    pub schedule: Schedule,
    /// Epochs over which it rises linearly at the start.
    pub warmup: f64,
    /// Momentum.
    pub momentum: f32,
    /// Nesterov momentum.
    pub nesterov: bool,
    /// Weight decay.
    pub weight_decay: f32,
    /// Label smoothing.
    pub label_smoothing: f32,
    /// Seed of initialization, order and augmentation.
    pub seed: u64,
    /// Random crop and mirror.
    pub augment: bool,
    /// A new order each epoch.
    pub shuffle: bool,
    /// Steps from one metrics line to the next.
    pub log_every: u64,
    /// Epochs from one evaluation to the next.
    pub eval_every: u64,
    /// Epochs from one evaluation of the network as integers to the next; 0: there is none.
    #[serde(default)]
    pub eval_int_every: u64,
    /// Steps from one observation of the weights to the next, beside those at each epoch's end; 0: there is none in between.
    #[serde(default)]
    pub dynamics_every: u64,
    /// Whether the network is evaluated after the last epoch alone.
    #[serde(default)]
    pub eval_only_last: bool,
    /// Evaluations in a row without a better top-1 after which the run ends early; 0: it never does.
    #[serde(default)]
    pub patience: u64,
    /// Checkpoints of whole epochs that are kept beside the last one.
    #[serde(default)]
    pub keep: u64,
    /// Convolution rungs that come first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rungs: Vec<String>,
    /// Per-channel mean of pixels in [0, 1].
    pub mean: Vec<f32>,
    /// Per-channel standard deviation.
    pub std: Vec<f32>,
}

fn one() -> u32 {
    1
}

fn unscaled() -> f32 {
    1.0
}

/// Parts of a step at most: each takes a slot of the metrics ring, and the step one more.
pub const MAX_ACCUMULATE: u32 = RING_SLOTS - 1;

impl Config {
    /// The defaults on a built-in data set, with its normalization.
    ///
    /// # Errors
    /// [`Error::Usage`] for an unknown name.
    pub fn on(dataset: &str) -> Result<Self> {
        let Manifest { name, mean, std, .. } = Manifest::find(dataset)?;
        Ok(Self { dataset: name, mean, std, ..Self::default() })
    }

    /// Images that are on the device at once: a step's, or those of its largest part.
    pub fn part_size(&self) -> u32 {
        self.batch_size.div_ceil(self.accumulate.max(1))
    }

    /// The method at its bit width, with its scale.
    ///
    /// # Errors
    /// [`Error::Usage`] for one that does not exist.
    pub fn method(&self) -> Result<MethodSpec> {
        let bits = (self.bits != 0).then_some(self.bits);
        MethodSpec::find(&self.method, bits)?.with_scale(self.scale)
    }

    /// Checks every number.
    ///
    /// # Errors
    /// [`Error::Usage`] naming flag, value and range.
    pub fn check(&self) -> Result<()> {
        self.method()?;
        let float = |flag: &str, v: f64, low: f64, high: f64| {
            if v.is_finite() && (low..=high).contains(&v) {
                return Ok(());
            }
            Err(Error::usage(format!("{flag} is {v}"), format!("it must be a number from {low} to {high}")))
        };
        float("--lr", self.lr.into(), 0.0, 1e6)?;
        float("--latent-scale", self.latent_scale.into(), 1e-6, 1e6)?;
        float("--latent-lr", self.latent_lr.into(), 0.0, 1e6)?;
        float("--dense-reg", self.dense_reg.into(), 0.0, 1e6)?;
        float("--momentum", self.momentum.into(), 0.0, 1.0)?;
        float("--weight-decay", self.weight_decay.into(), 0.0, 1e6)?;
        float("--label-smoothing", self.label_smoothing.into(), 0.0, 1.0)?;
        float("--warmup", self.warmup, 0.0, self.epochs as f64)?;
        let count = |flag: &str, v: u64, high: u64| {
            if (1..=high).contains(&v) {
                return Ok(());
            }
            Err(Error::usage(format!("{flag} is {v}"), format!("it must be from 1 to {high}")))
        };
        count("--epochs", self.epochs, 1_000_000)?;
        count("--batch-size", self.batch_size.into(), 65_536)?;
        count("--accumulate", self.accumulate.into(), self.batch_size.min(MAX_ACCUMULATE).into())?;
        count("--log-every", self.log_every, 1_000_000_000)?;
        count("--eval-every", self.eval_every, 1_000_000)?;
        count("--width", self.width.into(), 64)?;
        let rare = [("--eval-int-every", self.eval_int_every), ("--dynamics-every", self.dynamics_every)];
        for (flag, v) in rare.into_iter().chain([("--keep", self.keep)]) {
            if v > 1_000_000 {
                return Err(Error::usage(format!("{flag} is {v}"), "it must be at most 1000000"));
            }
        }
        if self.first_last == FirstLast::Shift && self.method()?.bits == 0 {
            let what = "--first-last shift puts stem and classifier under the method, but fp32 has no levels";
            return Err(Error::usage(what, "train with --method s3 --bits 3, or with --first-last fp32"));
        }
        if self.latent_scale != 1.0 && !self.method()?.method.scales_latent_rate() {
            let what = format!("--latent-scale {} has no use with {}", self.latent_scale, self.method);
            return Err(Error::usage(
                what,
                "leave it out: it goes with methods of which only the latents' signs count",
            ));
        }
        if self.eval_int_every > 0 && self.method()?.bits == 0 {
            let what = format!(
                "--eval-int-every {} measures a network of shifts, but fp32 weights are none",
                self.eval_int_every
            );
            return Err(Error::usage(what, "train with --method s3 --bits 3, or leave --eval-int-every out"));
        }
        if self.eval_only_last && self.patience > 0 {
            let what = format!("--patience {} counts evaluations, of which --eval-only-last makes one", self.patience);
            return Err(Error::usage(what, "leave one of the two out"));
        }
        if self.nesterov && self.momentum == 0.0 {
            return Err(Error::usage("--nesterov needs a momentum above 0", "leave --nesterov or --momentum 0 out"));
        }
        Ok(())
    }

    /// The data set, at the configuration's size and crop, with its classes.
    ///
    /// # Errors
    /// As [`Manifest::find`], [`Manifest::with`] and [`data::complete`].
    pub fn manifest(&self) -> Result<Manifest> {
        let mut manifest = Manifest::find(&self.dataset)?.with(self.image_size, self.pad)?;
        if manifest.classes.is_empty() {
            manifest.classes.clone_from(&self.classes);
        }
        data::complete(manifest, self.data_dir.as_deref())
    }

    /// How the data set is read.
    pub fn reading(&self) -> Reading {
        Reading { seed: self.seed, augment: self.augment, val_split: self.val_split, ..Reading::default() }
    }

    /// Steps in an epoch over `images`; the last may be a partial batch.
    pub fn steps_per_epoch(&self, images: u64) -> u64 {
        images.div_ceil(u64::from(self.batch_size))
    }

    /// The learning rate of a step. Where the method freezes weights in portions, the schedule starts anew with each.
    pub fn rate(&self, step: u64, steps_per_epoch: u64) -> f64 {
        let at = step / steps_per_epoch;
        let starts = self.portion_starts();
        let start = starts.iter().copied().rev().find(|s| *s <= at).unwrap_or(0);
        let end = starts.iter().copied().find(|s| *s > at).unwrap_or(self.epochs);
        let (epoch, epochs) = ((at - start) as f64, (end - start).max(1) as f64);
        let factor = match self.schedule {
            Schedule::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * epoch / epochs).cos()),
            Schedule::Step if epoch >= 0.75 * epochs => 0.01,
            Schedule::Step if epoch >= 0.5 * epochs => 0.1,
            Schedule::Step | Schedule::Constant => 1.0,
        };
        let rise = self.warmup * steps_per_epoch as f64;
        let warm = if rise > 0.0 { ((step + 1) as f64 / rise).min(1.0) } else { 1.0 };
        f64::from(self.lr) * factor * warm
    }

    /// The epochs at which portions of the weights are frozen.
    fn portion_starts(&self) -> Vec<u64> {
        let portions = self.method().map_or(0, |m| m.method.portions().len() as u64);
        (0..portions).map(|i| i * self.epochs / portions).collect()
    }

    /// The share of each layer's weights that is to be frozen before an epoch, where one is.
    pub fn freezes(&self, epoch: u64) -> Option<f64> {
        let portion = self.portion_starts().iter().position(|s| *s == epoch)?;
        self.method().ok()?.method.portions().get(portion).copied()
    }

    /// Whether after an epoch (from 0) the network is what its method makes of it: no weight waits to be frozen.
    pub fn is_whole(&self, epoch: u64) -> bool {
        self.portion_starts().last().is_none_or(|start| *start <= epoch)
    }

    /// Checks what a run needs to start: weights, where its method only finishes what others trained.
    ///
    /// # Errors
    /// [`Error::Usage`].
    pub fn check_start(&self) -> Result<()> {
        let (method, portions) = (self.method()?, self.portion_starts().len() as u64);
        if portions > 0 && self.init.is_none() {
            let what = format!("--method {} quantizes weights that are trained already", method.method.name());
            return Err(Error::usage(what, "give them with --init, an fp32 checkpoint of the same --model"));
        }
        if portions > self.epochs {
            let what = format!("--epochs {} leaves a portion of the weights no epoch", self.epochs);
            let hint = format!("{} freezes them in {portions} portions: give at least as many", method.method.name());
            return Err(Error::usage(what, hint));
        }
        Ok(())
    }
}

impl Default for Config {
    /// The command line's defaults, with placeholders for what depends on the data set.
    fn default() -> Self {
        Self {
            dataset: "shapes".into(),
            data_dir: None,
            image_size: None,
            pad: None,
            val_split: None,
            classes: Vec::new(),
            model: "resnet20".into(),
            width: 1,
            shortcut: Shortcut::Pad,
            method: "s3".into(),
            bits: 3,
            scale: None,
            first_last: FirstLast::Fp32,
            latent_init: LatentInit::Dense,
            latent_scale: 1.0,
            latent_lr: 1.0,
            dense_reg: 1e-5,
            init: None,
            epochs: 200,
            batch_size: 128,
            accumulate: 1,
            optimizer: Optimizer::Sgd,
            lr: 0.1,
            schedule: Schedule::Cosine,
            warmup: 0.0,
            momentum: 0.9,
            nesterov: false,
            weight_decay: 1e-4,
            label_smoothing: 0.0,
            seed: 0,
            augment: true,
            shuffle: true,
            log_every: 50,
            eval_every: 1,
            eval_int_every: 0,
            dynamics_every: 0,
            eval_only_last: false,
            patience: 0,
            keep: 0,
            rungs: Vec::new(),
            mean: vec![0.5; 3],
            std: vec![0.25; 3],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config() -> Config {
        Config { epochs: 4, ..Config::default() }
    }

    #[test]
    fn schedules() {
        let mut c = config();
        let rates = |c: &Config| [0, 9, 10, 20, 30, 39].map(|s| (c.rate(s, 10) * 1e4).round() / 1e4);
        assert_eq!(rates(&c), [0.1, 0.1, 0.0854, 0.05, 0.0146, 0.0146]);
        c.schedule = Schedule::Step;
        assert_eq!(rates(&c), [0.1, 0.1, 0.1, 0.01, 0.001, 0.001]);
        (c.schedule, c.warmup) = (Schedule::Constant, 2.0);
        assert_eq!(rates(&c), [0.005, 0.05, 0.055, 0.1, 0.1, 0.1]);
    }

    #[test]
    fn portions_start_the_schedule_anew() {
        let c = Config { method: "inq".into(), bits: 5, epochs: 10, init: Some("w".into()), ..Config::default() };
        c.check_start().unwrap();
        let frozen: Vec<_> = (0..10).filter_map(|e| Some((e, c.freezes(e)?))).collect();
        assert_eq!(frozen, [(0, 0.5), (2, 0.75), (5, 0.875), (7, 1.0)]);
        let rates = [0, 10, 20, 30, 50, 70].map(|s| (c.rate(s, 10) * 1e4).round() / 1e4);
        assert_eq!(rates, [0.1, 0.05, 0.1, 0.075, 0.1, 0.1]);
        for (c, words) in [(Config { init: None, ..c.clone() }, "--init"), (Config { epochs: 3, ..c }, "--epochs 3")] {
            let e = c.check_start().unwrap_err();
            assert!(e.exit_code() == 2 && e.to_string().contains(words), "{e}");
        }
    }

    #[test]
    fn survives_toml() {
        let c = Config { data_dir: Some("d".into()), lr: 0.1, weight_decay: 1e-4, ..config() };
        let other = Config { first_last: FirstLast::Shift, latent_scale: 0.1, ..c.clone() };
        for c in [other, c] {
            let text = toml::to_string(&c).unwrap();
            assert_eq!(toml::from_str::<Config>(&text).unwrap(), c, "{text}");
            assert_eq!(text.contains("first-last = \"shift\""), c.first_last == FirstLast::Shift);
        }
    }

    #[test]
    fn numbers_out_of_range_are_named() {
        let says = |c: Config, word: &str| {
            let e = c.check().unwrap_err();
            assert!(e.to_string().contains(word) && e.exit_code() == 2, "{e}");
        };
        config().check().unwrap();
        says(Config { lr: f32::NAN, ..config() }, "--lr");
        says(Config { lr: -0.1, ..config() }, "--lr");
        says(Config { latent_scale: 0.0, ..config() }, "--latent-scale");
        says(Config { latent_scale: 0.1, method: "twn".into(), bits: 2, ..config() }, "no use with twn");
        says(Config { batch_size: 0, ..config() }, "--batch-size");
        says(Config { accumulate: 0, ..config() }, "--accumulate is 0");
        says(Config { accumulate: 5, batch_size: 4, ..config() }, "from 1 to 4");
        says(Config { accumulate: 256, batch_size: 512, ..config() }, "from 1 to 255");
        says(Config { eval_only_last: true, patience: 1, ..config() }, "--eval-only-last");
        let fp32 = Config { method: "fp32".into(), bits: 0, eval_int_every: 2, ..config() };
        says(fp32.clone(), "--eval-int-every 2");
        says(Config { eval_int_every: 0, first_last: FirstLast::Shift, ..fp32 }, "--first-last shift");
        Config { first_last: FirstLast::Shift, ..config() }.check().unwrap();
        says(Config { eval_int_every: 1_000_001, ..config() }, "--eval-int-every is 1000001");
        says(Config { dynamics_every: 1_000_001, ..config() }, "--dynamics-every is 1000001");
        says(Config { bits: 7, ..config() }, "7-bit");
        says(Config { method: "s4".into(), ..config() }, "s4");
        says(Config { label_smoothing: 1.5, ..config() }, "--label-smoothing");
        says(Config { nesterov: true, momentum: 0.0, ..config() }, "--nesterov");
    }
}
