//! `s3gpu compare`.

use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};

use clap::Args;

use super::compare_view::Board;
use super::data::{ReadArgs, remark};
use super::open_run::{Stopped, check_batch, load, stop_at_interrupt};
use super::table::columns;
use crate::compare::cells::{CellFile, progress, refuse_running, states, sweep_away};
use crate::compare::sweep::{Cell, SWEEP};
use crate::compare::{Results, State, Sweep, results};
use crate::data::{Dataset, Format, Manifest};
use crate::error::{Error, Result};
use crate::files::write_atomic;
use crate::gpu::Gpu;
use crate::train::folder::{self, Claim};
use crate::train::layers::{Layer, Origin};
use crate::train::{Outcome, Run, Setup};
use crate::tune;

/// The form of a sweep's file, below the flags in the help.
pub(super) const FORM: &str = "\
The sweep's file is TOML:
  out = \"runs/first\"            # the sweep's folder [default: runs/STEM]
  recipe = \"published\"          # as --recipe of train; may be left out
  models = [\"resnet8\"]
  seeds = [1, 2, 3]

  [settings]                    # any keys that `s3gpu config` prints, for all cells
  dataset = \"shapes\"
  epochs = 2

  [[methods]]                   # once for each method, with its own axes and settings
  method = \"s3\"
  bits = [2, 3]                 # the method's own where it is left out
  latent-inits = [\"dense\", \"normal\"]
  settings = { latent-lr = 30 }
  label = \"S3, fast latents\"    # what it is called; needed where a method comes twice

Each cell is a run of its own in the sweep's folder, like those of `s3gpu train`, named METHOD-BITS-MODEL-seedN. After Ctrl-C or \
anything else, the same command goes on where it stopped. Cells that fail keep their reason and do not end the sweep; the exit code is \
then 1, and --retry goes on with them. results.md, .csv and .json are brought up to date after each cell. docs/compare.md says more.";

#[derive(Args)]
pub(super) struct CompareArgs {
    /// The sweep's file, or its folder to go on with what is there
    #[arg(value_name = "SWEEP.toml|FOLDER")]
    sweep: PathBuf,
    /// The sweep's folder [default: `out` of the file, else runs/STEM]
    #[arg(long)]
    out: Option<PathBuf>,
    /// Train only cells whose names match, like '*seed1' or 's3-*'; may be repeated
    #[arg(long, value_name = "GLOB")]
    only: Vec<glob::Pattern>,
    /// Try cells that failed once more: from their last checkpoint, or anew where they have none or diverged
    #[arg(long)]
    retry: bool,
    /// One setting for all cells, above those of the file; may be repeated
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Folder with the data set's files, or its parent [default: S3GPU_DATA, then the user's data folder]
    #[arg(long)]
    data_dir: Option<PathBuf>,
    #[command(flatten)]
    read: ReadArgs,
    /// Adapter by index or name, as `s3gpu devices` lists them
    #[arg(long)]
    adapter: Option<String>,
    /// List the cells and where they stand, and stop
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(args: &CompareArgs) -> Result<ExitCode> {
    let mut upper = Vec::new();
    if !args.set.is_empty() {
        upper.push(Layer::set(&args.set)?);
    }
    if let Some(dir) = &args.data_dir {
        let keys = [("data-dir".to_string(), dir.to_string_lossy().into_owned().into())];
        upper.push(Layer::new(keys.into_iter().collect(), Origin::Flag)?);
    }
    let sweep = Sweep::read(&args.sweep, &upper)?;
    let out = args.out.clone().unwrap_or_else(|| sweep.out.clone());
    let chosen = |cell: &Cell| args.only.is_empty() || args.only.iter().any(|glob| glob.matches(&cell.name));
    let order: Vec<_> = (0..sweep.cells.len()).filter(|i| chosen(&sweep.cells[*i])).collect();
    if order.is_empty() {
        let hint = format!("`s3gpu compare {} --dry-run` lists them", args.sweep.display());
        return Err(Error::usage("--only matches none of the cells", hint));
    }
    let seen = states(&sweep, &out)?;
    if args.dry_run {
        return list(&sweep, &seen, &order);
    }
    refuse_running(&sweep, &out, &seen)?;
    // What is refused leaves no trace: images and adapter of the first cell come before the folder.
    let (mut data, mut gpu) = (None, None);
    if let Some(i) = order.iter().find(|i| is_due(&seen[**i], args.retry)) {
        let setup = Setup::new(sweep.cells[*i].config.clone())?;
        data = Some((images(&setup), load(&setup, &args.read)?));
        gpu = Some(super::open_gpu(args.adapter.as_deref())?);
    }
    std::fs::create_dir_all(&out).map_err(Error::io(&out, "create"))?;
    let claim = Claim::take(&out)?;
    let states = states(&sweep, &out)?;
    refuse_running(&sweep, &out, &states)?;
    sweep_away(&sweep, &out)?;
    write_atomic(out.join(SWEEP), |w| w.write_all(sweep.text.as_bytes()))?;
    let (stop, _) = stop_at_interrupt()?;
    let board = Board::new(&sweep, &states, &order, args.retry);
    Work { args, sweep: &sweep, claim, states, board, data, gpu, said: Vec::new() }.all(&order, &stop)
}

/// Whether a cell that stands so is to be trained.
fn is_due(state: &State, retry: bool) -> bool {
    match state {
        State::New | State::Stopped(_) => true,
        State::Failed(_) => retry,
        State::Finished(_) | State::Damaged(_) | State::Running => false,
    }
}

/// The cells, with the settings in which they differ.
fn list(sweep: &Sweep, states: &[State], order: &[usize]) -> Result<ExitCode> {
    let (_, own) = sweep.settings();
    let row = |i: &usize| {
        let cell = &sweep.cells[*i];
        let settings: Vec<_> = own[cell.row].iter().map(|(key, value)| format!("{key} = {value}")).collect();
        let c = &cell.config;
        let title = sweep.rows[cell.row].title.clone();
        vec![
            cell.name.clone(),
            title,
            c.model.clone(),
            c.seed.to_string(),
            states[*i].name().into(),
            settings.join(", "),
        ]
    };
    let rows: Vec<_> = order.iter().map(row).collect();
    columns(&["cell", "method", "model", ">seed", "state", "settings"], &rows).iter().try_for_each(|l| say!("{l}"))?;
    Ok(ExitCode::SUCCESS)
}

/// A sweep under way.
struct Work<'a> {
    args: &'a CompareArgs,
    sweep: &'a Sweep,
    claim: Claim,
    states: Vec<State>,
    board: Board,
    /// The images of the last cell, for those after it.
    data: Option<(Images, Dataset)>,
    /// The adapter for the first cell; those after it open their own, as a run keeps its device.
    gpu: Option<Gpu>,
    /// Remarks that were made.
    said: Vec<String>,
}

/// What decides which images a cell sees.
type Images = (Manifest, Option<PathBuf>, Option<f64>, Option<(u64, bool)>);

fn images(setup: &Setup) -> Images {
    let c = &setup.config;
    // Image folders are cropped and split at random.
    let random = (setup.manifest.format == Format::Folder).then_some((c.seed, c.augment));
    (setup.manifest.clone(), c.data_dir.clone(), c.val_split, random)
}

impl Work<'_> {
    fn all(mut self, order: &[usize], stop: &AtomicBool) -> Result<ExitCode> {
        let out = self.claim.path().to_path_buf();
        Results::new(self.sweep, &self.states).write(&out)?;
        for &i in order {
            if !is_due(&self.states[i], self.args.retry) {
                continue;
            }
            if stop.load(Ordering::Relaxed) {
                break;
            }
            self.board.begin(i, matches!(self.states[i], State::Failed(_)));
            let outcome = self.cell(i, stop);
            let path = out.join(&self.sweep.cells[i].name);
            let interrupted = matches!(outcome, Ok(Outcome::Interrupted));
            match outcome {
                Ok(_) => self.states[i] = State::read(&path, &self.sweep.cells[i].config)?,
                Err(End::Cell(e)) if !folder::is_claimed(&path) => {
                    let mut file = CellFile::read(&path)?;
                    file.failed = Some(e.to_string());
                    file.diverged = matches!(e, Error::Diverged { .. });
                    file.config = Some(self.sweep.cells[i].config.clone());
                    file.write(&path)?;
                    self.states[i] = State::Failed(e.to_string());
                }
                Err(End::Cell(e) | End::Sweep(e)) => {
                    self.board.end(None);
                    self.board.finish();
                    return Err(match e {
                        Error::DeviceLost { place, reason, .. } => {
                            let hint = "the same command goes on from the last checkpoint".into();
                            Error::DeviceLost { place, reason, hint }
                        }
                        other => other,
                    });
                }
            }
            self.board.end((!interrupted).then_some(&self.states[i]));
            Results::new(self.sweep, &self.states).write(&out)?;
            if interrupted {
                break;
            }
        }
        self.board.finish().iter().try_for_each(|line| say!("{line}"))?;
        let open = |i: &&usize| matches!(self.states[**i], State::New | State::Stopped(_));
        if order.iter().any(|i| open(&i)) {
            say!("stopped and saved; the same command goes on")?;
            return Ok(ExitCode::from(130));
        }
        let failed = order.iter().filter(|i| self.states[**i].reason().is_some()).count();
        if failed > 0 {
            let what = format!("{failed} of {} cells failed", order.len());
            let again = order.iter().any(|i| matches!(self.states[*i], State::Failed(_)));
            let way = if again { "; --retry tries them once more" } else { " and the way out" };
            let hint = format!("{} has their reasons{way}", results::MARKDOWN);
            return Err(Error::checkpoint(&out, what, hint));
        }
        say!("finished: {}", out.join(results::MARKDOWN).display())?;
        Ok(ExitCode::SUCCESS)
    }

    /// Trains one cell, as `s3gpu train` would.
    fn cell(&mut self, i: usize, stop: &AtomicBool) -> Result<Outcome, End> {
        let (cell, state) = (&self.sweep.cells[i], &self.states[i]);
        let path = self.claim.path().join(&cell.name);
        let mut setup = Setup::new(cell.config.clone())?;
        let wanted = images(&setup);
        if self.data.as_ref().is_none_or(|(had, _)| *had != wanted) {
            // Before the new ones are read: memory may not hold both.
            self.data = None;
            self.data = Some((wanted, load(&setup, &self.args.read).map_err(End::Sweep)?));
        }
        let Some((_, data)) = &self.data else { unreachable!("loaded above") };
        let (board, said) = (&mut self.board, &mut self.said);
        board.aside(|| remark(data, said));
        check_batch(&setup, data)?;
        let open = || super::open_gpu_quietly(self.args.adapter.as_deref());
        let gpu = self.gpu.take().map_or_else(open, Ok).map_err(End::Sweep)?;
        let mut file = CellFile::read(&path).map_err(End::Sweep)?;
        let had = match progress(&path) {
            Ok(had) => had,
            // A damaged checkpoint is nothing to go on from.
            Err(Error::Checkpoint { .. }) => None,
            Err(e) => return Err(End::Sweep(e)),
        };
        let goes_on = match state {
            State::Stopped(_) => true,
            State::Failed(_) => had.is_some() && !file.diverged,
            State::New | State::Finished(_) | State::Damaged(_) | State::Running => false,
        };
        if let (true, Some(p)) = (goes_on, &had) {
            board.goes_on(p.epochs(&setup.config));
        }
        let mut tell = |line: &str| board.tell(line);
        setup.tuned = tune::rungs(&setup, &gpu, None, &mut tell)?;
        let mut run = match goes_on {
            true => {
                (file.failed, file.config) = (None, None);
                if had.is_some_and(|p| p.ended(&setup.config)) {
                    file.write(&path).map_err(End::Sweep)?;
                    return Ok(Outcome::Finished);
                }
                file.by_us().write(&path).map_err(End::Sweep)?;
                let stopped = Stopped::take(&setup, &path)?;
                // Other images than before are no cell's fault.
                stopped.check_images(data).map_err(End::Sweep)?;
                stopped.go_on(&setup, data, gpu, &mut tell)?
            }
            false => {
                // The old reason goes when the new run has taken the old one's place.
                file.programs.clear();
                let mut file = file.by_us();
                file.write(&path).map_err(End::Sweep)?;
                let run = Run::start(&setup, gpu, data.both()?, &path, true)?;
                if file.failed.take().is_some() {
                    (file.config, file.diverged) = (None, false);
                    file.write(&path).map_err(End::Sweep)?;
                }
                run
            }
        };
        let outcome = run.train(None, stop, &mut self.board)?;
        self.board.aside(|| remark(data, &mut self.said));
        Ok(outcome)
    }
}

/// What an error ends.
enum End {
    /// The cell that met it.
    Cell(Error),
    /// All cells: they would meet it, too, or their folders cannot be written.
    Sweep(Error),
}

impl From<Error> for End {
    fn from(e: Error) -> Self {
        match e {
            Error::DeviceLost { .. } | Error::NoAdapter { .. } | Error::Io { .. } | Error::Data { .. } => {
                Self::Sweep(e)
            }
            Error::Usage { .. }
            | Error::Checkpoint { .. }
            | Error::AdapterTooSmall { .. }
            | Error::OutOfMemory { .. }
            | Error::Shape { .. }
            | Error::Gpu { .. }
            | Error::Diverged { .. } => Self::Cell(e),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_cells_fault_ends_the_sweep() {
        let full = || std::io::Error::from(std::io::ErrorKind::StorageFull);
        let lost = Error::DeviceLost { place: "at step 3".into(), reason: "gone".into(), hint: String::new() };
        for e in [lost, Error::io("runs/a", "write")(full()), Error::data("images", "damaged", "")] {
            assert!(matches!(End::from(e), End::Sweep(_)));
        }
        let diverged = Error::Diverged { step: 3, loss: "NaN".into(), hint: String::new() };
        for e in [diverged, Error::checkpoint("last.safetensors", "truncated", ""), Error::usage("no", "")] {
            assert!(matches!(End::from(e), End::Cell(_)));
        }
    }
}
