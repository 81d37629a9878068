//! What `--watch` draws: loss and accuracy over epochs, how far the run is, its latest lines.

use std::path::Path;
use std::time::Instant;

use indicatif::HumanDuration;
use ratatui::Frame;
use ratatui::layout::{Alignment, Constraint, Layout, Rect};
use ratatui::style::{Color, Style, Stylize};
use ratatui::symbols::Marker;
use ratatui::text::Line;
use ratatui::widgets::{Axis, Block, Chart, Dataset, Gauge, GraphType, LegendPosition, Paragraph};

use super::open_run::STOPPING;
use super::view;
use crate::train::checkpoint::Progress;
use crate::train::curves::{self, Lines};
use crate::train::metrics::Record;
use crate::train::setup::Setup;

/// Columns from which the two panels stand side by side.
const WIDE: u16 = 80;
/// Rows that a panel needs; on less there are figures alone.
const PANEL: u16 = 8;

/// A run as far as the screen needs it.
#[derive(Clone)]
pub(super) struct Screen {
    title: String,
    folder: String,
    pub(super) epochs: u64,
    per_epoch: u64,
    done: u64,
    total: u64,
    /// Steps done when the clock started.
    before: u64,
    clock: Instant,
    records: Vec<Record>,
    /// Evaluations and notes since the start.
    pub(super) lines: Vec<String>,
}

impl Screen {
    pub(super) fn new(setup: &Setup, progress: &Progress, records: Vec<Record>, out: &Path) -> Self {
        let (c, id) = (&setup.config, &setup.identity);
        let per_epoch = c.steps_per_epoch(progress.images[0]);
        let records = records.into_iter().filter(|r| r.step() < progress.step).collect();
        Self {
            title: format!("{} {} on {}, {}", id.model, id.method.title(), setup.manifest.name, progress.adapter),
            folder: out.display().to_string(),
            epochs: c.epochs,
            per_epoch,
            done: progress.step,
            total: c.epochs * per_epoch,
            before: progress.step,
            clock: Instant::now(),
            records,
            lines: Vec::new(),
        }
    }

    pub(super) fn steps(&mut self, done: u64, total: u64) {
        (self.done, self.total) = (done, total);
    }

    /// Adds a record that is new.
    pub(super) fn add(&mut self, record: Record) {
        let kind = std::mem::discriminant(&record);
        let known = self.records.iter().rev().find(|r| std::mem::discriminant(*r) == kind).map(Record::step);
        if known.is_none_or(|step| step < record.step()) {
            self.records.push(record);
        }
    }

    fn left(&self) -> String {
        match self.done.saturating_sub(self.before) {
            0 => String::new(),
            steps => {
                let left = self.clock.elapsed().mul_f64(self.total.saturating_sub(self.done) as f64 / steps as f64);
                format!(", {} left", HumanDuration(left))
            }
        }
    }

    /// The latest figures of training and test.
    fn figures(&self) -> String {
        let train = self.records.iter().rev().find_map(|r| match r {
            Record::Train(r) => Some(view::summary(r)),
            Record::Eval(_) | Record::Int(_) | Record::Dynamics(_) => None,
        });
        let tops = || {
            self.records.iter().filter_map(|r| match r {
                Record::Eval(r) => Some(r.top1),
                Record::Train(_) | Record::Int(_) | Record::Dynamics(_) => None,
            })
        };
        let test =
            tops().next_back().map(|top| format!("test top-1 {top:.2} % (best {:.2} %)", tops().fold(0.0, f64::max)));
        let all: Vec<_> = train.into_iter().chain(test).collect();
        if all.is_empty() { "no figures yet".into() } else { all.join(" | ") }
    }
}

/// Draws all of it into whatever room there is.
pub(super) fn draw(frame: &mut Frame, screen: &Screen, stopping: bool) {
    let area = frame.area();
    // Panels come first where there is room, then up to six lines.
    let side_by_side = area.width >= WIDE;
    let panels = PANEL * if side_by_side { 1 } else { 2 };
    let spare = area.height.saturating_sub(4);
    let panels = if spare >= panels { panels } else { 0 };
    let lines = (spare - panels).min(6).min(screen.lines.len() as u16);
    let rows = [
        Constraint::Length(1),
        if panels > 0 { Constraint::Min(panels) } else { Constraint::Length(0) },
        Constraint::Length(1),
        Constraint::Length(1),
        Constraint::Length(lines),
        Constraint::Length(1),
        if panels > 0 { Constraint::Length(0) } else { Constraint::Min(0) },
    ];
    let [title, charts, figures, gauge, log, hint, _] = Layout::vertical(rows).areas(area);
    frame.render_widget(Line::from(screen.title.as_str()).bold(), title);
    if panels > 0 {
        draw_panels(frame, screen, charts, side_by_side);
    }
    frame.render_widget(Line::from(screen.figures()), figures);
    let epoch = (screen.done / screen.per_epoch.max(1) + 1).min(screen.epochs);
    let label = format!("epoch {epoch}/{}, step {}/{}{}", screen.epochs, screen.done, screen.total, screen.left());
    let ratio = (screen.done as f64 / screen.total.max(1) as f64).clamp(0.0, 1.0);
    frame.render_widget(Gauge::default().gauge_style(Style::new().blue()).ratio(ratio).label(label), gauge);
    let latest = &screen.lines[screen.lines.len() - usize::from(lines)..];
    frame.render_widget(Paragraph::new(latest.iter().map(|l| Line::from(l.as_str())).collect::<Vec<_>>()), log);
    let hint_text = match stopping {
        false => Line::from(format!("q or Ctrl-C: stop and save to {}", screen.folder)).dim(),
        true => Line::from(format!("stopping: {}; once more ends at once", STOPPING)).bold(),
    };
    frame.render_widget(hint_text, hint);
}

fn draw_panels(frame: &mut Frame, screen: &Screen, area: Rect, side_by_side: bool) {
    let halves = [Constraint::Fill(1), Constraint::Fill(1)];
    let layout = if side_by_side { Layout::horizontal(halves) } else { Layout::vertical(halves) };
    let [left, right] = layout.areas(area);
    let lines = Lines::of(&screen.records, screen.per_epoch);
    let highest = lines.highest_loss();
    let highest = if highest > 0.0 { (1.05 * highest).min(f64::MAX) } else { 1.0 };
    let end = if lines.end > 0.0 { lines.end } else { 1.0 };
    let loss = [("train", Color::Blue, &lines.train_loss), ("test", Color::Red, &lines.test_loss)];
    panel(frame, left, ("loss", [end, highest], LegendPosition::TopRight), &loss);
    let accuracy = [
        ("train top-1", Color::Blue, &lines.train_top1),
        ("test top-1", Color::Red, &lines.top1),
        ("test top-5", Color::Green, &lines.top5),
    ];
    panel(frame, right, ("accuracy (%)", [end, 100.0], LegendPosition::TopLeft), &accuracy);
}

/// One panel from (0, 0) to (`x_end`, `y_end`).
fn panel(
    frame: &mut Frame,
    area: Rect,
    (title, [x_end, y_end], legend): (&str, [f64; 2], LegendPosition),
    lines: &[(&'static str, Color, &curves::Line)],
) {
    let set = |(name, color, points): &(&'static str, Color, &curves::Line)| {
        let kind = if points.len() == 1 { GraphType::Scatter } else { GraphType::Line };
        // The points outlive the frame's widget: they are the caller's.
        Dataset::default().name(*name).marker(Marker::Braille).graph_type(kind).style(Style::new().fg(*color))
    };
    let sets = lines.iter().filter(|(_, _, points)| !points.is_empty());
    let sets = sets.map(|line| set(line).data(line.2.as_slice())).collect();
    let axis = |end: f64| {
        let label = |v: f64| if v >= 100.0 { format!("{v:.0}") } else { format!("{v:.1}") };
        Axis::default().bounds([0.0, end]).labels([0.0, end / 2.0, end].map(label)).style(Style::new().dim())
    };
    let chart = Chart::new(sets)
        .block(Block::bordered().title(title).title_alignment(Alignment::Left))
        .x_axis(axis(x_end).title("epochs"))
        .y_axis(axis(y_end))
        .hidden_legend_constraints((Constraint::Ratio(1, 2), Constraint::Ratio(2, 3)))
        .legend_position(Some(legend));
    frame.render_widget(chart, area);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use ratatui::Terminal;
    use ratatui::backend::TestBackend;

    use super::*;
    use crate::train::metrics::{EvalRecord, TrainRecord};

    fn screen(epochs: u64) -> Screen {
        let mut screen = Screen {
            title: "resnet8 s3 3-bit on shapes, llvmpipe".into(),
            folder: "runs/a".into(),
            epochs: 10,
            per_epoch: 10,
            done: 10 * epochs,
            total: 100,
            before: 0,
            clock: Instant::now(),
            records: Vec::new(),
            lines: Vec::new(),
        };
        for step in 0..10 * epochs {
            let (loss, correct) = (2.3 / (1.0 + step as f64 / 10.0), 100 - 900 / (step + 10));
            let (regularizer, lr, images_per_s) = (0.0, 0.1, 900.0);
            let record = TrainRecord {
                epoch: step / 10,
                step,
                loss,
                regularizer,
                correct,
                count: 100,
                lr,
                images_per_s,
                data_wait: 0.0,
            };
            screen.add(Record::Train(record));
            if step % 10 == 9 {
                let record = EvalRecord { epoch: step / 10, step, loss, correct, count: 100, top1: 40.0, top5: 90.0 };
                screen.add(Record::Eval(record));
                screen.lines.push(format!("epoch {}/10: test loss {loss:.4}", step / 10 + 1));
            }
        }
        screen
    }

    fn drawn(screen: &Screen, width: u16, height: u16, stopping: bool) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
        terminal.draw(|frame| draw(frame, screen, stopping)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_screen_shows_curves_progress_and_the_way_out() {
        let text = drawn(&screen(4), 110, 30, false);
        let words =
            ["resnet8 s3 3-bit", "loss", "accuracy (%)", "epochs", "train top-1", "epoch 5/10, step 40/100", "left"];
        for word in words.into_iter().chain(["best 40.00 %", "epoch 4/10: test loss", "q or Ctrl-C", "runs/a"]) {
            assert!(text.contains(word), "{word} is missing:\n{text}");
        }
        let dots = text.chars().filter(|c| ('\u{2801}'..='\u{28ff}').contains(c)).count();
        assert!(dots > 100, "curves of {dots} characters:\n{text}");
        assert!(drawn(&screen(4), 110, 30, true).contains("stopping"), "an answer to Ctrl-C");
    }

    #[test]
    fn any_size_and_any_run_is_drawn() {
        for epochs in [0, 1, 10] {
            let screen = screen(epochs);
            for (width, height) in [(1, 1), (3, 40), (20, 5), (40, 24), (79, 12), (80, 12), (300, 3), (200, 60)] {
                drawn(&screen, width, height, false);
            }
            let mut none = Terminal::new(TestBackend::new(0, 0)).unwrap();
            none.draw(|frame| draw(frame, &screen, false)).unwrap();
        }
        let narrow = drawn(&screen(2), 60, 30, false);
        assert!(narrow.contains("loss") && narrow.contains("accuracy (%)"), "{narrow}");
        let low = drawn(&screen(2), 100, 6, false);
        assert!(!low.contains("accuracy (%)") && low.contains("step 20/100") && low.contains("q or Ctrl-C"), "{low}");
        assert!(drawn(&screen(0), 100, 30, false).contains("no figures yet"));
    }

    #[test]
    fn no_record_is_shown_twice() {
        let mut screen = screen(1);
        let count = screen.records.len();
        for record in screen.records.clone() {
            screen.add(record);
        }
        assert_eq!(screen.records.len(), count);
    }
}
