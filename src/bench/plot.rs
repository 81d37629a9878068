//! The scaling as a picture: three panels with logarithmic axes, as SVG.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;

use super::scaling::{Axis, Scaling};
use crate::error::{Error, Result};

/// Width and height in pixels.
const SIZE: (u32, u32) = (1100, 400);
/// Blue, which the run's curves use too.
const COLOR: RGBColor = RGBColor(0, 114, 178);

/// The picture; `path` is what an error names.
///
/// # Errors
/// [`Error::Io`] where it cannot be drawn.
pub fn render(scaling: &Scaling, path: &Path) -> Result<String> {
    draw(scaling).map_err(|e| Error::io(path, "draw")(std::io::Error::other(e.to_string())))
}

fn draw(scaling: &Scaling) -> Result<String, Box<dyn std::error::Error>> {
    let mut svg = String::new();
    {
        let root = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        root.fill(&WHITE)?;
        let title = format!("Seconds a step: {} on {}", scaling.base, scaling.adapter);
        let root = root.margin(8, 0, 0, 0).titled(&title, ("sans-serif", 18))?;
        let panels = root.split_evenly((1, scaling.axes.len().max(1)));
        for (axis, area) in scaling.axes.iter().zip(&panels) {
            panel(area, axis)?;
        }
        root.present()?;
    }
    Ok(svg)
}

fn panel<DB: DrawingBackend>(
    area: &DrawingArea<DB, Shift>,
    axis: &Axis,
) -> Result<(), DrawingAreaErrorKind<DB::ErrorType>> {
    let points: Vec<_> = axis.points.iter().filter_map(|p| Some((f64::from(p.x), p.seconds()?))).collect();
    let ends = |all: Vec<f64>| {
        let (low, high) = all.iter().fold((f64::INFINITY, 0.0f64), |(a, b), x| (a.min(*x), b.max(*x)));
        if low.is_finite() { low / 1.3..high * 1.3 } else { 0.1..10.0 }
    };
    let xs = ends(axis.points.iter().map(|p| f64::from(p.x)).collect());
    let ys = ends(points.iter().map(|p| p.1).collect());
    let law = axis.exponent.map_or(String::new(), |e| format!(": seconds ~ {}^{e:.2}", axis.name));
    let mut chart = ChartBuilder::on(area)
        .caption(format!("{}{law}", axis.name), ("sans-serif", 15))
        .margin(12)
        .margin_right(20)
        .x_label_area_size(42)
        .y_label_area_size(60)
        .build_cartesian_2d(xs.log_scale(), ys.log_scale())?;
    chart
        .configure_mesh()
        .x_desc(axis.name.as_str())
        .axis_desc_style(("sans-serif", 14))
        .label_style(("sans-serif", 12))
        .axis_style(BLACK.mix(0.5))
        .bold_line_style(BLACK.mix(0.12))
        .light_line_style(TRANSPARENT)
        .x_labels(4)
        .x_label_formatter(&|x| format!("{}", (x * 100.0).round() / 100.0))
        .y_label_formatter(&|y| format!("{}", (y * 1e6).round() / 1e6))
        .draw()?;
    chart.draw_series(LineSeries::new(points.iter().copied(), COLOR.stroke_width(2)))?;
    chart.draw_series(points.iter().map(|p| Circle::new(*p, 3, COLOR.filled())))?;
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::super::scaling::tests::scaling;
    use super::*;

    #[test]
    fn a_dot_for_each_measured_point_in_three_panels() {
        let svg = render(&scaling(), Path::new("x.svg")).unwrap();
        assert_eq!(svg.matches("<circle").count(), 3);
        for text in ["batch: seconds ~ batch^1.00", "width", "depth", "a &lt;card&gt;"] {
            assert!(svg.contains(text), "{text} in {svg}");
        }
        assert!(svg.ends_with("</svg>\n") && !svg.contains("NaN") && !svg.contains("inf"));
    }
}
