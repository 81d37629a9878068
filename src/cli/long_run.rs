//! What `s3gpu train` takes for long runs and large batches.

use clap::Args;

use crate::error::{Error, Result};
use crate::train::Config;

#[derive(Args)]
pub(super) struct LongRunArgs {
    /// Compute each step in N parts, so that a large batch fits a small card. --batch-size stays the whole step's; the result is that of
    /// the batch at once but for batch norm, which takes mean and variance of one part at a time
    #[arg(long, value_name = "N", default_value_t = 1)]
    accumulate: u32,
    /// End the run after this many evaluations in a row without a better top-1
    #[arg(long, value_name = "EVALUATIONS", value_parser = clap::value_parser!(u64).range(1..), conflicts_with = "eval_only_last")]
    patience: Option<u64>,
    /// Evaluate after the last epoch only
    #[arg(long, conflicts_with = "eval_every")]
    eval_only_last: bool,
    /// Keep the checkpoints of the last N epochs, as epoch-0001.safetensors and so on
    #[arg(long, value_name = "N", default_value_t = 0)]
    keep: u64,
    /// Show live curves while it trains, where there is a terminal
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) watch: bool,
    #[arg(long, hide = true)]
    amp: bool,
    #[arg(long, hide = true, alias = "half")]
    fp16: bool,
    #[arg(long, hide = true)]
    bf16: bool,
}

/// The flags that belong to a run's settings.
pub(super) const SETTINGS: [&str; 4] = ["accumulate", "patience", "eval_only_last", "keep"];

impl LongRunArgs {
    /// Refuses the flags by which other trainers choose 16-bit floats.
    pub(super) fn refuse_half(&self) -> Result<()> {
        let asked = [(self.amp, "--amp"), (self.fp16, "--fp16"), (self.bf16, "--bf16")];
        let Some((_, flag)) = asked.into_iter().find(|(set, _)| *set) else { return Ok(()) };
        let what = format!("{flag}: there is no training in 16-bit floats, all arithmetic is f32");
        let hint = "leave it out. Shift weights are exact in 16 bits, but at a loss scale of 1 nearly all gradients fall below f16's \
                    normal range, WebGPU has no bf16, and the matrix units that would make it fast are out of reach of most adapters: \
                    docs/f16-and-cooperative-matrices.md has the figures. Where memory is what is short, use --accumulate";
        Err(Error::usage(what, hint))
    }

    /// Puts them into a run's settings.
    pub(super) fn apply(&self, config: Config) -> Config {
        let Self { accumulate, keep, eval_only_last, .. } = *self;
        Config { accumulate, patience: self.patience.unwrap_or(0), keep, eval_only_last, ..config }
    }
}
