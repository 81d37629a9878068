//! `s3gpu eval`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use serde::Serialize;

use super::data::{TestArgs, remark};
use super::integer::{self, Device, Place};
use super::table::columns;
use crate::data::{self, Manifest, Reading, Splits};
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::gpu::describe;
use crate::int::file;
use crate::report::Page;
use crate::train::Trained;
use crate::train::assess::{Assessment, ClassFigures, Confusion, Judged, assess};
use crate::train::metrics::Record;

#[derive(Args)]
pub(super) struct EvalArgs {
    /// Checkpoint or integer network (safetensors), or a run's folder, whose best weights are taken
    #[arg(long)]
    weights: PathBuf,
    /// Data set by name, as `s3gpu dataset list` shows them, or the path of its TOML
    #[arg(long)]
    dataset: String,
    #[command(flatten)]
    test: TestArgs,
    /// Images at a time
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch_size: u32,
    /// Adapter by index or name, as `s3gpu devices` lists them
    #[arg(long)]
    adapter: Option<String>,
    /// Convolution rung that comes first where it fits; may be repeated
    #[arg(long, value_name = "KERNEL")]
    rung: Vec<String>,
    /// Integer networks: only convolution rungs that do not multiply
    #[arg(long)]
    shift_only: bool,
    /// Where it runs [default: gpu; for an integer network cpu where there is no adapter]
    #[arg(long, value_enum)]
    device: Option<Device>,
    /// Print the result as one JSON object on the last line
    #[arg(long)]
    json: bool,
    /// Add each class, what is taken for what, and the worst mistakes
    #[arg(long)]
    details: bool,
    /// Write the details as one page with pictures, which needs nothing beside it
    #[arg(long, value_name = "FILE.html")]
    report: Option<PathBuf>,
    /// Replace the report's file if it exists
    #[arg(long, requires = "report")]
    force: bool,
    /// How many of the worst mistakes are shown
    #[arg(long, value_name = "N", default_value_t = 24, value_parser = clap::value_parser!(u32).range(0..=1000))]
    worst: u32,
}

/// The JSON of an evaluation: the record of a run's log, and more.
#[derive(Serialize)]
struct Json<'a> {
    #[serde(flatten)]
    record: Record,
    classes: Vec<ClassFigures>,
    #[serde(skip_serializing_if = "Option::is_none")]
    confusions: Option<Vec<Confusion>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    worst: Option<&'a [Judged]>,
}

pub(super) fn run(args: &EvalArgs) -> Result<ExitCode> {
    // Better known before the evaluation than after it.
    if let Some(report) = &args.report {
        super::check_page("--report", report, args.force)?;
    }
    if !args.weights.is_dir() && file::is_integer(&args.weights)? {
        if args.details || args.report.is_some() {
            let what = format!(
                "{} is an integer network, for which there are no --details and no --report",
                args.weights.display()
            );
            return Err(Error::usage(what, "leave them out, or name the run that it was exported from"));
        }
        let place = Place {
            device: args.device,
            adapter: args.adapter.as_deref(),
            rungs: &args.rung,
            shift_only: args.shift_only,
            batch: args.batch_size,
        };
        let manifest = Manifest::find(&args.dataset)?.with(args.test.images.image_size, args.test.images.pad)?;
        let reading = args.test.read.how(Reading { val_split: args.test.images.val_split, ..Reading::default() });
        return integer::eval(&args.weights, &manifest, args.test.data_dir.as_deref(), &reading, &place, args.json);
    }
    if args.shift_only {
        let hint = "leave it out, or make an integer network of the checkpoint with `s3gpu export`";
        return Err(Error::usage("--shift-only is for integer networks", hint));
    }
    if args.device == Some(Device::Cpu) {
        let what = format!("--device cpu runs integer networks, and {} is none", args.weights.display());
        let hint = "leave --device out, or make an integer network of it with `s3gpu export`";
        return Err(Error::usage(what, hint));
    }
    let trained = Trained::read(&args.weights)?;
    let (manifest, reading) = args.test.data_set(&args.dataset, &trained.file, trained.classes)?;
    trained.graph(&manifest)?;
    let data = data::open(&manifest, args.test.data_dir.as_deref(), Splits::TEST, &reading)?;
    let mut said = Vec::new();
    remark(&data, &mut said);
    let test = data.test.as_deref().expect("the test set was asked for");
    let batch = args.batch_size.min(test.len() as u32);
    let mut engine = trained.engine(&manifest, super::open_gpu(args.adapter.as_deref())?, batch, &args.rung)?;
    let started = std::time::Instant::now();
    let (figures, assessment) = assess(&mut engine, test, &manifest.classes, args.worst as usize)?;
    let seconds = started.elapsed().as_secs_f64();
    remark(&data, &mut said);
    let record = trained.record(&figures, &manifest)?;
    if let Some(out) = &args.report {
        let title = format!("{} {}", trained.identity.model, trained.identity.method.title());
        let facts = vec![
            ("weights", trained.path.display().to_string()),
            ("epoch", (record.epoch + 1).to_string()),
            ("step", (record.step + 1).to_string()),
            ("adapter", describe(&engine.exec.gpu.info)),
        ];
        let page = Page { title, facts, manifest: &manifest, test, record: &record, assessment: &assessment };
        let text = page.render()?;
        write_atomic(out, |file| file.write_all(text.as_bytes()))?;
    }
    if !args.json {
        let speed = figures.count as f64 / seconds;
        say!(
            "{} {} on {}: top-1 {:.2} %, top-5 {:.2} %, loss {:.4}",
            trained.identity.model,
            trained.identity.method.title(),
            manifest.name,
            record.top1,
            record.top5,
            record.loss
        )?;
        say!("{} of {} images right, {speed:.0} images/s", record.correct, record.count)?;
        if args.details {
            details(&assessment)?;
        }
        if let Some(out) = &args.report {
            say!("report in {}", out.display())?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    let confusions = args.details.then(|| assessment.confusions());
    let worst = args.details.then(|| assessment.worst());
    let json = Json { record: Record::Eval(record), classes: assessment.classes(), confusions, worst };
    say!("{}", serde_json::to_string(&json).expect("finite numbers"))?;
    Ok(ExitCode::SUCCESS)
}

/// Largest number of classes whose confusion matrix is printed; another is as wide as no terminal.
const MATRIX_CLASSES: usize = 20;

fn details(a: &Assessment) -> Result<()> {
    let names = a.names();
    let confusions = a.confusions();
    let row = |(k, class): (usize, &ClassFigures)| {
        let most = confusions.iter().find(|c| c.label == k);
        let most = most.map_or(String::new(), |c| format!("{} ({})", names[c.predicted], c.count));
        let top1 = class.top1.map_or("-".into(), |t| format!("{t:.1} %"));
        vec![class.name.clone(), class.correct.to_string(), class.count.to_string(), top1, most]
    };
    let rows: Vec<_> = a.classes().iter().enumerate().map(row).collect();
    let print = |titles: &[&str], rows: &[Vec<String>]| columns(titles, rows).iter().try_for_each(|l| say!("{l}"));
    say!("")?;
    print(&["class", ">right", ">images", ">accuracy", "most often taken for"], &rows)?;
    if names.len() <= MATRIX_CLASSES {
        let titles: Vec<_> = (0..names.len()).map(|k| format!(">{k}")).collect();
        let titles: Vec<_> = ["images of", ">as class"].into_iter().chain(titles.iter().map(String::as_str)).collect();
        let row = |k: usize| {
            let counts = (0..names.len()).map(|p| a.count(k, p).to_string());
            [names[k].clone(), k.to_string()].into_iter().chain(counts).collect()
        };
        say!("")?;
        print(&titles, &(0..names.len()).map(row).collect::<Vec<_>>())?;
    }
    if a.worst().is_empty() {
        return Ok(());
    }
    let row = |j: &Judged| {
        let [label, predicted] = [j.label, j.predicted].map(|k| names[k as usize].clone());
        vec![j.image.to_string(), label, predicted, format!("{:.1} %", 100.0 * j.confidence), format!("{:.3}", j.loss)]
    };
    say!("")?;
    print(&[">test image", "is", "taken for", ">sure", ">loss"], &a.worst().iter().map(row).collect::<Vec<_>>())
}
