//! What `s3gpu train` shows while it runs.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::error::Result;
use crate::gpu::Startup;
use crate::train::metrics::{EvalRecord, TrainRecord};
use crate::train::run::Observer;

/// A progress bar on a terminal, plain lines elsewhere.
pub(super) struct View {
    bar: Option<ProgressBar>,
    epochs: u64,
    last_line: Instant,
}

/// Without a terminal, a line between evaluations at most this often.
const LINE_EVERY: Duration = Duration::from_secs(30);

impl View {
    pub(super) fn new(epochs: u64) -> Self {
        let style = ProgressStyle::with_template("{wide_bar} {pos}/{len} steps, {eta} left  {msg}");
        let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(0));
        let bar = bar.map(|b| style.map_or(b.clone(), |s| b.with_style(s)));
        Self { bar, epochs, last_line: Instant::now() }
    }
    pub(super) fn finish(&self) {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
    }
    fn line(&self, text: &str) {
        let said = match &self.bar {
            Some(bar) => bar.suspend(|| say!("{text}")),
            None => say!("{text}"),
        };
        // Training goes on whether its lines can be written or not.
        said.unwrap_or_default();
    }
}

pub(super) fn summary(r: &TrainRecord) -> String {
    let share = 100.0 * r.correct as f64 / r.count.max(1) as f64;
    let wait = match r.data_wait {
        wait if wait < 0.01 => String::new(),
        wait => format!(", {:.0} % of the time waiting for images", 100.0 * wait),
    };
    format!("loss {:.4}, {share:.1} % right, lr {:.4}, {:.0} images/s{wait}", r.loss, r.lr, r.images_per_s)
}

impl Observer for View {
    fn started(&mut self, startup: &Startup) {
        let tell = || {
            startup.notes.iter().for_each(|n| note!("note: {n}"));
            note!("{startup}");
        };
        match &self.bar {
            Some(bar) => bar.suspend(tell),
            None => tell(),
        }
    }
    fn step(&mut self, done: u64, total: u64, latest: Option<&TrainRecord>) {
        if let Some(bar) = &self.bar {
            if bar.length() != Some(total) {
                bar.set_length(total);
                bar.reset_eta();
            }
            bar.set_position(done);
            bar.set_message(latest.map(summary).unwrap_or_default());
        } else if let (Some(r), true) = (latest, self.last_line.elapsed() > LINE_EVERY) {
            self.last_line = Instant::now();
            self.line(&format!("step {done}/{total}: {}", summary(r)));
        }
    }
    fn eval(&mut self, r: &EvalRecord, train: Option<&TrainRecord>, seconds: f64) {
        self.last_line = Instant::now();
        self.line(&evaluation(r, train, seconds, self.epochs));
    }
    fn froze(&mut self, share: f64) {
        self.line(&format!("{} % of each layer's weights are frozen", 100.0 * share));
    }
    fn eval_int(&mut self, outcome: &Result<EvalRecord>, seconds: f64) {
        self.line(&integers(outcome, seconds, self.epochs));
    }
}

/// An evaluation as a line, with the loss of the training interval before it and the epoch's seconds.
pub(super) fn evaluation(r: &EvalRecord, train: Option<&TrainRecord>, seconds: f64, epochs: u64) -> String {
    let train = train.map(|t| format!("train loss {:.4}, ", t.loss)).unwrap_or_default();
    let top = format!("test loss {:.4}, top-1 {:.2} %, top-5 {:.2} %", r.loss, r.top1, r.top5);
    format!("epoch {}/{epochs}: {train}{top}  ({seconds:.0} s)", r.epoch + 1)
}

/// An evaluation as integers as a line.
pub(super) fn integers(outcome: &Result<EvalRecord>, seconds: f64, epochs: u64) -> String {
    match outcome {
        Ok(r) => {
            let top = format!("test loss {:.4}, top-1 {:.2} %, top-5 {:.2} %", r.loss, r.top1, r.top5);
            format!("epoch {}/{epochs}, as integers: {top}  ({seconds:.0} s)", r.epoch + 1)
        }
        Err(e) => format!("not yet as integers: {e}"),
    }
}
