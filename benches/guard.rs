//! `cargo bench --bench guard [-- --record]`: a step against fixed kernels and the stored ratio; exit code 1 beyond 20 %.

fn main() -> std::process::ExitCode {
    s3gpu::cli::bench("guard")
}
