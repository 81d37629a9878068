//! Where plotters draws the pictures inside a page: SVG whose strokes and fillings have classes in place of colours, so that the page's
//! style sheet gives one by day, one by night and one on paper. What has the same class one after the other shares a path.

use std::convert::Infallible;
use std::fmt::Write;

use maud::{Markup, PreEscaped, Render, html};
use plotters::coord::Shift;
use plotters::drawing::DrawingAreaErrorKind;
use plotters::prelude::*;
use plotters::style::FontTransform;
use plotters::style::text_anchor::{HPos, VPos};
use plotters_backend::{BackendColor, BackendCoord, BackendStyle, BackendTextStyle, DrawingErrorKind};

use crate::error::{Error, Result};

/// Units of the pictures' coordinates in a pixel of their usual size: plotters has whole numbers alone.
const UNITS: u32 = 4;
/// Colours of series; further ones have the same colours and dashed lines.
pub(super) const COLORS: usize = 6;
/// Kinds of lines.
const DASHES: usize = 4;

/// Pixels as coordinates.
pub(super) const fn px(pixels: u32) -> u32 {
    pixels * UNITS
}

/// What a stroke or a filling stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ink {
    /// Letters.
    Text,
    /// An axis and its ticks.
    Axis,
    /// A line of the grid.
    Grid,
    /// The line of a series.
    Line(usize),
    /// One of the lines that a series is the mean of.
    Thin(usize),
    /// A point of a series.
    Dot(usize),
    /// A bar of the first, second or third observation.
    Bar(usize),
    /// A step of the scale from few to many.
    Heat(usize),
}

impl Ink {
    /// The colour that stands for it on its way through plotters, whose own black is [`Ink::Text`].
    pub(super) fn color(self) -> RGBColor {
        let (kind, index) = match self {
            Self::Text => (0, 0),
            Self::Axis => (1, 0),
            Self::Grid => (2, 0),
            Self::Line(i) => (3, i),
            Self::Thin(i) => (4, i),
            Self::Dot(i) => (5, i),
            Self::Bar(i) => (6, i),
            Self::Heat(i) => (7, i),
        };
        let [high, low] = (index as u16).to_be_bytes();
        RGBColor(kind, high, low)
    }

    fn of(color: BackendColor) -> Self {
        let (kind, high, low) = color.rgb;
        let index = u16::from_be_bytes([high, low]).into();
        match kind {
            1 => Self::Axis,
            2 => Self::Grid,
            3 => Self::Line(index),
            4 => Self::Thin(index),
            5 => Self::Dot(index),
            6 => Self::Bar(index),
            7 => Self::Heat(index),
            _ => Self::Text,
        }
    }

    /// Its classes in the style sheet.
    pub(super) fn class(self) -> String {
        let line = |i: usize| format!("s{} d{}", i % COLORS, i / COLORS % DASHES);
        match self {
            Self::Text => "t".into(),
            Self::Axis => "a".into(),
            Self::Grid => "g".into(),
            Self::Line(i) => line(i),
            Self::Thin(i) => format!("{} thin", line(i)),
            Self::Dot(i) => format!("s{} dot", i % COLORS),
            Self::Bar(i) => format!("b{i}"),
            Self::Heat(i) => format!("h{i}"),
        }
    }

    /// Letters of this size in pixels.
    pub(super) fn letters<'a>(pixels: u32) -> TextStyle<'a> {
        ("sans-serif", px(pixels)).into_font().color(&Self::Text.color())
    }
}

/// What can go wrong while plotters draws; nothing does on the canvas itself.
pub(super) type Drawn = Result<(), DrawingAreaErrorKind<Infallible>>;

/// The drawing under way.
pub(super) struct Canvas<'a> {
    out: &'a mut String,
    size: (u32, u32),
    /// The path under way, and its ink.
    path: String,
    ink: Ink,
    /// Names of the series, which a pointer that rests on one is told.
    names: &'a [String],
}

/// A picture of `size` pixels that says `label` to whoever does not see it.
///
/// # Errors
/// [`Error::Io`] where plotters cannot draw it.
pub(super) fn picture(
    size: (u32, u32),
    label: &str,
    names: &[String],
    draw: impl FnOnce(&DrawingArea<Canvas, Shift>) -> Drawn,
) -> Result<Markup> {
    let mut out = String::new();
    let canvas = Canvas { out: &mut out, size, path: String::new(), ink: Ink::Text, names };
    let area = canvas.into_drawing_area();
    let drawn = draw(&area).and_then(|()| area.present());
    drawn.map_err(|e| Error::io("picture", "draw")(std::io::Error::other(e.to_string())))?;
    drop(area);
    let view = format!("0 0 {} {}", px(size.0), px(size.1));
    Ok(html! { svg.chart viewBox=(view) role="img" aria-label=(label) { (PreEscaped(out)) } })
}

/// A short line in a series' colour, for legends and tables.
pub(super) fn key(series: usize) -> Markup {
    html! { svg.key viewBox="0 0 112 32" aria-hidden="true" { path class=(Ink::Line(series).class()) d="M4 16h104" {} } }
}

impl Canvas<'_> {
    /// Writes the path under way.
    fn flush(&mut self) {
        let path = std::mem::take(&mut self.path);
        if path.is_empty() {
            return;
        }
        let name = match self.ink {
            Ink::Line(i) | Ink::Thin(i) => self.names.get(i),
            _ => None,
        };
        let title = name.map(|n| html! { title { (n) } }.into_string()).unwrap_or_default();
        let class = self.ink.class();
        *self.out += &match title.is_empty() {
            true => format!("<path class=\"{class}\" d=\"{path}\"/>"),
            false => format!("<path class=\"{class}\" d=\"{path}\">{title}</path>"),
        };
    }

    /// Adds to the path of this colour; nothing where it is transparent.
    fn add(&mut self, color: BackendColor, part: &str) {
        if color.alpha == 0.0 {
            return;
        }
        let ink = Ink::of(color);
        if ink != self.ink {
            self.flush();
            self.ink = ink;
        }
        self.path += part;
    }
}

type Outcome = Result<(), DrawingErrorKind<Infallible>>;

/// Through these points, each told by its distance from the one before.
fn strip(points: impl IntoIterator<Item = BackendCoord>) -> String {
    let mut points = points.into_iter();
    let Some(mut last) = points.next() else { return String::new() };
    let mut path = format!("M{} {}", last.0, last.1);
    for point in points.filter(|p| *p != last).collect::<Vec<_>>() {
        let (dx, dy) = (point.0 - last.0, point.1 - last.1);
        // A sign parts two numbers as well as a blank.
        let blank = if dy < 0 { "" } else { " " };
        let _ = match (dx, dy) {
            (0, 0) => continue,
            (dx, 0) => write!(path, "h{dx}"),
            (0, dy) => write!(path, "v{dy}"),
            (dx, dy) => write!(path, "l{dx}{blank}{dy}"),
        };
        last = point;
    }
    path
}

impl DrawingBackend for Canvas<'_> {
    type ErrorType = Infallible;

    fn get_size(&self) -> (u32, u32) {
        (px(self.size.0), px(self.size.1))
    }

    fn ensure_prepared(&mut self) -> Outcome {
        Ok(())
    }

    fn present(&mut self) -> Outcome {
        self.flush();
        Ok(())
    }

    fn draw_pixel(&mut self, (x, y): BackendCoord, color: BackendColor) -> Outcome {
        self.add(color, &format!("M{x} {y}h1v1h-1z"));
        Ok(())
    }

    fn draw_line<S: BackendStyle>(&mut self, from: BackendCoord, to: BackendCoord, style: &S) -> Outcome {
        self.draw_path([from, to], style)
    }

    fn draw_rect<S: BackendStyle>(&mut self, a: BackendCoord, b: BackendCoord, style: &S, _fill: bool) -> Outcome {
        let ((x, y), (w, h)) = (a, (b.0 - a.0, b.1 - a.1));
        self.add(style.color(), &format!("M{x} {y}h{w}v{h}h{}z", -w));
        Ok(())
    }

    fn draw_path<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Outcome {
        self.add(style.color(), &strip(path));
        Ok(())
    }

    fn fill_polygon<S: BackendStyle, I: IntoIterator<Item = BackendCoord>>(&mut self, path: I, style: &S) -> Outcome {
        self.add(style.color(), &(strip(path) + "z"));
        Ok(())
    }

    /// A stroke of no length with round ends, as wide as the style sheet says.
    fn draw_circle<S: BackendStyle>(&mut self, at: BackendCoord, _: u32, style: &S, _fill: bool) -> Outcome {
        self.add(style.color(), &format!("M{} {}h0", at.0, at.1));
        Ok(())
    }

    fn draw_text<S: BackendTextStyle>(&mut self, text: &str, style: &S, (x, y): BackendCoord) -> Outcome {
        self.flush();
        let anchor = match style.anchor().h_pos {
            HPos::Left => "start",
            HPos::Center => "middle",
            HPos::Right => "end",
        };
        let down = match style.anchor().v_pos {
            VPos::Top => ".76em",
            VPos::Center => ".35em",
            VPos::Bottom => "-.24em",
        };
        let turn = match style.transform() {
            FontTransform::None => None,
            FontTransform::Rotate90 => Some(90),
            FontTransform::Rotate180 => Some(180),
            FontTransform::Rotate270 => Some(270),
        };
        let turn = turn.map(|degrees| format!("rotate({degrees} {x} {y})"));
        let text = html! { text x=(x) y=(y) dy=(down) text-anchor=(anchor) font-size=(style.size()) transform=[turn] { (text) } };
        text.render_to(self.out);
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn strokes_of_one_ink_share_a_path_and_names_are_text() {
        let names = ["<b>".to_string()];
        let svg = picture((10, 10), "a \"picture\"", &names, |area| {
            let line = |from, to, ink: Ink| PathElement::new([from, to], ink.color());
            area.draw(&line((0, 0), (4, 4), Ink::Line(0)))?;
            area.draw(&line((8, 0), (8, 4), Ink::Line(0)))?;
            area.draw(&Rectangle::new([(1, 2), (5, 4)], Ink::Heat(3).color().filled()))?;
            area.draw(&Circle::new((7, 7), 3, Ink::Dot(7).color().filled()))?;
            area.draw(&line((0, 0), (1, 1), Ink::Thin(13)))?;
            area.draw(&line((0, 0), (9, 9), Ink::Grid))?;
            area.draw(&PathElement::new([(0, 0), (9, 9)], TRANSPARENT))?;
            area.draw(&Text::new("1 < 2", (0, 9), Ink::letters(3)))
        });
        let wanted = "<svg class=\"chart\" viewBox=\"0 0 40 40\" role=\"img\" aria-label=\"a &quot;picture&quot;\">\
            <path class=\"s0 d0\" d=\"M0 0l4 4M8 0v4\"><title>&lt;b&gt;</title></path>\
            <path class=\"h3\" d=\"M1 2h4v2h-4z\"/><path class=\"s1 dot\" d=\"M7 7h0\"/>\
            <path class=\"s1 d2 thin\" d=\"M0 0l1 1\"/><path class=\"g\" d=\"M0 0l9 9\"/>\
            <text x=\"0\" y=\"9\" dy=\".76em\" text-anchor=\"start\" font-size=\"12\">1 &lt; 2</text></svg>";
        assert_eq!(svg.unwrap().into_string(), wanted);
    }

    #[test]
    fn strips_tell_distances() {
        assert_eq!(strip([(3, 4), (3, 4), (5, 1), (5, 9), (2, 9), (2, 9)]), "M3 4l2-3v8h-3");
        assert_eq!(strip([]), "");
    }
}
