//! A configuration in layers: words of --set up to an empty line, then a file; what comes of them is written and read again.
#![no_main]

use s3gpu::train::layers::{Layer, Layered, Origin};

s3gpu_fuzz::parses!(|text| {
    let (words, file) = text.split_once("\n\n").unwrap_or((text, ""));
    let words: Vec<_> = words.lines().map(String::from).collect();
    let set = Layer::set(&words);
    let file = Layer::read(&s3gpu_fuzz::put("config.toml", file.as_bytes()), Origin::File);
    let (Ok(set), Ok(file)) = (set, file) else { return };
    let Ok(layered) = Layered::new(None, vec![file, set]) else { return };
    if layered.check().is_ok() {
        let written = layered.annotated().expect("what was read can be written");
        let back = Layer::read(&s3gpu_fuzz::put("again.toml", written.as_bytes()), Origin::File);
        let back = Layered::new(None, vec![back.expect("what is written is readable")]).expect("as before");
        // As texts, in which a NaN equals itself.
        assert_eq!(format!("{:?}", back.config), format!("{:?}", layered.config), "{written}");
    }
});
