//! A graph in the twins' hands, with its images and values: for the tests of the backward pass and of whole steps.

// Each test binary uses a part of this.
#![allow(dead_code)]

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use s3gpu::data::Records;
use s3gpu::graph::{CpuExecutor, Graph, Lowered, Options, Role, Shape, Vars, lower};
use s3gpu::methods::{LatentInit, MethodSpec};
use s3gpu::model::Values;

pub const FP32: MethodSpec = MethodSpec::FP32;

pub fn options(batch: u32) -> Options {
    let (mean, std) = (vec![0.5; 3], vec![0.25; 3]);
    Options { batch, mean, std, momentum: 0.9, latent_rate: 1.0, max_words: 1 << 28, ..Options::default() }
}

/// Noise as images: nothing in them is symmetric, and every pixel differs.
pub fn records(shape: Shape, classes: u32, count: usize) -> Records {
    let mut rng = ChaCha8Rng::seed_from_u64(5);
    let image_len = (shape.h * shape.w * shape.c) as usize;
    let pixels = (0..count * image_len).map(|_| rng.random()).collect();
    Records { pixels, labels: (0..count).map(|_| rng.random_range(0..classes)).collect(), image_len }
}

/// A graph's programs in the twins' hands, with the same sections as the engine.
pub struct Cpu {
    pub exec: CpuExecutor,
    pub lowered: Lowered,
    batch: u32,
}

pub const TRAIN: usize = 0;

impl Cpu {
    pub fn new(graph: &Graph, options: &Options) -> Self {
        let mut lowered = lower(graph, options).unwrap_or_else(|e| panic!("{e}"));
        Self { exec: CpuExecutor::new(lowered.plan()), lowered, batch: options.batch }
    }

    pub fn load(&mut self, values: &Values) {
        let l = &self.lowered;
        for (i, (b, size)) in l.groups.iter().zip(&l.layout.groups).enumerate() {
            self.exec.write(b.params, &values.slab(&l.layout, Role::Param, i, size.params as usize));
        }
        self.exec.write(l.state, &values.slab(&l.layout, Role::State, 0, l.layout.state as usize));
    }

    /// Labels, image numbers, and pixels four to a word.
    pub fn send(&mut self, records: &Records, indices: std::ops::Range<usize>) {
        let mut words = vec![0; 2 * self.batch as usize];
        let mut bytes = Vec::new();
        for (i, index) in indices.enumerate() {
            (words[i], words[self.batch as usize + i]) = (records.label(index), index as u32);
            bytes.extend_from_slice(records.image(index));
        }
        bytes.resize(bytes.len().next_multiple_of(4), 0);
        words.extend(bytes.chunks_exact(4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]])));
        self.exec.write(self.lowered.batch, &words);
    }

    /// Mean loss and right answers of `n` images that were sent.
    pub fn run(&mut self, section: usize, n: u32) -> (f64, f64) {
        self.exec.run(section, &Vars { n, ..Vars::default() });
        let ring = self.exec.data(self.lowered.ring).f32();
        (ring[0] / f64::from(n), ring[2])
    }
}

/// Values that hide nothing: batch norm away from 1 and 0, so that its factors show.
pub fn lively(graph: &Graph, lowered: &Lowered, seed: u64) -> Values {
    let mut values = Values::init(graph, &lowered.layout, LatentInit::Normal, seed);
    let mut rng = ChaCha8Rng::seed_from_u64(seed + 1);
    let norms = lowered.layout.tensors.iter().filter(|t| t.role == Role::Param && t.shape.len() == 1);
    for t in norms {
        let data = &mut values.0.get_mut(&t.name).expect("of this layout").data;
        data.iter_mut().for_each(|v| *v += rng.random_range(-0.4..0.4));
    }
    values
}
