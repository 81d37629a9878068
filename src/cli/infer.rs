//! `s3gpu infer`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use super::integer::{Device, Place, Runner};
use crate::error::{Error, Result};
use crate::int::evaluate::softmax;
use crate::int::{Model, picture};

/// Names that a picture in a folder ends in; a file that is named itself may end in anything.
const ENDINGS: [&str; 4] = ["jpg", "jpeg", "png", "webp"];

#[derive(Args)]
pub(super) struct InferArgs {
    /// Integer network, as `s3gpu export` writes it
    model: PathBuf,
    /// Pictures (JPEG, PNG, WebP), or folders of them
    #[arg(required = true)]
    images: Vec<PathBuf>,
    /// Classes to print for each picture
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Where it runs [default: gpu, or cpu where there is no adapter]
    #[arg(long, value_enum)]
    device: Option<Device>,
    /// Adapter by index or name, as `s3gpu devices` lists them
    #[arg(long)]
    adapter: Option<String>,
    /// Convolution rung that comes first where it fits; may be repeated
    #[arg(long, value_name = "KERNEL")]
    rung: Vec<String>,
    /// Only convolution rungs that do not multiply
    #[arg(long)]
    shift_only: bool,
    /// Print one JSON object for each picture
    #[arg(long)]
    json: bool,
}

/// The pictures in a folder, in order; a file stands for itself.
fn pictures(path: &Path) -> Result<Vec<PathBuf>> {
    if !path.is_dir() {
        return Ok(vec![path.into()]);
    }
    let ends = |p: &PathBuf| {
        let ending = p.extension().and_then(|e| e.to_str()).unwrap_or_default();
        p.is_file() && ENDINGS.contains(&ending.to_ascii_lowercase().as_str())
    };
    let entries = std::fs::read_dir(path).map_err(Error::io(path, "read"))?;
    let all: std::io::Result<Vec<_>> = entries.map(|e| e.map(|e| e.path())).collect();
    let mut found: Vec<_> = all.map_err(Error::io(path, "read"))?.into_iter().filter(ends).collect();
    if found.is_empty() {
        return Err(Error::data(path, "no picture in this folder", format!("they end in {}", ENDINGS.join(", "))));
    }
    found.sort();
    Ok(found)
}

pub(super) fn run(args: &InferArgs) -> Result<ExitCode> {
    let model = Model::read(&args.model)?;
    let lists: Result<Vec<_>> = args.images.iter().map(|p| pictures(p)).collect();
    let place = Place {
        device: args.device,
        adapter: args.adapter.as_deref(),
        rungs: &args.rung,
        shift_only: args.shift_only,
        batch: 1,
    };
    // An adapter is for pictures that there are.
    let mut runner = None;
    let (mut shown, mut failure) = (0, None);
    for path in lists?.concat() {
        // One bad picture does not keep the others back.
        let pixels = match picture::read(&path, model.input()) {
            Ok(pixels) => pixels,
            Err(e) => {
                if let Some(earlier) = failure.replace(e) {
                    note!("{earlier}");
                }
                continue;
            }
        };
        let runner = match &mut runner {
            Some(runner) => runner,
            none => none.insert(Runner::new(&model, &place)?),
        };
        let logits = runner.image(&pixels)?;
        show(args, &model, &path, &logits)?;
        shown += 1;
    }
    match failure {
        Some(e) if shown == 0 => Err(e),
        Some(e) => {
            note!("{e}");
            Ok(ExitCode::FAILURE)
        }
        None => Ok(ExitCode::SUCCESS),
    }
}

fn show(args: &InferArgs, model: &Model, path: &Path, logits: &[i32]) -> Result<()> {
    let probabilities = softmax(logits, model.logit_scale());
    let mut order: Vec<usize> = (0..logits.len()).collect();
    // Stable: of equal logits the first class comes first.
    order.sort_by_key(|c| std::cmp::Reverse(logits[*c]));
    order.truncate(args.top as usize);
    let name = |c: usize| &model.info.class_names[c];
    if args.json {
        let entry = |c: &usize| serde_json::json!({"class": name(*c), "index": c, "probability": probabilities[*c], "logit": logits[*c]});
        let top: Vec<_> = order.iter().map(entry).collect();
        return say!("{}", serde_json::json!({"image": path.display().to_string(), "top": top}));
    }
    let list: Vec<_> = order.iter().map(|c| format!("{} {:.1} %", name(*c), 100.0 * probabilities[*c])).collect();
    say!("{}: {}", path.display(), list.join(", "))
}
