//! The `s3gpu` command.

use std::process::ExitCode;

fn main() -> ExitCode {
    s3gpu::cli::main()
}
