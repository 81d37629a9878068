use s3gpu::gpu::{self, Pipelines, Single};
use s3gpu::kernels::check::fill_case;
use s3gpu::kernels::conv::{ConvParams, Family, Rung, rungs};
use s3gpu::kernels::{AnyCase, AnyKernel, Fill, Source};
fn cpu() -> f64 {
    let mut t = 0.0;
    for d in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        if let Ok(s) = std::fs::read_to_string(d.path().join("schedstat")) { t += s.split_whitespace().next().unwrap().parse::<f64>().unwrap() / 1e9; }
    }
    t
}
fn main() {
    let a: Vec<String> = std::env::args().collect();
    let base: &'static Rung = match a[1].as_str() {
        "f" => &rungs::FORWARD_DIRECT,
        "fs" => &rungs::FORWARD_SUBGROUP,
        "is" => &rungs::BACKWARD_INPUT_SUBGROUP,
        "i" => &rungs::BACKWARD_INPUT_DIRECT,
        "fn" => &rungs::FORWARD_NAIVE,
        _ => &rungs::BACKWARD_WEIGHT_DIRECT,
    };
    let gpu = gpu::open(None).unwrap();
    // args: family, file, [items divisor spec: px,co]
    for file in &a[2..] {
        let mut parts = file.split(',');
        let path = parts.next().unwrap();
        let px: u32 = parts.next().map_or(8, |v| v.parse().unwrap());
        let co: u32 = parts.next().map_or(2, |v| v.parse().unwrap());
        let rows: u32 = parts.next().map_or(1, |v| v.parse().unwrap());
        let text: &'static str = if path == "-" { base.source.text } else { Box::leak(std::fs::read_to_string(path).unwrap().into_boxed_str()) };
        let source = Source { text, ..base.source };
        print!("{file:50}");
        for (size, c, s) in [(32u32, 16u32, 1u32), (16, 32, 1), (8, 64, 1), (32, 16, 2)] {
            let p = ConvParams::new(if std::env::var("SMALL").is_ok() { 2 } else { 128 }, [size, size, c], c * s, [3, s, 1]).chunked();
            let items: u64 = match base.family {
                Family::Forward => u64::from(p.n * p.oh.div_ceil(rows) * p.ow.div_ceil(px)) * u64::from(p.cout4.div_ceil(co)),
                Family::BackwardInput => u64::from(p.n * p.h.div_ceil(rows) * p.stride * p.w.div_ceil(p.stride).div_ceil(px)) * u64::from(p.cin4.div_ceil(co)),
                Family::BackwardWeight => u64::from(p.chunks() * p.k * p.k.div_ceil(3)) * u64::from(p.cin4.div_ceil(rows) * p.cout4.div_ceil(co)),
            };
            let items = if a[1].ends_with('s') { (base.items)(&p) } else { items };
            ITEMS.store(items, std::sync::atomic::Ordering::Relaxed);
            let consts = base.consts;
            let r: &'static Rung = Box::leak(Box::new(Rung { family: base.family, source, consts, items: |_| ITEMS.load(std::sync::atomic::Ordering::Relaxed), subgroup: None, fits: base.fits }));
            let k: &dyn AnyKernel = r;
            let params = bytemuck::bytes_of(&p).to_vec();
            let case = AnyCase { name: "x".into(), params: params.clone(), fills: vec![Fill::Normal(1.0), Fill::Normal(1.0), Fill::Out] };
            let bufs = fill_case(k, &case);
            let mut pl = Pipelines::default();
            let single = Single::new(&gpu, &mut pl, k, &params, &bufs).unwrap();
            let run = |n| { let i = single.submit(&gpu, n); gpu.wait(Some(i), || "x".into()).unwrap(); };
            let t0 = std::time::Instant::now();
            run(2);
            if std::env::var("SMALL").is_ok() { print!(" first {:.2}s", t0.elapsed().as_secs_f64()); use std::io::Write; std::io::stdout().flush().unwrap(); continue; }
            let mut dt = 1e9f64;
            for _ in 0..10 {
                let t = cpu();
                let t0 = std::time::Instant::now();
            run(2);
            if std::env::var("SMALL").is_ok() { print!(" first {:.2}s", t0.elapsed().as_secs_f64()); use std::io::Write; std::io::stdout().flush().unwrap(); continue; }
                dt = dt.min((cpu() - t) / 2.0 / 2.0);
            }
            print!("  {:5.1}", k.cost(&params).flops / dt / 1e9);
        }
        println!();
    }
}
static ITEMS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);
