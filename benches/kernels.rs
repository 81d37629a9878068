//! `cargo bench --bench kernels [-- FLAGS]` is `s3gpu bench kernels [FLAGS]`.

fn main() -> std::process::ExitCode {
    s3gpu::cli::bench("kernels")
}
