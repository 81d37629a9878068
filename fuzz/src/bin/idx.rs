//! IDX files of images and of labels, of images of 2 x 2 pixels so that a short input holds many; packed or not, they are the same.
#![no_main]

use std::path::Path;

use s3gpu::data::{self, Manifest, Splits, View};
use s3gpu_fuzz::libfuzzer_sys::fuzz_target;
use s3gpu_fuzz::{halves, packed, put};

fn read(dir: Option<&Path>) -> Option<(Vec<u32>, Vec<u8>)> {
    let mut manifest = Manifest::find("mnist").expect("built in");
    (manifest.height, manifest.width) = (2, 2);
    let test = data::load(&manifest, dir, Splits::TEST).ok()?.test.expect("it was asked for");
    let labels: Vec<_> = (0..test.len()).map(|i| test.label(i)).collect();
    assert!(test.image_len() == 4 && labels.iter().all(|label| *label < 10));
    let (all, mut pixels) = (0..test.len() as u32, vec![0; 4 * test.len()]);
    test.fill(&all.collect::<Vec<_>>(), View::Test, &mut pixels).expect("they are in memory");
    Some((labels, pixels))
}

fuzz_target!(|bytes: &[u8]| {
    let (images, labels) = halves(bytes);
    put("plain/t10k-labels-idx1-ubyte", labels);
    let plain = read(put("plain/t10k-images-idx3-ubyte", images).parent());
    // What is packed twice is unpacked once.
    if ![images, labels].iter().any(|file| file.starts_with(&[0x1f, 0x8b])) {
        put("packed/t10k-labels-idx1-ubyte.gz", &packed(labels));
        assert_eq!(read(put("packed/t10k-images-idx3-ubyte.gz", &packed(images)).parent()), plain);
    }
});
