//! A configuration in layers: defaults, recipe, file, `--set`, flags. Each later one replaces keys of those before it,
//! and every key remembers where its value came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::{self, Visitor};
use toml::{Table, Value};

use super::checkpoint;
use super::config::Config;
use crate::data::Manifest;
use crate::error::{Error, Result, did_you_mean};
use crate::files::read_text;
use crate::methods::{self, MethodSpec};
use crate::model::Arch;

/// The built-in recipes: name and text. The name is also the file's stem.
const RECIPES: [(&str, &str); 2] =
    [("default", include_str!("recipes/default.toml")), ("published", include_str!("recipes/published.toml"))];

/// Where a value came from.
#[derive(Clone, Debug, PartialEq)]
pub enum Origin {
    /// The program's own value.
    Default,
    /// The data set of that name: its normalization.
    Dataset(String),
    /// The normalization of the weights that `--init` names.
    Weights(PathBuf),
    /// A built-in recipe, a recipe's file or a data set's own.
    Recipe(String),
    /// `--config`.
    File(PathBuf),
    /// `--set`.
    Set,
    /// A flag of its own.
    Flag,
    /// The run that `--resume` names.
    Run(PathBuf),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Self::Default => f.write_str("default"),
            Self::Dataset(name) => write!(f, "data set {name}"),
            Self::Weights(path) => write!(f, "weights {}", path.display()),
            Self::Recipe(name) => write!(f, "recipe {name}"),
            Self::File(path) => write!(f, "file {}", path.display()),
            Self::Set => f.write_str("--set"),
            Self::Flag => f.write_str("flag"),
            Self::Run(path) => write!(f, "run {}", path.display()),
        }
    }
}

/// Some keys with their values, all from one place.
#[derive(Clone, Debug)]
pub struct Layer {
    pub(crate) keys: Table,
    /// Keys that count for one method alone, by its name.
    by_method: BTreeMap<String, Table>,
    pub(crate) origin: Origin,
}

impl Layer {
    /// Keys from one place.
    ///
    /// # Errors
    /// [`Error::Usage`] naming key, value and place: for an unknown key, with the nearest known one, and for a value of the
    /// wrong type.
    pub fn new(keys: Table, origin: Origin) -> Result<Self> {
        keys.iter().try_for_each(|(key, value)| check_key(key, value, &origin))?;
        Ok(Self { keys, by_method: BTreeMap::new(), origin })
    }

    /// The keys of a TOML file; `origin` makes its place of the path.
    ///
    /// # Errors
    /// [`Error::Io`] where it cannot be read; [`Error::Usage`] where it is no TOML, and as [`Layer::new`].
    pub fn read(path: &Path, origin: impl FnOnce(PathBuf) -> Origin) -> Result<Self> {
        let text = read_text(path)?;
        Self::parse(&text, origin(path.into()))
    }

    fn parse(text: &str, origin: Origin) -> Result<Self> {
        Self::new(parse_table(text, &origin)?, origin)
    }

    /// A recipe: keys, and in tables called like a method those that count for it alone.
    fn of_recipe(mut keys: Table, origin: Origin) -> Result<Self> {
        let mut by_method = BTreeMap::new();
        for name in methods::names() {
            if let Some(Value::Table(own)) = keys.remove(name) {
                by_method.insert(name.to_string(), Self::new(own, origin.clone())?.keys);
            }
        }
        Ok(Self { by_method, ..Self::new(keys, origin)? })
    }

    fn parse_recipe(text: &str, origin: Origin) -> Result<Self> {
        Self::of_recipe(parse_table(text, &origin)?, origin)
    }

    /// The recipe that `--recipe` means: a built-in one's name or a file.
    ///
    /// # Errors
    /// [`Error::Usage`] for a name that is neither, and as [`Layer::read`].
    pub fn recipe(name: &str) -> Result<Self> {
        if let Some((_, text)) = RECIPES.iter().find(|(known, _)| *known == name) {
            return Self::parse_recipe(text, Origin::Recipe(name.into()));
        }
        let path = Path::new(name);
        if path.exists() || path.extension().is_some() {
            return Self::parse_recipe(&read_text(path)?, Origin::Recipe(name.into()));
        }
        let known = RECIPES.map(|(known, _)| known);
        let near = did_you_mean(name, known);
        let hint = format!("{near}built-in recipes: {}; a file's name ends in .toml", known.join(", "));
        Err(Error::usage(format!("no recipe is called `{name}`, and no file either"), hint))
    }

    /// The keys of `--set KEY=VALUE`, in order: a value is read as TOML, and as a string where it is none.
    ///
    /// # Errors
    /// [`Error::Usage`] for a word without `=`, and as [`Layer::new`].
    pub fn set(words: &[String]) -> Result<Self> {
        let mut keys = Table::new();
        for word in words {
            let Some((key, text)) = word.split_once('=') else {
                return Err(Error::usage(
                    format!("--set {word} has no `=`"),
                    "write it as --set key=value, say --set lr=0.05",
                ));
            };
            let text = text.trim();
            let value = format!("v = {text}").parse::<Table>().ok().and_then(|mut t| t.remove("v"));
            let key = key.trim().to_string();
            let value = value.unwrap_or_else(|| Value::String(text.into()));
            // A word such as `1e-4x` is a string; so is a number where the key wants a string.
            let as_text = Value::String(text.into());
            let known =
                check_key(&key, &value, &Origin::Set).is_err() && check_key(&key, &as_text, &Origin::Set).is_ok();
            keys.insert(key, if known { as_text } else { value });
        }
        Self::new(keys, Origin::Set)
    }
}

fn parse_table(text: &str, origin: &Origin) -> Result<Table> {
    toml::from_str(text).map_err(|e: toml::de::Error| {
        Error::usage(format!("{origin} is no TOML: {}", e.to_string().trim_end()), "write one `key = value` a line")
    })
}

/// A configuration and where each of its values came from.
#[derive(Clone, Debug)]
pub struct Layered {
    /// The configuration; where no layer names a data set, with placeholders for what depends on it.
    pub config: Config,
    /// Where the value of a key came from; none for a placeholder.
    pub origins: BTreeMap<String, Origin>,
}

impl Layered {
    /// Puts `recipe`, and `upper` in order, on top of the defaults. Without a recipe the data set's own counts.
    ///
    /// Bits and scale count where their layer names no other method; else the method's own do.
    ///
    /// # Errors
    /// [`Error::Usage`] naming key, value and place; [`Error::Checkpoint`] for weights of `--init` that cannot be read.
    pub fn new(recipe: Option<Layer>, upper: Vec<Layer>) -> Result<Self> {
        let named = |key: &str| {
            let layers = upper.iter().rev().chain(&recipe);
            layers.into_iter().find_map(|l| Some((l.keys.get(key)?.as_str()?.to_string(), l.origin.clone())))
        };
        let manifest = match named("dataset") {
            None => None,
            Some((name, origin)) => Some(Manifest::find(&name).map_err(|e| placed(e, &origin))?),
        };
        let own = |m: &Manifest| Some(own_recipe(m, m.recipe.clone()?));
        let is_chosen = recipe.is_some();
        let mut recipe = match recipe {
            None => manifest.as_ref().and_then(own).transpose()?,
            given => given,
        };
        let named = |key: &str| {
            let layers = upper.iter().rev().chain(&recipe);
            layers.into_iter().find_map(|l| Some((l.keys.get(key)?.as_str()?.to_string(), l.origin.clone())))
        };
        let method = named("method").map_or(Config::default().method, |(name, _)| name);
        let mut stack = Stack { method, ..Stack::default() };
        let mut defaults = table(&Config::default());
        // These depend on the data set and the method.
        ["dataset", "mean", "std", "bits"].iter().for_each(|key| _ = defaults.remove(*key));
        stack.add(Layer { keys: defaults, by_method: BTreeMap::new(), origin: Origin::Default });
        // What a method wants is more than what a data set's own recipe says for all, and less than a recipe that was asked for.
        let of_data_set = recipe.as_ref().filter(|_| !is_chosen).cloned();
        if let Some(all) = of_data_set {
            stack.add(Layer { by_method: BTreeMap::new(), ..all });
        }
        let (_, text) = RECIPES[0];
        stack.add(Layer::parse_recipe(text, Origin::Default)?);
        if let Some(m) = &manifest {
            let keys = table(&Config { mean: m.mean.clone(), std: m.std.clone(), ..Config::default() });
            stack.add(normalization(&keys, Origin::Dataset(m.name.clone())));
        }
        if let (Some((path, _)), Some(m)) = (named("init"), &manifest) {
            stack.add(of_weights(Path::new(&path), m)?);
        }
        if let (Some(recipe), false) = (&mut recipe, is_chosen) {
            recipe.keys.clear(); // they lie below
        }
        recipe.into_iter().chain(upper).for_each(|layer| stack.add(layer));
        stack.resolve()
    }

    /// A run's own configuration.
    pub fn of_run(config: Config, run: &Path) -> Self {
        let origins = table(&config).keys().map(|k| (k.clone(), Origin::Run(run.into()))).collect();
        Self { config, origins }
    }

    /// [`Config::check`], with the place that a wrong value came from.
    ///
    /// # Errors
    /// As [`Config::check`]; [`Error::Usage`] where no layer names a data set.
    pub fn check(&self) -> Result<()> {
        if !self.origins.contains_key("dataset") {
            let known = Manifest::names().collect::<Vec<_>>().join(", ");
            let hint = format!("name one: --dataset {known}; `s3gpu train --help` lists all flags");
            return Err(Error::usage("no --dataset is given", hint));
        }
        let place = |key: &str, e: Error| match self.origins.get(key) {
            Some(origin) => placed(e, origin),
            None => e,
        };
        Arch::find(&self.config.model).map_err(|e| place("model", e))?;
        self.config.method().map_err(|e| match self.origins.get("bits") {
            Some(origin) if self.config.bits != 0 && *origin != Origin::Default => placed(e, origin),
            _ => place("method", e),
        })?;
        self.config.check().and_then(|()| self.config.check_start()).map_err(|e| {
            let Error::Usage { what, .. } = &e else { return e };
            // These messages begin with the flag.
            let key = what.strip_prefix("--").and_then(|w| w.split(' ').next()).unwrap_or_default().to_string();
            place(&key, e)
        })
    }

    /// The checked configuration, complete: paths do not depend on the working directory, and an image folder's classes are in it, for it
    /// must give the same ones when the run goes on.
    ///
    /// # Errors
    /// As [`Layered::check`] and [`Config::manifest`].
    pub fn settle(self) -> Result<Config> {
        self.check()?;
        let mut c = self.config;
        let manifest = c.manifest()?;
        let absolute = |path: &PathBuf| std::path::absolute(path).map_err(Error::io(path, "find"));
        if let Some(path) = &manifest.path {
            c.dataset = absolute(path)?.to_str().map(str::to_string).unwrap_or(c.dataset);
        }
        for path in [&mut c.data_dir, &mut c.init].into_iter().flatten() {
            *path = absolute(path)?;
        }
        if Manifest::find(&c.dataset)?.classes.is_empty() {
            c.classes = manifest.classes;
        }
        Ok(c)
    }

    /// As TOML for a file, a comment on each line saying where the value came from. Reading it back gives the same configuration.
    ///
    /// # Errors
    /// [`Error::Usage`] for a value that TOML cannot hold.
    pub fn annotated(&self) -> Result<String> {
        let text = toml::to_string(&self.config)
            .map_err(|e| Error::usage(format!("the configuration cannot be written: {e}"), "use another value"))?;
        let (mut lines, mut entry) = (Vec::new(), String::new());
        for line in text.split_inclusive('\n') {
            entry += line;
            // A string with line breaks goes on.
            let Ok(keys) = entry.parse::<Table>() else { continue };
            if let Some(origin) = keys.keys().next().and_then(|key| self.origins.get(key)) {
                lines.push((entry.trim_end().to_string(), origin.to_string().replace(char::is_control, " ")));
            }
            entry.clear();
        }
        // Long lists would push every comment far to the right.
        let width = lines.iter().map(|(l, _)| l.len()).filter(|l| *l <= 40).max().unwrap_or_default();
        Ok(lines.into_iter().map(|(line, origin)| format!("{line:width$}  # {origin}\n")).collect())
    }
}

/// The layers' keys so far.
#[derive(Default)]
struct Stack {
    /// The method that the last layer which names one asks for.
    method: String,
    keys: Table,
    origins: BTreeMap<String, Origin>,
}

impl Stack {
    fn add(&mut self, layer: Layer) {
        // Bits and scale belong to the method beside them; alone, to that of the layers below in a recipe, and to the user's own elsewhere.
        let below = match layer.origin {
            Origin::Recipe(_) => self.keys.get("method").and_then(Value::as_str),
            _ => None,
        };
        let method = layer.keys.get("method").and_then(Value::as_str).or(below);
        let is_others = method.is_some_and(|m| m != self.method);
        let own = layer.by_method.get(&self.method).cloned().unwrap_or_default();
        let keys = layer.keys.into_iter().filter(|(key, _)| !(is_others && ["bits", "scale"].contains(&key.as_str())));
        for (key, value) in keys.chain(own) {
            self.origins.insert(key.clone(), layer.origin.clone());
            self.keys.insert(key, value);
        }
    }

    fn resolve(mut self) -> Result<Layered> {
        if let (None, Some(method)) = (self.keys.get("bits"), self.keys.get("method").and_then(Value::as_str)) {
            // An unknown method is told by Layered::check.
            let bits = MethodSpec::find(method, None).map_or(0, |spec| spec.bits);
            self.keys.insert("bits".into(), i64::from(bits).into());
            self.origins.insert("bits".into(), Origin::Default);
        }
        // Adam's steps do not depend on the size of gradients, which is what the latents' rate makes up for.
        let adaptive = self.keys.get("optimizer").and_then(Value::as_str).is_some_and(|o| o != "sgd");
        let own = |origin: &Origin| *origin == Origin::Default || *origin == Origin::Recipe(RECIPES[0].0.into());
        if adaptive && self.origins.get("latent-lr").is_some_and(own) {
            self.keys.insert("latent-lr".into(), 1.0.into());
        }
        let Self { mut keys, origins, .. } = self;
        for (key, value) in table(&Config::default()) {
            keys.entry(key).or_insert(value);
        }
        let config = Config::deserialize(keys)
            .map_err(|e| Error::usage(format!("the configuration cannot be: {}", e.message()), "correct that key"))?;
        Ok(Layered { config, origins })
    }
}

fn normalization(keys: &Table, origin: Origin) -> Layer {
    let keys = ["mean", "std"].iter().filter_map(|k| Some((k.to_string(), keys.get(*k)?.clone()))).collect();
    Layer { keys, by_method: BTreeMap::new(), origin }
}

/// Weights go with the normalization that they were trained under.
fn of_weights(path: &Path, manifest: &Manifest) -> Result<Layer> {
    let file = checkpoint::read(path)?;
    let [mean, std] = checkpoint::normalization(&file, path)?;
    let (has_mean, has_std) = (mean.is_some(), std.is_some());
    let (mean, std) = (mean.unwrap_or(manifest.mean.clone()), std.unwrap_or(manifest.std.clone()));
    checkpoint::check_channels(&mean, &std, manifest.channels, path)?;
    let mut layer = normalization(&table(&Config { mean, std, ..Config::default() }), Origin::Weights(path.into()));
    layer.keys.retain(|key, _| if key == "mean" { has_mean } else { has_std });
    Ok(layer)
}

fn own_recipe(manifest: &Manifest, keys: Table) -> Result<Layer> {
    if let Some(key) = ["dataset", "data-dir"].iter().find(|k| keys.contains_key(**k)) {
        let what = format!("[recipe] of data set {} has the key `{key}`", manifest.name);
        return Err(Error::usage(what, "a data set's recipe says how to train on it, not what: remove the key"));
    }
    Layer::of_recipe(keys, Origin::Recipe(manifest.name.clone()))
}

/// A configuration by its keys.
pub(crate) fn table(config: &Config) -> Table {
    Table::try_from(config).expect("a configuration is a table")
}

/// A configuration by its keys, with the values as its file has them: 0.1 and not the double that is nearest to the float.
pub(crate) fn written(config: &Config) -> Table {
    let text = toml::to_string(config).unwrap_or_default();
    text.parse().unwrap_or_else(|_| table(config))
}

/// Adds the place to an error, unless a flag of the same name says it all.
fn placed(e: Error, origin: &Origin) -> Error {
    match e {
        Error::Usage { what, hint } if *origin != Origin::Flag => Error::usage(format!("{what} (from {origin})"), hint),
        other => other,
    }
}

fn check_key(key: &str, value: &Value, origin: &Origin) -> Result<()> {
    check_name(key, keys(), origin)?;
    let mut trial = table(&Config::default());
    trial.insert(key.into(), value.clone());
    Config::deserialize(trial).map(|_| ()).map_err(|e| {
        let hint = "`s3gpu config` prints every key with a value that it can have";
        Error::usage(format!("{key} = {value} (from {origin}): {}", e.message()), hint)
    })
}

/// Refuses a key that is none of the `known` ones.
///
/// # Errors
/// [`Error::Usage`] with the nearest known one.
pub(crate) fn check_name(key: &str, known: &[&str], origin: &Origin) -> Result<()> {
    if known.contains(&key) {
        return Ok(());
    }
    let hint = match did_you_mean(key, known.iter().copied()) {
        near if near.is_empty() => format!("known keys: {}", known.join(", ")),
        near => near.trim_end().into(),
    };
    Err(Error::usage(format!("unknown key `{key}` (from {origin})"), hint))
}

/// Every key of a configuration.
pub fn keys() -> &'static [&'static str] {
    fields::<Config>()
}

/// Every key of a table that is read as a `T`, as its derived reader asks for them.
pub(crate) fn fields<T: Deserialize<'static>>() -> &'static [&'static str] {
    struct Names<'a>(&'a mut &'static [&'static str]);
    impl<'de> de::Deserializer<'de> for Names<'_> {
        type Error = de::value::Error;
        fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Self::Error> {
            Err(de::Error::custom("only the keys of a struct are asked for"))
        }
        fn deserialize_struct<V: Visitor<'de>>(
            self,
            _: &'static str,
            fields: &'static [&'static str],
            visitor: V,
        ) -> Result<V::Value, Self::Error> {
            *self.0 = fields;
            self.deserialize_any(visitor)
        }
        serde::forward_to_deserialize_any! {
            bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
            newtype_struct seq tuple tuple_struct map enum identifier ignored_any
        }
    }
    let mut found: &[&str] = &[];
    // The error is the end of the way: by then the fields have been asked for.
    _ = T::deserialize(Names(&mut found));
    found
}

#[cfg(test)]
#[path = "layers_tests.rs"]
mod tests;
