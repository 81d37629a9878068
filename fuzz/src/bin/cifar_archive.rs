//! CIFAR's .tar.gz, read in memory: of images of 2 x 2 pixels so that a short input holds many.
#![no_main]

use s3gpu::data::{self, Manifest, Splits};
use s3gpu_fuzz::libfuzzer_sys::fuzz_target;
use s3gpu_fuzz::{packed, put, summed};

fuzz_target!(|bytes: &[u8]| {
    let path = put("cifar.tar.gz", &packed(&summed(bytes)));
    let mut manifest = Manifest::find("cifar10").expect("built in");
    (manifest.height, manifest.width) = (2, 2);
    for splits in [Splits::TEST, Splits::BOTH] {
        let Ok(data) = data::load(&manifest, Some(&path), splits) else { continue };
        for source in data.train.iter().chain(&data.test) {
            assert!(source.len() > 0 && (0..source.len()).all(|i| source.label(i) < 10));
        }
    }
});
