//! `cargo bench --bench step [-- --model resnet20 --batch-size 128 --method s3 --bits 3 --rung NAME …]`

fn main() {
    s3gpu::bench::main("step")
}
