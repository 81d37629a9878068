//! Shares by layer and time, or by layer and level, in the colours of a perceptually even scale.

use maud::{Markup, html};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::canvas::{Ink, picture, px};
use crate::error::Result;
use crate::train::curves::tick;

/// Steps of the scale.
pub(super) const STEPS: usize = 32;
/// Viridis, whose steps look equally far apart to eyes of every kind, at equal distances.
const VIRIDIS: [[u8; 3]; 9] = [
    [68, 1, 84],
    [71, 45, 123],
    [59, 82, 139],
    [44, 114, 142],
    [33, 145, 140],
    [40, 174, 128],
    [94, 201, 98],
    [173, 220, 48],
    [253, 231, 37],
];
/// Width of a picture, of the layers' names on its left, and height of a layer, in pixels.
const WIDTH: u32 = 480;
const NAMES: u32 = 112;
const ROW: u32 = 15;
/// Named columns up to which each has its label.
const LABELS: usize = 8;
/// Columns at most; further ones are averaged.
const COLUMNS: usize = 96;

/// The style sheet's colour of each step, and the whole scale for legends.
pub(super) fn style() -> String {
    let color = |i: usize| {
        let at = i as f64 / (STEPS - 1) as f64 * (VIRIDIS.len() - 1) as f64;
        let (low, part) = ((at as usize).min(VIRIDIS.len() - 2), at - (at as usize).min(VIRIDIS.len() - 2) as f64);
        let mixed = |c: usize| {
            let [a, b] = [VIRIDIS[low][c], VIRIDIS[low + 1][c]].map(f64::from);
            (a + part * (b - a)).round() as u8
        };
        format!("#{:02x}{:02x}{:02x}", mixed(0), mixed(1), mixed(2))
    };
    let steps: String = (0..STEPS).map(|i| format!(".chart .h{i} {{ fill: {}; }}\n", color(i))).collect();
    let all = (0..STEPS).map(color).collect::<Vec<_>>().join(", ");
    format!("{steps}.ramp {{ background: linear-gradient(90deg, {all}); }}\n")
}

/// The scale from 0 to `top` percent.
pub(super) fn legend(top: f64) -> Markup {
    html! { p.legend { "0 %" span.ramp {} (tick(&(((100.0 * top) * 100.0).round() / 100.0))) " %" } }
}

/// A cell's step of the scale from 0 to `top`.
fn step(share: f64, top: f64) -> usize {
    let part = if top > 0.0 { share / top } else { 0.0 };
    (part * (STEPS - 1) as f64).round().clamp(0.0, (STEPS - 1) as f64) as usize
}

/// Rows of cells that lie between edges; a row's missing cell stays empty.
pub(super) struct Grid {
    /// Where cells begin and end, one more than cells in a row.
    pub(super) edges: Vec<f64>,
    /// A row for each layer.
    pub(super) rows: Vec<Vec<Option<f64>>>,
}

impl Grid {
    /// With at most [`COLUMNS`] columns, each the mean of as many neighbours.
    pub(super) fn thin(self) -> Self {
        let columns = self.edges.len().saturating_sub(1);
        let group = columns.div_ceil(COLUMNS).max(1);
        let mean = |cells: &[Option<f64>]| {
            let known: Vec<f64> = cells.iter().flatten().copied().collect();
            (!known.is_empty()).then(|| known.iter().sum::<f64>() / known.len() as f64)
        };
        let edges = (0..columns).step_by(group).chain([columns]).map(|i| self.edges[i]).collect();
        Self { edges, rows: self.rows.iter().map(|row| row.chunks(group).map(mean).collect()).collect() }
    }

    /// The rectangles of each step: (row, from, to), neighbours of one step as one.
    fn cells(&self, top: f64) -> Vec<Vec<(usize, f64, f64)>> {
        let mut found = vec![Vec::new(); STEPS];
        for (r, row) in self.rows.iter().enumerate() {
            let steps: Vec<_> = row.iter().map(|cell| cell.map(|share| step(share, top))).collect();
            let mut at = 0;
            for run in steps.chunk_by(|a, b| a == b) {
                if let Some(step) = run[0] {
                    found[step].push((r, self.edges[at], self.edges[at + run.len()]));
                }
                at += run.len();
            }
        }
        found
    }
}

/// A picture of one or several grids of the same layers side by side.
pub(super) struct HeatMap<'a> {
    /// What it shows, for whoever does not see it.
    pub(super) label: String,
    /// Names of the rows, from the top.
    pub(super) layers: &'a [&'a str],
    /// Each grid with its title and the name of its axis.
    pub(super) grids: Vec<(String, &'a str, Grid)>,
    /// What the axis says at a whole number; the number itself where there is nothing.
    pub(super) ticks: Option<&'a dyn Fn(&f64) -> String>,
    /// The scale's end.
    pub(super) top: f64,
}

impl HeatMap<'_> {
    /// The picture.
    ///
    /// # Errors
    /// As [`picture`].
    pub(super) fn draw(&self) -> Result<Markup> {
        let rows = self.layers.len() as u32;
        let head = if self.grids.iter().any(|(title, ..)| !title.is_empty()) { 20 } else { 4 };
        let size = (WIDTH, head + rows * ROW + 40);
        let each = (WIDTH - NAMES - 8) / self.grids.len().max(1) as u32;
        picture(size, &self.label, &[], |area| {
            for (i, (title, axis, grid)) in self.grids.iter().enumerate() {
                let left = NAMES + i as u32 * each;
                let part = area.clone().shrink((px(left), 0), (px(each), px(size.1)));
                let (first, last) = (grid.edges[0], grid.edges[grid.edges.len() - 1]);
                let mut chart = ChartBuilder::on(&part)
                    .margin_top(px(head))
                    .margin_right(px(8))
                    .x_label_area_size(px(38))
                    .build_cartesian_2d(first..last, f64::from(rows)..0.0)?;
                for (step, cells) in grid.cells(self.top).into_iter().enumerate() {
                    let ink = Ink::Heat(step).color().filled();
                    let rect = |(r, from, to)| Rectangle::new([(from, r as f64), (to, r as f64 + 1.0)], ink);
                    chart.draw_series(cells.into_iter().map(rect))?;
                }
                let text = |x: &f64| self.ticks.map_or_else(|| tick(x), |name| name(x));
                let columns = grid.edges.len() - 1;
                let labels = match self.ticks {
                    Some(_) if columns <= LABELS => columns,
                    Some(_) => LABELS / 2,
                    None => 6,
                };
                chart
                    .configure_mesh()
                    .disable_mesh()
                    .x_desc(*axis)
                    .axis_desc_style(Ink::letters(13))
                    .label_style(Ink::letters(12))
                    .axis_style(Ink::Axis.color())
                    .set_all_tick_mark_size(px(4))
                    .x_labels(labels)
                    .x_label_formatter(&text)
                    .draw()?;
                let above = Ink::letters(13).pos(Pos::new(HPos::Center, VPos::Top));
                part.draw(&Text::new(title.clone(), ((px(each) - px(8)) as i32 / 2, 0), above))?;
            }
            let beside = Ink::letters(12).pos(Pos::new(HPos::Right, VPos::Center));
            for (r, layer) in self.layers.iter().enumerate() {
                let y = px(head) + r as u32 * px(ROW) + px(ROW) / 2;
                area.draw(&Text::new(layer.to_string(), (px(NAMES - 5) as i32, y as i32), beside.clone()))?;
            }
            Ok(())
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scale_goes_from_end_to_end() {
        let style = style();
        assert_eq!(style.matches(".chart .h").count(), STEPS);
        assert!(style.contains(".h0 { fill: #440154; }") && style.contains(".h31 { fill: #fde725; }"), "{style}");
        assert_eq!([0.0, 0.25, 0.5, 9.0].map(|share| step(share, 0.5)), [0, 16, 31, 31]);
        assert_eq!(step(0.0, 0.0), 0);
    }

    #[test]
    fn neighbours_of_one_step_are_one_rectangle() {
        let rows = vec![vec![Some(0.0), Some(0.001), Some(1.0)], vec![None, Some(1.0), None]];
        let cells = Grid { edges: vec![0.0, 1.0, 3.0, 4.0], rows }.cells(1.0);
        assert_eq!((&cells[0], &cells[31]), (&vec![(0, 0.0, 3.0)], &vec![(0, 3.0, 4.0), (1, 1.0, 3.0)]));
        assert_eq!(cells.iter().map(Vec::len).sum::<usize>(), 3);
    }

    #[test]
    fn many_columns_are_averaged() {
        let columns = 2 * COLUMNS + 1;
        let row = (0..columns).map(|i| Some((i % 3) as f64)).collect();
        let grid = Grid { edges: (0..=columns).map(|i| i as f64).collect(), rows: vec![row] }.thin();
        assert_eq!((grid.edges.len(), grid.rows[0].len()), (66, 65));
        assert_eq!((grid.edges[1], grid.edges[65], grid.rows[0][0]), (3.0, 193.0, Some(1.0)));
    }
}
