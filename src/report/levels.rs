//! Which levels the weights lie on, at the start, in the middle and at the end of a run.

use maud::Markup;
use plotters::prelude::*;

use super::canvas::{Ink, picture, px};
use super::heat::{Grid, HeatMap};
use crate::error::Result;
use crate::train::curves::tick;
use crate::train::dynamics::{Dynamics, DynamicsRecord};

/// Width and height of the bars' picture in pixels.
const SIZE: (u32, u32) = (480, 280);
/// Levels that are all shown, and the share below which one of more is left out.
const ALL: usize = 24;
const RARE: f64 = 5e-4;

/// Observations of one run with their titles.
pub(super) struct Moments<'a> {
    /// In the order of time.
    pub(super) at: Vec<(String, &'a DynamicsRecord)>,
    /// Levels that occur, from the lowest.
    levels: Vec<f64>,
    /// Whether rare ones are left out.
    pub(super) cut: bool,
}

/// The share of a level among these weights.
fn share(d: &Dynamics, level: f64) -> f64 {
    let of_all = d.levels.iter().map(|(_, n)| n).sum::<u64>().max(1);
    let found = d.levels.iter().find(|(l, _)| *l == level).map_or(0, |(_, n)| *n);
    found as f64 / of_all as f64
}

/// −0.5 or, where some levels would be long numbers, −2⁻¹.
fn level_name(level: f64, power: bool) -> String {
    let sign = if level < 0.0 { "−" } else { "" };
    let size = level.abs();
    if size == 0.0 || !power {
        return format!("{sign}{}", tick(&size));
    }
    let raised = |c: char| match c {
        '-' => '⁻',
        digit => ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'][digit.to_digit(10).unwrap_or_default() as usize],
    };
    format!("{sign}2{}", format!("{}", size.log2().round()).chars().map(raised).collect::<String>())
}

impl<'a> Moments<'a> {
    /// The first and the last observation, and the one nearest to half of the time; none without any.
    pub(super) fn of(all: &[(f64, &'a DynamicsRecord)]) -> Option<Self> {
        let (first, last) = (all.first()?, all.last()?);
        let half = (first.0 + last.0) / 2.0;
        let middle = (0..all.len()).min_by(|a, b| (all[*a].0 - half).abs().total_cmp(&(all[*b].0 - half).abs()))?;
        let mut picked = vec![("start", first)];
        picked.extend((0 < middle && middle + 1 < all.len()).then(|| ("middle", &all[middle])));
        picked.extend((all.len() > 1).then_some(("end", last)));
        let title = |(name, (epochs, record)): (&str, &(f64, &'a DynamicsRecord))| {
            (format!("{name}: epoch {}", tick(epochs)), *record)
        };
        let at: Vec<_> = picked.into_iter().map(title).collect();
        let mut levels: Vec<f64> = at.iter().flat_map(|(_, r)| r.whole.levels.iter().map(|(l, _)| *l)).collect();
        levels.sort_by(f64::total_cmp);
        levels.dedup();
        let before = levels.len();
        if before > ALL {
            levels.retain(|l| at.iter().any(|(_, r)| share(&r.whole, *l) >= RARE));
        }
        (!levels.is_empty()).then_some(Self { cut: levels.len() < before, at, levels })
    }

    /// What the axis says at the `x`-th level.
    fn name(&self, x: &f64) -> String {
        let whole = (x - x.round()).abs() < 1e-6;
        let power = self.levels.iter().any(|l| *l != 0.0 && !(0.125..1024.0).contains(&l.abs()));
        let level = self.levels.get(x.round().max(0.0) as usize).filter(|_| whole);
        level.map_or(String::new(), |l| level_name(*l, power))
    }

    /// Bars of the whole network's shares: beside each other the observations of a level.
    ///
    /// # Errors
    /// As [`picture`].
    pub(super) fn bars(&self, label: &str) -> Result<Markup> {
        let shares = |record: &DynamicsRecord| -> Vec<f64> {
            self.levels.iter().map(|l| 100.0 * share(&record.whole, *l)).collect()
        };
        let all: Vec<_> = self.at.iter().map(|(_, record)| shares(record)).collect();
        let top = all.iter().flatten().fold(0.0, |a: f64, b| a.max(*b));
        let (n, width) = (self.levels.len() as f64, 0.84 / all.len() as f64);
        picture(SIZE, label, &[], |area| {
            let mut chart = ChartBuilder::on(area)
                .margin(px(6))
                .x_label_area_size(px(38))
                .y_label_area_size(px(52))
                .build_cartesian_2d(-0.5..n - 0.5, 0.0..if top > 0.0 { 1.05 * top } else { 1.0 })?;
            chart
                .configure_mesh()
                .disable_x_mesh()
                .x_desc("level (from here to the next power of two)")
                .y_desc("share of weights (%)")
                .axis_desc_style(Ink::letters(14))
                .label_style(Ink::letters(13))
                .axis_style(Ink::Axis.color())
                .bold_line_style(Ink::Grid.color())
                .light_line_style(TRANSPARENT)
                .set_all_tick_mark_size(px(4))
                .x_labels(self.levels.len().min(16))
                .y_labels(6)
                .x_label_formatter(&|x| self.name(x))
                .y_label_formatter(&tick)
                .draw()?;
            for (i, shares) in all.iter().enumerate() {
                let ink = Ink::Bar(i).color().filled();
                let bar = |(level, share): (usize, &f64)| {
                    let left = level as f64 - 0.42 + i as f64 * width;
                    Rectangle::new([(left, *share), (left + width, 0.0)], ink)
                };
                chart.draw_series(shares.iter().enumerate().map(bar))?;
            }
            Ok(())
        })
    }

    /// The largest share of a level in any of these layers.
    pub(super) fn top(&self, layers: &[&str]) -> f64 {
        let of = |record: &DynamicsRecord| self.grid(record, layers).rows.into_iter().flatten().flatten();
        self.at.iter().flat_map(|(_, r)| of(r).collect::<Vec<_>>()).fold(0.0, f64::max)
    }

    fn grid(&self, record: &DynamicsRecord, layers: &[&str]) -> Grid {
        let row = |name: &&str| {
            let layer = record.layers.iter().find(|l| l.name == **name);
            self.levels.iter().map(|l| layer.map(|layer| share(&layer.dynamics, *l))).collect()
        };
        Grid {
            edges: (0..=self.levels.len()).map(|i| i as f64 - 0.5).collect(),
            rows: layers.iter().map(row).collect(),
        }
    }

    /// Each layer's shares at each observation, on a scale up to `top`.
    ///
    /// # Errors
    /// As [`picture`].
    pub(super) fn layers(&self, label: String, layers: &[&str], top: f64) -> Result<Markup> {
        let grids = self.at.iter().map(|(title, record)| (title.clone(), "level", self.grid(record, layers)));
        let name = |x: &f64| self.name(x);
        HeatMap { label, layers, grids: grids.collect(), ticks: Some(&name), top }.draw()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn levels_have_short_names() {
        assert_eq!([4.0, -1.0, 0.0, -0.125].map(|l| level_name(l, false)), ["4", "−1", "0", "−0.125"]);
        assert_eq!([4.0, -1.0, 0.0, -0.125, 4096.0].map(|l| level_name(l, true)), ["2²", "−2⁰", "0", "−2⁻³", "2¹²"]);
    }
}
