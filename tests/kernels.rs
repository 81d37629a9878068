//! Every kernel's cases against its CPU twin, on the default adapter (or the one that VK_DRIVER_FILES names).

use s3gpu::gpu::{self, Pipelines};
use s3gpu::kernels::{doctor, registry};

#[test]
fn every_kernel_agrees_with_its_twin() {
    let gpu = gpu::open(None).expect("the tests need an adapter: run `make setup`");
    let mut pipelines = Pipelines::default();
    let mut failed = 0;
    for kernel in registry() {
        let report = doctor::examine(&gpu, &mut pipelines, kernel).unwrap_or_else(|e| panic!("{}: {e}", kernel.name()));
        for (case, bad) in &report.failures {
            failed += 1;
            println!("{} / {case}: {} wrong, the first:", kernel.name(), bad.len());
            for m in bad.iter().take(5) {
                println!("  {}[{}] = {:e}, twin {:e}, allowed {:e}", m.binding, m.index, m.got, m.want, m.allowed);
            }
        }
        // Left out only where the adapter lacks what every case needs.
        assert!(report.cases > 0 || kernel.needs_subgroups() && gpu.subgroup.is_none(), "{}: no case", kernel.name());
        println!("{:32} {:3} cases, worst {:.3}", report.kernel, report.cases, report.worst);
    }
    assert_eq!(failed, 0, "cases failed on {}", gpu::describe(&gpu.info));
}
