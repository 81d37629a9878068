//! safetensors files of any type, as the integer network's: what is read is written and read again, and is perhaps such a network.
#![no_main]

use std::path::Path;

use s3gpu::files::raw::RawFile;
use s3gpu::int::Model;
use s3gpu_fuzz::libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    let path = Path::new("fuzz");
    let Ok(file) = RawFile::from_bytes(bytes, path) else { return };
    let back = RawFile::from_bytes(&file.to_bytes(), path).expect("what is written is readable");
    assert_eq!(back, file);
    if let Ok(model) = Model::from_file(file, path) {
        let back = Model::from_file(model.to_file(), path).expect("what is accepted is accepted again");
        assert_eq!(back, model);
    }
});
