//! `s3gpu export`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use super::demo::samples;
use super::export_torch::torch;
use super::integer;
use crate::data::{self, Dataset, Manifest, Reading, Records, Splits};
use crate::error::{Error, Result};
use crate::files::tensors::TensorFile;
use crate::files::write_atomic;
use crate::graph::lower::Options;
use crate::graph::{Graph, Layout};
use crate::int::calibrate::IMAGES;
use crate::int::digits::TERMS;
use crate::int::evaluate::{self, Difference};
use crate::int::export::{c, hex, npz, onnx};
use crate::int::float::FloatNet;
use crate::int::freeze::freeze;
use crate::int::model::{Accuracy, Info};
use crate::int::{Model, counts, file};
use crate::model::Values;
use crate::train::checkpoint::{self, Identity};
use crate::train::network::Network;
use crate::train::setup::build_graph;
use crate::train::{Engine, Trained, folder};
use crate::web::Site;
use crate::web::samples::Samples;

/// Test images on which layers are compared.
const COMPARED: usize = 256;

/// What to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
enum ExportFormat {
    /// The integer network as safetensors, then its accuracy and costs. Stem and classifier are int8, each weight up to four shifts; after
    /// `train --first-last shift` they are shift layers like the others, the classifier as int8 of one shift each
    #[default]
    Int,
    /// C99: a header beside the source, integers only
    C,
    /// NumPy arrays of the integer network
    Npz,
    /// A folder of words for Verilog's $readmemh
    Hex,
    /// The float network with its composed weights
    Onnx,
    /// A page that runs the integer network in a browser: a folder for any web host, or one file
    Web,
    /// A PyTorch state dict in safetensors: composed weights in fp32, under the names of torchvision's ResNets
    Torch,
}

#[derive(Args)]
pub(super) struct ExportArgs {
    /// A run's folder, whose best weights are taken, or a checkpoint; for c, npz, hex and web also an integer network
    source: PathBuf,
    /// The file to write; for hex and web a folder, but for --single-file
    #[arg(long)]
    out: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value_t)]
    format: ExportFormat,
    /// For web: everything in one HTML file, which opens from disk
    #[arg(long)]
    single_file: bool,
    /// For web: only convolution rungs that do not multiply
    #[arg(long)]
    shift_only: bool,
    /// Replace what is there
    #[arg(long)]
    force: bool,
    /// Data set to calibrate and measure on [default: the one that it was trained on]
    #[arg(long)]
    dataset: Option<String>,
    /// Folder with the data set's files, or its parent
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Training images that the activations' exponents are chosen on
    #[arg(long, value_name = "N", default_value_t = IMAGES, value_parser = clap::value_parser!(u64).range(1..))]
    calibration: u64,
    /// Shifts and additions that a change of scale may take
    #[arg(long, value_name = "K", default_value_t = TERMS, value_parser = clap::value_parser!(u32).range(1..=5))]
    terms: u32,
    /// Adapter by index or name, as `s3gpu devices` lists them
    #[arg(long)]
    adapter: Option<String>,
    /// Print the report as one JSON object on the last line
    #[arg(long)]
    json: bool,
}

/// A trained network in all the forms that an export needs.
struct Source {
    path: PathBuf,
    file: TensorFile,
    identity: Identity,
    manifest: Manifest,
    data_dir: Option<PathBuf>,
    reading: Reading,
    graph: Graph,
    values: Values,
    net: FloatNet,
}

impl Source {
    fn read(args: &ExportArgs) -> Result<Self> {
        let run = args.source.is_dir().then(|| folder::read_config(&args.source)).transpose()?;
        let path = if run.is_some() { args.source.join(folder::BEST) } else { args.source.clone() };
        let file = checkpoint::read(&path)?;
        let identity = Identity::read(&file, &path)?;
        let dataset = args.dataset.clone().or(run.as_ref().map(|r| r.dataset.clone()));
        let Some(dataset) = dataset.or(file.meta.get("dataset").cloned()) else {
            let hint = "name the data set that it was trained on with --dataset";
            return Err(Error::usage(format!("{} does not say which data it was trained on", path.display()), hint));
        };
        let same = run.as_ref().is_some_and(|r| r.dataset == dataset);
        let data_dir = args.data_dir.clone().or(run.as_ref().filter(|_| same).and_then(|r| r.data_dir.clone()));
        let of_run = run.as_ref().filter(|_| same).map(|r| (r.manifest(), r.reading()));
        let (manifest, reading) = match of_run {
            Some((manifest, reading)) => (manifest?, reading),
            None => (data::complete(Manifest::find(&dataset)?, data_dir.as_deref())?, Reading::default()),
        };
        let classes = checkpoint::classes(&file, &path)?;
        integer::check_classes(classes as usize, &manifest, &path)?;
        let graph = build_graph(&identity, &manifest, classes)?;
        let layout = Layout::new(&graph, u64::from(u32::MAX));
        let values = Values::from_file(&graph, &layout, &file, &path)?;
        let mean = identity.mean.clone().unwrap_or_else(|| manifest.mean.clone());
        let std = identity.std.clone().unwrap_or_else(|| manifest.std.clone());
        checkpoint::check_channels(&mean, &std, manifest.channels, &path)?;
        let net = FloatNet::new(&graph, &layout, &values, &mean, &std)?;
        Ok(Self { path, file, identity, manifest, data_dir, reading, graph, values, net })
    }

    fn number(&self, key: &str) -> u64 {
        self.file.meta.get(key).and_then(|v| v.parse().ok()).unwrap_or(0)
    }

    fn freeze(&self, args: &ExportArgs, data: &Dataset) -> Result<Model> {
        let info = Info {
            model: self.identity.model.clone(),
            method: self.identity.method.method.name().into(),
            bits: self.identity.method.bits,
            dataset: self.manifest.name.clone(),
            class_names: self.manifest.classes.clone(),
            mean: self.net.mean.clone(),
            std: self.net.std.clone(),
            step: self.number("step"),
            epoch: self.number("epoch"),
            terms: args.terms,
            calibration: args.calibration,
            accuracy: None,
        };
        let train = data.train.as_deref().expect("the training set was asked for");
        let images = Records::of(train, 0..train.len().min(args.calibration as usize))?;
        let frozen = freeze(&self.net, &images, info)?;
        frozen.notes.iter().for_each(|line| note!("{line}"));
        Ok(frozen.model)
    }

    /// The float network's class for every test image, on the adapter.
    fn float_classes(&self, args: &ExportArgs, test: &dyn data::Source) -> Result<Vec<usize>> {
        let options = Options {
            batch: 250.min(test.len() as u32),
            mean: self.net.mean.clone(),
            std: self.net.std.clone(),
            ..Options::default()
        };
        let mut engine = Engine::new(super::open_gpu(args.adapter.as_deref())?, &self.graph, &options)?;
        engine.load(&self.values);
        let classes = self.graph.classes() as usize;
        let mut found = Vec::with_capacity(test.len());
        engine.evaluate_with(test, |engine, n| {
            found.extend(engine.logits(n)?.chunks_exact(classes).map(evaluate::class));
            Ok(())
        })?;
        Ok(found)
    }
}

pub(super) fn run(args: &ExportArgs) -> Result<ExitCode> {
    // An empty folder is as good as none.
    let filled = |folder: &std::path::Path| folder.read_dir().map_or(true, |mut entries| entries.next().is_some());
    if args.out.exists() && filled(&args.out) && !args.force {
        let what = format!("--out {} exists already", args.out.display());
        return Err(Error::usage(what, "choose another --out, or replace it by --force"));
    }
    let folder = matches!(args.format, ExportFormat::Hex | ExportFormat::Web) && !args.single_file;
    if args.out.exists() && args.out.is_dir() != folder {
        let [there, wanted] = if folder { ["a file", "a folder"] } else { ["a folder", "a file"] };
        let what = format!("--out {} is {there}, and this format writes {wanted}", args.out.display());
        return Err(Error::usage(what, "choose another --out"));
    }
    if args.format != ExportFormat::Web && (args.single_file || args.shift_only) {
        return Err(Error::usage(
            "--single-file and --shift-only are for pages",
            "add --format web, or leave them out",
        ));
    }
    if !args.source.is_dir() && file::is_integer(&args.source)? {
        return convert(args, &Model::read(&args.source)?, None);
    }
    if args.format == ExportFormat::Torch {
        let trained = Trained::read(&args.source)?;
        return torch(&Network::read(&trained.file, &trained.path)?, &trained.file, &args.out);
    }
    let source = Source::read(args)?;
    if args.format == ExportFormat::Onnx {
        let bytes = onnx::write(&source.net);
        write_atomic(&args.out, |out| out.write_all(&bytes))?;
        say!("{}: {}, u8 pixels [N, C, H, W] to logits", args.out.display(), super::bytes(bytes.len() as u64))?;
        return Ok(ExitCode::SUCCESS);
    }
    if source.identity.method.bits == 0 {
        let what = format!("{}: its weights are fp32, which no shift stands for", source.path.display());
        let hint = "train it with --method s3 --bits 3 (--init starts from these weights), or take --format onnx";
        return Err(Error::usage(what, hint));
    }
    let measured = args.format == ExportFormat::Int;
    let splits = Splits { train: true, test: measured || args.format == ExportFormat::Web };
    let data = data::open(&source.manifest, source.data_dir.as_deref(), splits, &source.reading)?;
    match measured {
        true => int_file(args, &source, &data),
        false => convert(args, &source.freeze(args, &data)?, Some(&data)),
    }
}

/// Writes an integer network in another form; a page takes its test pictures from `data`, or looks for them.
fn convert(args: &ExportArgs, model: &Model, data: Option<&Dataset>) -> Result<ExitCode> {
    let out = &args.out;
    match args.format {
        ExportFormat::Int | ExportFormat::Onnx | ExportFormat::Torch => {
            let what = format!("{} is an integer network already", args.source.display());
            return Err(Error::usage(
                what,
                "name the run or checkpoint that it came from, or take --format c, npz, hex or web",
            ));
        }
        ExportFormat::C => {
            let stem = out.file_stem().and_then(|s| s.to_str()).filter(|_| out.extension().is_some_and(|e| e == "c"));
            let Some(stem) = stem else {
                return Err(Error::usage(
                    format!("--out {} is no C source", out.display()),
                    "name a file that ends in .c",
                ));
            };
            let files = c::write(model, stem);
            let header = out.with_extension("h");
            write_atomic(&header, |to| to.write_all(files.header.as_bytes()))?;
            write_atomic(out, |to| to.write_all(files.source.as_bytes()))?;
            say!("{} and {}: {}_infer", out.display(), header.display(), c::identifier(stem))?;
        }
        ExportFormat::Npz => {
            let bytes = npz::write(model)?;
            write_atomic(out, |to| to.write_all(&bytes))?;
            say!("{}: {}", out.display(), super::bytes(bytes.len() as u64))?;
        }
        ExportFormat::Hex => {
            std::fs::create_dir_all(out).map_err(Error::io(out, "create"))?;
            let files = hex::write(model);
            for (name, text) in &files {
                write_atomic(out.join(name), |to| to.write_all(text.as_bytes()))?;
            }
            say!("{}: {} files", out.display(), files.len())?;
        }
        ExportFormat::Web => web(args, model, data)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// Writes a page.
fn web(args: &ExportArgs, model: &Model, data: Option<&Dataset>) -> Result<()> {
    let test = data.and_then(|d| Some((&d.manifest.name, d.test.as_deref()?)));
    let samples = match test {
        Some((name, test)) => Samples::of(model, name, test)?,
        None => samples(model, args.dataset.as_deref(), args.data_dir.as_deref())?,
    };
    let (site, out) = (Site::new(model, &samples, args.shift_only)?, args.out.display());
    if args.single_file {
        let page = site.single_file();
        write_atomic(&args.out, |to| to.write_all(page.as_bytes()))?;
        return say!("{out}: {}, opens from disk", super::bytes(page.len() as u64));
    }
    site.write(&args.out)?;
    say!("{out}: {} files for a web host; opened from disk they do not run, --single-file does", site.files().len())
}

/// Freezes, measures, writes, reports.
fn int_file(args: &ExportArgs, source: &Source, data: &Dataset) -> Result<ExitCode> {
    let mut model = source.freeze(args, data)?;
    let test = data.test.as_deref().expect("the test set was asked for");
    let floats = source.float_classes(args, test)?;
    let (logits, labels) = evaluate::run(&model, test)?;
    let ints: Vec<_> = logits.chunks_exact(model.classes()).map(evaluate::class).collect();
    let percent = |count: usize| 100.0 * count as f64 / test.len() as f64;
    let right = |classes: &[usize]| classes.iter().zip(&labels).filter(|(c, l)| **c == **l as usize).count();
    let accuracy = Accuracy {
        images: test.len() as u64,
        float_top1: percent(right(&floats)),
        int_top1: percent(right(&ints)),
        agreement: percent(floats.iter().zip(&ints).filter(|(a, b)| a == b).count()),
    };
    model.info.accuracy = Some(accuracy.clone());
    model.write(&args.out)?;

    let costs = counts::count(&model);
    let differences =
        evaluate::differences(&source.net, &model, &Records::of(test, 0..test.len().min(COMPARED))?, COMPARED);
    table(&costs, &differences)?;
    let bytes = std::fs::metadata(&args.out).map_err(Error::io(&args.out, "read"))?.len();
    let sum = counts::total(&costs);
    say!(
        "{}: {}, {} of weights ({} as fp32)",
        args.out.display(),
        super::bytes(bytes),
        super::bytes(sum.packed_bytes),
        super::bytes(sum.float_bytes)
    )?;
    say!(
        "{} test images: float top-1 {:.2} %, integer top-1 {:.2} %, same class on {:.2} %",
        accuracy.images,
        accuracy.float_top1,
        accuracy.int_top1,
        accuracy.agreement
    )?;
    let hash = evaluate::logits_hash(&logits);
    say!("logits hash {hash:016x}")?;
    if args.json {
        let layers: Vec<_> = costs.iter().zip(&differences).map(|(c, d)| layer_json(c, d)).collect();
        let json = serde_json::json!({
            "kind": "export", "accuracy": accuracy, "logits_hash": format!("{hash:016x}"), "bytes": bytes,
            "layers": layers, "all": sum, "energy_source": counts::energy::SOURCE,
        });
        say!("{json}")?;
    }
    Ok(ExitCode::SUCCESS)
}

fn layer_json(count: &counts::Count, difference: &Difference) -> serde_json::Value {
    let mut json = serde_json::json!(count);
    json["difference"] = serde_json::json!(difference);
    json["joules"] = count.joules().into();
    json["float_joules"] = count.float_joules().into();
    json
}

/// A line a layer; differences are of the first test images.
fn table(costs: &[counts::Count], differences: &[Difference]) -> Result<()> {
    let line = |c: &counts::Count, difference: String| {
        let zeros = if c.weights > 0 { format!("{:.1}", 100.0 * c.zeros as f64 / c.weights as f64) } else { "".into() };
        let [float, packed] = [c.float_bytes, c.packed_bytes].map(|b| if b > 0 { b.to_string() } else { "".into() });
        let energy = [c.float_joules(), c.joules()].map(|j| 1e6 * j);
        say!(
            "{:22} {float:>9} {packed:>8} {zeros:>6} {:>10} {:>10} {:>5} {difference:>17} {:>8.2} {:>7.2}",
            c.name,
            c.additions,
            c.shifts,
            c.multiplications,
            energy[0],
            energy[1]
        )
    };
    say!(
        "{:22} {:>9} {:>8} {:>6} {:>10} {:>10} {:>5} {:>17} {:>8} {:>7}",
        "layer",
        "fp32 B",
        "packed B",
        "zero %",
        "additions",
        "shifts",
        "mult.",
        "|diff| of range",
        "fp32 µJ",
        "int µJ"
    )?;
    for (c, d) in costs.iter().zip(differences) {
        line(c, format!("{:.3} of {:.2}", d.largest, d.range))?;
    }
    line(&counts::total(costs), "".into())?;
    say!("Per image. Energy is an estimate by {}.", counts::energy::SOURCE)
}
