//! The run as a picture: loss and accuracy over epochs, as SVG.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::metrics::Record;
use crate::error::{Error, Result};
use crate::files::write_atomic;

/// Width and height in pixels.
const SIZE: (u32, u32) = (1000, 420);
/// Points a line at most: about one a pixel of a panel's width.
const MAX_POINTS: usize = 400;
/// Points that get a dot each; more would run into one thick line.
const MAX_DOTS: usize = 50;
/// Blue, vermilion, green and purple, which colour-blind readers tell apart.
const TRAIN: RGBColor = RGBColor(0, 114, 178);
const TOP1: RGBColor = RGBColor(213, 94, 0);
const TOP5: RGBColor = RGBColor(0, 158, 115);
const INT: RGBColor = RGBColor(204, 121, 167);

/// (epochs, value) in the order of time.
pub type Line = Vec<(f64, f64)>;

/// A run's curves: finite values, thinned out by averaging neighbours where they are many.
pub struct Lines {
    /// Loss over each interval of training.
    pub train_loss: Line,
    /// Loss on the test set.
    pub test_loss: Line,
    /// Percent right over each interval of training.
    pub train_top1: Line,
    /// Percent right on the test set.
    pub top1: Line,
    /// Percent among the first five on the test set.
    pub top5: Line,
    /// Percent right on the test set as integers.
    pub int_top1: Line,
    /// Epochs at the last record; 0 without one.
    pub end: f64,
}

impl Lines {
    /// Of these records; one of step s lies at (s + 1) / `steps_per_epoch`.
    pub fn of(records: &[Record], steps_per_epoch: u64) -> Self {
        let epochs = |step: u64| (step as f64 + 1.0) / steps_per_epoch.max(1) as f64;
        let line = |value: fn(&Record) -> Option<f64>| {
            let points = records.iter().filter_map(|r| Some((epochs(r.step()), value(r).filter(|v| v.is_finite())?)));
            thin(&points.collect::<Vec<_>>())
        };
        Self {
            train_loss: line(|r| if let Record::Train(r) = r { Some(r.loss) } else { None }),
            test_loss: line(|r| if let Record::Eval(r) = r { Some(r.loss) } else { None }),
            train_top1: line(|r| match r {
                Record::Train(r) => Some(100.0 * r.correct as f64 / r.count as f64),
                Record::Eval(_) | Record::Int(_) | Record::Dynamics(_) => None,
            }),
            top1: line(|r| if let Record::Eval(r) = r { Some(r.top1) } else { None }),
            top5: line(|r| if let Record::Eval(r) = r { Some(r.top5) } else { None }),
            int_top1: line(|r| if let Record::Int(r) = r { Some(r.top1) } else { None }),
            end: records.iter().map(|record| epochs(record.step())).fold(0.0, f64::max),
        }
    }

    /// The largest loss; 0 without any.
    pub fn highest_loss(&self) -> f64 {
        self.train_loss.iter().chain(&self.test_loss).map(|(_, y)| *y).fold(0.0, f64::max)
    }
}

/// A line of one panel.
struct Series {
    label: &'static str,
    color: RGBColor,
    /// Whether each point gets a dot, as evaluations do while they are few.
    dots: bool,
    points: Line,
}

impl Series {
    fn new(label: &'static str, color: RGBColor, dots: bool, points: Line) -> Self {
        Self { label, color, dots, points }
    }
}

/// Draws the loss (left) and the accuracy in percent (right) of a run, both over epochs.
///
/// `steps_per_epoch` turns steps into epochs: a record of step s lies at (s + 1) / steps_per_epoch. Long runs are thinned
/// out by averaging neighbours. No record at all gives empty panels.
///
/// # Errors
/// [`Error::Io`] when the file cannot be written; an old picture is then untouched.
pub fn draw(records: &[Record], title: &str, steps_per_epoch: u64, path: impl AsRef<Path>) -> Result<()> {
    let path = path.as_ref();
    let svg = render(records, title, steps_per_epoch)
        .map_err(|error| Error::io(path, "draw")(std::io::Error::other(error.to_string())))?;
    write_atomic(path, |out| out.write_all(svg.as_bytes()))
}

fn render(records: &[Record], title: &str, steps_per_epoch: u64) -> Result<String, Box<dyn std::error::Error>> {
    let lines = Lines::of(records, steps_per_epoch);
    let last = if lines.end > 0.0 { lines.end } else { 1.0 };
    let highest = lines.highest_loss();
    let loss = [Series::new("train", TRAIN, false, lines.train_loss), Series::new("test", TOP1, true, lines.test_loss)];
    let mut accuracy = vec![
        Series::new("train top-1", TRAIN, false, lines.train_top1),
        Series::new("test top-1", TOP1, true, lines.top1),
        Series::new("test top-5", TOP5, true, lines.top5),
    ];
    if !lines.int_top1.is_empty() {
        accuracy.push(Series::new("integer top-1", INT, true, lines.int_top1));
    }
    let highest = if highest > 0.0 { (1.05 * highest).min(f64::MAX) } else { 1.0 };

    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let root = root.margin(8, 0, 0, 0).titled(title, ("sans-serif", 20))?;
        let (left, right) = root.split_horizontally(SIZE.0 / 2);
        panel(&left, "loss", last, highest, SeriesLabelPosition::UpperRight, &loss)?;
        panel(&right, "accuracy (%)", last, 100.0, SeriesLabelPosition::LowerRight, &accuracy)?;
        root.present()?;
    }
    Ok(svg)
}

/// One panel from (0, 0) to (`x_end`, `y_end`).
fn panel<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    y_name: &str,
    x_end: f64,
    y_end: f64,
    legend: SeriesLabelPosition,
    all: &[Series],
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(20)
        .x_label_area_size(42)
        .y_label_area_size(56)
        .build_cartesian_2d(0.0..x_end, 0.0..y_end)?;
    chart
        .configure_mesh()
        .x_desc("epochs")
        .y_desc(y_name)
        .axis_desc_style(("sans-serif", 15))
        .label_style(("sans-serif", 13))
        .axis_style(BLACK.mix(0.5))
        .bold_line_style(BLACK.mix(0.12))
        .light_line_style(TRANSPARENT)
        .x_labels(8)
        .y_labels(8)
        .x_label_formatter(&tick)
        .y_label_formatter(&tick)
        .draw()?;
    for Series { label, color, dots, points } in all.iter().filter(|series| !series.points.is_empty()) {
        let color = *color;
        // A single point makes no line, whatever it is.
        let dotted = points.len() == 1 || *dots && points.len() <= MAX_DOTS;
        chart
            .draw_series(LineSeries::new(points.iter().copied(), color.stroke_width(2)))?
            .label(*label)
            .legend(move |(x, y)| PathElement::new([(x, y), (x + 18, y)], color.stroke_width(2)));
        if dotted {
            chart.draw_series(points.iter().map(|point| Circle::new(*point, 3, color.filled())))?;
        }
    }
    if all.iter().any(|series| !series.points.is_empty()) {
        chart
            .configure_series_labels()
            .position(legend)
            .margin(10)
            .legend_area_size(24)
            .label_font(("sans-serif", 14))
            .background_style(WHITE.mix(0.85))
            .border_style(BLACK.mix(0.25))
            .draw()?;
    }
    Ok(())
}

/// An axis label: short, in plain digits where they are few.
pub(crate) fn tick(value: &f64) -> String {
    if *value != 0.0 && !(1e-3..1e6).contains(&value.abs()) {
        format!("{value:.1e}")
    } else {
        format!("{}", (value * 1e4).round() / 1e4)
    }
}

/// At most [`MAX_POINTS`] points, each the mean of as many neighbours.
pub(crate) fn thin(points: &[(f64, f64)]) -> Line {
    let group = points.len().div_ceil(MAX_POINTS).max(1);
    let mean = |group: &[(f64, f64)]| {
        let share = 1.0 / group.len() as f64;
        group.iter().fold((0.0, 0.0), |(x, y), point| (x + share * point.0, y + share * point.1))
    };
    points.chunks(group).map(mean).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::train::metrics::{EvalRecord, TrainRecord};

    fn train(step: u64, loss: f64, correct: u64) -> Record {
        let (regularizer, lr, images_per_s) = (0.0, 0.1, 900.0);
        Record::Train(TrainRecord {
            epoch: 0,
            step,
            loss,
            regularizer,
            correct,
            count: 100,
            lr,
            images_per_s,
            data_wait: 0.0,
        })
    }

    fn eval(step: u64, loss: f64, top1: f64) -> Record {
        Record::Eval(EvalRecord { epoch: 0, step, loss, correct: 1, count: 2, top1, top5: 99.0 })
    }

    /// A run of `epochs` epochs of 100 steps that learns, with noise.
    fn run(epochs: u64) -> Vec<Record> {
        let mut records = Vec::new();
        for step in 0..100 * epochs {
            let progress = step as f64 / 100.0;
            let noise = ((step * 7919) % 101) as f64 / 101.0 - 0.5;
            let loss = 0.4 + 1.9 / (1.0 + progress) + 0.3 * noise;
            records.push(train(step, loss, (90.0 - 75.0 / (1.0 + progress) + 12.0 * noise) as u64));
            if step % 100 == 99 {
                records.push(eval(step, 0.5 + 1.7 / (1.0 + progress), 86.0 - 60.0 / (1.0 + progress)));
            }
        }
        records
    }

    #[test]
    fn both_panels_are_labelled() {
        let svg = render(&run(5), "ResNet-8, S3 <3 bit> & more", 100).unwrap();
        for text in
            ["epochs", "loss", "accuracy (%)", "train top-1", "test top-1", "test top-5", "&lt;3 bit&gt; &amp; more"]
        {
            assert!(svg.contains(text), "{text} is missing");
        }
        assert_eq!(svg.matches("<circle").count(), 3 * 5, "a dot for each evaluation in each of its lines");
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"));
        assert!(!svg.contains("integer"));
        let Record::Eval(last) = eval(499, 0.9, 70.0) else { unreachable!() };
        let svg = render(&[run(5), vec![Record::Int(last)]].concat(), "", 100).unwrap();
        assert!(svg.contains("integer top-1"));
        assert_eq!(svg.matches("<circle").count(), 3 * 5 + 1);
    }

    #[test]
    fn few_odd_and_extreme_records_are_drawn() {
        let cases: [&[Record]; 8] = [
            &[],
            &[train(0, 2.3, 10)],
            &[eval(0, 2.3, 10.0)],
            &[train(0, 0.0, 0), train(1, 0.0, 0)],
            &[train(0, 2.0, 50), train(1, 2.0, 50), eval(1, 2.0, 50.0)],
            &[train(0, 1e-300, 1), train(1, 1e-300, 1)],
            &[train(0, f64::MAX, 1), train(1, f64::MAX, 1)],
            &[train(0, f64::NAN, 1), train(1, f64::INFINITY, 1), eval(u64::MAX, 1.0, f64::NAN)],
        ];
        for (index, records) in cases.iter().enumerate() {
            for steps_per_epoch in [0, 1, 391] {
                let svg = render(records, "", steps_per_epoch).unwrap();
                let lines = svg.matches("<polyline").count();
                assert!(svg.ends_with("</svg>\n") && lines > 0, "case {index}");
            }
        }
    }

    #[test]
    fn many_records_are_averaged_down() {
        let points: Vec<_> = (0..100_001).map(|i| (f64::from(i), f64::from(i % 2))).collect();
        let thinned = thin(&points);
        assert!((MAX_POINTS / 2..=MAX_POINTS).contains(&thinned.len()), "{}", thinned.len());
        assert!(thinned.iter().all(|(_, y)| (y - 0.5).abs() < 0.01));
        assert!(thinned.is_sorted_by(|a, b| a.0 < b.0));
        assert_eq!(thin(&points[..MAX_POINTS]), points[..MAX_POINTS]);

        let svg = render(&run(2000), "long", 100).unwrap();
        assert!(!svg.contains("<circle"));
        assert!(svg.len() < 200_000, "{} bytes", svg.len());
    }

    #[test]
    fn the_picture_is_written_or_the_error_names_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("curves.svg");
        draw(&run(3), "three", 100, &path).unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), render(&run(3), "three", 100).unwrap());
        let missing = folder.path().join("missing").join("curves.svg");
        assert!(matches!(draw(&[], "", 1, &missing), Err(Error::Io { path, .. }) if path == missing));
    }
}
