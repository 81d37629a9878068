//! Weight files: what is read is written and read again, bit for bit.
#![no_main]

use s3gpu::files::tensors;

s3gpu_fuzz::reads!("w.safetensors", |path| {
    let Ok(file) = tensors::read(path) else { return };
    let _ = tensors::read_meta(path).expect("the whole file was readable");
    // Only a header in which a name is too odd to be written cannot come back.
    if tensors::write(path, &file).is_ok() {
        let back = tensors::read(path).expect("what is written is readable");
        assert_eq!(back.meta, file.meta);
        for (name, tensor) in &file.tensors {
            let bits = |data: &[f32]| data.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
            assert_eq!(bits(&back.tensors[name].data), bits(&tensor.data));
        }
    }
});
