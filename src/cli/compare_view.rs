//! What `s3gpu compare` shows while it trains: the table of its rows so far, and the cell under way.

use std::io::IsTerminal;
use std::time::{Duration, Instant};

use indicatif::{HumanDuration, ProgressBar, ProgressStyle};
use ratatui::crossterm::terminal;

use super::table::columns;
use super::view::View;
use crate::compare::pace::Pace;
use crate::compare::results::Spread;
use crate::compare::{State, Sweep};
use crate::error::Result;
use crate::gpu::Startup;
use crate::train::metrics::{EvalRecord, TrainRecord};
use crate::train::run::Observer;

/// Between two pictures of the table.
const PICTURE: Duration = Duration::from_millis(200);

/// Parts of an epoch that the bar knows.
const FINE: f64 = 1000.0;

/// A row's cells so far.
struct Line {
    title: String,
    model: String,
    cells: usize,
    failed: usize,
    /// Last and best top-1 of the finished cells.
    tops: Vec<[f64; 2]>,
}

/// A cell as far as the board needs it.
struct Item {
    name: String,
    row: usize,
    model: String,
    epochs: f64,
    /// Epochs done, of those that are to be done.
    done: f64,
}

/// The cell under way.
struct Current {
    cell: usize,
    started: Instant,
    /// Epochs that it had done before.
    before: f64,
    /// What its row says of it.
    text: String,
}

/// The table: a picture that changes on a terminal, plain lines elsewhere.
pub(super) struct Board {
    lines: Vec<Line>,
    items: Vec<Item>,
    /// The cells to be trained.
    order: Vec<usize>,
    pace: Pace,
    current: Option<Current>,
    bar: Option<ProgressBar>,
    /// Where there is no terminal: the lines of `train`.
    view: Option<View>,
    drawn: Instant,
    /// What was said of the starts; most say the same.
    notes: Vec<String>,
}

impl Board {
    /// Of a sweep whose cells stand so, of which those in `order` are to be trained; with `retry` those that failed, too.
    pub(super) fn new(sweep: &Sweep, states: &[State], order: &[usize], retry: bool) -> Self {
        let line = |row: &crate::compare::sweep::Row| Line {
            title: row.title.clone(),
            model: row.config.model.clone(),
            cells: 0,
            failed: 0,
            tops: Vec::new(),
        };
        let mut lines: Vec<_> = sweep.rows.iter().map(line).collect();
        let mut items = Vec::new();
        for (cell, state) in sweep.cells.iter().zip(states) {
            let (epochs, row) = (cell.config.epochs as f64, cell.row);
            lines[row].cells += 1;
            lines[row].count(state);
            let done = match state {
                State::Finished(_) | State::Damaged(_) => epochs,
                State::Failed(_) if !retry => epochs,
                State::Stopped(done) => *done,
                State::New | State::Failed(_) | State::Running => 0.0,
            };
            items.push(Item { name: cell.name.clone(), row, model: cell.config.model.clone(), epochs, done });
        }
        let style = ProgressStyle::with_template("{msg}\n{wide_bar} {prefix}");
        let bar = std::io::stderr().is_terminal().then(|| ProgressBar::new(0));
        let bar = bar.map(|b| style.map_or(b.clone(), |s| b.with_style(s)));
        let (pace, drawn, order) = (Pace::default(), Instant::now(), order.to_vec());
        Self { lines, items, order, pace, current: None, bar, view: None, drawn, notes: Vec::new() }
    }

    /// Before a cell is trained, which may have failed before.
    pub(super) fn begin(&mut self, cell: usize, failed: bool) {
        let place = self.order.iter().position(|i| *i == cell).map_or(0, |p| p + 1);
        let item = &self.items[cell];
        self.lines[item.row].failed -= usize::from(failed);
        let (name, before, epochs) = (item.name.clone(), item.done, item.epochs as u64);
        let left = self.left().map(|left| format!(", about {} left", HumanDuration(left))).unwrap_or_default();
        if self.bar.is_none() {
            say!("cell {place} of {}: {name}{left}", self.order.len()).unwrap_or_default();
            self.view = Some(View::new(epochs));
        }
        self.current = Some(Current { cell, started: Instant::now(), before, text: "starts".into() });
        self.draw();
    }

    /// The cell under way has done so many epochs already.
    pub(super) fn goes_on(&mut self, epochs: f64) {
        if let Some(current) = &mut self.current {
            current.before = epochs;
            self.items[current.cell].done = epochs;
        }
    }

    /// After a cell, with where it stands; none where it was stopped.
    pub(super) fn end(&mut self, state: Option<&State>) {
        let Some(Current { cell, started, before, .. }) = self.current.take() else { return };
        let item = &mut self.items[cell];
        let seconds = started.elapsed().as_secs_f64();
        self.pace.add(&item.model, item.done - before, seconds);
        let said = match state {
            Some(State::Finished(f)) => {
                let last = format!("top-1 {:.2} %, best {:.2} %", f.last_top1, f.best_top1);
                Some(format!("{}: {last}  ({seconds:.0} s)", item.name))
            }
            Some(State::Failed(reason) | State::Damaged(reason)) => Some(format!("{} failed: {reason}", item.name)),
            Some(State::New | State::Stopped(_) | State::Running) | None => None,
        };
        if let Some(state) = state {
            // Whether it ran all its epochs or ended early, nothing is left.
            item.done = item.epochs;
            self.lines[item.row].count(state);
        }
        self.view = None;
        if let Some(line) = said {
            self.aside(|| say!("{line}")).unwrap_or_default();
        }
        self.draw();
    }

    /// Does what may write to the terminal.
    pub(super) fn aside<T>(&self, act: impl FnOnce() -> T) -> T {
        match &self.bar {
            Some(bar) => bar.suspend(act),
            None => act(),
        }
    }

    /// A remark.
    pub(super) fn tell(&self, line: &str) {
        self.aside(|| note!("{line}"));
    }

    /// Takes the picture away; the table as it is then.
    pub(super) fn finish(&self) -> Vec<String> {
        self.bar.iter().for_each(ProgressBar::finish_and_clear);
        self.table()
    }

    /// The title, and a line for each row.
    fn table(&self) -> Vec<String> {
        let row = |(i, line): (usize, &Line)| {
            let now = self.current.as_ref().filter(|c| self.items[c.cell].row == i);
            let done = match line.failed {
                0 => format!("{}/{}", line.tops.len(), line.cells),
                failed => format!("{}/{}, {failed} failed", line.tops.len(), line.cells),
            };
            let top = |which: usize| {
                let spread = Spread::of(line.tops.iter().map(|tops| tops[which]));
                spread.map_or("-".into(), |s| s.text(1.0, 2))
            };
            let text = now.map(|c| c.text.clone()).unwrap_or_default();
            vec![line.title.clone(), line.model.clone(), done, top(0), top(1), text]
        };
        let rows: Vec<_> = self.lines.iter().enumerate().map(row).collect();
        columns(&["method", "model", ">cells", ">last top-1, %", ">best top-1, %", ""], &rows)
    }

    /// Time that the rest will take, once that can be said.
    fn left(&self) -> Option<Duration> {
        let mut pace = self.pace.clone();
        if let Some(Current { cell, started, before, .. }) = &self.current {
            let item = &self.items[*cell];
            // A first step compiles: what it took says nothing of those after it.
            if item.done - before > 0.02 {
                pace.add(&item.model, item.done - before, started.elapsed().as_secs_f64());
            }
        }
        let items = self.order.iter().map(|i| &self.items[*i]);
        let seconds = pace.seconds(items.map(|item| (&*item.model, item.epochs - item.done)))?;
        Some(Duration::from_secs_f64(seconds.max(0.0)))
    }

    fn draw(&mut self) {
        let Some(bar) = &self.bar else { return };
        self.drawn = Instant::now();
        let (width, height) = terminal::size().unwrap_or((80, 24));
        let mut table = self.table();
        let title = table.remove(0);
        let now = self.current.as_ref().map_or(0, |c| self.items[c.cell].row);
        let shown = [title].into_iter().chain(window(table, now, usize::from(height).saturating_sub(4)));
        let cut = |line: String| line.chars().take(usize::from(width).saturating_sub(1)).collect::<String>();
        bar.set_message(shown.map(cut).collect::<Vec<_>>().join("\n"));
        let epochs = |of: fn(&Item) -> f64| self.order.iter().map(|i| of(&self.items[*i])).sum::<f64>();
        bar.set_length((FINE * epochs(|i| i.epochs)) as u64);
        bar.set_position((FINE * epochs(|i| i.done)) as u64);
        let done = self.order.iter().filter(|i| self.items[**i].done >= self.items[**i].epochs).count();
        let left = self.left().map(|left| format!(", about {} left", HumanDuration(left))).unwrap_or_default();
        bar.set_prefix(format!("{done}/{} cells{left}", self.order.len()));
    }
}

impl Line {
    fn count(&mut self, state: &State) {
        match state {
            State::Finished(f) => self.tops.push([f.last_top1, f.best_top1]),
            State::Failed(_) | State::Damaged(_) => self.failed += 1,
            State::New | State::Stopped(_) | State::Running => (),
        }
    }
}

/// At most `most` of the lines, with the one at `now` among them.
fn window(lines: Vec<String>, now: usize, most: usize) -> Vec<String> {
    let first = (now + 1).saturating_sub(most.max(1));
    lines.into_iter().skip(first).take(most.max(1)).collect()
}

impl Observer for Board {
    fn started(&mut self, startup: &Startup) {
        for note in &startup.notes {
            if !self.notes.contains(note) {
                self.tell(&format!("note: {note}"));
                self.notes.push(note.clone());
            }
        }
    }
    fn step(&mut self, done: u64, total: u64, latest: Option<&TrainRecord>) {
        if let Some(view) = &mut self.view {
            view.step(done, total, latest);
        }
        let Some(current) = &mut self.current else { return };
        let item = &mut self.items[current.cell];
        item.done = item.epochs * done as f64 / total as f64;
        if self.drawn.elapsed() < PICTURE {
            return;
        }
        let figures = latest.map(|r| format!(", loss {:.4}, {:.0} images/s", r.loss, r.images_per_s));
        let figures = figures.unwrap_or_default();
        current.text = format!("epoch {:.1}/{}{figures}", item.done, item.epochs);
        self.draw();
    }
    fn eval(&mut self, record: &EvalRecord, train: Option<&TrainRecord>, seconds: f64) {
        if let Some(view) = &mut self.view {
            view.eval(record, train, seconds);
        }
    }
    fn eval_int(&mut self, outcome: &Result<EvalRecord>, seconds: f64) {
        if let Some(view) = &mut self.view {
            view.eval_int(outcome, seconds);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_low_terminal_shows_the_row_under_way() {
        let lines = |range: std::ops::Range<usize>| range.map(|i| i.to_string()).collect::<Vec<_>>();
        assert_eq!(window(lines(0..5), 0, 9), lines(0..5));
        assert_eq!(window(lines(0..5), 1, 3), lines(0..3));
        assert_eq!(window(lines(0..5), 4, 3), lines(2..5));
        assert_eq!(window(lines(0..5), 2, 0), lines(2..3));
    }
}
