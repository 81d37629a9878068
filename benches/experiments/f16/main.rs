//! An experiment, not a part of s3gpu: what 16-bit storage and cooperative matrices would give. `cargo bench --bench f16`

use std::time::Instant;

/// Values in each storage form.
const COUNT: u64 = 1 << 23;

fn main() {
    cooperative_in_naga();
    for entry in s3gpu::gpu::adapters() {
        adapter(&entry.adapter);
    }
    rounding();
}

/// The part of kernels.wgsl that has this name.
fn source(name: &str) -> String {
    let parts = include_str!("kernels.wgsl").split("//# ");
    parts.into_iter().find_map(|p| p.strip_prefix(&format!("{name}\n"))).unwrap_or_default().to_owned()
}

/// Which multiply-adds of tiles naga takes and what it writes them as.
fn cooperative_in_naga() {
    for (tile, size) in [("coop_mat8x8", "8"), ("coop_mat16x16", "16")] {
        for scalar in ["f32", "f16"] {
            let head = if scalar == "f16" { "enable f16;\n" } else { "" };
            let body = source("cooperative").replace("TILE", tile).replace("AB", scalar).replace("SIZE", size);
            let text = format!("{head}enable wgpu_cooperative_matrix;\n{body}");
            println!("naga, {tile}, {scalar} inputs, f32 sum: {}", translate(&text));
        }
    }
}

fn translate(text: &str) -> String {
    let wanted = naga::front::wgsl::Options {
        capabilities: naga::valid::Capabilities::all(),
        ..naga::front::wgsl::Options::new()
    };
    let module = match naga::front::wgsl::Frontend::new_with_options(wanted).parse(text) {
        Ok(module) => module,
        Err(e) => return format!("not parsed: {e}"),
    };
    let mut validator =
        naga::valid::Validator::new(naga::valid::ValidationFlags::all(), naga::valid::Capabilities::all());
    let info = match validator.validate(&module) {
        Ok(info) => info,
        Err(e) => return format!("not valid: {}", e.into_inner()),
    };
    let options = naga::back::spv::Options { lang_version: (1, 6), ..Default::default() };
    let spirv = match naga::back::spv::write_vec(&module, &info, &options, None) {
        Ok(words) => format!("{} words of SPIR-V", words.len()),
        Err(e) => format!("no SPIR-V: {e}"),
    };
    let options = naga::back::msl::Options { lang_version: (3, 0), ..Default::default() };
    let metal = match naga::back::msl::write_string(&module, &info, &options, &Default::default()) {
        Ok((text, _)) => format!("{} bytes of MSL", text.len()),
        Err(e) => format!("no MSL: {e}"),
    };
    format!("{spirv}, {metal}")
}

fn adapter(adapter: &wgpu::Adapter) {
    let features = adapter.features();
    let half = features.contains(wgpu::Features::SHADER_F16);
    println!("\n{}", s3gpu::gpu::describe(&adapter.get_info()));
    println!("SHADER_F16: {half}");
    println!("EXPERIMENTAL_COOPERATIVE_MATRIX: {}", features.contains(wgpu::Features::EXPERIMENTAL_COOPERATIVE_MATRIX));
    for sizes in adapter.cooperative_matrix_properties() {
        println!("  {sizes:?}");
    }
    let desc = wgpu::DeviceDescriptor {
        required_features: features & wgpu::Features::SHADER_F16,
        required_limits: adapter.limits(),
        ..Default::default()
    };
    let (device, queue) = match pollster::block_on(adapter.request_device(&desc)) {
        Ok(opened) => opened,
        Err(e) => return println!("no device: {e}"),
    };
    let forms = [("f32", 4, false), ("packed", 2, false), ("f16", 2, true)];
    for (name, bytes, needs) in forms {
        if needs && !half {
            continue;
        }
        let seconds = time(&device, &queue, name, needs, COUNT * bytes, COUNT / 4);
        let moved = (2 * bytes * COUNT) as f64 / seconds / 1e9;
        println!(
            "y = a x, {name}: {:.2} ms, {moved:.1} GB/s, {:.2} G values/s",
            seconds * 1e3,
            COUNT as f64 / seconds / 1e9
        );
    }
    for (name, bytes, needs) in [("chain f32", 4, false), ("chain f16", 2, true)] {
        if needs && !half {
            continue;
        }
        let threads = 1 << 16;
        let seconds = time(&device, &queue, name, needs, threads * 4 * bytes, threads);
        let operations = (threads * 4 * 4 * 256 * 2) as f64;
        println!("multiply-add, {name}: {:.1} GFLOP/s", operations / seconds / 1e9);
    }
}

/// Median seconds of seven dispatches of a kernel from one buffer of `bytes` to another, after one that compiles.
fn time(device: &wgpu::Device, queue: &wgpu::Queue, name: &str, half: bool, bytes: u64, threads: u64) -> f64 {
    let text = format!("{}{}", if half { "enable f16;\n" } else { "" }, source(name));
    let module = device.create_shader_module(wgpu::ShaderModuleDescriptor {
        label: Some(name),
        source: wgpu::ShaderSource::Wgsl(text.into()),
    });
    let pipeline = device.create_compute_pipeline(&wgpu::ComputePipelineDescriptor {
        label: Some(name),
        layout: None,
        module: &module,
        entry_point: Some("main"),
        compilation_options: Default::default(),
        cache: None,
    });
    let usage = wgpu::BufferUsages::STORAGE | wgpu::BufferUsages::COPY_DST;
    let buffer =
        || device.create_buffer(&wgpu::BufferDescriptor { label: None, size: bytes, usage, mapped_at_creation: false });
    let (x, y) = (buffer(), buffer());
    // Small numbers in either form, none of them zero.
    queue.write_buffer(&x, 0, &vec![0x2e; bytes as usize]);
    let group = device.create_bind_group(&wgpu::BindGroupDescriptor {
        label: None,
        layout: &pipeline.get_bind_group_layout(0),
        entries: &[
            wgpu::BindGroupEntry { binding: 0, resource: x.as_entire_binding() },
            wgpu::BindGroupEntry { binding: 1, resource: y.as_entire_binding() },
        ],
    });
    let groups = (threads / 64) as u32;
    let mut all: Vec<f64> = (0..8)
        .map(|_| {
            let mut encoder = device.create_command_encoder(&Default::default());
            let mut pass = encoder.begin_compute_pass(&Default::default());
            pass.set_pipeline(&pipeline);
            pass.set_bind_group(0, &group, &[]);
            pass.dispatch_workgroups(groups, 1, 1);
            drop(pass);
            let started = Instant::now();
            queue.submit([encoder.finish()]);
            device.poll(wgpu::PollType::wait_indefinitely()).expect("the device finishes the dispatch");
            started.elapsed().as_secs_f64()
        })
        .skip(1)
        .collect();
    all.sort_by(f64::total_cmp);
    all[all.len() / 2]
}

/// Rounds to the nearest 16-bit float (ties to even), subnormals and infinity included.
fn to_half(x: f64) -> f64 {
    let exponent = x.abs().log2().floor().max(-14.0);
    let unit = (exponent - 10.0).exp2();
    let rounded = (x / unit).round_ties_even() * unit;
    if rounded.abs() > 65504.0 { f64::INFINITY.copysign(x) } else { rounded }
}

/// A number in [0, 1) from a counter.
fn uniform(state: &mut u64) -> f64 {
    *state = state.wrapping_mul(6364136223846793005).wrapping_add(1442695040888963407);
    (*state >> 11) as f64 / (1u64 << 53) as f64
}

/// What 16-bit storage does to sums of a 3x3 convolution: products and sums in f64, so that only storage rounds.
fn rounding() {
    println!();
    let mut state = 1;
    for (levels, top) in [("0, ±1, ±2, ±4", 2), ("0, ±1 … ±2^6", 6)] {
        for cin in [16, 64] {
            let (mut squares, mut errors, mut stored, mut largest) = (0.0, 0.0, 0.0, 0f64);
            for _ in 0..20000 {
                let (mut exact, mut half) = (0.0, 0.0);
                for _ in 0..9 * cin {
                    // Rectified normal activations of variance 1 before the ReLU.
                    let radius = (-2.0 * (1.0 - uniform(&mut state)).ln()).sqrt();
                    let x = (radius * (std::f64::consts::TAU * uniform(&mut state)).cos()).max(0.0);
                    let shift = (uniform(&mut state) * f64::from(top + 1)).floor().exp2();
                    let sign = (uniform(&mut state) * 3.0).floor() - 1.0;
                    exact += shift * sign * x;
                    half += shift * sign * to_half(x);
                }
                squares += exact * exact;
                errors += (half - exact).powi(2);
                stored += (to_half(half) - exact).powi(2);
                largest = largest.max(exact.abs());
            }
            println!(
                "3x3, {cin} channels, weights {levels}: relative error (rms) {:.1e} from the inputs' rounding, {:.1e} with the output's; \
                 |output| up to {largest:.0} (f16 ends at 65504)",
                (errors / squares).sqrt(),
                (stored / squares).sqrt()
            );
        }
    }
}
