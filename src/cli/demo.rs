//! `s3gpu demo`.

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Args;

use crate::data::Manifest;
use crate::error::{Error, Result};
use crate::int::{Model, file};
use crate::web::Site;
use crate::web::samples::Samples;
use crate::web::serve::Bound;

#[derive(Args)]
pub(super) struct DemoArgs {
    /// Integer network, as `s3gpu export` writes it
    model: PathBuf,
    /// Port to listen on; 0 takes any that is free
    #[arg(long, default_value_t = 8080)]
    port: u16,
    /// Address to listen on; others than this machine's own let other machines see the page
    #[arg(long, default_value = "127.0.0.1")]
    host: String,
    /// Data set to take test pictures from [default: the one that it was trained on]
    #[arg(long)]
    dataset: Option<String>,
    /// Folder with the data set's files, or its parent
    #[arg(long)]
    data_dir: Option<PathBuf>,
    /// Only convolution rungs that do not multiply
    #[arg(long)]
    shift_only: bool,
}

/// Test pictures of the data set that is named or that the network was trained on; noise where that is not here.
pub(super) fn samples(model: &Model, dataset: Option<&str>, data_dir: Option<&Path>) -> Result<Samples> {
    // What a network's file names may be anything: paths come from the command line alone.
    let own = Some(model.info.dataset.as_str()).filter(|own| Manifest::names().any(|known| known == *own));
    let Some(set) = dataset.or(own) else {
        note!("note: no test pictures on the page, which checks itself on noise instead: --dataset names some");
        return Ok(Samples::noise(model));
    };
    match Samples::find(model, set, data_dir) {
        Err(e) if dataset.is_none() && data_dir.is_none() => {
            note!("note: no test pictures on the page, which checks itself on noise instead: {e}");
            Ok(Samples::noise(model))
        }
        found => found,
    }
}

pub(super) fn run(args: &DemoArgs) -> Result<ExitCode> {
    if args.model.is_dir() || !file::is_integer(&args.model)? {
        let what = format!("{} is no integer network", args.model.display());
        return Err(Error::usage(
            what,
            "make one of a run or a checkpoint with `s3gpu export RUN --out m.safetensors`",
        ));
    }
    let model = Model::read(&args.model)?;
    let bound = Bound::new(&args.host, args.port)?;
    let site =
        Site::new(&model, &samples(&model, args.dataset.as_deref(), args.data_dir.as_deref())?, args.shift_only)?;
    let (stop, mut stopped) = tokio::sync::watch::channel(false);
    ctrlc::set_handler(move || _ = stop.send(true))
        .map_err(|e| Error::usage(format!("Ctrl-C cannot be caught: {e}"), ""))?;
    if !bound.address.ip().is_loopback() {
        note!("note: other machines can see this page; WebGPU and the camera work for them over https only");
    }
    // Browsers take localhost for a safe place, whatever its address.
    let shown = if bound.address.ip().is_loopback() { "localhost".into() } else { bound.address.ip().to_string() };
    let shown = if shown.contains(':') { format!("[{shown}]") } else { shown };
    say!("http://{shown}:{}/ (Ctrl-C ends)", bound.address.port())?;
    bound.serve(&site, async move { drop(stopped.changed().await) })?;
    say!("ended")?;
    Ok(ExitCode::SUCCESS)
}
