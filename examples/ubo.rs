use s3gpu::gpu::shader::expand; use s3gpu::kernels::*; use wgpu::util::DeviceExt;
fn main() {
    let e = s3gpu::gpu::adapters().remove(0);
    let (d, q) = pollster::block_on(e.adapter.request_device(&wgpu::DeviceDescriptor { required_limits: e.adapter.limits(), required_features: wgpu::Features::SUBGROUP, ..Default::default() })).unwrap();
    for file in std::env::args().skip(1) {
        let text: &'static str = Box::leak(std::fs::read_to_string(&file).unwrap().into_boxed_str());
        let uni = text.contains("var<uniform> weight");
        let grid = include_str!("../shaders/common/grid.wgsl");
        let body = text.replace("enable subgroups;\n", "");
        let body: &'static str = Box::leak(body.into_boxed_str());
        let src = expand(&Source { path: "x/y", text: body, common: Box::leak(Box::new([grid])) }, &[]);
        let src = if text.starts_with("enable") { format!("enable subgroups;\n{src}") } else { src };
        print!("{file:24}");
        for (size, c) in [(32u32, 16u32), (16, 32), (8, 64)] {
            if uni && c == 64 { continue; }
            let m = d.create_shader_module(wgpu::ShaderModuleDescriptor { label: None, source: wgpu::ShaderSource::Wgsl(src.clone().into()) });
            let pl = d.create_compute_pipeline(&wgpu::ComputePipelineDescriptor { label: None, layout: None, module: &m, entry_point: None, compilation_options: Default::default(), cache: None });
            let p: [u32; 12] = [128, size, size, c / 4, size, size, c / 4, 3, 1, 1, 0, 2];
            let mk = |n: usize, u| d.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents: bytemuck::cast_slice(&(0..n).map(|i| (i % 7) as f32).collect::<Vec<_>>()), usage: u });
            let st = wgpu::BufferUsages::STORAGE;
            let pb = d.create_buffer_init(&wgpu::util::BufferInitDescriptor { label: None, contents: bytemuck::cast_slice(&p), usage: wgpu::BufferUsages::UNIFORM });
            let n = (128 * size * size * c) as usize;
            let (x, y, w) = (mk(n, st), mk(n, st), mk(if uni { 16384 } else { 65536 }, if uni { wgpu::BufferUsages::UNIFORM } else { st }));
            let bg = d.create_bind_group(&wgpu::BindGroupDescriptor { label: None, layout: &pl.get_bind_group_layout(0), entries: &[&pb, &x, &w, &y].iter().enumerate().map(|(i, b)| wgpu::BindGroupEntry { binding: i as u32, resource: b.as_entire_binding() }).collect::<Vec<_>>() });
            let items = 128 * size * size.div_ceil(8) * (c / 4).div_ceil(2);
            let run = |k: u32| { let mut en = d.create_command_encoder(&Default::default()); { let mut ps = en.begin_compute_pass(&Default::default()); ps.set_pipeline(&pl); ps.set_bind_group(0, &bg, &[]); for _ in 0..k { ps.dispatch_workgroups(items.div_ceil(64), 1, 1); } } q.submit([en.finish()]); d.poll(wgpu::PollType::wait_indefinitely()).unwrap(); };
            run(2);
            let mut best = 1e9f64;
            for _ in 0..8 { let t = std::time::Instant::now(); run(2); best = best.min(t.elapsed().as_secs_f64() / 2.0); }
            print!("  {:5.1}", 2.0 * 9.0 * n as f64 * c as f64 / best / 1e9);
        }
        println!();
    }
}
