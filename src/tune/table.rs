//! Measured choices in the user's cache folder, one file an adapter, driver and version.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::cache::{CacheFolder, slug};
use crate::gpu::{Gpu, describe};
use crate::kernels::AnyKernel;
use crate::kernels::conv::{ConvParams, Family, Rung, rungs};

const FORMAT: &str = "s3gpu tune 1";

/// What was measured on a shape.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// The rung to take.
    pub rung: String,
    /// Median seconds of a dispatch, by rung.
    pub seconds: BTreeMap<String, f64>,
    /// Rungs that were tried and failed a case, or that the adapter refused.
    #[serde(default)]
    pub refused: BTreeSet<String>,
}

/// An adapter's choices by [`Family::key`].
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Table {
    format: String,
    adapter: String,
    version: String,
    /// The choices.
    pub choices: BTreeMap<String, Choice>,
}

impl Table {
    /// An empty one for an adapter as [`describe`] names it.
    pub fn new(adapter: &str) -> Self {
        let (format, version) = (FORMAT.into(), env!("CARGO_PKG_VERSION").into());
        Self { format, adapter: adapter.into(), version, choices: BTreeMap::new() }
    }

    /// Its file's name.
    pub fn file_name(adapter: &str) -> String {
        format!("tune-{}-{}.json", slug(adapter), env!("CARGO_PKG_VERSION"))
    }

    /// What is kept for the device; empty where nothing is, or nothing that can be used, which is worth a note.
    pub fn load(gpu: &Gpu) -> (Self, Option<String>) {
        Self::read(gpu.cache.as_ref(), &describe(&gpu.info))
    }

    /// What a folder keeps for an adapter as [`describe`] names it; empty where nothing is, or nothing that can be used, which is worth
    /// a note.
    pub fn read(folder: Option<&CacheFolder>, adapter: &str) -> (Self, Option<String>) {
        let (fresh, name) = (Self::new(adapter), Self::file_name(adapter));
        let Some(folder) = folder else { return (fresh, None) };
        let ignored = |why: String| format!("{why}\n  the built-in choice of kernels is taken; --tune measures anew");
        let bytes = match folder.read(&name) {
            Ok(Some(bytes)) => bytes,
            Ok(None) => return (fresh, None),
            Err(e) => return (fresh, Some(ignored(e.to_string()))),
        };
        let path = folder.path(&name);
        match serde_json::from_slice::<Self>(&bytes) {
            Err(e) => (fresh, Some(ignored(format!("{} is damaged: {e}", path.display())))),
            Ok(found)
                if (&found.format, &found.adapter, &found.version)
                    != (&fresh.format, &fresh.adapter, &fresh.version) =>
            {
                let whose = format!("{} is of {} with s3gpu {}", path.display(), found.adapter, found.version);
                (fresh, Some(ignored(whose)))
            }
            Ok(found) => (found, None),
        }
    }

    /// Keeps it.
    ///
    /// # Errors
    /// [`Error::Io`] where the folder takes no file.
    pub fn save(&self, folder: &CacheFolder) -> Result<()> {
        let json = serde_json::to_vec_pretty(self).map_err(|e| Error::Gpu { what: format!("measured times: {e}") })?;
        folder.write(&Self::file_name(&self.adapter), &json)
    }

    /// The rungs for these shapes by key. A choice counts only where every rung that fits and `runs` on the adapter was tried, so that
    /// rungs of a later day are measured before they are passed over, and where it names one of them.
    pub fn rungs(
        &self,
        shapes: &[(Family, ConvParams)],
        runs: impl Fn(&Rung, &ConvParams) -> bool,
    ) -> BTreeMap<String, String> {
        let usable = |(family, p): &(Family, ConvParams)| {
            let key = family.key(p);
            let c = self.choices.get(&key)?;
            let tried = |name: &str| c.seconds.contains_key(name) || c.refused.contains(name);
            let mut names = rungs(*family).iter().filter(|r| r.fits(p) && runs(r, p)).map(|r| AnyKernel::name(*r));
            let good = names.clone().all(tried) && names.any(|name| name == c.rung);
            good.then(|| (key, c.rung.clone()))
        };
        shapes.iter().filter_map(usable).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const RUNGS: [&str; 4] =
        ["conv_forward_subgroup", "conv_forward_direct", "conv_forward_gemm", "conv_forward_naive"];

    fn shape(n: u32) -> (Family, ConvParams) {
        (Family::Forward, ConvParams { subgroup: 8, ..ConvParams::new(n, [8, 8, 16], 16, [3, 1, 1]) })
    }

    /// Choices for batches of 1, 2, ... that take these rungs, after all of today's but the subgroup rung were tried.
    fn table(rungs: &[&str]) -> Table {
        let mut table = Table::new("an adapter");
        for (n, rung) in (1..).zip(rungs) {
            let seconds = RUNGS[1..].iter().map(|r| (r.to_string(), 1.5e-3)).collect();
            let choice = Choice { rung: rung.to_string(), seconds, refused: BTreeSet::new() };
            table.choices.insert(shape(n).0.key(&shape(n).1), choice);
        }
        table
    }

    /// What is taken for a batch of `n` on an adapter without subgroups.
    fn taken(table: &Table, n: u32) -> Option<String> {
        table.rungs(&[shape(n)], |r, _| AnyKernel::name(r) != RUNGS[0]).into_values().next()
    }

    #[test]
    fn a_table_comes_back_and_only_rungs_of_the_family_that_run_count() {
        let root = tempfile::tempdir().unwrap();
        let folder = CacheFolder::below(root.path());
        assert_eq!(Table::read(Some(&folder), "an adapter"), (Table::new("an adapter"), None));
        assert_eq!(Table::read(None, "an adapter"), (Table::new("an adapter"), None));
        let table = table(&[RUNGS[3], "conv_forward_of_tomorrow", "conv_backward_input_direct", RUNGS[0]]);
        table.save(&folder).unwrap();
        let (found, note) = Table::read(Some(&folder), "an adapter");
        assert_eq!((&found, note), (&table, None));
        assert_eq!(taken(&found, 1).as_deref(), Some(RUNGS[3]));
        (2..=5).for_each(|n| assert_eq!(taken(&found, n), None, "batch {n}"));
    }

    #[test]
    fn a_choice_that_does_not_know_a_rung_of_today_is_stale() {
        for missing in &RUNGS[1..] {
            let mut table = table(&[RUNGS[3]]);
            let choice = table.choices.values_mut().next().unwrap();
            choice.seconds.remove(*missing);
            assert_eq!(taken(&table, 1), None, "{missing}");
            table.choices.values_mut().next().unwrap().refused.insert(missing.to_string());
            assert_eq!(taken(&table, 1).as_deref(), Some(RUNGS[3]), "{missing} was tried and refused");
        }
        // The subgroup rung was not tried, which matters only where it runs.
        assert!(table(&[RUNGS[3]]).rungs(&[shape(1)], |_, _| true).is_empty());
    }

    #[test]
    fn a_damaged_or_foreign_file_is_ignored_with_a_note() {
        let root = tempfile::tempdir().unwrap();
        let folder = CacheFolder::below(root.path());
        let name = Table::file_name("an adapter");
        let good = serde_json::to_string(&table(&[RUNGS[3]])).unwrap();
        let foreign = good.replace("an adapter", "another adapter");
        let old = good.replace(env!("CARGO_PKG_VERSION"), "0.0.1");
        for bad in [&good[..good.len() / 2], "", "[]", "\u{0}", &foreign, &old] {
            folder.write(&name, bad.as_bytes()).unwrap();
            let (found, note) = Table::read(Some(&folder), "an adapter");
            assert_eq!(found, Table::new("an adapter"), "{bad}");
            assert!(note.is_some_and(|n| n.contains(&name) && n.contains("--tune")), "{bad}");
        }
        std::fs::remove_file(folder.path(&name)).unwrap();
        std::fs::create_dir(folder.path(&name)).unwrap();
        assert!(Table::read(Some(&folder), "an adapter").1.is_some_and(|n| n.contains("cannot read")));
    }
}
