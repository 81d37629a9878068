//! What is in a data set: mean and standard deviation of its channels, images a class, and a picture of some of them.

use std::path::Path;
use std::thread;

use super::{Ahead, Manifest, Source, View};
use crate::error::{Error, Result};
use crate::files::{png, write_atomic};

/// Images that are decoded at a time.
const BATCH: usize = 64;

/// Counts of byte values and labels, from which all figures follow exactly, in any order of the images.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stats {
    /// For each channel, how often each byte value occurs.
    values: Vec<[u64; 256]>,
    /// Images of each class.
    pub classes: Vec<u64>,
}

impl Stats {
    /// Of no image yet.
    pub fn new(channels: usize, classes: usize) -> Self {
        Self { values: vec![[0; 256]; channels], classes: vec![0; classes] }
    }

    /// Of all images of a split, as they are measured on.
    ///
    /// # Errors
    /// As [`Source::fill`].
    pub fn of(manifest: &Manifest, images: &dyn Source) -> Result<Self> {
        let mut stats = Self::new(manifest.channels, manifest.classes.len());
        let (all, image_len): (Vec<u32>, _) = ((0..images.len() as u32).collect(), images.image_len());
        let mut pixels = vec![0; image_len * BATCH];
        thread::scope(|scope| {
            let images = Ahead::new(scope, images);
            images.announce(all.chunks(BATCH), View::Test);
            for batch in all.chunks(BATCH) {
                let pixels = &mut pixels[..batch.len() * image_len];
                images.fill(batch, View::Test, pixels)?;
                let each = batch.iter().zip(pixels.chunks_exact(image_len));
                each.for_each(|(i, image)| stats.add(image, images.label(*i as usize)));
            }
            Ok(stats)
        })
    }

    /// Adds an image of planar bytes, C × H × W, whose class is below the number of classes.
    pub fn add(&mut self, image: &[u8], label: u32) {
        let plane = image.len() / self.values.len();
        for (counts, plane) in self.values.iter_mut().zip(image.chunks_exact(plane)) {
            plane.iter().for_each(|byte| counts[usize::from(*byte)] += 1);
        }
        self.classes[label as usize] += 1;
    }

    /// Mean of each channel, of pixels scaled to 0 … 1.
    pub fn mean(&self) -> Vec<f64> {
        self.values.iter().map(|counts| mean(counts, |x| x)).collect()
    }

    /// Standard deviation of each channel over all pixels, likewise.
    pub fn std(&self) -> Vec<f64> {
        let of = |counts| {
            let middle = mean(counts, |x| x);
            mean(counts, |x| (x - middle).powi(2)).sqrt()
        };
        self.values.iter().map(of).collect()
    }
}

/// Mean of `f` of the counted bytes, scaled to 0 … 1.
fn mean(counts: &[u64; 256], f: impl Fn(f64) -> f64) -> f64 {
    let sum: f64 = counts.iter().enumerate().map(|(byte, n)| f(byte as f64 / 255.0) * *n as f64).sum();
    sum / counts.iter().sum::<u64>().max(1) as f64
}

/// Pixels between two images of a grid.
const GAP: usize = 2;
/// Images of a class, where each class has a row.
const A_ROW: usize = 12;
/// Up to so many classes have a row each; of more, each has one image.
const MOST_ROWS: usize = 20;
/// Small images are enlarged to about this side.
const SIDE: usize = 64;

/// A picture of some images, on light grey.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Grid {
    /// Width and height in pixels.
    pub size: [usize; 2],
    /// Height × width × R, G, B.
    pub pixels: Vec<u8>,
    /// What is where, for people.
    pub legend: String,
}

/// The first images of each class: a row a class, or one image a class where there are many.
///
/// # Errors
/// As [`Source::fill`].
pub fn grid(manifest: &Manifest, images: &dyn Source) -> Result<Grid> {
    let classes = manifest.classes.len();
    let rowwise = classes <= MOST_ROWS;
    let each = if rowwise { A_ROW } else { 1 };
    let mut first = vec![Vec::new(); classes];
    for i in 0..images.len() {
        let of = &mut first[images.label(i) as usize];
        if of.len() < each {
            of.push(i as u32);
        }
    }
    let columns = if rowwise { A_ROW } else { (classes as f64).sqrt().ceil() as usize };
    let rows = if rowwise { classes } else { classes.div_ceil(columns) };
    let (height, width) = (manifest.height, manifest.width);
    let scale = (SIDE / height.max(width)).max(1);
    let (cell_height, cell_width) = (height * scale + GAP, width * scale + GAP);
    let size = [columns * cell_width + GAP, rows * cell_height + GAP];
    let mut pixels = vec![224; 3 * size[0] * size[1]];
    let mut planes = vec![0; images.image_len()];
    for (class, chosen) in first.iter().enumerate() {
        for (n, image) in chosen.iter().enumerate() {
            images.fill(&[*image], View::Test, &mut planes)?;
            let (row, column) = if rowwise { (class, n) } else { (class / columns, class % columns) };
            let (top, left) = (row * cell_height + GAP, column * cell_width + GAP);
            for (y, x) in (0..height * scale).flat_map(|y| (0..width * scale).map(move |x| (y, x))) {
                let at = y / scale * width + x / scale;
                let out = 3 * ((top + y) * size[0] + left + x);
                for c in 0..3 {
                    // Fewer than three channels are shown as grey.
                    let plane = if manifest.channels < 3 { 0 } else { c };
                    pixels[out + c] = planes[plane * height * width + at];
                }
            }
        }
    }
    let legend = match rowwise {
        true => format!("a row a class, from the top: {}", manifest.classes.join(", ")),
        false => format!("the first image of each class, {columns} a row, in the order of the classes"),
    };
    Ok(Grid { size, pixels, legend })
}

impl Grid {
    /// Writes it as PNG, whole or not at all.
    ///
    /// # Errors
    /// [`Error::Io`] naming the file.
    pub fn write(&self, path: &Path) -> Result<()> {
        let [width, height] = self.size;
        let bytes = png(&self.pixels, [3, height, width]).map_err(Error::io(path, "encode"))?;
        write_atomic(path, |out| out.write_all(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn close(found: &[f64], wanted: &[f64]) {
        let same = found.len() == wanted.len() && found.iter().zip(wanted).all(|(a, b)| (a - b).abs() < 1e-12);
        assert!(same, "{found:?} {wanted:?}");
    }

    #[test]
    fn mean_and_deviation_are_over_all_pixels_of_a_channel() {
        let mut stats = Stats::new(2, 3);
        stats.add(&[0, 255, 51, 51], 2);
        stats.add(&[255, 0, 51, 51], 2);
        close(&stats.mean(), &[0.5, 0.2]);
        close(&stats.std(), &[0.5, 0.0]);
        assert_eq!(stats.classes, [0, 0, 2]);
        close(&Stats::new(1, 2).mean(), &[0.0]);
    }

    #[test]
    fn the_built_in_figures_of_shapes_are_those_of_its_images() {
        let manifest = Manifest::find("shapes").unwrap();
        let set = crate::data::load(&manifest, None, crate::data::Splits { train: true, test: false }).unwrap();
        let stats = Stats::of(&manifest, &*set.train.unwrap()).unwrap();
        let near =
            |found: Vec<f64>, said: &[f32]| found.iter().zip(said).all(|(a, b)| (a - f64::from(*b)).abs() < 6e-5);
        assert!(near(stats.mean(), &manifest.mean) && near(stats.std(), &manifest.std), "{stats:?}");
        assert_eq!(stats.classes, [800; 10]);
    }

    #[test]
    fn a_grid_shows_each_image_at_its_place() {
        let mut manifest = Manifest::find("shapes").unwrap();
        (manifest.height, manifest.width) = (1, 40);
        let image = |value: u8| [vec![value; 40], vec![value + 1; 40], vec![value + 2; 40]].concat();
        let labels = vec![9, 0, 9];
        let records =
            crate::data::Records { pixels: [image(10), image(20), image(30)].concat(), labels, image_len: 120 };
        let grid = grid(&manifest, &records).unwrap();
        assert_eq!(grid.size, [12 * 42 + 2, 10 * 3 + 2]);
        let at = |x: usize, y: usize| &grid.pixels[3 * (y * grid.size[0] + x)..][..3];
        assert_eq!([at(2, 2), at(2, 29), at(44, 29)], [[20, 21, 22], [10, 11, 12], [30, 31, 32]]);
        assert_eq!([at(1, 2), at(44, 2), at(86, 29)], [[224; 3]; 3]);

        manifest.classes = (0..30).map(|i| i.to_string()).collect();
        assert_eq!(super::grid(&manifest, &records).unwrap().size, [6 * 42 + 2, 5 * 3 + 2]);
    }
}
