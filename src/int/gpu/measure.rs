//! Which rung is fastest for each convolution of a network, on this adapter: measured with the network's own weights.

use std::collections::BTreeMap;
use std::time::Instant;

use super::rungs::{Choice, Layer};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, Pipelines, Single};
use crate::int::Model;
use crate::int::model::Op;
use crate::kernels::AnyKernel;
use crate::kernels::int::RUNGS;
use crate::kernels::int::pack::channels;

/// Turns of each rung; the median counts.
const TURNS: usize = 5;
/// Seconds of dispatches that a turn lasts.
const TURN: f64 = 0.01;

/// A distinct convolution and how long each rung takes for it.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct Measured {
    /// What its speed depends on.
    pub key: String,
    /// Convolutions of the network that are like it.
    pub times: usize,
    /// Seconds of one dispatch, by rung; those that cannot hold its weights are not there.
    pub seconds: BTreeMap<&'static str, f64>,
}

impl Measured {
    /// The fastest rung, of those that do not multiply where `shift_only`.
    pub fn fastest(&self, shift_only: bool) -> Option<&'static str> {
        let multiplies = |name: &str| super::rungs::named(name).is_some_and(|rung| rung.multiplies);
        let allowed = self.seconds.iter().filter(|(name, _)| !shift_only || !multiplies(name));
        allowed.min_by(|a, b| a.1.total_cmp(b.1)).map(|(name, _)| *name)
    }
}

impl Choice {
    /// The fastest of what was measured.
    pub fn fastest(measured: &[Measured], shift_only: bool) -> Self {
        let one = |m: &Measured| m.fastest(shift_only).map(|rung| (m.key.clone(), rung));
        Self { shift_only, measured: measured.iter().filter_map(one).collect(), ..Self::default() }
    }
}

/// Times every rung of each distinct convolution for a batch of this size.
///
/// # Errors
/// [`Error::DeviceLost`]; a rung that the adapter refuses is left out.
pub fn measure(gpu: &Gpu, model: &Model, batch: u32) -> Result<Vec<Measured>> {
    let mut pipelines = Pipelines::default();
    let mut all: Vec<Measured> = Vec::new();
    for node in &model.nodes {
        let Op::Conv(conv) = &node.op else { continue };
        let layer = Layer::new(conv, node, &model.nodes[node.inputs[0]], batch);
        let key = layer.key();
        if let Some(found) = all.iter_mut().find(|m| m.key == key) {
            found.times += 1;
            continue;
        }
        let mut singles = Vec::new();
        for rung in RUNGS {
            let Some((p, prepared)) = layer.on(rung) else { continue };
            let params = bytemuck::bytes_of(&p);
            let lens = AnyKernel::lens(rung, params);
            // Any bits are activations; the same for every rung.
            let x = (0..lens[0] as u32).map(|i| i.wrapping_mul(2_654_435_761)).collect();
            let after = channels(&conv.multiplier, &conv.bias, &conv.shift, &prepared.start);
            match Single::new(gpu, &mut pipelines, rung, params, &[x, prepared.words, after, vec![0; lens[3]]]) {
                Ok(single) => singles.push((AnyKernel::name(rung), single)),
                Err(Error::Gpu { .. }) => (),
                Err(e) => return Err(e),
            }
        }
        let run = |single: &Single, times: u32| -> Result<f64> {
            let started = Instant::now();
            let submission = single.submit(gpu, times);
            gpu.wait(Some(submission), || "while measuring rungs".into())?;
            Ok(started.elapsed().as_secs_f64() / f64::from(times))
        };
        // Once to compile, once to see; then in turns, so that what else the machine does hits all of them.
        let mut times = Vec::new();
        for (_, single) in &singles {
            run(single, 1)?;
            times.push((TURN / run(single, 1)?).clamp(1.0, 1000.0) as u32);
        }
        let mut turns: Vec<Vec<f64>> = vec![Vec::new(); singles.len()];
        for _ in 0..TURNS {
            for (i, (_, single)) in singles.iter().enumerate() {
                turns[i].push(run(single, times[i])?);
            }
        }
        let median = |mut all: Vec<f64>| {
            all.sort_by(f64::total_cmp);
            all[all.len() / 2]
        };
        let seconds = singles.iter().map(|(name, _)| *name).zip(turns.into_iter().map(median)).collect();
        all.push(Measured { key, times: 1, seconds });
    }
    Ok(all)
}
