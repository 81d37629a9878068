//! `cargo bench --bench step [-- FLAGS]` is `s3gpu bench step [FLAGS]`.

fn main() -> std::process::ExitCode {
    s3gpu::cli::bench("step")
}
