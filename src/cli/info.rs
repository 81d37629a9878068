//! `s3gpu info`.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::{Value, json};

use super::table::columns;
use crate::data::Manifest;
use crate::error::{Error, Result};
use crate::files::tensors::{self, Entry};
use crate::methods::MethodSpec;
use crate::model::values::{OPTIMIZER_PREFIX, is_of_run};
use crate::train::checkpoint;
use crate::train::folder;
use crate::train::layers::{Layer, Layered, Origin};
use crate::train::metrics::{self, Record};
use crate::train::network::{Network, levels};
use crate::train::summary::Summary;

#[derive(Args)]
pub(super) struct InfoArgs {
    /// A safetensors file, a run's folder or one of its files, or a data set's or configuration's TOML
    file: PathBuf,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// What a file holds: an object for programs, and lines for people.
struct Said {
    json: Value,
    lines: Vec<String>,
}

pub(super) fn run(args: &InfoArgs) -> Result<ExitCode> {
    let said = said(&args.file)?;
    if args.json {
        say!("{}", said.json)?;
    } else {
        said.lines.iter().try_for_each(|line| say!("{line}"))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Largest configuration or manifest, in bytes.
const MAX_TOML: u64 = 1 << 20;

/// The way out for a file of another kind.
const KINDS: &str =
    "s3gpu knows safetensors files, run folders, metrics.jsonl, and the TOML of a configuration, recipe or data set";

fn said(path: &Path) -> Result<Said> {
    let status = std::fs::metadata(path).map_err(Error::io(path, "read"))?;
    if status.is_dir() {
        return if folder::is_run(path) {
            run_folder(path)
        } else {
            Err(Error::data(path, "this folder is no run's", "`s3gpu runs DIR` lists the runs below a folder"))
        };
    }
    if !status.is_file() {
        return Err(Error::data(path, "not a regular file", KINDS));
    }
    let ending = path.extension().unwrap_or_default();
    if ending == "safetensors" {
        return weights(path);
    }
    let mut start = Vec::new();
    let file = std::fs::File::open(path).map_err(Error::io(path, "read"))?;
    file.take(4096).read_to_end(&mut start).map_err(Error::io(path, "read"))?;
    if start.get(8) == Some(&b'{') && start[4..8] == [0; 4] {
        return weights(path);
    }
    if ending == "jsonl" || start.starts_with(b"{\"kind\":") {
        return log(path);
    }
    if start.contains(&0) || status.len() > MAX_TOML {
        return Err(Error::data(path, "not one of s3gpu's files", KINDS));
    }
    let text = std::fs::read_to_string(path).map_err(|_| Error::data(path, "not one of s3gpu's files", KINDS))?;
    let table: toml::Table = toml::from_str(&text).map_err(|e| {
        let what = format!("neither s3gpu's nor TOML: {}", e.message());
        Error::data(path, what, KINDS)
    })?;
    // A run's configuration on a folder has `classes`, too.
    match ["name", "title", "format", "licence"].iter().any(|key| table.contains_key(*key)) {
        true => data_set(path, &text),
        false => settings(path, table),
    }
}

fn run_folder(path: &Path) -> Result<Said> {
    let s = Summary::read(path)?;
    let steps = s.steps.map_or("?".into(), |n| n.to_string());
    let best = s.best_top1.map_or("not evaluated yet".into(), |t| format!("best top-1 {t:.2} %"));
    let mut lines = vec![
        format!("run {}: {}", s.path.display(), s.state.name()),
        format!("{} {} on {}", s.model, s.method, s.dataset),
        format!("{:.2} of {} epochs, step {} of {steps}; {best}", s.epochs_done, s.epochs, s.steps_done),
    ];
    lines.extend(s.adapter.iter().map(|a| format!("adapter {a}")));
    let log = path.join(folder::METRICS);
    let records = if log.is_file() { metrics::read(log)? } else { Vec::new() };
    lines.extend(records.iter().rev().find_map(movement));
    let kept = folder::kept_epochs(path)?.into_iter().map(folder::epoch_file);
    let events = folder::event_files(path)?;
    let events = events.iter().filter_map(|file| Some(file.file_name()?.to_str()?.to_string()));
    for name in folder::FILES.map(String::from).into_iter().chain(kept).chain(events) {
        if let Ok(file) = std::fs::metadata(path.join(&name)) {
            lines.push(format!("  {name:18} {:>11}", super::bytes(file.len())));
        }
    }
    let config = Layered::of_run(folder::read_config(path)?, path).config;
    Ok(Said { json: json!({"kind": "run", "summary": s, "config": config}), lines })
}

/// How all weights moved up to an observation, as a line.
fn movement(record: &Record) -> Option<String> {
    let Record::Dynamics(r) = record else { return None };
    let (percent, w) = (|share: f64| format!("{:.2} %", 100.0 * share), &r.whole);
    let changed = w.wsvr.map(|wsvr| format!("{} changed sign in {} steps (WSVR), ", percent(wsvr), r.distance));
    let low = percent(w.wlvr);
    Some(format!(
        "weights at step {}: {}{low} low (WLVR), {} zero",
        r.steps,
        changed.unwrap_or_default(),
        percent(w.zero)
    ))
}

fn weights(path: &Path) -> Result<Said> {
    let (entries, meta) = tensors::list(path)?;
    let (of_run, own): (Vec<_>, Vec<_>) = entries.iter().partition(|e| is_of_run(&e.name));
    let (momenta, seen): (Vec<_>, Vec<_>) = of_run.into_iter().partition(|e| e.name.starts_with(OPTIMIZER_PREFIX));
    let sum = |list: &[&Entry]| list.iter().map(|e| e.bytes as u64).sum::<u64>();
    let mut lines = vec![format!("{}: {} tensors, {}", path.display(), own.len(), super::bytes(sum(&own)))];
    if !momenta.is_empty() {
        lines.push(format!("and the optimizer's momenta: {} tensors, {}", momenta.len(), super::bytes(sum(&momenta))));
    }
    if !seen.is_empty() {
        lines.push(format!(
            "and the weights' signs at their last observation: {} tensors, {}",
            seen.len(),
            super::bytes(sum(&seen))
        ));
    }
    for (key, value) in &meta {
        let short: String = value.chars().take(90).collect();
        let more = if short.len() < value.len() { " …" } else { "" };
        lines.push(format!("  {key}: {short}{more}"));
    }
    let shape = |e: &Entry| e.shape.iter().map(usize::to_string).collect::<Vec<_>>().join("x");
    let row = |e: &&Entry| vec![e.name.clone(), e.dtype.clone(), shape(e), super::bytes(e.bytes as u64)];
    lines.extend(columns(&["tensor", "type", "shape", ">bytes"], &own.iter().map(row).collect::<Vec<_>>()));
    let mut json = json!({"kind": "weights", "metadata": meta, "tensors": entries});
    // Only a file that says which network it is has layers.
    if meta.contains_key("model") {
        match network(path) {
            Ok(layers) => {
                lines.extend(histogram(&layers));
                let object = |l: &LayerLevels| {
                    let pairs: Vec<_> = l.levels.iter().map(|(level, n)| json!({"level": level, "count": n})).collect();
                    json!({"layer": l.name, "weights": l.count(), "levels": pairs})
                };
                json["layers"] = layers.iter().map(object).collect();
            }
            Err(e) => {
                lines.push(format!("its levels cannot be counted: {e}"));
                json["problem"] = e.to_string().into();
            }
        }
    }
    Ok(Said { json, lines })
}

/// How often each level occurs in a layer.
struct LayerLevels {
    name: String,
    levels: Vec<(f32, usize)>,
}

impl LayerLevels {
    fn count(&self) -> usize {
        self.levels.iter().map(|(_, n)| n).sum()
    }
}

/// The layers of a method with levels, and at the end all of them together.
fn network(path: &Path) -> Result<Vec<LayerLevels>> {
    let network = Network::read(&checkpoint::read(path)?, path)?;
    if network.identity.method == MethodSpec::FP32 {
        return Ok(Vec::new());
    }
    let mut composed = network.composed();
    let names: Vec<_> = network.shift_layers().collect();
    let MethodSpec { method, bits } = network.identity.method;
    for name in &names {
        let weight = &mut composed.get_mut(&format!("{name}.weight")).expect("a layer's weight").data;
        let Some(levels) = method.levels(bits, weight) else { continue };
        if levels.scaled {
            // In units of its own scale, a layer's or a channel's.
            weight.iter_mut().filter(|w| **w != 0.0).for_each(|w| *w = w.signum());
        }
        let unit = f64::from(levels.exponent).exp2();
        let off = weight.iter().filter(|w| levels.index(f64::from(w.abs()) / unit).is_none()).count();
        if off > 0 {
            let what = format!("{off} of its {} weights are not frozen on a level yet", weight.len());
            return Err(Error::shape(*name, what));
        }
    }
    let of = |name: &&str| (name.to_string(), &composed[&format!("{name}.weight")].data[..]);
    let all: Vec<f32> = names.iter().flat_map(|n| of(n).1).copied().collect();
    let layers = names.iter().map(of).chain([("all".to_string(), &all[..])]);
    Ok(layers.map(|(name, weights)| LayerLevels { name, levels: levels(weights) }).collect())
}

/// A row for each layer: the share of each level, in percent.
fn histogram(layers: &[LayerLevels]) -> Vec<String> {
    let Some(all) = layers.last() else { return Vec::new() };
    let titles: Vec<_> = all.levels.iter().map(|(level, _)| format!(">{level:+}").replace("+0", "0")).collect();
    let titles: Vec<_> = ["layer", ">weights"].into_iter().chain(titles.iter().map(String::as_str)).collect();
    let row = |l: &LayerLevels| {
        let share = |level: &f32| {
            let n = l.levels.iter().find(|(v, _)| v == level).map_or(0, |(_, n)| *n);
            format!("{:.2}", 100.0 * n as f64 / l.count().max(1) as f64)
        };
        let shares = all.levels.iter().map(|(level, _)| share(level));
        [l.name.clone(), l.count().to_string()].into_iter().chain(shares).collect()
    };
    let title = "levels of the composed weights, in percent of a layer:".to_string();
    let rows: Vec<Vec<String>> = layers.iter().map(row).collect();
    std::iter::once(title).chain(columns(&titles, &rows)).collect()
}

fn log(path: &Path) -> Result<Said> {
    let records = metrics::read(path)?;
    let evals: Vec<_> = records
        .iter()
        .filter_map(|r| match r {
            Record::Eval(e) => Some(e),
            Record::Train(_) | Record::Int(_) | Record::Dynamics(_) => None,
        })
        .collect();
    let trained = records.iter().filter(|r| matches!(r, Record::Train(_))).count();
    let mut lines = vec![format!("{}: training intervals {trained}, evaluations {}", path.display(), evals.len())];
    let row = |e: &&metrics::EvalRecord| {
        let cells = [e.loss, e.top1, e.top5].map(|v| format!("{v:.4}"));
        [(e.epoch + 1).to_string(), (e.step + 1).to_string()].into_iter().chain(cells).collect()
    };
    let rows: Vec<Vec<String>> = evals.iter().map(row).collect();
    lines.extend(columns(&[">epoch", ">step", ">test loss", ">top-1 %", ">top-5 %"], &rows));
    lines.extend(records.iter().rev().find_map(movement));
    Ok(Said { json: json!({"kind": "metrics", "records": records}), lines })
}

fn data_set(path: &Path, text: &str) -> Result<Said> {
    let m = Manifest::parse(text, &path.display().to_string())?;
    let shown = m.classes.iter().take(20).cloned().collect::<Vec<_>>().join(", ");
    let more = if m.classes.len() > 20 { ", …" } else { "" };
    let lines = vec![
        format!("data set: {}", m.title),
        format!("images {} x {} x {}, {} classes: {shown}{more}", m.channels, m.height, m.width, m.classes.len()),
        format!("mean {:?}, standard deviation {:?}", m.mean, m.std),
        format!("licence: {}", m.licence),
    ];
    Ok(Said { json: json!({"kind": "data set", "manifest": m}), lines })
}

fn settings(path: &Path, table: toml::Table) -> Result<Said> {
    let layer = Layer::new(table.clone(), Origin::File(path.into()))?;
    let layered = Layered::new(None, vec![layer])?;
    let own = layered.origins.iter().filter(|(_, origin)| matches!(origin, Origin::File(_))).count();
    let mut lines = vec![format!("{}: a configuration of {own} keys; with what else would be taken:", path.display())];
    lines.extend(layered.annotated()?.lines().map(String::from));
    Ok(Said { json: json!({"kind": "configuration", "keys": table}), lines })
}
