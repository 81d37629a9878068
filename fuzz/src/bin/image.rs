//! A file of an image folder: decoded, cut and resized, in colour and in grey, to train on and to be measured on.
#![no_main]

use s3gpu::data::{self, Manifest, Reading, Splits, View};
use s3gpu_fuzz::libfuzzer_sys::fuzz_target;
use s3gpu_fuzz::put;

// A decoder's panic is caught by the reader, and means a damaged file: the fuzzer's hook would end the process before. One that is
// not caught still ends it.
fuzz_target!(init: std::panic::set_hook(Box::new(|_| {})), |bytes: &[u8]| {
    put("set/train/a/image", bytes);
    let dir = s3gpu_fuzz::folder().join("set");
    let mut manifest = Manifest::find("folder").expect("built in");
    (manifest.height, manifest.width, manifest.classes) = (6, 8, vec!["a".into()]);
    let reading = Reading { threads: 1, cache: 1 << 20, ..Reading::default() };
    for (channels, pad) in [(3, 0), (1, 2)] {
        (manifest.channels, manifest.pad) = (channels, pad);
        let train = Splits { train: true, test: false };
        let Ok(data) = data::open(&manifest, Some(&dir), train, &reading) else { return };
        let source = data.train.expect("it was asked for");
        let mut pixels = vec![0; source.image_len()];
        for view in [View::Test, View::Train { epoch: 0 }, View::Train { epoch: 1 }] {
            let _ = source.fill(&[0], view, &mut pixels);
        }
    }
});
