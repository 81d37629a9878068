//! `s3gpu devices`.

use std::process::ExitCode;

use wgpu::Features as F;

use crate::error::{Error, Result};
use crate::gpu::{adapters, describe};

pub(super) fn run() -> Result<ExitCode> {
    let found = adapters();
    if found.is_empty() {
        let hint = "install your GPU's driver, or Mesa's software one (Debian, Ubuntu: mesa-vulkan-drivers)";
        return Err(Error::NoAdapter { what: "no Vulkan, Metal or DX12 adapter found".into(), hint: hint.into() });
    }
    for entry in found {
        let (i, l) = (&entry.info, entry.adapter.limits());
        say!("{}: {}", entry.index, describe(i))?;
        say!("   type {:?}", i.device_type)?;
        say!(
            "   storage buffers a stage {}, bind groups {}, invocations {}, workgroup memory {}, groups a dimension {}",
            l.max_storage_buffers_per_shader_stage,
            l.max_bind_groups,
            l.max_compute_invocations_per_workgroup,
            super::bytes(l.max_compute_workgroup_storage_size.into()),
            l.max_compute_workgroups_per_dimension
        )?;
        say!(
            "   largest binding {}, largest buffer {}, uniform offsets of {}",
            super::bytes(l.max_storage_buffer_binding_size),
            super::bytes(l.max_buffer_size),
            l.min_uniform_buffer_offset_alignment
        )?;
        let wanted = F::SHADER_F16 | F::SUBGROUP | F::TIMESTAMP_QUERY | F::PIPELINE_CACHE;
        let has: Vec<_> = (entry.adapter.features() & wanted).iter_names().map(|(name, _)| name).collect();
        say!("   features {}", if has.is_empty() { "none of note".into() } else { has.join(", ") })?;
        match entry.open() {
            Ok(gpu) => say!("   subgroups {}", gpu.subgroups)?,
            Err(e) => say!("   cannot be opened: {e}")?,
        }
    }
    Ok(ExitCode::SUCCESS)
}
