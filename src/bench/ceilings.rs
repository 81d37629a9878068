//! What an adapter can do at most, measured: bytes copied and multiply-adds done a second.

use serde::{Deserialize, Serialize};

use super::clock::Clock;
use crate::error::Result;
use crate::gpu::{Gpu, Pipelines, Single};
use crate::kernels::act::ElementwiseParams;
use crate::kernels::bench::{Copy, MultiplyAdd, MultiplyAddParams};
use crate::kernels::{AnyKernel, Cost};

/// vec4 in each of the copy's buffers: 128 MiB, larger than the caches of most adapters and the largest binding of all.
const COPY_VEC4: u32 = 1 << 23;
/// Invocations of the multiply-adds: several on each lane of any adapter.
const ADD_VEC4: u32 = 1 << 18;
/// Seconds that one dispatch of multiply-adds should take at least.
const LONG: f64 = 0.01;

/// An adapter's ceilings.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ceilings {
    /// Bytes read and written a second by a copy between buffers larger than most caches. Smaller buffers can be faster.
    pub bytes_per_s: f64,
    /// Floating-point operations a second of multiply-adds in registers.
    pub flops_per_s: f64,
}

impl Ceilings {
    /// The least seconds that these operations and bytes can take.
    pub fn floor(&self, cost: &Cost) -> f64 {
        (cost.flops / self.flops_per_s).max(cost.bytes / self.bytes_per_s)
    }
}

/// The two kernels that reach the ceilings, with buffers of their own, ready to run.
pub struct Reference {
    copy: (Single, Cost),
    add: (Single, Cost),
}

fn erase<P: bytemuck::Pod>(params: &P) -> &[u8] {
    bytemuck::bytes_of(params)
}

impl Reference {
    /// Allocates and compiles both, and finds how many multiply-adds make a dispatch that is long enough to time.
    ///
    /// # Errors
    /// As [`Pipelines::get`] and [`Gpu::wait`].
    pub fn new(gpu: &Gpu) -> Result<Self> {
        let mut pipelines = Pipelines::default();
        let mut single = |kernel: &dyn AnyKernel, params: &[u8]| {
            let contents: Vec<_> = kernel.lens(params).into_iter().map(|n| vec![1f32.to_bits(); n]).collect();
            let single = Single::new(gpu, &mut pipelines, kernel, params, &contents)?;
            Ok((single, kernel.cost(params)))
        };
        let copy = single(&Copy, erase(&ElementwiseParams { len4: COPY_VEC4.min(gpu.max_words() as u32 / 4) }))?;
        let mut params = MultiplyAddParams { len4: ADD_VEC4, rounds: 8, a: 0.5, b: 1.0 };
        let mut wall = Clock::Wall { why: String::new() };
        loop {
            let add = single(&MultiplyAdd, erase(&params))?;
            wall.pass(gpu, |pass| add.0.dispatch(pass))?;
            if wall.pass(gpu, |pass| add.0.dispatch(pass))? > LONG || params.rounds > 1 << 20 {
                return Ok(Self { copy, add });
            }
            params.rounds *= 2;
        }
    }

    /// Records the multiply-adds: over 10 ms of work.
    pub fn dispatch(&self, pass: &mut wgpu::ComputePass) {
        self.add.0.dispatch(pass);
    }

    /// Runs the multiply-adds and waits.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn submit(&self, gpu: &Gpu) -> Result<()> {
        let submission = self.add.0.submit(gpu, 1);
        gpu.wait(Some(submission), || "during a benchmark".into())
    }

    /// The rates now, with whatever else the machine does.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn rates(&self, gpu: &Gpu, clock: &mut Clock) -> Result<Ceilings> {
        let copy = clock.dispatch(gpu, |pass| self.copy.0.dispatch(pass))?;
        let add = clock.dispatch(gpu, |pass| self.add.0.dispatch(pass))?;
        Ok(Ceilings { bytes_per_s: self.copy.1.bytes / copy, flops_per_s: self.add.1.flops / add })
    }

    /// The best of three [`Reference::rates`].
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn ceilings(&self, gpu: &Gpu, clock: &mut Clock) -> Result<Ceilings> {
        let mut best = Ceilings { bytes_per_s: 0.0, flops_per_s: 0.0 };
        for _ in 0..3 {
            let now = self.rates(gpu, clock)?;
            best.bytes_per_s = best.bytes_per_s.max(now.bytes_per_s);
            best.flops_per_s = best.flops_per_s.max(now.flops_per_s);
        }
        Ok(best)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_scarcer_resource_sets_the_floor() {
        let ceilings = Ceilings { bytes_per_s: 10.0, flops_per_s: 100.0 };
        assert_eq!(ceilings.floor(&Cost { flops: 100.0, bytes: 1.0 }), 1.0);
        assert_eq!(ceilings.floor(&Cost { flops: 100.0, bytes: 30.0 }), 3.0);
    }
}
