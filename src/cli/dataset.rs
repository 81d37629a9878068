//! `s3gpu dataset`.

use std::io::IsTerminal;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use super::bytes;
use super::data::{ImageArgs, ReadArgs, remark};
use crate::data::fetch::{self, Outcome, Progress, Request, Verdict};
use crate::data::origin::Download;
use crate::data::place::Places;
use crate::data::stats::{self, Stats};
use crate::data::{self, Format, Manifest, Reading, Source, Splits};
use crate::error::{Error, Result};

#[derive(Subcommand)]
pub(super) enum DatasetCommand {
    /// List the data sets that s3gpu knows, and where they are
    List,
    /// Print what is known of a data set: licence, classes, addresses, recipe
    Info(SetArgs),
    /// Download a data set, check it and unpack it
    Fetch(FetchArgs),
    /// Check a data set's files
    Verify(SetArgs),
    /// Compute mean, standard deviation and images a class, and draw some images
    Stats(StatsArgs),
}

#[derive(Args)]
pub(super) struct SetArgs {
    /// Data set by name, or the path of its TOML
    #[arg(value_name = "NAME")]
    dataset: String,
    /// Folder with the data set's files, or with folders of data sets [default: S3GPU_DATA, then the user's data folder]
    #[arg(long, value_name = "FOLDER")]
    data_dir: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct FetchArgs {
    #[command(flatten)]
    set: SetArgs,
    /// Take this file, downloaded already, instead of asking a server; a folder for several; may be repeated
    #[arg(long, value_name = "FILE", conflicts_with = "url")]
    from: Vec<PathBuf>,
    /// Another address of the file, or, with a / at the end, of a folder with all files
    #[arg(long)]
    url: Option<String>,
    /// Leave the archive in the set's folder
    #[arg(long)]
    keep_archive: bool,
}

#[derive(Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    set: SetArgs,
    #[command(flatten)]
    images: ImageArgs,
    #[command(flatten)]
    read: ReadArgs,
    /// The picture to write [default: NAME.png]
    #[arg(long, value_name = "FILE")]
    grid: Option<PathBuf>,
}

pub(super) fn run(command: &DatasetCommand) -> Result<ExitCode> {
    match command {
        DatasetCommand::List => list(),
        DatasetCommand::Info(args) => info(args),
        DatasetCommand::Fetch(args) => fetch(args),
        DatasetCommand::Verify(args) => verify(args),
        DatasetCommand::Stats(args) => stats(args),
    }
}

fn list() -> Result<ExitCode> {
    let places = Places::new(None);
    say!("{:15} {:>7}  {:>11}  {:>11}  here", "name", "classes", "image", "to download")?;
    for name in Manifest::names() {
        let manifest = Manifest::find(name)?;
        let here = match (manifest.format, places.find(&manifest)) {
            (Format::Shapes, _) => "drawn by the program".into(),
            (_, Ok(dir)) => dir.display().to_string(),
            (_, Err(_)) => "no".into(),
        };
        let shape = shape(&manifest);
        let classes = match manifest.classes.len() {
            0 => "folders".into(),
            n => n.to_string(),
        };
        say!("{name:15} {classes:>7}  {shape:>11}  {:>11}  {here}", download_size(&manifest))?;
    }
    Ok(ExitCode::SUCCESS)
}

fn shape(manifest: &Manifest) -> String {
    format!("{}x{}x{}", manifest.channels, manifest.height, manifest.width)
}

/// What a fetch brings, if all of it is known.
fn download_size(manifest: &Manifest) -> String {
    let sizes: Option<Vec<u64>> = manifest.download.iter().map(|d| d.size).collect();
    match sizes {
        Some(sizes) if !sizes.is_empty() => bytes(sizes.iter().sum()),
        Some(_) => "-".into(),
        None => "unknown".into(),
    }
}

fn info(args: &SetArgs) -> Result<ExitCode> {
    let manifest = Manifest::find(&args.dataset)?;
    say!("{}: {}", manifest.name, manifest.title)?;
    say!("licence   {}", manifest.licence)?;
    say!("image     {} (channels x height x width)", shape(&manifest))?;
    if let Some(images) = manifest.images {
        say!("images    {} to train on, {} to test", images.train, images.test)?;
    }
    say!("mean      {:?}", manifest.mean)?;
    say!("std       {:?}", manifest.std)?;
    match manifest.classes.len() {
        0 => say!("classes   the folders' names")?,
        n => say!("classes   {n}: {}", manifest.classes.join(", "))?,
    }
    if let Some(recipe) = manifest.recipe.as_ref().filter(|r| !r.is_empty()) {
        let settings: Vec<_> = recipe.iter().map(|(key, value)| format!("{key} = {value}")).collect();
        say!("recipe    {}", settings.join(", "))?;
    }
    for download in &manifest.download {
        for address in std::iter::once(&download.url).chain(&download.mirrors) {
            say!("download  {address}")?;
        }
        say!("          {}", known(download))?;
    }
    if let Some(obtain) = &manifest.obtain {
        say!("to get it {obtain}")?;
    }
    if manifest.format != Format::Shapes {
        match Places::new(args.data_dir.as_deref()).find(&manifest) {
            Ok(dir) if data::place::holds(&manifest, &dir) => say!("here      {}", dir.display())?,
            _ if manifest.download.is_empty() => say!("here      no")?,
            _ => say!("here      no; `s3gpu dataset fetch {}` gets it", manifest.reference())?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn known(download: &Download) -> String {
    let size = download.size.map(|size| format!("{size} bytes"));
    let sha256 = download.sha256.as_ref().map(|sum| format!("SHA-256 {sum}"));
    let md5 = download.md5.as_ref().map(|sum| format!("MD5 {sum}"));
    let unknown = download.known().sum.is_none().then(|| "no sum of it is known".to_string());
    [size, sha256, md5, unknown].into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn fetch(args: &FetchArgs) -> Result<ExitCode> {
    let manifest = Manifest::find(&args.set.dataset)?;
    let places = Places::new(args.set.data_dir.as_deref());
    let request = Request {
        manifest: &manifest,
        root: places.root()?,
        from: &args.from,
        url: args.url.as_deref(),
        keep_archive: args.keep_archive,
    };
    if !manifest.download.is_empty() {
        note!("licence: {}", manifest.licence);
    }
    let reference = manifest.reference();
    match fetch::fetch(&request, &mut Bar::new())? {
        Outcome::Installed(dir) => say!("{}: fetched and checked", dir.display())?,
        Outcome::Here(dir) => {
            say!("{}: here already; `s3gpu dataset verify {reference}` checks it", dir.display())?;
            return Ok(ExitCode::SUCCESS);
        }
    }
    match &args.set.data_dir {
        Some(dir) => say!("train on it with `s3gpu train --dataset {reference} --data-dir {}`", dir.display())?,
        None => say!("train on it with `s3gpu train --dataset {reference}`")?,
    }
    Ok(ExitCode::SUCCESS)
}

/// The set's manifest and the folder that it is in.
fn located(args: &SetArgs) -> Result<(Manifest, PathBuf)> {
    let manifest = Manifest::find(&args.dataset)?;
    if manifest.format == Format::Shapes {
        let what = format!("{} is drawn by the program: it has no files", manifest.name);
        return Err(Error::usage(what, "`s3gpu dataset stats` shows its images"));
    }
    let dir = Places::new(args.data_dir.as_deref()).find(&manifest)?;
    Ok((manifest, dir))
}

fn verify(args: &SetArgs) -> Result<ExitCode> {
    let (manifest, dir) = located(args)?;
    let findings = fetch::verify(&manifest, &dir, &mut Bar::new())?;
    let (mut wrong, mut unknown) = (0, 0);
    for finding in &findings {
        let (word, how) = match &finding.verdict {
            Verdict::Right(how) => ("right", how),
            Verdict::Wrong(how) => {
                wrong += 1;
                ("WRONG", how)
            }
            Verdict::Unknown(how) => {
                unknown += 1;
                ("not verified", how)
            }
        };
        say!("{:24} {word:12}  {how}", finding.subject)?;
    }
    let right = findings.len() - wrong - unknown;
    say!("{} in {}: {right} right, {wrong} wrong, {unknown} not verified", manifest.name, dir.display())?;
    if wrong > 0 {
        let what =
            format!("this is not {} as it is published: {wrong} of {} checks failed", manifest.name, findings.len());
        let hint = match manifest.download.is_empty() {
            true => "get its files again, or describe what you have by a TOML of its own".into(),
            false => format!(
                "move the folder away and run `s3gpu dataset fetch {}`, or describe what you have by a TOML of its own",
                manifest.reference()
            ),
        };
        return Err(Error::data(dir, what, hint));
    }
    Ok(ExitCode::SUCCESS)
}

fn stats(args: &StatsArgs) -> Result<ExitCode> {
    let manifest = Manifest::find(&args.set.dataset)?.with(args.images.image_size, args.images.pad)?;
    let reading = args.read.how(Reading { val_split: args.images.val_split, ..Reading::default() });
    let dir = args.set.data_dir.as_deref();
    // A folder of one split has figures, too.
    let splits = if reading.val_split.is_some() { Splits::BOTH } else { data::splits(&manifest, dir)? };
    let set = data::open(&manifest, dir, splits, &reading)?;
    let manifest = &set.manifest;
    let parts: Vec<(&str, &dyn Source)> = [("training", &set.train), ("test", &set.test)]
        .into_iter()
        .filter_map(|(name, part)| Some((name, part.as_deref()?)))
        .collect();
    let all: Vec<Stats> = parts.iter().map(|(_, images)| Stats::of(manifest, *images)).collect::<Result<_>>()?;
    let ([first, ..], [(_, shown), ..]) = (&all[..], &parts[..]) else {
        return Err(Error::usage("the data set has neither of its splits", "name one that has images"));
    };
    let counts: Vec<_> = parts.iter().map(|(name, images)| format!("{} {name}", images.len())).collect();
    say!("{}: {} images, {}", manifest.name, counts.join(" and "), shape(manifest))?;
    let (mean, std) = (first.mean(), first.std());
    say!("mean = {}", figures(&mean))?;
    say!("std = {}", figures(&std))?;
    let far = |found: &[f64], said: &[f32]| found.iter().zip(said).any(|(a, b)| (a - f64::from(*b)).abs() > 1e-3);
    if far(&mean, &manifest.mean) || far(&std, &manifest.std) {
        note!("its manifest says mean = {:?}, std = {:?}, which is what training takes", manifest.mean, manifest.std);
    }
    let width = manifest.classes.iter().map(String::len).max().unwrap_or_default().max(5);
    let row = |class: &str, cells: Vec<String>| {
        let cells: String = cells.iter().map(|cell| format!("  {cell:>9}")).collect();
        say!("{class:width$}{cells}")
    };
    row("class", parts.iter().map(|(name, _)| name.to_string()).collect())?;
    for (i, class) in manifest.classes.iter().enumerate() {
        row(class, all.iter().map(|stats| stats.classes[i].to_string()).collect())?;
    }
    remark(&set, &mut Vec::new());
    let path = args.grid.clone().unwrap_or_else(|| format!("{}.png", manifest.name).into());
    draw(manifest, *shown, &path)?;
    Ok(ExitCode::SUCCESS)
}

fn figures(values: &[f64]) -> String {
    let values: Vec<_> = values.iter().map(|v| format!("{v:.4}")).collect();
    format!("[{}]", values.join(", "))
}

fn draw(manifest: &Manifest, images: &dyn Source, path: &Path) -> Result<()> {
    let grid = stats::grid(manifest, images)?;
    grid.write(path)?;
    say!("{}: {} x {} pixels, {}", path.display(), grid.size[0], grid.size[1], grid.legend)
}

/// A bar on a terminal; elsewhere a line where work begins, and then at most this often.
struct Bar {
    bar: Option<ProgressBar>,
    what: String,
    total: Option<u64>,
    done: u64,
    last_line: Instant,
}

/// Without a terminal, lines come at most this often.
const LINE_EVERY: Duration = Duration::from_secs(10);

impl Bar {
    fn new() -> Self {
        let bar = std::io::stderr().is_terminal().then(ProgressBar::no_length);
        Self { bar, what: String::new(), total: None, done: 0, last_line: Instant::now() }
    }
}

impl Progress for Bar {
    fn begin(&mut self, what: &str, total: Option<u64>, done: u64) {
        (self.what, self.total, self.done) = (what.into(), total, done);
        let Some(bar) = &self.bar else {
            // Checks of small files pass in no time.
            if what.starts_with("fetching") {
                let from = if done > 0 { format!(" from byte {done} on") } else { String::new() };
                let of = total.map(|total| format!(", {}", bytes(total))).unwrap_or_default();
                note!("{what}{from}{of}");
            }
            self.last_line = Instant::now();
            return;
        };
        let template = match total {
            Some(_) => "{msg}  {wide_bar} {bytes}/{total_bytes}, {bytes_per_sec}, {eta} left",
            None => "{msg}  {bytes}, {bytes_per_sec}",
        };
        if let Ok(style) = ProgressStyle::with_template(template) {
            bar.set_style(style);
        }
        bar.reset();
        match total {
            Some(total) => bar.set_length(total),
            None => bar.unset_length(),
        }
        bar.set_position(done);
        bar.reset_eta();
        bar.set_message(self.what.rsplit('/').next().unwrap_or_default().to_string());
    }

    fn advance(&mut self, n: u64) {
        self.done += n;
        if let Some(bar) = &self.bar {
            bar.set_position(self.done);
        } else if self.last_line.elapsed() > LINE_EVERY {
            self.last_line = Instant::now();
            let of = self.total.map(|total| format!(" of {}", bytes(total))).unwrap_or_default();
            note!("{}: {}{of}", self.what, bytes(self.done));
        }
    }

    fn note(&mut self, text: &str) {
        match &self.bar {
            Some(bar) => bar.suspend(|| note!("note: {text}")),
            None => note!("note: {text}"),
        }
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
}
