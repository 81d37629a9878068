//! metrics.jsonl, its picture, and its continuation.
#![no_main]

use s3gpu::train::{curves, metrics};

s3gpu_fuzz::reads!("metrics.jsonl", |path| {
    let Ok(records) = metrics::read(path) else { return };
    curves::draw(&records, "fuzz", 7, path.with_extension("svg")).expect("a picture of any metrics");
    let log = metrics::MetricsLog::resume(path, |_| true).expect("it was readable");
    drop(log);
    assert_eq!(metrics::read(path).expect("what was kept is readable").len(), records.len());
});
