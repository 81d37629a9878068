//! The file around a driver's pipelines: nothing but what was sealed for this adapter comes out.
#![no_main]

use s3gpu::gpu::driver_cache::{seal, unseal};
use s3gpu_fuzz::libfuzzer_sys::fuzz_target;

fuzz_target!(|bytes: &[u8]| {
    if let Ok(data) = unseal("fuzz", bytes) {
        assert_eq!(seal("fuzz", data), bytes);
    }
    let sealed = seal("fuzz", bytes);
    assert_eq!(unseal("fuzz", &sealed), Ok(bytes));
    assert!(unseal("another", &sealed).is_err());
});
