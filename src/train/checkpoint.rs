//! What a checkpoint says beside its tensors, and how a network is rebuilt from it.

use std::collections::BTreeMap;
use std::path::Path;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use super::config::Config;
use super::engine::Figures;
use crate::error::{Error, Result};
use crate::files::tensors::{self, TensorFile};
use crate::graph::RungChoice;
use crate::kernels::registry;
use crate::methods::{MethodSpec, Scale};
use crate::model::values::is_of_run;
use crate::model::{Arch, FirstLast, Shortcut, Values};

/// What every weight file says about its network. All values are strings in the file; lists are comma-separated.
#[derive(Clone, Debug, PartialEq)]
pub struct Identity {
    /// Network.
    pub model: String,
    /// Factor on its channel counts.
    pub width: u32,
    /// Shortcut.
    pub shortcut: Shortcut,
    /// Method and bits.
    pub method: MethodSpec,
    /// Whether stem and classifier are of it too; files without such a key have them in fp32.
    pub first_last: FirstLast,
    /// Per-channel mean, where the file has it.
    pub mean: Option<Vec<f32>>,
    /// Per-channel standard deviation, where the file has it.
    pub std: Option<Vec<f32>>,
}

/// Where a run stands: enough to go on bit for bit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Progress {
    /// Steps done.
    pub step: u64,
    /// Sums of the metrics interval under way.
    pub interval: Figures,
    /// Best top-1 at an epoch's end, in percent.
    pub best: Option<f64>,
    /// Evaluations since then that were no better.
    #[serde(default)]
    pub waited: u64,
    /// Steps done at the last observation of the weights.
    #[serde(default)]
    pub observed: Option<u64>,
    /// Rungs taken, by `direction:layer`.
    pub rungs: BTreeMap<String, String>,
    /// Images of the training and of the test set.
    pub images: [u64; 2],
    /// The adapter of the last step, with its driver.
    #[serde(default)]
    pub adapter: String,
}

impl Progress {
    /// Whether the run has waited for a better evaluation as long as its `patience` (0: for ever) says.
    pub fn out_of_patience(&self, patience: u64) -> bool {
        patience > 0 && self.waited >= patience
    }

    /// Steps of the whole run.
    pub fn total(&self, config: &Config) -> u64 {
        config.epochs * config.steps_per_epoch(self.images[0]).max(1)
    }

    /// Epochs done, in parts too.
    pub fn epochs(&self, config: &Config) -> f64 {
        self.step as f64 * config.epochs as f64 / self.total(config) as f64
    }

    /// Whether nothing is left to train.
    pub fn ended(&self, config: &Config) -> bool {
        self.step >= self.total(config) || self.out_of_patience(config.patience)
    }

    /// The rungs that the run goes on with: those that it took, without any that only another version has.
    pub fn rungs(&self, forced: &[String]) -> RungChoice {
        let mut recorded = self.rungs.clone();
        recorded.retain(|_, name| registry().iter().any(|kernel| kernel.name() == name));
        RungChoice { forced: forced.to_vec(), recorded, ..Default::default() }
    }
}

fn list(values: &[f32]) -> String {
    values.iter().map(f32::to_string).collect::<Vec<_>>().join(",")
}

impl Identity {
    /// Reads it from a file's metadata; `bits` and normalization may be missing.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] naming the key.
    pub fn read(file: &TensorFile, path: &Path) -> Result<Self> {
        let get = |key: &str| file.meta.get(key).map(String::as_str);
        let bad = |key: &str, value: &str| {
            Error::checkpoint(
                path,
                format!("its metadata has {key} = `{value}`"),
                "this file was not written by a known trainer",
            )
        };
        let need = |key: &str| {
            let hint = "add it to the file's metadata, or train from it with --init, which needs none";
            get(key).ok_or_else(|| Error::checkpoint(path, format!("its metadata has no `{key}`"), hint))
        };
        let model =
            Arch::find(need("model")?).map_err(|_| bad("model", get("model").unwrap_or_default()))?.name.to_string();
        let bits_text = get("bits").unwrap_or("0");
        let bits: u32 = bits_text.parse().map_err(|_| bad("bits", bits_text))?;
        let method = need("method")?;
        let spec = MethodSpec::find(method, (bits != 0).then_some(bits));
        let spec = spec.map_err(|_| bad("method and bits", &format!("{method}, {bits_text}")))?;
        let scale =
            get("scale").map(|text| Scale::from_str(text, false).map_err(|_| bad("scale", text))).transpose()?;
        let method = spec.with_scale(scale).map_err(|_| bad("scale", get("scale").unwrap_or_default()))?;
        let first_last = match get("first_last") {
            None | Some("fp32") => FirstLast::Fp32,
            Some("shift") if method != MethodSpec::FP32 => FirstLast::Shift,
            Some(other) => return Err(bad("first_last", other)),
        };
        let shortcut = match get("shortcut") {
            None | Some("pad") => Shortcut::Pad,
            Some("conv") => Shortcut::Conv,
            Some(other) => return Err(bad("shortcut", other)),
        };
        let width_text = get("width").unwrap_or("1");
        let width = width_text.parse().ok().filter(|w| (1..=64).contains(w)).ok_or_else(|| bad("width", width_text))?;
        let [mean, std] = normalization(file, path)?;
        Ok(Self { model, width, shortcut, method, first_last, mean, std })
    }

    /// The first thing in which two differ: its key, and what each says.
    pub fn difference(&self, other: &Self) -> Option<(String, String, String)> {
        let (ours, theirs) = (self.meta(&[]), other.meta(&[]));
        let absent = || "absent".to_string();
        let keys = ours.keys().chain(theirs.keys());
        let differ = |key: &&String| ours.get(*key) != theirs.get(*key);
        let value = |meta: &BTreeMap<String, String>, key: &String| meta.get(key).cloned().unwrap_or_else(absent);
        keys.into_iter().find(differ).map(|key| (key.clone(), value(&ours, key), value(&theirs, key)))
    }

    /// As metadata, with the data set's class names.
    pub fn meta(&self, classes: &[String]) -> BTreeMap<String, String> {
        let mut meta = BTreeMap::from([
            ("format", "s3gpu 1".to_string()),
            ("model", self.model.clone()),
            ("method", self.method.method.name().to_string()),
            ("bits", self.method.bits.to_string()),
            ("shortcut", self.shortcut.name().to_string()),
            ("width", self.width.to_string()),
            ("classes", classes.len().to_string()),
            ("class_names", classes.join(",")),
        ]);
        meta.extend(self.method.method.scale().map(|scale| ("scale", scale.name().to_string())));
        if !self.first_last.is_fp32() {
            meta.insert("first_last", self.first_last.name().to_string());
        }
        for (key, values) in [("mean", &self.mean), ("std", &self.std)] {
            if let Some(v) = values {
                meta.insert(key, list(v));
            }
        }
        meta.into_iter().map(|(k, v)| (k.to_string(), v)).collect()
    }
}

/// Per-channel mean and standard deviation of a file's metadata, each where it has them.
///
/// # Errors
/// [`Error::Checkpoint`] naming the key.
pub fn normalization(file: &TensorFile, path: &Path) -> Result<[Option<Vec<f32>>; 2]> {
    let numbers = |key: &str, low: f32| {
        let Some(text) = file.meta.get(key) else { return Ok(None) };
        let number = |v: &str| v.trim().parse().ok().filter(|v: &f32| v.is_finite() && *v > low);
        let all: Option<Vec<f32>> = text.split(',').map(number).collect();
        let hint = "it must be a comma-separated list of numbers, a channel each";
        all.map(Some).ok_or_else(|| Error::checkpoint(path, format!("its metadata has {key} = `{text}`"), hint))
    };
    Ok([numbers("mean", f32::MIN)?, numbers("std", 0.0)?])
}

/// Refuses a normalization that does not have one mean and one standard deviation for each of a data set's channels.
///
/// # Errors
/// [`Error::Checkpoint`] with both counts.
pub fn check_channels(mean: &[f32], std: &[f32], channels: usize, path: &Path) -> Result<()> {
    if [mean.len(), std.len()] == [channels, channels] {
        return Ok(());
    }
    let what = format!(
        "it has {} means and {} standard deviations, but images have {channels} channels",
        mean.len(),
        std.len()
    );
    Err(Error::checkpoint(path, what, "choose weights of a network for this data set"))
}

/// Outputs of the classifier in a file.
///
/// # Errors
/// [`Error::Checkpoint`] where it has none.
pub fn classes(file: &TensorFile, path: &Path) -> Result<u32> {
    // Its weight may be latents of any name.
    match file.tensors.get("fc.bias").map(|t| &t.shape[..]) {
        Some([classes]) => Ok(*classes as u32),
        _ => Err(Error::checkpoint(path, "it has no classifier's `fc.bias` [classes]", "is it a ResNet's file?")),
    }
}

/// A weight file: values, and in a run's last.safetensors also the run's own tensors (momenta, signs seen) and its progress.
pub fn file(meta: BTreeMap<String, String>, values: Values, run: Option<(Values, &Progress)>) -> Result<TensorFile> {
    let mut file = TensorFile { tensors: values.0, meta };
    if let Some((own, progress)) = run {
        file.tensors.extend(own.0);
        let json = serde_json::to_string(progress)
            .map_err(|e| Error::Gpu { what: format!("figures that are not numbers: {e}") })?;
        file.meta.insert("progress".into(), json);
    }
    Ok(file)
}

/// Where a run stands, by its last.safetensors.
///
/// # Errors
/// [`Error::Checkpoint`] where the file does not say.
pub fn progress(file: &TensorFile, path: &Path) -> Result<Progress> {
    let hint = "it is not the last.safetensors of a run: start anew with --init";
    let json = file.meta.get("progress");
    let json = json.ok_or_else(|| Error::checkpoint(path, "it does not say where its run stands", hint))?;
    serde_json::from_str(json).map_err(|e| Error::checkpoint(path, format!("its progress: {e}"), hint))
}

/// Splits a run's last.safetensors: the plain weight file, the run's own tensors, and where the run stands.
///
/// # Errors
/// As [`progress`].
pub fn split(mut file: TensorFile, path: &Path) -> Result<(TensorFile, Values, Progress)> {
    let progress = progress(&file, path)?;
    let own = file.tensors.extract_if(.., |name, _| is_of_run(name)).collect();
    Ok((file, Values(own), progress))
}

/// Reads a weight file.
///
/// # Errors
/// As [`tensors::read`].
pub fn read(path: &Path) -> Result<TensorFile> {
    tensors::read(path)
}
