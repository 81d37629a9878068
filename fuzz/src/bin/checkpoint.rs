//! A weight file as a network: what it says of itself, where its run stands, its tensors on that network's layout.
#![no_main]

use s3gpu::data::Manifest;
use s3gpu::graph::Layout;
use s3gpu::model::Values;
use s3gpu::train::{Trained, checkpoint};

s3gpu_fuzz::reads!("w.safetensors", |path| {
    let Ok(trained) = Trained::read(path) else { return };
    let manifest = Manifest::find("shapes").expect("built in");
    if let Ok(graph) = trained.graph(&manifest) {
        let layout = Layout::new(&graph, 1 << 28);
        let _ = Values::from_file(&graph, &layout, &trained.file, path);
    }
    let _ = checkpoint::split(trained.file, path);
});
