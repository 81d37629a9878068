//! Adapter choice, the device, and what happened to it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use wgpu::Features as F;

use super::Subgroups;
use crate::error::{Error, Result};
use crate::files::cache::CacheFolder;

/// What the driver reported behind our back.
#[derive(Clone, Debug)]
enum Fault {
    Refused(String),
    Lost(String),
}

/// An open device with its queue.
pub struct Gpu {
    /// The device.
    pub device: wgpu::Device,
    /// Its only queue.
    pub queue: wgpu::Queue,
    /// Who made the adapter, and its driver.
    pub info: wgpu::AdapterInfo,
    /// The adapter's real limits, all of them requested.
    pub limits: wgpu::Limits,
    /// The subgroup size, where there is only one, kernels for it, and a passed probe.
    pub subgroup: Option<u32>,
    /// What its subgroups are, and what the probe found.
    pub subgroups: Subgroups,
    /// Where compiled pipelines and tuned choices are kept; none until a caller sets it, and then nothing is kept.
    pub cache: Option<CacheFolder>,
    /// How long it took to open.
    pub opened_in: Duration,
    fault: Arc<Mutex<Option<Fault>>>,
}

/// An adapter in the list of `s3gpu devices`.
pub struct AdapterEntry {
    /// Position that `--adapter` takes.
    pub index: usize,
    /// The adapter.
    pub adapter: wgpu::Adapter,
    /// Its description.
    pub info: wgpu::AdapterInfo,
}

/// Every adapter on Vulkan, Metal and DX12, real GPUs before software.
pub fn adapters() -> Vec<AdapterEntry> {
    let backends = wgpu::Backends::VULKAN | wgpu::Backends::METAL | wgpu::Backends::DX12;
    let desc = wgpu::InstanceDescriptor { backends, ..wgpu::InstanceDescriptor::new_without_display_handle() };
    let mut found = pollster::block_on(wgpu::Instance::new(desc).enumerate_adapters(backends));
    let rank = |a: &wgpu::Adapter| match a.get_info().device_type {
        wgpu::DeviceType::DiscreteGpu => 0,
        wgpu::DeviceType::IntegratedGpu => 1,
        wgpu::DeviceType::VirtualGpu => 2,
        wgpu::DeviceType::Other => 3,
        wgpu::DeviceType::Cpu => 4,
    };
    found.sort_by_key(rank);
    let entry = |(index, adapter): (usize, wgpu::Adapter)| AdapterEntry { index, info: adapter.get_info(), adapter };
    found.into_iter().enumerate().map(entry).collect()
}

/// `name (backend, driver)`, as run records, tables and bug reports name an adapter.
pub fn describe(info: &wgpu::AdapterInfo) -> String {
    let driver = [info.driver.trim(), info.driver_info.trim()].join(" ");
    format!("{} ({:?}, {})", info.name.trim(), info.backend, driver.trim())
}

/// Opens the adapter that `choice` (an index, or a part of a name in any case) means, or the first of [`adapters`].
///
/// # Errors
/// [`Error::NoAdapter`] with the list of what there is, [`Error::Gpu`] where the driver refuses a device.
pub fn open(choice: Option<&str>) -> Result<Gpu> {
    let started = Instant::now();
    let mut found = adapters();
    if found.is_empty() {
        return Err(Error::NoAdapter {
            what: "no Vulkan, Metal or DX12 adapter found".into(),
            hint:
                "install your GPU's driver, or a software one: `apt-get install mesa-vulkan-drivers` (Debian, Ubuntu), \
                   `dnf install mesa-vulkan-drivers` (Fedora), `pacman -S vulkan-swrast` (Arch)"
                    .into(),
        });
    }
    let position = match choice {
        None => 0,
        Some(c) => find(&found, c)?,
    };
    let mut gpu = found.swap_remove(position).open()?;
    gpu.opened_in = started.elapsed();
    Ok(gpu)
}

impl AdapterEntry {
    /// Opens it, and probes its subgroups.
    ///
    /// # Errors
    /// [`Error::Gpu`] where the driver refuses a device.
    pub fn open(self) -> Result<Gpu> {
        let started = Instant::now();
        let Self { adapter, info, .. } = self;
        let limits = adapter.limits();
        let desc = wgpu::DeviceDescriptor {
            label: Some("s3gpu"),
            // Timestamps serve the benches alone.
            required_features: adapter.features() & (F::SUBGROUP | F::PIPELINE_CACHE | F::TIMESTAMP_QUERY),
            required_limits: limits.clone(),
            ..Default::default()
        };
        let refused =
            |e: wgpu::RequestDeviceError| Error::Gpu { what: format!("a device on {}: {e}", describe(&info)) };
        let (device, queue) = pollster::block_on(adapter.request_device(&desc)).map_err(refused)?;
        let fault = Arc::new(Mutex::new(None));
        let record = |fault: &Arc<Mutex<Option<Fault>>>, new: Fault| {
            // The first report is the cause, later ones its consequences; a loss outranks a refusal.
            let mut slot = fault.lock().unwrap_or_else(PoisonError::into_inner);
            if slot.is_none() || matches!((&*slot, &new), (Some(Fault::Refused(_)), Fault::Lost(_))) {
                *slot = Some(new);
            }
        };
        let errors = fault.clone();
        device.on_uncaptured_error(Arc::new(move |e| record(&errors, Fault::Refused(e.to_string()))));
        let losses = fault.clone();
        device.set_device_lost_callback(move |_, reason| record(&losses, Fault::Lost(reason)));
        let (subgroups, opened_in) = (Subgroups::Absent, Duration::ZERO);
        let mut gpu = Gpu { device, queue, info, limits, subgroup: None, subgroups, cache: None, opened_in, fault };
        gpu.subgroups = Subgroups::probe(&gpu)?;
        gpu.subgroup = gpu.subgroups.size();
        let (features, subgroups) = (gpu.device.features(), &gpu.subgroups);
        tracing::debug!(?features, %subgroups, limits = ?gpu.limits, "device opened");
        gpu.opened_in = started.elapsed();
        Ok(gpu)
    }
}

fn find(found: &[AdapterEntry], choice: &str) -> Result<usize> {
    let wanted = choice.to_lowercase();
    let by_index = || wanted.parse::<usize>().ok().filter(|i| *i < found.len());
    let by_name = || found.iter().position(|a| a.info.name.to_lowercase().contains(&wanted));
    by_index().or_else(by_name).ok_or_else(|| {
        let list = found.iter().map(|a| format!("{}: {}", a.index, a.info.name)).collect::<Vec<_>>().join("\n  ");
        Error::NoAdapter {
            what: format!("no adapter matches `--adapter {choice}`"),
            hint: format!("there are:\n  {list}"),
        }
    })
}

impl Gpu {
    /// Whether the adapter has the subgroups that a kernel with these parameters is compiled for.
    pub fn can_run(&self, kernel: &dyn crate::kernels::AnyKernel, params: &[u8]) -> bool {
        kernel.subgroup(params).is_none_or(|size| self.subgroup == Some(size))
    }

    /// Words of the largest binding, at most what 32-bit counters of words in a slab with room to spare can address.
    pub fn max_words(&self) -> u64 {
        (self.limits.max_storage_buffer_binding_size.min(self.limits.max_buffer_size) / 4).min(1 << 30)
    }

    /// Whether the adapter is the CPU in disguise.
    pub fn is_software(&self) -> bool {
        self.info.device_type == wgpu::DeviceType::Cpu
    }

    /// What the driver has reported since the last call, as an error that names `place` (a step, a command).
    ///
    /// # Errors
    /// [`Error::DeviceLost`] or [`Error::Gpu`].
    pub fn check(&self, place: impl FnOnce() -> String) -> Result<()> {
        let mut slot = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.take() {
            None => Ok(()),
            Some(Fault::Lost(reason)) => {
                *slot = Some(Fault::Lost(reason.clone()));
                Err(Error::DeviceLost { place: place(), reason, hint: "check the driver and start again".into() })
            }
            Some(Fault::Refused(what)) => Err(Error::Gpu { what: format!("{} {}", place(), what.trim()) }),
        }
    }

    /// Waits for a submission, or for all of them.
    ///
    /// # Errors
    /// As [`Gpu::check`].
    pub fn wait(&self, submission: Option<wgpu::SubmissionIndex>, place: impl Fn() -> String) -> Result<()> {
        let poll = wgpu::PollType::Wait { submission_index: submission, timeout: None };
        let polled = self.device.poll(poll);
        self.check(&place)?;
        polled.map(|_| ()).map_err(|e| Error::DeviceLost {
            place: place(),
            reason: e.to_string(),
            hint: "check the driver and start again".into(),
        })
    }
}
