//! `cargo bench --bench startup [-- --model resnet20 --batch-size 128 --method s3 --bits 3 --adapter NAME]`

fn main() {
    s3gpu::bench::startup::main()
}
