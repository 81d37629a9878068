//! Measured choices in the cache folder.
#![no_main]

use s3gpu::files::cache::CacheFolder;
use s3gpu::tune::Table;

const ADAPTER: &str = "fuzz";

fn name() -> String {
    let folder = CacheFolder::below("").path(&Table::file_name(ADAPTER));
    folder.to_str().expect("plain letters").to_string()
}

s3gpu_fuzz::reads!(&name(), |_| {
    let folder = CacheFolder::below(s3gpu_fuzz::folder());
    let _ = Table::read(Some(&folder), ADAPTER);
});
