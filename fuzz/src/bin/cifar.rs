//! CIFAR's binary records, of images of 2 x 2 pixels so that a short input holds many.
#![no_main]

use s3gpu::data::{self, Manifest, Splits};

s3gpu_fuzz::reads!("cifar/test_batch.bin", |path| {
    let mut manifest = Manifest::find("cifar10").expect("built in");
    (manifest.height, manifest.width) = (2, 2);
    if let Ok(data) = data::load(&manifest, path.parent(), Splits::TEST) {
        let test = data.test.expect("it was asked for");
        assert!(test.image_len() == 12 && (0..test.len()).all(|i| test.label(i) < 10));
    }
});
