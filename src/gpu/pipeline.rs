//! Pipelines: each kernel variant compiled once, a plan's at the same time, and single dispatches for tests and benches.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use super::{DriverCache, Gpu, Kept, shader, upload};
use crate::error::{Error, Result};
use crate::kernels::{Access, AnyKernel, Const};

/// Uniform ranges start at multiples of this on every adapter that WebGPU allows.
pub const UNIFORM_STRIDE: u64 = 256;
/// A dimension holds this many workgroups.
const MAX_GROUPS: u64 = 65_535;

/// A compiled kernel variant.
pub struct Pipeline {
    /// The pipeline.
    pub pipeline: wgpu::ComputePipeline,
    /// Binding 0: the parameters at a dynamic offset; 1…: storage.
    pub layout: wgpu::BindGroupLayout,
}

/// A kernel's text and its constants.
type Variant = (&'static str, Vec<Const>);

/// All pipelines compiled so far, by kernel and constants.
#[derive(Default)]
pub struct Pipelines {
    done: HashMap<Variant, Arc<Pipeline>>,
    cache: Option<DriverCache>,
}

/// Bytes of the uniform range that holds these parameters.
pub fn uniform_size(kernel: &dyn AnyKernel) -> u64 {
    (kernel.params_size() as u64).next_multiple_of(16)
}

/// Workgroups folded over x and y.
pub fn fold(groups: u64) -> [u32; 2] {
    let y = groups.div_ceil(MAX_GROUPS).max(1);
    [groups.div_ceil(y) as u32, y as u32]
}

/// Two kernels may share a name, where one is written for a network's layer; their texts tell them apart.
fn variant(kernel: &dyn AnyKernel, params: &[u8]) -> Variant {
    (kernel.source().text, kernel.consts(params))
}

impl Pipelines {
    /// None yet, with the device's cache folder behind them; what is wrong with its file goes to `notes`.
    pub fn kept(gpu: &Gpu, notes: &mut Vec<String>) -> Self {
        Self { done: HashMap::new(), cache: DriverCache::open(gpu, notes) }
    }

    /// Compiles all variants of these calls, as many at a time as there are cores.
    ///
    /// # Errors
    /// [`Error::Gpu`] with the compiler's words about the first that is refused.
    pub fn prepare(&mut self, gpu: &Gpu, calls: &[(&'static dyn AnyKernel, Vec<u8>)]) -> Result<()> {
        let mut wanted: Vec<(&dyn AnyKernel, Variant)> = Vec::new();
        for (kernel, params) in calls {
            let variant = variant(*kernel, params);
            if !self.done.contains_key(&variant) && !wanted.iter().any(|(_, v)| *v == variant) {
                wanted.push((*kernel, variant));
            }
        }
        let (next, compiled) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
        let cache = self.cache.as_ref().map(|c| &c.cache);
        // Error scopes are a thread's own in wgpu, so each compilation hears of its own errors only.
        let work = || {
            while let Some((kernel, variant)) = wanted.get(next.fetch_add(1, Ordering::Relaxed)) {
                let pipeline = compile(gpu, *kernel, &variant.1, cache);
                compiled.lock().unwrap_or_else(PoisonError::into_inner).push((variant.clone(), pipeline));
            }
        };
        std::thread::scope(|s| {
            (1..threads().min(wanted.len())).for_each(|_| drop(s.spawn(work)));
            work();
        });
        for (variant, pipeline) in compiled.into_inner().unwrap_or_else(PoisonError::into_inner) {
            self.done.insert(variant, Arc::new(pipeline?));
        }
        Ok(())
    }

    /// The pipeline of a kernel with these parameters, compiled if it is new.
    ///
    /// # Errors
    /// [`Error::Gpu`] with the compiler's words.
    pub fn get(&mut self, gpu: &Gpu, kernel: &dyn AnyKernel, params: &[u8]) -> Result<Arc<Pipeline>> {
        let variant = variant(kernel, params);
        if let Some(p) = self.done.get(&variant) {
            return Ok(p.clone());
        }
        let cache = self.cache.as_ref().map(|c| &c.cache);
        let pipeline = Arc::new(compile(gpu, kernel, &variant.1, cache)?);
        self.done.insert(variant, pipeline.clone());
        Ok(pipeline)
    }

    /// Keeps what the driver compiled for the next start, and says what the cache folder held for this one; a folder that takes no
    /// file goes to `notes`.
    pub fn keep(&self, notes: &mut Vec<String>) -> Kept {
        self.cache.as_ref().map_or(Kept::Off, |c| c.save(notes))
    }

    /// Number of variants compiled.
    pub fn len(&self) -> usize {
        self.done.len()
    }

    /// Whether none is.
    pub fn is_empty(&self) -> bool {
        self.done.is_empty()
    }
}

/// Compilations at a time.
fn threads() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

fn compile(
    gpu: &Gpu,
    kernel: &dyn AnyKernel,
    consts: &[Const],
    cache: Option<&wgpu::PipelineCache>,
) -> Result<Pipeline> {
    let (name, started) = (kernel.name(), Instant::now());
    let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::Validation);
    let text = shader::expand(&kernel.source(), consts);
    let module = gpu.device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(name),
        source: wgpu::ShaderSource::Wgsl(text.into()),
    });
    let entry =
        |binding: u32, ty: wgpu::BufferBindingType, dynamic: bool, size: Option<u64>| wgpu::BindGroupLayoutEntry {
            binding,
            visibility: wgpu::ShaderStages::COMPUTE,
            ty: wgpu::BindingType::Buffer {
                ty,
                has_dynamic_offset: dynamic,
                min_binding_size: size.and_then(std::num::NonZero::new),
            },
            count: None,
        };
    let mut entries = vec![entry(0, wgpu::BufferBindingType::Uniform, true, Some(uniform_size(kernel)))];
    for (i, b) in kernel.bindings().iter().enumerate() {
        let read_only = b.access == Access::Read;
        entries.push(entry(i as u32 + 1, wgpu::BufferBindingType::Storage { read_only }, false, None));
    }
    let desc = wgpu::BindGroupLayoutDescriptor { label: Some(name), entries: &entries };
    let layout = gpu.device.create_bind_group_layout(&desc);
    let desc =
        wgpu::PipelineLayoutDescriptor { label: Some(name), bind_group_layouts: &[Some(&layout)], immediate_size: 0 };
    let pipeline_layout = gpu.device.create_pipeline_layout(&desc);
    let pipeline = gpu.device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(name),
        layout: Some(&pipeline_layout),
        module: &module,
        entry_point: Some(name),
        compilation_options: Default::default(),
        cache,
    });
    let refused = pollster::block_on(scope.pop());
    tracing::debug!(kernel = name, ?consts, seconds = started.elapsed().as_secs_f32(), "pipeline compiled");
    match refused {
        None => Ok(Pipeline { pipeline, layout }),
        Some(e) => Err(Error::Gpu { what: format!("kernel {name}: {e}") }),
    }
}

impl Pipeline {
    /// Binds a uniform buffer's range size and whole storage buffers.
    pub fn bind(
        &self,
        gpu: &Gpu,
        kernel: &dyn AnyKernel,
        uniform: &wgpu::Buffer,
        storage: &[&wgpu::Buffer],
    ) -> wgpu::BindGroup {
        let range =
            wgpu::BufferBinding { buffer: uniform, offset: 0, size: std::num::NonZero::new(uniform_size(kernel)) };
        let mut entries = vec![wgpu::BindGroupEntry { binding: 0, resource: wgpu::BindingResource::Buffer(range) }];
        entries.extend(
            storage
                .iter()
                .enumerate()
                .map(|(i, b)| wgpu::BindGroupEntry { binding: i as u32 + 1, resource: b.as_entire_binding() }),
        );
        let desc = wgpu::BindGroupDescriptor { label: Some(kernel.name()), layout: &self.layout, entries: &entries };
        gpu.device.create_bind_group(&desc)
    }
}

/// One dispatch on its own, for the checks and the benches.
pub struct Single {
    pipeline: Arc<Pipeline>,
    group: wgpu::BindGroup,
    /// The storage buffers in binding order.
    pub buffers: Vec<wgpu::Buffer>,
    grid: [u32; 2],
}

impl Single {
    /// Uploads `contents`, one a binding, and compiles.
    ///
    /// # Errors
    /// As [`Pipelines::get`].
    pub fn new(
        gpu: &Gpu,
        pipelines: &mut Pipelines,
        kernel: &dyn AnyKernel,
        params: &[u8],
        contents: &[Vec<u32>],
    ) -> Result<Self> {
        let names = kernel.bindings().iter().map(|b| b.name);
        let buffers = contents.iter().zip(names).map(|(c, name)| upload(gpu, name, c.len(), Some(c))).collect();
        Self::on(gpu, pipelines, kernel, params, buffers)
    }

    /// Binds buffers that are there, one a binding, and compiles.
    ///
    /// # Errors
    /// As [`Pipelines::get`].
    pub fn on(
        gpu: &Gpu,
        pipelines: &mut Pipelines,
        kernel: &dyn AnyKernel,
        params: &[u8],
        buffers: Vec<wgpu::Buffer>,
    ) -> Result<Self> {
        let pipeline = pipelines.get(gpu, kernel, params)?;
        let mut bytes = params.to_vec();
        bytes.resize(uniform_size(kernel) as usize, 0);
        let usage = wgpu::BufferUsages::UNIFORM | wgpu::BufferUsages::COPY_DST;
        let desc = wgpu::BufferDescriptor {
            label: Some("params"),
            size: bytes.len() as u64,
            usage,
            mapped_at_creation: false,
        };
        let uniform = gpu.device.create_buffer(&desc);
        gpu.queue.write_buffer(&uniform, 0, &bytes);
        let group = pipeline.bind(gpu, kernel, &uniform, &buffers.iter().collect::<Vec<_>>());
        Ok(Self { pipeline, group, buffers, grid: fold(kernel.groups(params)) })
    }

    /// Submits the dispatch `times` times in one go.
    pub fn submit(&self, gpu: &Gpu, times: u32) -> wgpu::SubmissionIndex {
        let mut encoder = gpu.device.create_command_encoder(&Default::default());
        {
            let mut pass = encoder.begin_compute_pass(&Default::default());
            (0..times).for_each(|_| self.dispatch(&mut pass));
        }
        gpu.queue.submit([encoder.finish()])
    }

    /// Records the dispatch.
    pub fn dispatch(&self, pass: &mut wgpu::ComputePass) {
        pass.set_pipeline(&self.pipeline.pipeline);
        pass.set_bind_group(0, &self.group, &[0]);
        pass.dispatch_workgroups(self.grid[0], self.grid[1], 1);
    }
}
