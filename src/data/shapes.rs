//! `shapes`: ten figures drawn in 32×32 colour, to train on where there is no data set and no network.
//!
//! Each image has one figure of random place, size, turn and colour on a two-coloured ground with a few strokes as
//! clutter, and noise over all. The figure is light and the ground dark. Figures are signed distances, so that edges
//! are smooth. Only additions, multiplications, divisions and square roots of f32 are used, which IEEE 754 rounds in
//! one way: the bytes are the same on every platform.

use std::{f32::consts::FRAC_1_SQRT_2, ops::Range};

use rand::{Rng, RngExt};

use super::{Manifest, Records, Splits, keyed_rng};

/// Image height and width in pixels.
const SIDE: usize = 32;
/// R, G and B, 0 … 255.
type Colour = [f32; 3];

/// Signed distance from the figure's edge at (x, y), x to the right and y down, negative inside; the figure's radius
/// is about 1.
type Figure = fn(x: f32, y: f32) -> f32;

/// The class names, in the order of the labels, with their figures.
const FIGURES: [(&str, Figure); 10] = [
    ("disc", |x, y| norm(x, y) - 0.9),
    ("ring", |x, y| (norm(x, y) - 0.76).abs() - 0.17),
    ("square", |x, y| x.abs().max(y.abs()) - 0.78),
    ("frame", |x, y| (x.abs().max(y.abs()) - 0.68).abs() - 0.16),
    ("triangle", triangle),
    ("cross", |x, y| bar(x, y, 0.95, 0.27).min(bar(y, x, 0.95, 0.27))),
    ("star", star),
    ("crescent", |x, y| (norm(x, y) - 0.95).max(0.8 - norm(x - 0.5, y))),
    ("heart", heart),
    ("bars", |x, y| bar(x, y.abs().min((y.abs() - 0.68).abs()), 0.9, 0.19)),
];

/// What is wrong with a manifest of this format, if anything.
pub(super) fn fault(manifest: &Manifest) -> Option<String> {
    let shape = (manifest.channels, manifest.height, manifest.width);
    if shape != (3, SIDE, SIDE) {
        return Some(format!("{shape:?} channels, height and width, but the format shapes draws (3, {SIDE}, {SIDE})"));
    }
    let drawn = FIGURES.map(|(name, _)| name);
    (manifest.classes != drawn)
        .then(|| format!("classes are {:?}, but the format shapes draws {drawn:?}", manifest.classes))
}

/// Draws the wanted splits (train, test) as the manifest's generator says.
pub(super) fn draw(manifest: &Manifest, splits: Splits) -> (Option<Records>, Option<Records>) {
    let generator = manifest.generator.expect("checked when the manifest was parsed");
    let split = |wanted: bool, purpose, count| wanted.then(|| draw_split(purpose, generator.seed, count));
    (split(splits.train, b"s3gpu shapetrain", generator.train), split(splits.test, b"s3gpu shape test", generator.test))
}

/// `count` images, the classes in turn. Each image has its own random stream, so the first ones do not depend on
/// `count`.
fn draw_split(purpose: &[u8; 16], seed: u64, count: usize) -> Records {
    let image_len = 3 * SIDE * SIDE;
    let mut records = Records { pixels: vec![0; count * image_len], labels: Vec::with_capacity(count), image_len };
    for (i, pixels) in records.pixels.chunks_exact_mut(image_len).enumerate() {
        let label = i % FIGURES.len();
        draw_image(&mut keyed_rng(purpose, seed, i as u64), FIGURES[label].1, pixels);
        records.labels.push(label as u32);
    }
    records
}

/// One figure into 3 × 32 × 32 planar bytes.
fn draw_image(rng: &mut impl Rng, figure: Figure, pixels: &mut [u8]) {
    // Always light on dark, so that a small network finds the figure within a few hundred steps.
    let ground = colour(rng, 0.0..110.0);
    let figure_colour = colour(rng, 140.0..255.0);
    let ground_end = near(rng, ground, 40.0);
    let slope = [rng.random_range(-1.0..1.0f32), rng.random_range(-1.0..1.0f32)];
    let strokes: Vec<Stroke> = (0..rng.random_range(2..=4u32)).map(|_| Stroke::random(rng, ground)).collect();

    let radius = rng.random_range(9.0..13.0f32);
    // The figure's circle passes the image's edge by a pixel at most.
    let reach = SIDE as f32 / 2.0 - radius + 1.0;
    let centre = [0, 1].map(|_| SIDE as f32 / 2.0 + rng.random_range(-reach..reach));
    // A turn of at most 23 degrees, from the half angle's tangent: no sine, whose last bit differs between systems.
    let t = rng.random_range(-0.2..0.2f32);
    let (cos, sin) = ((1.0 - t * t) / (1.0 + t * t), 2.0 * t / (1.0 + t * t));
    let mirror = if rng.random_range(0..2u32) == 0 { 1.0 } else { -1.0 };

    let noise_level = rng.random_range(4.0..20.0f32);
    let mut noise = [0; 2 * 3 * SIDE * SIDE];
    rng.fill_bytes(&mut noise);

    for row in 0..SIDE {
        for column in 0..SIDE {
            let (px, py) = (column as f32 + 0.5, row as f32 + 0.5);
            let along = 0.5 + (slope[0] * (px - 16.0) + slope[1] * (py - 16.0)) / 64.0;
            let mut value = mix(ground, ground_end, along);
            for stroke in &strokes {
                value = mix(value, stroke.colour, cover(stroke.distance(px, py)));
            }
            let (dx, dy) = (px - centre[0], py - centre[1]);
            let (x, y) = (mirror * (cos * dx + sin * dy) / radius, (cos * dy - sin * dx) / radius);
            value = mix(value, figure_colour, cover(figure(x, y) * radius));
            for (channel, v) in value.into_iter().enumerate() {
                let i = (channel * SIDE + row) * SIDE + column;
                // The sum of two bytes has a triangular distribution, near enough to a bell.
                let grain = (f32::from(noise[2 * i]) + f32::from(noise[2 * i + 1]) - 255.0) / 255.0;
                pixels[i] = (v + noise_level * grain + 0.5).clamp(0.0, 255.0) as u8;
            }
        }
    }
}

/// A short line with round ends: clutter that is like no figure.
struct Stroke {
    from: [f32; 2],
    along: [f32; 2],
    half_width: f32,
    colour: Colour,
}

impl Stroke {
    fn random(rng: &mut impl Rng, ground: Colour) -> Self {
        let from = [0, 1].map(|_| rng.random_range(0.0..SIDE as f32));
        let along = [0, 1].map(|_| rng.random_range(-9.0..9.0f32));
        Self { from, along, half_width: rng.random_range(0.5..1.2f32), colour: near(rng, ground, 60.0) }
    }

    /// Signed distance from the stroke's edge, in pixels.
    fn distance(&self, px: f32, py: f32) -> f32 {
        let [ax, ay] = self.along;
        let (x, y) = (px - self.from[0], py - self.from[1]);
        let nearest = ((x * ax + y * ay) / (ax * ax + ay * ay + 1e-6)).clamp(0.0, 1.0);
        norm(x - nearest * ax, y - nearest * ay) - self.half_width
    }
}

fn norm(x: f32, y: f32) -> f32 {
    (x * x + y * y).sqrt()
}

/// A rectangle about the origin, by half its length and half its thickness.
fn bar(x: f32, y: f32, half_length: f32, half_thickness: f32) -> f32 {
    (x.abs() - half_length).max(y.abs() - half_thickness)
}

/// Equilateral, a corner up, moved down a little so that its bounding box is nearly centred.
fn triangle(x: f32, y: f32) -> f32 {
    const HALF_SQRT_3: f32 = 0.866_025_4;
    let y = y - 0.2;
    y.max(HALF_SQRT_3 * x.abs() - 0.5 * y) - 0.55
}

/// The pentagram: the points that are outside at most one of the five lines through its corners.
fn star(x: f32, y: f32) -> f32 {
    // (sin, −cos) of multiples of 72 degrees: the lines' normals, and the lines' distance, cos 72.
    const NORMALS: [[f32; 2]; 5] = [
        [0.0, 1.0],
        [0.951_056_5, 0.309_017],
        [0.587_785_3, -0.809_017],
        [-0.587_785_3, -0.809_017],
        [-0.951_056_5, 0.309_017],
    ];
    let (mut largest, mut second) = (f32::MIN, f32::MIN);
    for [nx, ny] in NORMALS {
        let d = nx * x + ny * y - 0.33;
        second = second.max(d.min(largest));
        largest = largest.max(d);
    }
    second
}

/// A square on its corner with a disc on each of the two upper sides.
fn heart(x: f32, y: f32) -> f32 {
    const HALF_SIDE: f32 = 0.55;
    const SIDE_MIDDLE: f32 = 0.388_909; // HALF_SIDE / √2
    let (x, y) = (x.abs(), y + 0.05);
    let square = FRAC_1_SQRT_2 * (x + y.abs()) - HALF_SIDE;
    square.min(norm(x - SIDE_MIDDLE, y + SIDE_MIDDLE) - HALF_SIDE)
}

/// How much of a pixel lies inside an edge that is `distance` pixels away.
fn cover(distance: f32) -> f32 {
    (0.5 - distance).clamp(0.0, 1.0)
}

fn mix(a: Colour, b: Colour, share: f32) -> Colour {
    [0, 1, 2].map(|c| a[c] + (b[c] - a[c]) * share)
}

/// A random colour with every channel in the range.
fn colour(rng: &mut impl Rng, range: Range<f32>) -> Colour {
    [0, 1, 2].map(|_| rng.random_range(range.clone()))
}

/// A colour at most `spread` away in each channel.
fn near(rng: &mut impl Rng, from: Colour, spread: f32) -> Colour {
    from.map(|v| (v + rng.random_range(-spread..spread)).clamp(0.0, 255.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::Generator;

    const BOTH: Splits = Splits { train: true, test: true };

    fn shapes(seed: u64, train: usize, test: usize) -> (Records, Records) {
        let mut manifest = Manifest::find("shapes").unwrap();
        manifest.generator = Some(Generator { seed, train, test });
        let (train, test) = draw(&manifest, BOTH);
        (train.unwrap(), test.unwrap())
    }

    /// FNV-1a, 64 bits.
    fn checksum(bytes: &[u8]) -> u64 {
        bytes.iter().fold(0xcbf2_9ce4_8422_2325, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x100_0000_01b3))
    }

    #[test]
    fn bytes_are_the_same_everywhere_and_for_ever() {
        let (train, test) = shapes(1, 500, 200);
        assert_eq!([checksum(&train.pixels), checksum(&test.pixels)], [0x81895da6473020cd, 0x69f103074febcb2b]);
    }

    #[test]
    fn seed_and_split_matter_and_the_count_does_not() {
        let (train, test) = shapes(1, 30, 30);
        let (other, _) = shapes(2, 30, 30);
        let (longer, _) = shapes(1, 60, 30);
        assert_eq!(longer.pixels[..train.pixels.len()], train.pixels);
        // No image occurs twice, in one split or across them.
        let images: std::collections::BTreeSet<_> =
            [&longer, &test, &other].into_iter().flat_map(|r| (0..r.len()).map(|i| r.image(i))).collect();
        assert_eq!(images.len(), 60 + 30 + 30);
    }

    #[test]
    fn only_the_wanted_split_is_drawn() {
        let manifest = Manifest::find("shapes").unwrap();
        let (train, test) = draw(&manifest, Splits { train: false, test: true });
        assert_eq!((train, test.map(|t| t.len())), (None, Some(2000)));
    }

    #[test]
    fn classes_are_balanced_and_the_manifest_holds_their_statistics() {
        let manifest = Manifest::find("shapes").unwrap();
        let (train, test) = draw(&manifest, BOTH);
        for (records, count) in [(train.as_ref().unwrap(), 8000), (&test.unwrap(), 2000)] {
            assert_eq!((records.len(), records.pixels.len()), (count, count * manifest.image_len()));
            for class in 0..10 {
                assert_eq!(records.labels.iter().filter(|l| **l == class).count(), count / 10);
            }
        }
        let train = train.unwrap();
        for channel in 0..3 {
            let plane = |i| &train.image(i)[channel * SIDE * SIDE..][..SIDE * SIDE];
            let values = || (0..train.len()).flat_map(plane).map(|v| f64::from(*v) / 255.0);
            let n = values().count() as f64;
            let mean = values().sum::<f64>() / n;
            let std = (values().map(|v| v * v).sum::<f64>() / n - mean * mean).sqrt();
            assert!((mean - f64::from(manifest.mean[channel])).abs() < 1e-4, "channel {channel}: mean {mean}");
            assert!((std - f64::from(manifest.std[channel])).abs() < 1e-4, "channel {channel}: std {std}");
        }
    }

    #[test]
    fn figures_have_their_own_areas() {
        // Hand-computed areas at radius 1, from a grid: a figure that is drawn wrongly has another one.
        for ((name, figure), want) in FIGURES.into_iter().zip([
            std::f64::consts::PI * 0.81,
            std::f64::consts::PI * (0.93f64.powi(2) - 0.59f64.powi(2)),
            1.56 * 1.56,
            1.68 * 1.68 - 1.04 * 1.04,
            3.0 * 3f64.sqrt() * 0.55 * 0.55,
            4.0 * (2.0 * 0.95 * 0.27) - 0.54 * 0.54,
            1.2802, // ten triangles between a tip, a notch and the middle
            1.3165, // a disc less the lens of two
            (4.0 + std::f64::consts::PI) * 0.55 * 0.55,
            3.0 * 1.8 * 0.38,
        ]) {
            let grid = |i: i32| (i as f32 + 0.5) / 200.0;
            let inside = (-300..300).flat_map(|i| (-300..300).map(move |j| (grid(i), grid(j))));
            let area = inside.filter(|&(x, y)| figure(x, y) < 0.0).count() as f64 / 40_000.0;
            assert!((area - want).abs() < 0.01, "{name}: area {area}, but {want} by hand");
        }
    }
}
