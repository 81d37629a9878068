//! `s3gpu export`: a trained network in another program's format. A format is one function here or a file beside this one, and one
//! word in [`Format`].

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::error::{Error, Result};
use crate::files::tensors::{self, TensorFile};
use crate::train::checkpoint;
use crate::train::folder::BEST;
use crate::train::network::Network;

/// What to write.
#[derive(Clone, Copy, Debug, ValueEnum)]
enum Format {
    /// A PyTorch state dict in safetensors: composed weights in fp32, under the names of torchvision's ResNets
    Torch,
}

#[derive(Args)]
pub(super) struct ExportArgs {
    /// Checkpoint (safetensors) or a run's folder, whose best weights are taken
    weights: PathBuf,
    /// What to write
    #[arg(long, value_enum)]
    format: Format,
    /// The file to write
    #[arg(long, value_name = "FILE")]
    out: PathBuf,
    /// Replace the file
    #[arg(long)]
    force: bool,
}

pub(super) fn run(args: &ExportArgs) -> Result<ExitCode> {
    let path = weights_of(&args.weights);
    if args.out.exists() && !args.force {
        let what = format!("--out {} exists already", args.out.display());
        return Err(Error::usage(what, "choose another --out, or replace it by --force"));
    }
    let file = checkpoint::read(&path)?;
    let network = Network::read(&file, &path)?;
    match args.format {
        Format::Torch => torch(&network, &file, &args.out),
    }
}

/// The weights that a run's folder or a file's path means.
pub(super) fn weights_of(path: &Path) -> PathBuf {
    if path.is_dir() { path.join(BEST) } else { path.into() }
}

/// W as plain fp32 weights, the batch norms with PyTorch's batch counters. The metadata makes it a file that `s3gpu eval` takes.
fn torch(network: &Network, file: &TensorFile, out: &Path) -> Result<ExitCode> {
    let tensors = network.composed();
    let mut meta = file.meta.clone();
    meta.remove("progress");
    let plain =
        [("method", "fp32".to_string()), ("bits", "0".into()), ("composed_from", network.identity.method.title())];
    meta.extend(plain.map(|(k, v)| (k.to_string(), v)));
    // As PyTorch counts them: batches that the running values have seen.
    let steps = meta.get("step").and_then(|s| s.parse().ok()).unwrap_or(0);
    let norms = tensors.keys().filter_map(|name| name.strip_suffix("running_mean"));
    let counters = norms.map(|norm| (format!("{norm}num_batches_tracked"), steps)).collect();
    let plain = TensorFile { tensors, meta };
    tensors::write_counted(out, &plain, &counters)?;
    let weights: usize = plain.tensors.values().map(|t| t.data.len()).sum();
    say!("{}: {} tensors, {weights} values; in PyTorch:", out.display(), plain.tensors.len() + counters.len())?;
    say!("  model.load_state_dict(safetensors.torch.load_file(\"{}\"))", out.display())?;
    Ok(ExitCode::SUCCESS)
}
