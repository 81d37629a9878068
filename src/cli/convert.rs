//! `s3gpu convert`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;
use serde_json::json;

use super::data::{TestArgs, remark};
use super::table::columns;
use crate::data::{self, Splits};
use crate::error::{Error, Result};
use crate::files::tensors::{self, TensorFile};
use crate::methods::{MethodSpec, Scale};
use crate::model::FirstLast;
use crate::train::Trained;
use crate::train::metrics::EvalRecord;
use crate::train::network::{Converted, Network};

#[derive(Args)]
pub(super) struct ConvertArgs {
    /// An fp32 checkpoint (safetensors that says its model and method), or a run's folder, whose best weights are taken
    source: PathBuf,
    /// The file to write: a checkpoint of the method, for `s3gpu eval`, `export` and `train --init`
    #[arg(long)]
    out: PathBuf,
    /// Replace the file if it exists
    #[arg(long)]
    force: bool,
    /// Method to bring the weights to: s3, denseshift, deepshift-q, deepshift-ps, inq, twn or bwn
    #[arg(long)]
    method: String,
    /// Bits a weight [default: the method's own]
    #[arg(long)]
    bits: Option<u32>,
    /// Scale of twn and bwn beside the levels [default: mean]
    #[arg(long, value_enum)]
    scale: Option<Scale>,
    /// What stem and classifier are of: fp32, or the method too
    #[arg(long, value_enum, default_value_t)]
    first_last: FirstLast,
    /// Data set to measure the accuracy on, before and after
    #[arg(long)]
    dataset: Option<String>,
    #[command(flatten)]
    test: TestArgs,
    /// Images at a time
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    batch_size: u32,
    /// Adapter by index or name, as `s3gpu devices` lists them
    #[arg(long)]
    adapter: Option<String>,
    /// Print the result as one JSON object on the last line
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &ConvertArgs) -> Result<ExitCode> {
    let method = MethodSpec::find(&args.method, args.bits)?.with_scale(args.scale)?;
    if method == MethodSpec::FP32 {
        return Err(Error::usage("--method fp32 converts nothing", "name a method with levels, as s3"));
    }
    if args.out.exists() && !args.force {
        let what = format!("--out {} exists already", args.out.display());
        return Err(Error::usage(what, "choose another name, or replace it by --force"));
    }
    let plain = Trained::read(&args.source)?;
    let network = Network::read(&plain.file, &plain.path)?;
    let Converted { network, layers } = network.convert(method, args.first_last, &plain.file, &plain.path)?;
    let mut meta = plain.file.meta.clone();
    ["progress", "step", "epoch"].iter().for_each(|key| _ = meta.remove(*key));
    let classes: Vec<_> = meta.get("class_names").map(|n| n.split(',').map(String::from).collect()).unwrap_or_default();
    let own = network.identity.meta(&classes).into_iter().filter(|(key, _)| !key.starts_with("class"));
    meta.extend(own);
    meta.insert("converted_from".into(), MethodSpec::FP32.title());
    let file = TensorFile { tensors: network.values.0, meta };
    tensors::write(&args.out, &file)?;

    let titles = ["layer", ">weights", ">scale", ">distance", ">zeros"];
    let row = |l: &crate::train::network::ConvertedLayer| {
        let percent = |v: f64| format!("{:.2} %", 100.0 * v);
        vec![l.name.clone(), l.weights.to_string(), format!("{:.4}", l.factor), percent(l.distance), percent(l.zeros)]
    };
    let rows: Vec<_> = layers.iter().map(row).collect();
    if !args.json {
        columns(&titles, &rows).iter().try_for_each(|line| say!("{line}"))?;
        say!("distance: how far weights moved, as a share of their norm")?;
        say!("{}: {} {}", args.out.display(), network.identity.model, method.title())?;
    }
    let accuracy = args.dataset.as_ref().map(|name| measure(args, name, &plain)).transpose()?;
    if args.json {
        let accuracy = accuracy.map(|[before, after]| json!({"before": before, "after": after}));
        say!("{}", json!({"kind": "convert", "method": method.title(), "layers": layers, "accuracy": accuracy}))?;
    } else if let (Some([before, after]), Some(name)) = (accuracy, &args.dataset) {
        say!("top-1 on {name}: {:.2} % as fp32, {:.2} % converted, without any training", before.top1, after.top1)?;
    } else {
        say!("--dataset NAME also measures the accuracy before and after")?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The accuracy of the fp32 network and of the file that was made of it.
fn measure(args: &ConvertArgs, dataset: &str, plain: &Trained) -> Result<[EvalRecord; 2]> {
    let (manifest, reading) = args.test.data_set(dataset, &plain.file, plain.classes)?;
    plain.graph(&manifest)?;
    let data = data::open(&manifest, args.test.data_dir.as_deref(), Splits::TEST, &reading)?;
    let test = data.test.as_deref().expect("the test set was asked for");
    let batch = args.batch_size.min(test.len() as u32);
    let figures = |trained: &Trained| {
        let mut engine = trained.engine(&manifest, super::open_gpu(args.adapter.as_deref())?, batch, &[])?;
        trained.record(&engine.evaluate(test)?, &manifest)
    };
    let converted = Trained::read(Path::new(&args.out))?;
    let both = [figures(plain)?, figures(&converted)?];
    remark(&data, &mut Vec::new());
    Ok(both)
}
