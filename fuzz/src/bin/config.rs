//! A run's config.toml, up to its network.
#![no_main]

use s3gpu::train::{Setup, folder};

s3gpu_fuzz::reads!("run/config.toml", |path| {
    let Ok(config) = folder::read_config(path.parent().expect("a run's folder")) else { return };
    if let Ok(setup) = Setup::new(config) {
        let images = 50_000;
        let steps = setup.config.steps_per_epoch(images);
        assert!(setup.config.rate(0, steps).is_finite() && setup.config.part_size() > 0);
    }
});
