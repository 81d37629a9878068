//! A data set's TOML.
#![no_main]

use s3gpu::data::Manifest;

s3gpu_fuzz::parses!(|text| {
    if let Ok(manifest) = Manifest::parse(text, "fuzz.toml") {
        assert!(manifest.image_len() > 0 && manifest.mean.len() == manifest.channels);
    }
});
