//! The start by part, cold and warm: each in a process of its own, with the cache folders that its column names.
//!
//! There are two caches: ours (pipelines that the driver hands out, tuned choices) and the one that many drivers keep by themselves.

use std::path::Path;
use std::process::{Command, Stdio};

use clap::Parser;

use super::workload::{Subject, Workload};
use crate::error::{Error, Result};
use crate::files::cache::{CacheFolder, VARIABLE};
use crate::gpu::{self, Kept, Startup, describe};

#[derive(Parser)]
struct StartupArgs {
    /// The step.
    #[command(flatten)]
    workload: Workload,
    /// Start once, in the cache folders of the environment, and print the parts as JSON
    #[arg(long, hide = true)]
    child: bool,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// Where drivers keep what they compiled: Mesa's two names and NVIDIA's.
const DRIVER_CACHES: [&str; 3] = ["MESA_SHADER_CACHE_DIR", "MESA_GLSL_CACHE_DIR", "__GL_SHADER_DISK_CACHE_PATH"];

/// Columns: name, our folder, the driver's; folders fill in this order.
const COLUMNS: [(&str, &str, &str); 4] = [
    ("cold", "ours", "driver"),
    ("warm", "ours", "driver"),
    ("driver's only", "none", "driver"),
    ("ours only", "ours", "none"),
];

/// Entry point of `benches/startup.rs`.
pub fn main() {
    let args = StartupArgs::parse();
    if let Err(e) = if args.child { child(&args) } else { parent(&args) } {
        eprintln!("error: {e}");
        std::process::exit(e.exit_code().into());
    }
}

fn child(args: &StartupArgs) -> Result<()> {
    let mut gpu = gpu::open(args.workload.adapter.as_deref())?;
    gpu.cache = CacheFolder::user();
    let subject = Subject::of(gpu, &args.workload, None)?;
    let startup = &subject.engine.exec.startup;
    println!("{}", serde_json::to_string(startup).map_err(|e| Error::Gpu { what: format!("a start: {e}") })?);
    Ok(())
}

fn parent(args: &StartupArgs) -> Result<()> {
    let gpu = gpu::open(args.workload.adapter.as_deref())?;
    println!("{} on {}", args.workload.named()?, describe(&gpu.info));
    drop(gpu);
    let place = tempfile::tempdir().map_err(Error::io(std::env::temp_dir(), "create"))?;
    let starts = COLUMNS.iter().map(|c| start(c, place.path())).collect::<Result<Vec<_>>>()?;
    let row = |name: &str, cells: Vec<String>| println!("{name:12}{}", cells.concat());
    row("seconds", COLUMNS.iter().map(|c| format!("{:>15}", c.0)).collect());
    for i in 0..starts[0].parts().len() {
        let cells = starts.iter().map(|s| format!("{:>15.3}", s.parts()[i].1)).collect();
        row(starts[0].parts()[i].0, cells);
    }
    row("in all", starts.iter().map(|s| format!("{:>15.3}", s.total())).collect());
    let kept = |k: Kept| format!("{:>15}", format!("{k:?}").to_lowercase());
    row("our cache", starts.iter().map(|s| kept(s.kept)).collect());
    println!("{} kernel variants; drivers' caches moved by {}", starts[0].variants, DRIVER_CACHES.join(", "));
    starts.iter().flat_map(|s| &s.notes).for_each(|n| println!("note: {n}"));
    Ok(())
}

/// One start in a process of its own.
fn start((name, ours, driver): &(&str, &str, &str), place: &Path) -> Result<Startup> {
    // A folder that only this column has is a fresh one.
    let folder =
        |which: &str, kind: &str| place.join(if which == "none" { format!("{name} {kind}") } else { which.into() });
    let exe = std::env::current_exe().map_err(Error::io("this program", "find"))?;
    let mut command = Command::new(&exe);
    command.args(std::env::args_os().skip(1)).arg("--child").stderr(Stdio::inherit());
    command.env(VARIABLE, folder(ours, "ours"));
    for variable in DRIVER_CACHES {
        let folder = folder(driver, "driver").join(variable);
        std::fs::create_dir_all(&folder).map_err(Error::io(&folder, "create"))?;
        command.env(variable, folder);
    }
    let output = command.output().map_err(Error::io(&exe, "start"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().last().unwrap_or_default();
    let failed = |why: String| Error::Gpu { what: format!("a {name} start ({}): {why}", output.status) };
    serde_json::from_str(line).map_err(|e| failed(e.to_string()))
}
