//! Storage buffers and their way to and from the host.

use super::Gpu;
use crate::error::Result;

/// A storage buffer of `words` 4-byte words (at least four), with contents where given, else zeros.
pub fn upload(gpu: &Gpu, label: &str, words: usize, contents: Option<&[u32]>) -> wgpu::Buffer {
    use wgpu::BufferUsages as U;
    let size = 4 * words.max(4) as u64;
    let usage = U::STORAGE | U::COPY_SRC | U::COPY_DST;
    let desc = wgpu::BufferDescriptor { label: Some(label), size, usage, mapped_at_creation: false };
    let buffer = gpu.device.create_buffer(&desc);
    if let Some(words) = contents {
        gpu.queue.write_buffer(&buffer, 0, bytemuck::cast_slice(words));
    }
    buffer
}

/// Like [`upload`]; none where the device's memory is full.
pub fn try_upload(gpu: &Gpu, label: &str, words: usize, contents: Option<&[u32]>) -> Option<wgpu::Buffer> {
    let scope = gpu.device.push_error_scope(wgpu::ErrorFilter::OutOfMemory);
    let buffer = upload(gpu, label, words, contents);
    pollster::block_on(scope.pop()).is_none().then_some(buffer)
}

/// The first `words` words of a buffer, after all work submitted so far.
///
/// # Errors
/// As [`Gpu::wait`].
pub fn download(gpu: &Gpu, buffer: &wgpu::Buffer, words: usize) -> Result<Vec<u32>> {
    if words == 0 {
        return Ok(Vec::new());
    }
    let size = 4 * words as u64;
    let usage = wgpu::BufferUsages::MAP_READ | wgpu::BufferUsages::COPY_DST;
    let desc = wgpu::BufferDescriptor { label: Some("readback"), size, usage, mapped_at_creation: false };
    let staging = gpu.device.create_buffer(&desc);
    let mut encoder = gpu.device.create_command_encoder(&Default::default());
    encoder.copy_buffer_to_buffer(buffer, 0, &staging, 0, size);
    gpu.queue.submit([encoder.finish()]);
    let slice = staging.slice(..);
    // The outcome shows when the range is taken; a lost device is reported by the wait.
    slice.map_async(wgpu::MapMode::Read, |_| ());
    let place = || "while reading a buffer back".to_string();
    gpu.wait(None, place)?;
    let mapped = slice.get_mapped_range().map_err(|e| crate::Error::Gpu { what: format!("a read-back: {e}") })?;
    let words = bytemuck::cast_slice(&mapped).to_vec();
    drop(mapped);
    staging.unmap();
    Ok(words)
}
