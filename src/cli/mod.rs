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
mod bench_data;
mod compare;
mod compare_view;
mod config;
mod convert;
mod data;
mod dataset;
mod demo;
mod devices;
mod doctor;
mod dry_run;
mod eval;
mod export;
mod export_torch;
mod infer;
mod info;
mod integer;
mod log;
mod long_run;
mod open_run;
mod report;
mod runs;
mod settings;
mod shell;
mod table;
mod train;
mod view;
mod watch;
mod watch_screen;

use std::io::Write;
use std::path::Path;
use std::process::ExitCode;

use clap::{ArgAction, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::error::{Error, Result};
use crate::files::cache::CacheFolder;
use crate::gpu::{self, Gpu};

/// Trains low-bit shift networks on any GPU.
#[derive(Parser)]
#[command(name = "s3gpu", version, about, max_term_width = 120)]
struct Cli {
    #[command(subcommand)]
    command: Command,
    /// Say on stderr what happens inside; -vv says more, and RUST_LOG chooses by module
    #[arg(short, long, global = true, action = ArgAction::Count, display_order = 1000)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    /// Train a network
    #[command(allow_negative_numbers = true)]
    Train(Box<train::TrainArgs>),
    /// Print the settings that `train` would take with the same flags, and where each value comes from
    #[command(allow_negative_numbers = true)]
    Config(Box<train::TrainArgs>),
    /// Train a table of runs and put them side by side: methods, bits, networks, seeds
    #[command(after_help = compare::FORM)]
    Compare(compare::CompareArgs),
    /// Measure a checkpoint's accuracy
    Eval(eval::EvalArgs),
    /// List, fetch, check and describe data sets
    #[command(subcommand)]
    Dataset(dataset::DatasetCommand),
    /// Bring the weights of an fp32 checkpoint to a method's levels, without any training
    Convert(convert::ConvertArgs),
    /// Write a trained network in another form: as integers that run by shifts and additions, or for other programs
    Export(export::ExportArgs),
    /// List the runs under a folder
    Runs(runs::RunsArgs),
    /// Write one page with pictures about one or several runs
    Report(report::ReportArgs),
    /// Say what is in a checkpoint or another of the files that s3gpu reads and writes
    Info(info::InfoArgs),
    /// Classify pictures with an integer network
    Infer(infer::InferArgs),
    /// Show an integer network in a browser: a page that runs it there, served from this machine
    Demo(demo::DemoArgs),
    /// List the adapters with driver, limits and features
    Devices,
    /// Run every kernel's cases against its CPU twin
    Doctor(doctor::DoctorArgs),
    /// Measure speed
    #[command(subcommand)]
    Bench(bench::BenchCommand),
    /// Print a shell's completions
    Completions(shell::CompletionsArgs),
    /// Write the man pages
    Man(shell::ManArgs),
}

/// The command line as it is parsed, completed and documented.
fn command() -> clap::Command {
    let command = Cli::command();
    command.mut_subcommand("train", settings::finish).mut_subcommand("config", settings::finish)
}

/// Runs the command line; exit code 2 for wrong usage, 1 for everything else that fails, 130 after Ctrl-C.
pub fn main() -> ExitCode {
    start(std::env::args_os())
}

/// `s3gpu bench WHAT` with this process's own arguments: the entry point of `cargo bench`, which adds a `--bench`.
pub fn bench(what: &str) -> ExitCode {
    let own = std::env::args_os().skip(1).filter(|a| a != "--bench");
    start(["s3gpu", "bench", what].into_iter().map(Into::into).chain(own))
}

fn start(words: impl Iterator<Item = std::ffi::OsString>) -> ExitCode {
    let matches = command().get_matches_from(words);
    let cli = Cli::from_arg_matches(&matches).unwrap_or_else(|e| e.format(&mut command()).exit());
    log::start(cli.verbose);
    let outcome = match cli.command {
        Command::Train(args) => train::run(*args),
        Command::Config(args) => config::run(&args),
        Command::Compare(args) => compare::run(&args),
        Command::Eval(args) => eval::run(&args),
        Command::Dataset(command) => dataset::run(&command),
        Command::Convert(args) => convert::run(&args),
        Command::Export(args) => export::run(&args),
        Command::Runs(args) => runs::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Info(args) => info::run(&args),
        Command::Infer(args) => infer::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Devices => devices::run(),
        Command::Doctor(args) => doctor::run(&args),
        Command::Bench(command) => bench::run(&command),
        Command::Completions(args) => shell::completions(&args, command()),
        Command::Man(args) => shell::man(&args, command()),
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
    let gpu = open_gpu_quietly(choice)?;
    let note = if gpu.is_software() { ", a software adapter: expect CPU speed" } else { "" };
    note!("adapter: {}{note}", gpu::describe(&gpu.info));
    Ok(gpu)
}

/// As [`open_gpu`], for who has said it before.
fn open_gpu_quietly(choice: Option<&str>) -> Result<Gpu> {
    let mut gpu = gpu::open(choice)?;
    gpu.cache = CacheFolder::user();
    Ok(gpu)
}

/// Refuses a path at which no page can be written, or only in place of what is there.
fn check_page(flag: &str, path: &Path, force: bool) -> Result<()> {
    if path.is_dir() {
        return Err(Error::usage(format!("{flag} {} is a folder", path.display()), "name a file, as page.html"));
    }
    if path.exists() && !force {
        let what = format!("{flag} {} exists already", path.display());
        return Err(Error::usage(what, "choose another name, or replace it by --force"));
    }
    if let Some(folder) = path.parent().filter(|f| !f.as_os_str().is_empty()) {
        std::fs::metadata(folder).map_err(Error::io(folder, "write to"))?;
    }
    Ok(())
}

/// Bytes for a person.
fn bytes(n: u64) -> String {
    indicatif::HumanBytes(n).to_string()
}
