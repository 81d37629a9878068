//! The loss, and a step's figures.

use super::{Case, Fill, Tolerance, groups_for, read, read_u32, update, write, write_u32};

crate::params! {
    /// Softmax cross-entropy of a batch.
    pub struct LossParams {
        /// Images.
        n: u32,
        /// Images of the whole step, whose mean is differentiated; `n` where the batch is the step.
        total: u32,
        /// Classes.
        classes: u32,
        /// Label smoothing: the share of the target spread over all classes.
        smoothing: f32,
    }
}

crate::kernel! {
    /// Loss, rank of the label and gradient of the logits, an image each.
    pub SoftmaxCrossEntropy(p: LossParams) {
        source: crate::wgsl!("loss/softmax_cross_entropy"; "grid", "num"),
        bindings: [read("logits"), read_u32("batch"), write("loss"), write_u32("rank"), write("dlogits")],
        consts: [],
        groups: groups_for(p.n.into()),
        lens: [p.n * p.classes, p.n, p.n, p.n, p.n * p.classes],
        tolerance: Tolerance::Budget { c: 4.0, terms: p.classes.into() },
        cost: (30.0 * f64::from(p.n) * f64::from(p.classes), 2.0 * f64::from(p.n) * f64::from(p.classes)),
        cases: [(1, 2, 0.0), (64, 10, 0.0), (65, 100, 0.1), (3, 1000, 0.3)].into_iter().flat_map(|(n, classes, smoothing)| {
            // The wide case drives most probabilities to zero, the flat one has every logit equal.
            [("narrow", Fill::Normal(1.0)), ("wide", Fill::Normal(40.0)), ("flat", Fill::Uniform(3.0, 3.0))].map(|(name, logits)| {
                let p = LossParams { n, total: if n == 3 { 7 } else { n }, classes, smoothing };
                let fills = vec![logits, Fill::Below(classes), Fill::Out, Fill::Out, Fill::Out];
                Case::new(format!("{n} images, {classes} classes, smoothing {smoothing}, {name}"), p, fills)
            })
        }).collect(),
        twin(a): {
            let (logits, labels, mut loss) = (a.f(0), a.u(1), a.out(2));
            let (rank, mut dlogits) = (a.out_u32(3), a.out(4));
            let (classes, s) = (p.classes as usize, f64::from(p.smoothing));
            for n in 0..p.n as usize {
                let (row, label) = (&logits[n * classes..][..classes], labels[n] as usize);
                let top = row.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let total = row.iter().map(|v| (v - top).exp()).sum::<f64>();
                let gap = row.iter().map(|v| top - v).sum::<f64>() / classes as f64;
                loss.set(n, total.ln() + (1.0 - s) * (top - row[label]) + s * gap, 1.0 + total.ln() + (top - row[label]) + s * gap);
                let before = |(k, v): &(usize, &f64)| **v > row[label] || (**v == row[label] && *k < label);
                rank[n] = row.iter().enumerate().filter(before).count() as u32;
                for (k, v) in row.iter().enumerate() {
                    let q = (v - top).exp() / total;
                    let t = (1.0 - s) * f64::from(u8::from(k == label)) + s / classes as f64;
                    // exp_neg rounds its argument: an error of |d| ulps of q.
                    dlogits.set(n * classes + k, (q - t) / f64::from(p.total), (q * (1.0 + top - v) + t) / f64::from(p.total));
                }
            }
        }
    }
}

crate::params! {
    /// A step's figures.
    pub struct MetricsParams {
        /// Images.
        n: u32,
        /// Partial sums of the regularizer.
        parts: u32,
        /// Where in the ring they go.
        slot: u32,
    }
}

/// Words of a slot in the metrics ring: Σ loss, regularizer, top-1 count, top-5 count, images, three spare.
pub const RING_WORDS: usize = 8;

crate::kernel! {
    /// Sums a batch's figures into one slot of the ring.
    pub Metrics(p: MetricsParams) {
        source: crate::wgsl!("loss/metrics"; "reduce"),
        bindings: [read("loss"), read_u32("rank"), read("regularizer"), update("ring")],
        consts: [],
        groups: 1,
        lens: [p.n, p.n, p.parts, RING_WORDS as u32 * (p.slot + 1)],
        tolerance: Tolerance::Budget { c: 4.0, terms: p.n.max(p.parts).into() },
        cost: (4 * p.n + p.parts, 2 * p.n + p.parts),
        cases: [(1, 0, 0), (0, 65, 2), (63, 1, 3), (64, 64, 0), (65, 1000, 7), (1000, 65, 1)].map(|(n, parts, slot)| {
            let fills = vec![Fill::Uniform(0.0, 3.0), Fill::Below(12), Fill::Uniform(0.0, 1.0), Fill::Normal(1.0)];
            Case::new(format!("{n} images, {parts} parts, slot {slot}"), MetricsParams { n, parts, slot }, fills)
        }).to_vec(),
        twin(a): {
            let (loss, rank, regularizer, mut ring) = (a.f(0), a.u(1), a.f(2), a.out(3));
            let n = p.n as usize;
            let count = |below: u32| rank[..n].iter().filter(|r| **r < below).count() as f64;
            let figures = [loss[..n].iter().sum(), regularizer[..p.parts as usize].iter().sum(), count(1), count(5), f64::from(p.n)];
            figures.iter().enumerate().for_each(|(i, v)| ring.exact(RING_WORDS * p.slot as usize + i, *v));
        }
    }
}
