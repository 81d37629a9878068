//! What `s3gpu train` shows of long runs, and what it refuses.

use clap::Args;

use crate::error::{Error, Result};

#[derive(Args)]
pub(super) struct LongRunArgs {
    /// Show live curves while it trains, where there is a terminal
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) watch: bool,
    /// Also keep an event file for TensorBoard in the run's folder: `tensorboard --logdir RUN`. Given on --resume, it holds the run's
    /// earlier steps, too
    #[arg(long, conflicts_with = "dry_run")]
    pub(super) tensorboard: bool,
    #[arg(long, hide = true)]
    amp: bool,
    #[arg(long, hide = true, alias = "half")]
    fp16: bool,
    #[arg(long, hide = true)]
    bf16: bool,
}

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
}
