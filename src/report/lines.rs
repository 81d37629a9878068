//! Values over epochs: a line for each configuration, and thin ones for its seeds.

use std::ops::Range;

use maud::Markup;
use plotters::prelude::*;

use super::canvas::{Ink, picture, px};
use super::group::Group;
use crate::error::Result;
use crate::train::curves::{Line, tick};
use crate::train::metrics::Record;

/// Width and height in pixels.
const SIZE: (u32, u32) = (480, 300);
/// Points that get a dot each; more would run into one thick line.
const MAX_DOTS: usize = 20;
/// A few values so many times as large as nine tenths of all are cut off.
const EXTREME: f64 = 8.0;

/// What the height of a picture holds.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Height {
    /// From 0 to the largest value, but for extreme ones.
    FromZero,
    /// Percent: from ten to ten around all values.
    Tens,
}

/// One picture.
pub(super) struct Panel<'a> {
    /// What it shows.
    pub(super) title: &'a str,
    /// The values, with their unit.
    axis: &'a str,
    height: Height,
    /// Each configuration with its index: its seeds' lines and their mean.
    curves: Vec<(usize, Vec<Line>, Line)>,
}

impl<'a> Panel<'a> {
    /// Of all configurations; none where no run has a value.
    pub(super) fn new(
        [title, axis]: [&'a str; 2],
        height: Height,
        groups: &[Group],
        value: impl Fn(&Record) -> Option<f64>,
    ) -> Option<Self> {
        let curves = groups.iter().enumerate().map(|(i, g)| (i, g.lines(&value), g.mean(&value)));
        let curves: Vec<_> = curves.filter(|(_, lines, _)| !lines.is_empty()).collect();
        (!curves.is_empty()).then_some(Self { title, axis, height, curves })
    }

    fn lines(&self) -> impl Iterator<Item = &Line> {
        self.curves.iter().flat_map(|(_, lines, mean)| lines.iter().chain([mean]))
    }

    /// The range of values, and whether some are beyond it.
    fn range(&self) -> (Range<f64>, bool) {
        let mut all: Vec<f64> = self.lines().flatten().map(|p| p.1).collect();
        all.sort_by(f64::total_cmp);
        let (low, high) = (all[0], all[all.len() - 1]);
        match self.height {
            Height::Tens => ((low / 10.0).floor() * 10.0..((high / 10.0).floor() * 10.0 + 10.0).min(100.0), false),
            Height::FromZero => {
                let limit = EXTREME * all[(all.len() - 1) * 9 / 10];
                let cut = limit > 0.0 && high > limit;
                let top = if cut { limit } else { (1.05 * high).min(f64::MAX) };
                (low.min(0.0)..if top > 0.0 { top } else { 1.0 }, cut)
            }
        }
    }

    /// A sentence where some values are too large to be shown.
    pub(super) fn remark(&self) -> Option<String> {
        let (range, cut) = self.range();
        cut.then(|| format!("Values above {} are cut off.", tick(&range.end)))
    }

    /// The picture; `names` are the configurations'.
    ///
    /// # Errors
    /// As [`picture`].
    pub(super) fn draw(&self, names: &[String]) -> Result<Markup> {
        let (y, _) = self.range();
        let end = self.lines().flatten().map(|p| p.0).fold(0.0, f64::max);
        let x = 0.0..if end > 0.0 { end } else { 1.0 };
        picture(SIZE, &format!("{} over epochs", self.title), names, |area| {
            let mut chart = ChartBuilder::on(area)
                .margin(px(6))
                .margin_right(px(14))
                .x_label_area_size(px(38))
                .y_label_area_size(px(52))
                .build_cartesian_2d(x, y.clone())?;
            chart
                .configure_mesh()
                .x_desc("epochs")
                .y_desc(self.axis)
                .axis_desc_style(Ink::letters(14))
                .label_style(Ink::letters(13))
                .axis_style(Ink::Axis.color())
                .bold_line_style(Ink::Grid.color())
                .light_line_style(TRANSPARENT)
                .set_all_tick_mark_size(px(4))
                .x_labels(7)
                .y_labels(6)
                .x_label_formatter(&tick)
                .y_label_formatter(&tick)
                .draw()?;
            let shown = |line: &Line| -> Line { line.iter().map(|p| (p.0, p.1.min(y.end))).collect() };
            for (i, lines, _) in self.curves.iter().filter(|(_, lines, _)| lines.len() > 1) {
                for line in lines {
                    chart.draw_series(LineSeries::new(shown(line), Ink::Thin(*i).color()))?;
                }
            }
            for (i, _, mean) in &self.curves {
                chart.draw_series(LineSeries::new(shown(mean), Ink::Line(*i).color()))?;
                if mean.len() <= MAX_DOTS {
                    let dot = Ink::Dot(*i).color().filled();
                    chart.draw_series(shown(mean).into_iter().map(|point| Circle::new(point, px(2), dot)))?;
                }
            }
            Ok(())
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::group::groups;
    use super::super::runs::tests::{config, eval, run};
    use super::*;

    fn panel(losses: &[f64], height: Height) -> Option<(Range<f64>, bool, String)> {
        let mut entry = run("x", config(3, 0), 50.0);
        let files = entry.run.as_mut().unwrap();
        files.records = losses.iter().enumerate().map(|(i, l)| eval(i as u64, *l, 1.0)).collect();
        let (groups, _) = groups(&[files]);
        let loss = |r: &Record| if let Record::Eval(e) = r { Some(e.loss) } else { None };
        let panel = Panel::new(["Test loss", "loss"], height, &groups, loss)?;
        let (range, cut) = panel.range();
        Some((range, cut, panel.draw(&["<s3>".into()]).unwrap().into_string()))
    }

    #[test]
    fn a_picture_has_its_line_its_dots_and_its_axes() {
        let (_, _, svg) = panel(&[2.0, 1.0, 0.5], Height::FromZero).unwrap();
        for part in [
            "<path class=\"s0 d0\"",
            "<title>&lt;s3&gt;</title>",
            ">epochs</text>",
            ">loss</text>",
            "aria-label=\"Test loss over epochs\"",
        ] {
            assert!(svg.contains(part), "no {part} in {svg}");
        }
        let dots = svg.split("class=\"s0 dot\" d=\"").nth(1).unwrap().split('"').next().unwrap();
        assert_eq!(dots.matches('M').count(), 3);
        assert!(!svg.contains("thin"), "one run is no mean");
    }

    #[test]
    fn extreme_values_do_not_flatten_the_others() {
        let mut losses = [1.0; 50];
        losses[0] = 1e9;
        let (range, cut, svg) = panel(&losses, Height::FromZero).unwrap();
        assert_eq!((range, cut), (0.0..EXTREME, true));
        // Coordinates stay inside the picture.
        assert!(
            svg.split(['M', ' ', 'l', 'h', 'v', '"']).filter_map(|n| n.parse::<i64>().ok()).all(|n| n.abs() < 2000),
            "{svg}"
        );
        assert_eq!(panel(&[81.0, 99.5], Height::Tens).unwrap().0, 80.0..100.0);
        assert_eq!(panel(&[30.0], Height::Tens).unwrap().0, 30.0..40.0);
        assert!(!panel(&[3.0, 1.0, 0.1], Height::FromZero).unwrap().1);
    }

    #[test]
    fn odd_values_are_drawn_or_left_out() {
        assert!(panel(&[], Height::FromZero).is_none() && panel(&[f64::NAN], Height::Tens).is_none());
        for odd in [0.0, 1e-300, f64::MAX, -1.0] {
            let (range, _, svg) = panel(&[odd, odd], Height::FromZero).unwrap();
            assert!(range.start < range.end && !svg.contains("NaN"), "{odd}: {range:?}");
        }
    }
}
