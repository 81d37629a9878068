//! `cargo bench --bench inference -- MODEL [FLAGS]` is `s3gpu bench inference MODEL [FLAGS]`.

fn main() -> std::process::ExitCode {
    s3gpu::cli::bench("inference")
}
