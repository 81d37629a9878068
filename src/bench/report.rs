//! The benches' command line and tables.

use clap::Parser;

use super::{Subject, failing};
use crate::error::{Error, Result};
use crate::gpu::{self, describe};
use crate::methods::MethodSpec;
use crate::model::Shortcut;
use crate::train::Config;

#[derive(Parser)]
struct BenchArgs {
    /// Network
    #[arg(long, default_value = "resnet20")]
    model: String,
    /// Images in a step
    #[arg(long, default_value_t = 128)]
    batch_size: u32,
    /// Method
    #[arg(long, default_value = "s3")]
    method: String,
    /// Bits
    #[arg(long)]
    bits: Option<u32>,
    /// Steps to time
    #[arg(long, default_value_t = 10)]
    steps: usize,
    /// Convolution rung that comes first where it fits; may be repeated
    #[arg(long)]
    rung: Vec<String>,
    /// Adapter by index or name
    #[arg(long)]
    adapter: Option<String>,
    /// Given by cargo
    #[arg(long, hide = true)]
    bench: bool,
}

/// Entry point of `benches/kernels.rs` and `benches/step.rs`.
pub fn main(what: &str) {
    let args = BenchArgs::parse();
    let outcome = if what == "kernels" { kernels(&args) } else { step(&args) };
    if let Err(e) = outcome {
        eprintln!("error: {e}");
        std::process::exit(e.exit_code().into());
    }
}

fn config(args: &BenchArgs) -> Result<Config> {
    let spec = MethodSpec::find(&args.method, args.bits)?;
    let manifest = crate::data::Manifest::find("shapes")?;
    Ok(Config {
        dataset: "shapes".into(),
        model: args.model.clone(),
        method: args.method.clone(),
        bits: spec.bits,
        batch_size: args.batch_size,
        shortcut: Shortcut::Pad,
        rungs: args.rung.clone(),
        mean: manifest.mean,
        std: manifest.std,
        ..Config::default()
    })
}

fn open(args: &BenchArgs) -> Result<gpu::Gpu> {
    let gpu = gpu::open(args.adapter.as_deref())?;
    let method = MethodSpec::find(&args.method, args.bits)?.title();
    println!("{}, {} {method}, batch {}", describe(&gpu.info), args.model, args.batch_size);
    Ok(gpu)
}

fn kernels(args: &BenchArgs) -> Result<()> {
    let gpu = open(args)?;
    let bad = failing(&gpu)?;
    for name in &bad {
        println!("{name}: FAILS its cases and is not timed; run `s3gpu doctor --kernel {name}`");
    }
    let mut subject = Subject::new(gpu, config(args)?)?;
    let mut parts = subject.parts()?;
    parts.retain(|p| !bad.contains(&p.kernel));
    parts.sort_by(|a, b| (b.seconds * b.times as f64).total_cmp(&(a.seconds * a.times as f64)));
    let total: f64 = parts.iter().map(|p| p.seconds * p.times as f64).sum();
    println!(
        "{:30} {:20} {:>3} {:>9} {:>8} {:>8} {:>6}",
        "kernel", "first layer", "n", "ms each", "GFLOP/s", "GB/s", "share"
    );
    for p in &parts {
        let (gflops, gbs) = (p.cost.flops / p.seconds / 1e9, p.cost.bytes / p.seconds / 1e9);
        let (ms, share) = (1e3 * p.seconds, 100.0 * p.seconds * p.times as f64 / total);
        println!("{:30} {:20} {:>3} {ms:>9.3} {gflops:>8.1} {gbs:>8.2} {share:>5.1}%", p.kernel, p.layer, p.times);
    }
    println!("sum of all dispatches of a step: {total:.3} s");
    if bad.is_empty() { Ok(()) } else { Err(Error::Gpu { what: format!("{} kernels", bad.len()) }) }
}

fn step(args: &BenchArgs) -> Result<()> {
    let gpu = open(args)?;
    let started = std::time::Instant::now();
    let mut subject = Subject::new(gpu, config(args)?)?;
    println!(
        "compiled and first step: {:.2} s, {} kernel variants",
        started.elapsed().as_secs_f64(),
        subject.engine.exec.variants()
    );
    subject.steps(2)?;
    let before = subject.allocated();
    let mut seconds = Vec::new();
    for _ in 0..args.steps.max(1) {
        seconds.push(subject.steps(1)?.as_secs_f64());
    }
    seconds.sort_by(f64::total_cmp);
    let median = seconds[seconds.len() / 2];
    let host = subject.host_seconds(20)?;
    println!(
        "step: median {median:.4} s, fastest {:.4}, slowest {:.4}; {:.1} images/s",
        seconds[0],
        seconds[seconds.len() - 1],
        f64::from(args.batch_size) / median
    );
    println!("{} dispatches; host time to record and submit a step: {:.2} ms", subject.engine.dispatches(), 1e3 * host);
    println!("bytes allocated at step 3: {before}, at the end: {}", subject.allocated());
    Ok(())
}
