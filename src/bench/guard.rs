//! A step's time as a ratio to fixed kernels measured in the same minutes, held against a stored ratio.
//!
//! The unit is the time of 10⁹ multiply-add operations in registers plus that of 10⁹ bytes copied: no work on s3gpu's own kernels
//! changes it, and a busy or throttled machine slows it down together with the step.

use std::path::{Path, PathBuf};

use clap::Args;
use serde::{Deserialize, Serialize};

use super::ceilings::{Ceilings, Reference};
use super::clock::Clock;
use super::workload::{Named, Subject, Workload};
use super::{commit, driver, median};
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::gpu::{self, Gpu};
use crate::graph::lower;
use crate::model::Shortcut;
use crate::model::resnet::ARCHS;
use crate::train::Config;
use crate::train::setup::Setup;

/// A ratio may differ from the stored one by this much.
const LIMIT: f64 = 0.2;

/// Flags of `s3gpu bench guard`.
#[derive(Args, Clone, Debug)]
pub struct GuardArgs {
    /// The step.
    #[command(flatten)]
    pub workload: Workload,
    /// Store the ratio measured now
    #[arg(long)]
    pub record: bool,
    /// Stored ratios
    #[arg(long, default_value = "benches/guard.toml")]
    pub file: PathBuf,
    /// Rounds to take the median of, each the reference, a step, and the reference again
    #[arg(long, default_value_t = 9, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub rounds: u32,
}

/// A stored ratio.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// Adapter.
    pub adapter: String,
    /// Its driver when the ratio was recorded; another one is only remarked on.
    pub driver: String,
    /// Model, width, shortcut, method, batch.
    #[serde(flatten)]
    pub workload: Named,
    /// Step / unit.
    pub ratio: f64,
    /// Commit that it was recorded at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}

/// The file of stored ratios.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Ratios {
    /// One an adapter and workload.
    #[serde(default)]
    pub ratio: Vec<Entry>,
}

/// A ratio beside the stored one.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Verdict {
    /// Beyond the limit: this many times the stored ratio.
    Slower(f64),
    /// Below it by more than the limit.
    Faster(f64),
    /// Between.
    Within(f64),
}

/// Judges a ratio.
pub fn judge(stored: f64, now: f64) -> Verdict {
    match now / stored {
        x if x > 1.0 + LIMIT => Verdict::Slower(x),
        x if x < 1.0 / (1.0 + LIMIT) => Verdict::Faster(x),
        x => Verdict::Within(x),
    }
}

impl Ratios {
    /// Reads the file; one that does not exist holds nothing.
    ///
    /// # Errors
    /// [`Error::Io`], or [`Error::Usage`] where it is not such a file.
    pub fn read(path: &Path) -> Result<Self> {
        if !path.exists() {
            return Ok(Self::default());
        }
        let text = std::fs::read_to_string(path).map_err(Error::io(path, "read"))?;
        toml::from_str(&text).map_err(|e| {
            let hint = "mend it, or delete it and record anew with `make guard-record`";
            Error::usage(format!("--file {}: {e}", path.display()), hint)
        })
    }

    /// The entry of an adapter and workload.
    pub fn find(&self, adapter: &str, workload: &Named) -> Option<&Entry> {
        self.ratio.iter().find(|e| e.adapter == adapter && e.workload == *workload)
    }

    /// Adds an entry in place of an older one for the same adapter and workload, and writes the file.
    ///
    /// # Errors
    /// [`Error::Io`].
    pub fn store(mut self, entry: Entry, path: &Path) -> Result<()> {
        self.ratio.retain(|e| e.adapter != entry.adapter || e.workload != entry.workload);
        self.ratio.push(entry);
        self.ratio.sort_by_key(|e| (e.adapter.clone(), e.workload.to_string()));
        let text = toml::to_string(&self).expect("plain tables");
        let head = "# Step time in units of 10^9 multiply-add operations + 10^9 bytes copied; written by `make guard-record`.\n\n";
        write_atomic(path, |out| out.write_all(format!("{head}{text}").as_bytes()))
    }
}

/// Layers of any network's default plan on this adapter that got a naive rung, as `model direction:layer rung`.
///
/// # Errors
/// As [`Setup::new`].
pub fn naive_rungs(gpu: &Gpu, base: &Config) -> Result<Vec<String>> {
    let mut found = Vec::new();
    for arch in ARCHS {
        for shortcut in [Shortcut::Pad, Shortcut::Conv] {
            let setup = Setup::new(Config { model: arch.name.into(), shortcut, rungs: Vec::new(), ..base.clone() })?;
            let rungs = lower(&setup.graph, &setup.options(Default::default()).on(gpu))?.rungs;
            let naive = rungs.iter().filter(|(_, rung)| rung.ends_with("_naive"));
            found.extend(naive.map(|(layer, rung)| format!("{} ({}) {layer}: {rung}", arch.name, shortcut.name())));
        }
    }
    Ok(found)
}

/// Seconds of the unit at these rates.
fn unit(rates: &Ceilings) -> f64 {
    1e9 / rates.flops_per_s + 1e9 / rates.bytes_per_s
}

/// Median ratio of a step to the units measured right before and after it.
fn ratio(subject: &mut Subject, reference: &Reference, clock: &mut Clock, rounds: u32) -> Result<f64> {
    let mut all = Vec::new();
    let mut before = unit(&reference.rates(subject.gpu(), clock)?);
    for _ in 0..rounds {
        let step = subject.steps(1)?;
        let after = unit(&reference.rates(subject.gpu(), clock)?);
        all.push(2.0 * step / (before + after));
        before = after;
    }
    Ok(median(all))
}

/// Whether the guard lets the tree pass; says on the way what it finds.
///
/// # Errors
/// As [`Subject::new`], [`Ratios::read`] and [`Ratios::store`].
pub fn run(gpu: Gpu, args: &GuardArgs, mut say: impl FnMut(String) -> Result<()>) -> Result<bool> {
    let naive = naive_rungs(&gpu, &args.workload.config()?)?;
    if !naive.is_empty() {
        say(format!("FAILED: naive rungs in default plans:\n  {}", naive.join("\n  ")))?;
        return Ok(false);
    }
    say("no default plan has a naive rung".into())?;
    let stored = Ratios::read(&args.file)?;
    let workload = args.workload.named()?;
    let adapter = gpu.info.name.trim().to_string();
    let driver = driver(&gpu);
    let known = stored.find(&adapter, &workload).cloned();
    if known.is_none() && !args.record {
        say(format!("no ratio stored in {} for {workload} on {}", args.file.display(), gpu::describe(&gpu.info)))?;
        say("  record one on a tree that you trust: make guard-record, or `s3gpu bench guard --record` with the same flags".into())?;
        return Ok(true);
    }
    let mut subject = Subject::new(gpu, args.workload.config()?)?;
    let reference = Reference::new(subject.gpu())?;
    let mut clock = Clock::new(subject.gpu(), &reference)?;
    subject.steps(1)?;
    let mut now = ratio(&mut subject, &reference, &mut clock, args.rounds)?;
    say(format!("{workload} on {adapter}: a step is {now:.2} units"))?;
    if args.record {
        let entry = Entry { adapter, driver, workload, ratio: now, commit: commit() };
        stored.store(entry, &args.file)?;
        say(format!("recorded in {}", args.file.display()))?;
        return Ok(true);
    }
    let Some(known) = known else { return Ok(true) };
    if known.driver != driver {
        say(format!("  note: recorded with another driver, {}", known.driver))?;
    }
    if let Verdict::Slower(x) = judge(known.ratio, now) {
        // A machine that became busy half-way decides nothing: the better of two medians counts.
        say(format!("  {x:.2} times the stored {:.2}; measuring once more", known.ratio))?;
        now = now.min(ratio(&mut subject, &reference, &mut clock, args.rounds)?);
    }
    let percent = 100.0 * LIMIT;
    let (ok, text) = match judge(known.ratio, now) {
        Verdict::Slower(x) => {
            (false, format!("FAILED: {x:.2} times the stored {:.2}, beyond {percent:.0} %", known.ratio))
        }
        Verdict::Faster(x) => (
            true,
            format!("{:.2} times faster than the stored {:.2}: record it (make guard-record)", 1.0 / x, known.ratio),
        ),
        Verdict::Within(x) => (true, format!("{x:.2} times the stored {:.2}, within {percent:.0} %", known.ratio)),
    };
    say(text)?;
    Ok(ok)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn twenty_percent_either_way() {
        for (now, want) in [
            (12.1, Verdict::Slower(1.21)),
            (11.9, Verdict::Within(1.19)),
            (8.4, Verdict::Within(0.84)),
            (8.0, Verdict::Faster(0.8)),
        ] {
            let got = judge(10.0, now);
            let same = matches!(
                (got, want),
                (Verdict::Slower(a), Verdict::Slower(b))
                    | (Verdict::Faster(a), Verdict::Faster(b))
                    | (Verdict::Within(a), Verdict::Within(b)) if (a - b).abs() < 1e-12
            );
            assert!(same, "{now}: {got:?}");
        }
    }

    #[test]
    fn ratios_are_kept_by_adapter_and_workload() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("guard.toml");
        let named = |batch| Named {
            model: "resnet8".into(),
            width: 1,
            shortcut: Shortcut::Pad,
            method: "s3 3-bit".into(),
            batch,
            image: 32,
        };
        let entry = |adapter: &str, batch, ratio| Entry {
            adapter: adapter.into(),
            driver: "d 1".into(),
            workload: named(batch),
            ratio,
            commit: Some("abc".into()),
        };
        assert_eq!(Ratios::read(&path).unwrap(), Ratios::default());
        for e in [entry("b", 8, 2.0), entry("a", 8, 1.5), entry("b", 16, 4.0), entry("b", 8, 3.0)] {
            Ratios::read(&path).unwrap().store(e, &path).unwrap();
        }
        let all = Ratios::read(&path).unwrap();
        assert_eq!(all.ratio.len(), 3);
        assert_eq!(all.find("b", &named(8)), Some(&entry("b", 8, 3.0)));
        assert_eq!(all.find("a", &named(16)), None);
        std::fs::write(&path, "ratio = 3").unwrap();
        assert!(matches!(Ratios::read(&path), Err(Error::Usage { .. })));
    }
}
