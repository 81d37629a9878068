//! What the cache of measured rungs believes, keeps and leaves alone; what a ranking falls back on.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use super::lower::lower;
use super::measure::{Kept, Measured, file, measured, of};
use super::rungs::{Adapter, Choice, Layer};
use super::{CODE, Model};
use crate::files::cache::CacheFolder;
use crate::gpu::{self, Gpu};
use crate::int::model::Op;

const BATCH: u32 = 2;

fn model() -> Model {
    let path = "tests/fixtures/int/shapes-resnet8-s3-3bit.safetensors";
    Model::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

fn adapter(root: &Path) -> Gpu {
    let mut gpu = gpu::open(None).unwrap();
    gpu.cache = Some(CacheFolder::below(root));
    gpu
}

/// The distinct convolutions' keys.
fn keys(model: &Model, adapter: Adapter) -> Vec<String> {
    let mut keys = Vec::new();
    for node in &model.nodes {
        let Op::Conv(conv) = &node.op else { continue };
        let key = Layer::new(conv, node, &model.nodes[node.inputs[0]], BATCH, adapter).key();
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    keys
}

fn kept(seconds: &[(&str, f64)], partial: bool) -> Kept {
    Kept { seconds: seconds.iter().map(|(name, s)| ((*name).to_string(), *s)).collect(), partial }
}

/// Writes the cache without line breaks, which a cache that is written again has.
fn fill(gpu: &Gpu, entries: impl IntoIterator<Item = (String, Kept)>) {
    let all: BTreeMap<_, _> = entries.into_iter().map(|(key, kept)| (of(BATCH, &key), kept)).collect();
    gpu.cache.as_ref().unwrap().write(&file(gpu), &serde_json::to_vec(&all).unwrap()).unwrap();
}

fn bytes(gpu: &Gpu) -> Option<Vec<u8>> {
    gpu.cache.as_ref().unwrap().read(&file(gpu)).unwrap()
}

#[test]
fn a_cache_is_believed_as_far_as_it_makes_sense() {
    let (root, model) = (tempfile::tempdir().unwrap(), model());
    let gpu = adapter(root.path());
    let keys = keys(&model, Adapter::of(&gpu));
    let good = [("int_conv_dot", 2e-3), ("int_conv_digits", 1e-3)];
    let unknown = [("int_conv_dot", 2e-3), ("int_conv_of_yore", 1e-6)];
    let entries = [
        kept(&good, false),
        kept(&unknown, false),
        kept(&[], true),
        kept(&[], false),
        kept(&[("int_conv_digits", -1.0)], false),
        kept(&[("int_conv_digits", 0.0)], false),
    ];
    assert!(keys.len() >= entries.len(), "{keys:?}");
    fill(&gpu, keys.iter().cloned().zip(entries));
    let before = bytes(&gpu);
    // No time to measure what is not there.
    let (found, new) = measured(&gpu, &model, BATCH, Duration::ZERO).unwrap();
    let ranked: Vec<_> = found.iter().map(|m| (&m.key, m.ranked(false))).collect();
    let wanted = [vec!["int_conv_digits", "int_conv_dot"], vec!["int_conv_dot"], vec![]];
    assert_eq!(ranked, keys.iter().zip(wanted).collect::<Vec<_>>());
    assert!(!new && bytes(&gpu) == before, "nothing new is written");

    for damaged in ["", "{", "[]", r#"{"a": {"int_conv_digits": 1}}"#] {
        gpu.cache.as_ref().unwrap().write(&file(&gpu), damaged.as_bytes()).unwrap();
        assert_eq!(measured(&gpu, &model, BATCH, Duration::ZERO).unwrap(), (Vec::new(), false), "{damaged}");
    }
}

#[test]
fn another_adapter_has_another_cache() {
    let (root, model) = (tempfile::tempdir().unwrap(), model());
    let mut gpu = adapter(root.path());
    let keys = keys(&model, Adapter::of(&gpu));
    fill(&gpu, keys.iter().map(|key| (key.clone(), kept(&[("int_conv_dot", 1e-3)], false))));
    assert_eq!(measured(&gpu, &model, BATCH, Duration::ZERO).unwrap().0.len(), keys.len());
    gpu.info.name = "another".into();
    assert_eq!(measured(&gpu, &model, BATCH, Duration::ZERO).unwrap().0, []);
    assert_eq!(bytes(&gpu), None);
}

#[test]
fn a_layer_that_outlasts_the_cap_costs_it_once() {
    let (root, model) = (tempfile::tempdir().unwrap(), model());
    let gpu = adapter(root.path());
    // Too short for all rungs to be compiled.
    let cap = Duration::from_millis(5);
    let (found, new) = measured(&gpu, &model, BATCH, cap).unwrap();
    assert!(new && found.len() == 1 && found[0].partial, "{found:?}");
    let (again, new) = measured(&gpu, &model, BATCH, cap).unwrap();
    assert!(new && again.len() == 2 && again[0] == found[0], "{again:?}");
}

#[test]
fn without_time_to_compile_the_second_fastest_comes() {
    let (model, adapter) = (model(), Adapter::default());
    let seconds = kept(&[(CODE, 1e-3), ("int_conv_digits", 2e-3), ("int_conv_dot", 3e-3)], false).seconds;
    let one = |key| Measured { key, times: 1, seconds: seconds.clone(), partial: false };
    let all: Vec<_> = keys(&model, adapter).into_iter().map(one).collect();
    let rungs = |forced: &[&str], budget| {
        let forced = forced.iter().map(|name| (*name).to_string()).collect();
        let choice = Choice { forced, compile_budget: Some(budget), ..Choice::fastest(&all, false) };
        lower(&model, BATCH, &choice, adapter).unwrap().rungs
    };
    assert!(rungs(&[], 0.0).values().all(|rung| *rung == "int_conv_digits"));
    assert!(rungs(&[], 1e9).values().all(|rung| *rung == CODE));
    // The stem's weights are too large for pairs.
    let pairs = rungs(&["int_conv_pairs", CODE], 1e9);
    assert!(
        pairs.iter().all(|(node, rung)| *rung == if node == "conv1" { CODE } else { "int_conv_pairs" }),
        "{pairs:?}"
    );
}
