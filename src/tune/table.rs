//! Measured choices in the user's cache folder, one file an adapter, driver and version.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::files::cache::{CacheFolder, slug};
use crate::gpu::{Gpu, describe};
use crate::kernels::conv::Family;

const FORMAT: &str = "s3gpu tune 1";

/// What was measured on a shape.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Choice {
    /// The rung to take.
    pub rung: String,
    /// Median seconds of a dispatch, by rung.
    pub seconds: BTreeMap<String, f64>,
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

    fn read(folder: Option<&CacheFolder>, adapter: &str) -> (Self, Option<String>) {
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

    /// The rungs by key; names that mean no rung of the key's family are left out.
    pub fn rungs(&self) -> BTreeMap<String, String> {
        let known = |(key, c): &(&String, &Choice)| {
            Family::of(&c.rung).is_some_and(|(f, _)| key.split(' ').next() == Some(f.name()))
        };
        self.choices.iter().filter(known).map(|(k, c)| (k.clone(), c.rung.clone())).collect()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new("an adapter");
        let choice = |rung: &str| Choice { rung: rung.into(), seconds: [(rung.to_string(), 1.5e-3)].into() };
        table.choices.insert("conv_forward 1x1".into(), choice("conv_forward_direct"));
        table.choices.insert("conv_forward 2x2".into(), choice("conv_forward_of_tomorrow"));
        table.choices.insert("conv_forward 3x3".into(), choice("conv_backward_input_direct"));
        table
    }

    #[test]
    fn a_table_comes_back_and_only_rungs_of_the_family_count() {
        let root = tempfile::tempdir().unwrap();
        let folder = CacheFolder::below(root.path());
        assert_eq!(Table::read(Some(&folder), "an adapter"), (Table::new("an adapter"), None));
        assert_eq!(Table::read(None, "an adapter"), (Table::new("an adapter"), None));
        table().save(&folder).unwrap();
        let (found, note) = Table::read(Some(&folder), "an adapter");
        assert_eq!((&found, note), (&table(), None));
        assert_eq!(found.rungs(), [("conv_forward 1x1".to_string(), "conv_forward_direct".to_string())].into());
    }

    #[test]
    fn a_damaged_or_foreign_file_is_ignored_with_a_note() {
        let root = tempfile::tempdir().unwrap();
        let folder = CacheFolder::below(root.path());
        let name = Table::file_name("an adapter");
        let good = serde_json::to_string(&table()).unwrap();
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
