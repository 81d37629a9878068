//! The Rust form of values.py, and what the Rust peers share: their command line and the line they print.

use std::time::Instant;

pub const SIDE: usize = 32;
pub const CLASSES: usize = 10;

/// Input channels, output channels and stride of each residual block.
pub const BLOCKS: [(usize, usize, usize); 9] = [
    (16, 16, 1),
    (16, 16, 1),
    (16, 16, 1),
    (16, 32, 2),
    (32, 32, 1),
    (32, 32, 1),
    (32, 64, 2),
    (64, 64, 1),
    (64, 64, 1),
];

fn draw(seed: u32, count: usize, bound: f32) -> Vec<f32> {
    (0..count as u32)
        .map(|i| {
            let mut h = i.wrapping_add(seed.wrapping_mul(0x9E37_79B9));
            h = (h ^ (h >> 16)).wrapping_mul(0x21F0_AAAD);
            h = (h ^ (h >> 15)).wrapping_mul(0x735A_2D97);
            h ^= h >> 15;
            ((h >> 8) as f32 / (1 << 23) as f32 - 1.0) * bound
        })
        .collect()
}

/// Images [batch, 3, 32, 32], flat.
pub fn images(batch: usize) -> Vec<f32> {
    draw(0, batch * 3 * SIDE * SIDE, 3f32.sqrt())
}

/// One class an image.
pub fn labels(batch: usize) -> Vec<u32> {
    (0..batch).map(|i| (i % CLASSES) as u32).collect()
}

/// Weights of the convolution `[cout, cin, 3, 3]` that is the `at`th from the stem (1).
pub fn convolution(at: usize, cin: usize, cout: usize) -> Vec<f32> {
    draw(at as u32, cout * cin * 9, (6.0 / (cin * 9) as f32).sqrt())
}

/// Weights of the classifier [10, 64].
pub fn classifier() -> Vec<f32> {
    draw(20, CLASSES * 64, 64f32.powf(-0.5))
}

/// `--backend NAME --steps N --forwards N --batch N`
pub struct Arguments {
    pub backend: String,
    pub steps: usize,
    pub forwards: usize,
    pub batch: usize,
}

impl Arguments {
    pub fn parse() -> Self {
        let mut args = Self { backend: String::new(), steps: 3, forwards: 2, batch: 128 };
        let mut words = std::env::args().skip(1);
        while let (Some(key), Some(value)) = (words.next(), words.next()) {
            let number = || value.parse().unwrap_or_else(|_| panic!("{key} wants a number, not {value}"));
            match key.as_str() {
                "--backend" => args.backend = value,
                "--steps" => args.steps = number(),
                "--forwards" => args.forwards = number(),
                "--batch" => args.batch = number(),
                _ => panic!("unknown option {key}"),
            }
        }
        args
    }
}

/// Runs one warm-up and then the timed steps, each of which returns its loss; then the forward passes, likewise after one.
/// `Subject` is what both use.
pub fn measure<Subject>(
    args: &Arguments,
    subject: &mut Subject,
    mut step: impl FnMut(&mut Subject) -> f32,
    mut forward: impl FnMut(&mut Subject),
) -> Measured {
    let mut losses = vec![step(subject)];
    let mut times = Vec::new();
    for _ in 0..args.steps {
        let started = Instant::now();
        losses.push(step(subject));
        times.push(started.elapsed().as_secs_f64());
    }
    forward(subject);
    let mut forwards = Vec::new();
    for _ in 0..args.forwards {
        let started = Instant::now();
        forward(subject);
        forwards.push(started.elapsed().as_secs_f64());
    }
    Measured { losses, times, forwards }
}

pub struct Measured {
    losses: Vec<f32>,
    times: Vec<f64>,
    forwards: Vec<f64>,
}

impl Measured {
    /// Prints the line that run.py reads.
    pub fn print(self, peer: &str, version: &str, backend: &str, device: &str, note: &str) {
        let median = |times: &[f64]| {
            let mut sorted = times.to_vec();
            sorted.sort_by(f64::total_cmp);
            sorted.get(sorted.len() / 2).copied().unwrap_or(f64::NAN)
        };
        let fastest = self.times.iter().copied().fold(f64::INFINITY, f64::min);
        let (steps, forwards) = (median(&self.times), median(&self.forwards));
        let first: Vec<f32> = self.losses.iter().copied().take(3).collect();
        println!(
            "{{\"peer\": \"{peer}\", \"version\": \"{version}\", \"backend\": \"{backend}\", \"device\": \"{device}\", \
             \"seconds_per_step\": {steps:.6}, \"fastest\": {fastest:.6}, \"steps\": {}, \
             \"seconds_per_forward\": {forwards:.6}, \"loss\": {}, \"losses\": {first:?}, \"note\": \"{note}\"}}",
            self.times.len(),
            self.losses[self.losses.len() - 1],
        );
    }
}
