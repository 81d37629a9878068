//! A sweep's file, and the cells that it stands for.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::{Table, Value};

use crate::error::{Error, Result};
use crate::files::cache::slug;
use crate::files::read_text;
use crate::methods::LatentInit;
use crate::train::layers::{Layer, Layered, Origin, check_name, fields, written};
use crate::train::{Config, Setup};

/// The file's name in a sweep's folder, where it is kept as it was at the last start.
pub const SWEEP: &str = "sweep.toml";

/// Keys of a configuration that a sweep varies, each with how the file says it.
const AXES: [(&str, &str); 5] = [
    ("model", "models = [\"resnet8\"]"),
    ("seed", "seeds = [1, 2, 3]"),
    ("method", "method = \"s3\" in [[methods]]"),
    ("bits", "bits = [2, 3] in [[methods]]"),
    ("latent-init", "latent-inits = [\"dense\", \"normal\"] in [[methods]]"),
];

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct SweepFile {
    out: Option<PathBuf>,
    recipe: Option<String>,
    #[serde(default)]
    models: Vec<String>,
    #[serde(default)]
    seeds: Vec<u64>,
    #[serde(default)]
    settings: Table,
    #[serde(default)]
    methods: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Entry {
    method: String,
    bits: Option<Vec<u32>>,
    latent_inits: Option<Vec<LatentInit>>,
    label: Option<String>,
    #[serde(default)]
    settings: Table,
}

/// Cells that differ in their seed alone.
#[derive(Clone, Debug)]
pub struct Row {
    /// What people call it: the label or the method, with its bits.
    pub title: String,
    /// Its cells' names without the seed.
    pub name: String,
    /// Its cells' configuration, with any seed, and `init` as the file has it.
    pub config: Config,
}

/// One run of a sweep.
#[derive(Clone, Debug)]
pub struct Cell {
    /// Its folder's name.
    pub name: String,
    /// The row that it belongs to.
    pub row: usize,
    /// Its configuration.
    pub config: Config,
}

/// A sweep's file, checked: every cell can be trained as far as that can be said without a device and images.
#[derive(Clone, Debug)]
pub struct Sweep {
    /// Its file.
    pub path: PathBuf,
    /// What the file says.
    pub text: String,
    /// Folder of its cells.
    pub out: PathBuf,
    /// Rows of its table, in the file's order, one model after the other.
    pub rows: Vec<Row>,
    /// The cells in the order of their training: every row's first seed, then every row's second.
    pub cells: Vec<Cell>,
}

impl Sweep {
    /// Reads a sweep's file, or that of a sweep's folder, whose cells then stay in that folder. The layers `upper` lie above the file's
    /// own settings.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read; [`Error::Usage`] for text that is no sweep, unknown keys, an axis without values, cells
    /// that cannot be, and cells that are the same; as [`Config::manifest`].
    pub fn read(path: &Path, upper: &[Layer]) -> Result<Self> {
        if path.is_dir() {
            let inside = path.join(SWEEP);
            if !inside.is_file() {
                let hint = "name the sweep's file, or the folder that `s3gpu compare` made";
                return Err(Error::usage(format!("{} is no sweep's folder: it has no {SWEEP}", path.display()), hint));
            }
            return Ok(Self { out: path.into(), ..Self::parse(&read_text(&inside)?, &inside, upper)? });
        }
        Self::parse(&read_text(path)?, path, upper)
    }

    fn parse(text: &str, path: &Path, upper: &[Layer]) -> Result<Self> {
        let origin = Origin::File(path.into());
        let file = parse_file(text, &origin)?;
        let stem = path.file_stem().unwrap_or_default();
        let out = file.out.clone().unwrap_or_else(|| Path::new("runs").join(stem));
        let (mut rows_found, mut cells) = (Vec::new(), Vec::new());
        for &seed in &file.seeds {
            rows_found = rows(&file, &origin, upper, seed)?;
            cells.extend(rows_found.iter().enumerate().map(|(row, (r, init))| Cell {
                name: format!("{}-seed{seed}", r.name),
                row,
                config: Config { seed, init: init.clone(), ..r.config.clone() },
            }));
        }
        let rows = rows_found.into_iter().map(|(row, _)| row).collect();
        Ok(Self { path: path.into(), text: text.into(), out, cells, rows })
    }

    /// The settings of most rows, and for each row those in which it differs from them, without what its method has no use for; the axes are
    /// in neither.
    pub fn settings(&self) -> (Table, Vec<Table>) {
        const LATENTS: [&str; 2] = ["latent-lr", "latent-scale"];
        let mut own: Vec<_> = self.rows.iter().map(|r| written(&r.config)).collect();
        for (keys, row) in own.iter_mut().zip(&self.rows) {
            let is_idle = row.config.method().is_ok_and(|spec| !spec.method.scales_latent_rate());
            keys.retain(|key, _| axis(key).is_none() && !(is_idle && LATENTS.contains(&key)));
        }
        let (mut common, defaults) = (Table::new(), written(&Config::default()));
        for key in own.iter().flat_map(Table::keys) {
            let values: Vec<_> = own.iter().filter_map(|keys| keys.get(key)).collect();
            let times = |value: &Value| values.iter().filter(|v| **v == value).count();
            // A row that lacks what the others have could not say so, unless it has no use for it.
            let is_told = values.len() > 1 || defaults.get(key) == Some(values[0]);
            let may_be = values.len() == own.len() || is_told && LATENTS.contains(&&key[..]);
            if let Some(value) = values.iter().find(|v| may_be && 2 * times(v) > values.len()) {
                common.insert(key.clone(), (*value).clone());
            }
        }
        own.iter_mut().for_each(|keys| keys.retain(|key, value| common.get(key) != Some(value)));
        (common, own)
    }
}

/// How the file says what this key does, where the key is an axis.
fn axis(key: &str) -> Option<&'static str> {
    AXES.iter().find(|(axis, _)| *axis == key).map(|(_, form)| *form)
}

fn parse_file(text: &str, origin: &Origin) -> Result<SweepFile> {
    let table: Table = toml::from_str(text).map_err(|e| {
        Error::usage(format!("{origin} is no TOML: {}", e.to_string().trim_end()), "`s3gpu compare --help` shows one")
    })?;
    table.keys().try_for_each(|key| check_name(key, fields::<SweepFile>(), origin))?;
    let entries = table.get("methods").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_table);
    entries.flat_map(Table::keys).try_for_each(|key| check_name(key, fields::<Entry>(), origin))?;
    let file: SweepFile = toml::from_str(text).map_err(|e| {
        Error::usage(format!("{origin} is no sweep: {}", e.to_string().trim_end()), "`s3gpu compare --help` shows one")
    })?;
    let empty = |name: &str, form: &str| {
        Err(Error::usage(format!("`{name}` names nothing (from {origin})"), format!("name at least one: {form}")))
    };
    if file.models.is_empty() {
        return empty("models", "models = [\"resnet8\"]");
    }
    if file.seeds.is_empty() {
        return empty("seeds", "seeds = [1, 2, 3]");
    }
    if file.methods.is_empty() {
        return empty("methods", "a line [[methods]], and below it method = \"s3\"");
    }
    for e in &file.methods {
        if e.bits.as_ref().is_some_and(Vec::is_empty) {
            return empty("bits", "bits = [3], or leave it out for the method's own");
        }
        if e.latent_inits.as_ref().is_some_and(Vec::is_empty) {
            return empty("latent-inits", "latent-inits = [\"dense\"], or leave it out");
        }
        if let Some(label) = e.label.as_ref().filter(|l| slug(l).is_empty() || l.contains(char::is_control)) {
            let what = format!("label = {label:?} cannot name a folder (from {origin})");
            return Err(Error::usage(what, "give it letters or digits, on one line"));
        }
    }
    if let Some(seed) = twice(&file.seeds) {
        return Err(Error::usage(format!("`seeds` has {seed} twice (from {origin})"), "leave one of them out"));
    }
    Ok(file)
}

/// A value that an earlier one equals.
fn twice<T: PartialEq>(all: &[T]) -> Option<&T> {
    all.iter().enumerate().find(|(i, value)| all[..*i].contains(value)).map(|(_, value)| value)
}

/// In `init`, stands for the cell's seed.
const SEED: &str = "{seed}";

/// The layer with this seed in `init`.
fn seeded(layer: &Layer, seed: u64) -> Layer {
    let mut layer = layer.clone();
    if let Some(Value::String(init)) = layer.keys.get_mut("init") {
        *init = init.replace(SEED, &seed.to_string());
    }
    layer
}

/// The rows, each with the `init` of its cell of this seed.
fn rows(file: &SweepFile, origin: &Origin, upper: &[Layer], seed: u64) -> Result<Vec<(Row, Option<PathBuf>)>> {
    let recipe = file.recipe.as_deref().map(Layer::recipe).transpose()?;
    let settings = |keys: &Table| Layer::new(keys.clone(), origin.clone());
    let common = settings(&file.settings)?;
    let own = file.methods.iter().map(|e| settings(&e.settings)).collect::<Result<Vec<_>>>()?;
    for layer in [&common].into_iter().chain(&own).chain(upper) {
        if let Some((key, form)) = layer.keys.keys().find_map(|key| Some((key, axis(key)?))) {
            let what = format!("`{key}` is varied by the sweep, and cannot be set (from {})", layer.origin);
            return Err(Error::usage(what, format!("write {form}")));
        }
    }
    let mut rows = Vec::new();
    for model in &file.models {
        for (entry, own) in file.methods.iter().zip(&own) {
            for (bits, init) in entry.forms() {
                let axes = Layer::new(entry.axes(model, bits, init), origin.clone())?;
                let mut layers = vec![common.clone(), own.clone()];
                layers.extend(upper.iter().cloned().chain([axes]));
                let title = entry.label.as_deref().unwrap_or(&entry.method);
                let init = layers.iter().rev().chain(&recipe).find_map(|layer| layer.keys.get("init")?.as_str());
                let absolute = |path| std::path::absolute(path).map_err(Error::io(path, "find"));
                let init = init.map(|path| absolute(Path::new(path))).transpose()?;
                let mut config = Layered::new(
                    recipe.as_ref().map(|layer| seeded(layer, seed)),
                    layers.iter().map(|layer| seeded(layer, seed)).collect(),
                )
                .and_then(Layered::settle)
                .and_then(|config| Ok(Setup::new(config)?.config))
                .map_err(|e| in_row(e, &format!("{title}, {model}")))?;
                let own = std::mem::replace(&mut config.init, init);
                rows.push((entry.row(config)?, own));
            }
        }
    }
    refuse_twins(&rows, origin)?;
    Ok(rows)
}

impl Entry {
    /// Bits and ways to start; none stands for what the layers below say.
    fn forms(&self) -> impl Iterator<Item = (Option<u32>, Option<LatentInit>)> {
        fn each<T: Copy>(axis: &Option<Vec<T>>) -> Vec<Option<T>> {
            axis.as_ref().map_or(vec![None], |all| all.iter().copied().map(Some).collect())
        }
        let inits = each(&self.latent_inits);
        each(&self.bits).into_iter().flat_map(move |bits| inits.clone().into_iter().map(move |init| (bits, init)))
    }

    fn axes(&self, model: &str, bits: Option<u32>, init: Option<LatentInit>) -> Table {
        let mut keys = Table::new();
        keys.insert("method".into(), self.method.clone().into());
        keys.insert("model".into(), model.into());
        keys.extend(bits.map(|b| ("bits".into(), i64::from(b).into())));
        keys.extend(init.map(|i| ("latent-init".into(), Value::try_from(i).expect("a word"))));
        keys
    }

    /// What is as by default is left out of the name, so that a name stays when an axis gets more values.
    fn row(&self, config: Config) -> Result<Row> {
        let c = &config;
        let called = self.label.as_deref().unwrap_or(&self.method);
        let mut title = match (&self.label, c.bits) {
            (None, _) => c.method()?.title(),
            (Some(label), 0) => label.clone(),
            (Some(label), bits) => format!("{label}, {bits}-bit"),
        };
        let mut parts = vec![slug(called)];
        if c.bits != 0 {
            parts.push(format!("{}bit", c.bits));
        }
        if c.latent_init != LatentInit::default() {
            let keys = written(c);
            let init = keys["latent-init"].as_str().unwrap_or_default();
            title += &format!(", {init}");
            parts.push(init.into());
        }
        parts.push(c.model.clone());
        Ok(Row { title, name: parts.join("-"), config })
    }
}

/// Says which cells an error is about.
fn in_row(e: Error, row: &str) -> Error {
    match e {
        Error::Usage { what, hint } => Error::usage(format!("{row}: {what}"), hint),
        Error::Checkpoint { path, what, hint } => Error::checkpoint(path, format!("{what} (for {row})"), hint),
        Error::Io { path, action, source } => {
            let what = format!("cannot {action} it for {row}: {source}");
            Error::checkpoint(path, what, "put the file back, or change the row's settings")
        }
        other => other,
    }
}

/// Refuses rows that are the same, or share a name.
fn refuse_twins(rows: &[(Row, Option<PathBuf>)], origin: &Origin) -> Result<()> {
    let mut names = BTreeMap::new();
    for (i, (row, _)) in rows.iter().enumerate() {
        if let Some((twin, _)) = rows[..i].iter().find(|(r, _)| r.config == row.config) {
            let what = match twin.name == row.name {
                true => format!("`{}` is twice in the sweep (from {origin})", row.name),
                false => format!("`{}` and `{}` are the same configuration (from {origin})", twin.name, row.name),
            };
            return Err(Error::usage(what, "leave one of the two out, or change its settings"));
        }
        if names.insert(&row.name, ()).is_some() {
            let what = format!("two different configurations are called `{}` (from {origin})", row.name);
            return Err(Error::usage(what, "give one of them a `label` in its [[methods]]"));
        }
    }
    Ok(())
}

#[cfg(test)]
#[path = "sweep_tests.rs"]
mod tests;
