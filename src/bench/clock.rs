//! How long the device takes: its own timestamps where they can be believed, else wall time.

use std::time::Instant;

use wgpu_profiler::{GpuProfiler, GpuProfilerSettings, GpuTimerQueryResult};

use super::ceilings::Reference;
use super::median;
use crate::error::{Error, Result};
use crate::gpu::Gpu;

/// Seconds that repetitions of one dispatch fill before their mean counts.
const FILL: f64 = 0.04;
/// Timestamps are believed where they come this close to the wall time of a long dispatch, as a ratio in both directions.
const BELIEVED: f64 = 1.25;
/// Tries, since a busy host stretches wall time; timestamps of the wrong thing agree in none.
const PROBES: usize = 8;

/// What the times are taken with.
pub enum Clock {
    /// The adapter's timestamps at both ends of a compute pass.
    Timestamps(Box<GpuProfiler>),
    /// The host's clock around a submission.
    Wall {
        /// Why not timestamps.
        why: String,
    },
}

impl Clock {
    /// Timestamps where the adapter has them and they agree with the wall time of a dispatch that is long enough to tell:
    /// a software adapter's may note when a command was recorded, not when it ran.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn new(gpu: &Gpu, reference: &Reference) -> Result<Self> {
        if !gpu.device.features().contains(wgpu::Features::TIMESTAMP_QUERY) {
            return Ok(Self::wall("the adapter has no timestamps"));
        }
        let settings = GpuProfilerSettings { enable_debug_groups: false, ..Default::default() };
        let profiler = GpuProfiler::new(&gpu.device, settings).map_err(refused)?;
        let mut clock = Self::Timestamps(Box::new(profiler));
        reference.submit(gpu)?;
        let (mut device, mut wall) = (0.0, 0.0);
        for _ in 0..PROBES {
            let started = Instant::now();
            device = clock.pass(gpu, |pass| reference.dispatch(pass))?;
            wall = started.elapsed().as_secs_f64();
            if (wall / BELIEVED..wall * BELIEVED).contains(&device) {
                return Ok(clock);
            }
        }
        let (device, wall) = (1e3 * device, 1e3 * wall);
        Ok(Self::wall(format!("the adapter's timestamps say {device:.3} ms of a dispatch that took {wall:.3} ms")))
    }

    fn wall(why: impl Into<String>) -> Self {
        Self::Wall { why: why.into() }
    }

    /// For tables.
    pub fn describe(&self) -> String {
        match self {
            Self::Timestamps(_) => "GPU timestamps".into(),
            Self::Wall { why } => format!("wall time over repeated dispatches ({why})"),
        }
    }

    /// Seconds of a compute pass.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn pass(&mut self, gpu: &Gpu, encode: impl Fn(&mut wgpu::ComputePass)) -> Result<f64> {
        let found = self.each(gpu, &["pass".into()], |_, pass| encode(pass))?;
        Ok(found.iter().filter_map(|r| r.time.as_ref()).map(|t| t.end - t.start).sum())
    }

    /// Median seconds of one dispatch: five passes of as many as fill 40 ms.
    ///
    /// # Errors
    /// As [`Gpu::wait`].
    pub fn dispatch(&mut self, gpu: &Gpu, encode: impl Fn(&mut wgpu::ComputePass)) -> Result<f64> {
        let mut run = |times: usize| -> Result<f64> {
            Ok(self.pass(gpu, |pass| (0..times).for_each(|_| encode(pass)))? / times as f64)
        };
        let once = run(1)?.min(run(1)?);
        let times = ((FILL / once) as usize).clamp(1, 2000);
        Ok(median((0..5).map(|_| run(times)).collect::<Result<_>>()?))
    }

    /// Runs a pass for each label, one after the other, and returns when each began and ended, in seconds.
    ///
    /// # Errors
    /// As [`Gpu::wait`]; [`Error::Gpu`] where a timestamp does not arrive.
    pub fn each(
        &mut self,
        gpu: &Gpu,
        labels: &[String],
        encode: impl Fn(usize, &mut wgpu::ComputePass),
    ) -> Result<Vec<GpuTimerQueryResult>> {
        match self {
            Self::Timestamps(profiler) => stamped(profiler, gpu, labels, encode),
            Self::Wall { .. } => walled(gpu, labels, encode),
        }
    }
}

fn refused(e: impl std::fmt::Display) -> Error {
    Error::Gpu { what: format!("timestamp queries: {e}") }
}

/// Submissions are one a pass, so that no operating system takes a large step for a hung one.
fn stamped(
    profiler: &mut GpuProfiler,
    gpu: &Gpu,
    labels: &[String],
    encode: impl Fn(usize, &mut wgpu::ComputePass),
) -> Result<Vec<GpuTimerQueryResult>> {
    for (i, label) in labels.iter().enumerate() {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        let query = profiler.begin_pass_query(label.clone(), &mut encoder);
        {
            let timestamp_writes = query.compute_pass_timestamp_writes();
            let desc = wgpu::ComputePassDescriptor { label: Some(label), timestamp_writes };
            encode(i, &mut encoder.begin_compute_pass(&desc));
        }
        profiler.end_query(&mut encoder, query);
        if i + 1 == labels.len() {
            profiler.resolve_queries(&mut encoder);
        }
        gpu.queue.submit([encoder.finish()]);
    }
    profiler.end_frame().map_err(refused)?;
    gpu.wait(None, || "during a benchmark".into())?;
    let found = profiler.process_finished_frame(gpu.queue.get_timestamp_period()).unwrap_or_default();
    match found.len() == labels.len() && found.iter().all(|r| r.time.is_some()) {
        true => Ok(found),
        false => Err(refused("the driver did not return them")),
    }
}

fn walled(
    gpu: &Gpu,
    labels: &[String],
    encode: impl Fn(usize, &mut wgpu::ComputePass),
) -> Result<Vec<GpuTimerQueryResult>> {
    let origin = Instant::now();
    let mut found = Vec::new();
    for (i, label) in labels.iter().enumerate() {
        let start = origin.elapsed().as_secs_f64();
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        encode(i, &mut encoder.begin_compute_pass(&Default::default()));
        let submission = gpu.queue.submit([encoder.finish()]);
        gpu.wait(Some(submission), || "during a benchmark".into())?;
        found.push(GpuTimerQueryResult {
            label: label.clone(),
            pid: std::process::id(),
            tid: std::thread::current().id(),
            time: Some(start..origin.elapsed().as_secs_f64()),
            nested_queries: Vec::new(),
        });
    }
    Ok(found)
}
