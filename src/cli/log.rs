//! Diagnostics on stderr, for whoever asks: nothing but warnings by default.

use std::io::{IsTerminal, stderr};

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::time::Uptime;

/// Starts the log. `-v` shows what this program does, `-vv` in detail; wgpu and other crates speak only where RUST_LOG names them.
pub(super) fn start(verbose: u8) {
    let own = match verbose {
        0 => "s3gpu=warn",
        1 => "s3gpu=info",
        _ => "s3gpu=debug",
    };
    let filter = match std::env::var("RUST_LOG") {
        Ok(wanted) if verbose == 0 => EnvFilter::builder().parse_lossy(wanted),
        Ok(wanted) => EnvFilter::builder().parse_lossy(format!("{wanted},{own}")),
        Err(_) => EnvFilter::new(own),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(stderr).with_timer(Uptime::default());
    // Tests may start it twice; the first stays.
    _ = log.with_ansi(stderr().is_terminal()).try_init();
}
