//! The command line: one file a command.

/// A line for the user on stdout: [`say`] with `println!`'s arguments.
macro_rules! say {
    ($($arg:tt)*) => { super::say(format_args!($($arg)*)) };
}

/// A remark on stderr; nobody is left to tell where that fails.
macro_rules! note {
    ($($arg:tt)*) => {{
        use std::io::Write as _;
        let _ = writeln!(std::io::stderr(), $($arg)*);
    }};
}

mod bench;
mod devices;
mod doctor;
mod eval;
mod export;
mod infer;
mod integer;
mod train;
mod view;

use std::io::Write;
use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::error::{Error, Result};
use crate::files::cache::CacheFolder;
use crate::gpu::{self, Gpu};

/// Trains low-bit shift networks on any GPU.
#[derive(Parser)]
#[command(name = "s3gpu", version, about, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Train a network
    #[command(allow_negative_numbers = true)]
    Train(Box<train::TrainArgs>),
    /// Measure a checkpoint's accuracy
    Eval(eval::EvalArgs),
    /// Write a trained network in another form: as integers that run by shifts and additions
    Export(export::ExportArgs),
    /// Classify pictures with an integer network
    Infer(infer::InferArgs),
    /// List the adapters with driver, limits and features
    Devices,
    /// Run every kernel's cases against its CPU twin
    Doctor(doctor::DoctorArgs),
    /// Measure speed
    #[command(subcommand)]
    Bench(bench::BenchCommand),
}

/// Runs the command line; exit code 2 for wrong usage, 1 for everything else that fails, 130 after Ctrl-C.
pub fn main() -> ExitCode {
    start(Cli::parse().command)
}

/// `s3gpu bench WHAT` with this process's own arguments: the entry point of `cargo bench`, which adds a `--bench`.
pub fn bench(what: &str) -> ExitCode {
    let own = std::env::args_os().skip(1).filter(|a| a != "--bench");
    start(Cli::parse_from(["s3gpu", "bench", what].into_iter().map(Into::into).chain(own)).command)
}

fn start(command: Command) -> ExitCode {
    let outcome = match command {
        Command::Train(args) => train::run(*args),
        Command::Eval(args) => eval::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Infer(args) => infer::run(&args),
        Command::Devices => devices::run(),
        Command::Doctor(args) => doctor::run(&args),
        Command::Bench(command) => bench::run(&command),
    };
    match outcome {
        Ok(code) => code,
        Err(e) => {
            note!("error: {e}");
            ExitCode::from(e.exit_code())
        }
    }
}

/// A line on stdout. A reader that has gone, as in `s3gpu devices | head -1`, is no fault; `println!` would panic.
fn say(line: std::fmt::Arguments) -> Result<()> {
    match writeln!(std::io::stdout(), "{line}") {
        Err(e) if e.kind() != std::io::ErrorKind::BrokenPipe => Err(Error::io("standard output", "write")(e)),
        _ => Ok(()),
    }
}

/// Opens the adapter with the user's cache folder, and says which it is.
fn open_gpu(choice: Option<&str>) -> Result<Gpu> {
    let mut gpu = gpu::open(choice)?;
    gpu.cache = CacheFolder::user();
    let note = if gpu.is_software() { ", a software adapter: expect CPU speed" } else { "" };
    note!("adapter: {}{note}", gpu::describe(&gpu.info));
    Ok(gpu)
}

/// Bytes for a person.
fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}
