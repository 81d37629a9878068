//! The cache folder and --tune through the command line: what is kept, what is chosen, and what bad files do.

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;

use program::{Place, with};
use s3gpu::files::tensors;
use s3gpu::gpu;
use s3gpu::graph::Vars;
use s3gpu::graph::lower::{RungChoice, lower};
use s3gpu::kernels::AnyKernel;
use s3gpu::kernels::conv::{ConvParams, Family};
use s3gpu::train::checkpoint;
use s3gpu::train::setup::Setup;
use serde_json::Value;

const TRAIN: &str =
    "train --dataset cifar10 --data-dir data --model resnet8 --epochs 2 --batch-size 4 --log-every 4 --seed 7";

/// The file of choices.
fn tuned(place: &Place) -> PathBuf {
    let is = |p: &PathBuf| p.extension().is_some_and(|e| e == "json");
    place.kept().into_iter().find(is).expect("a file of choices")
}

fn choices(place: &Place) -> BTreeMap<String, String> {
    let text = fs::read_to_string(tuned(place)).expect("the file");
    let all: Value = serde_json::from_str(&text).expect("JSON");
    let rung = |(key, c): (&String, &Value)| (key.clone(), c["rung"].as_str().expect("a name").to_string());
    all["choices"].as_object().expect("choices").iter().map(rung).collect()
}

/// The rungs that a run recorded, by `direction:layer`.
fn recorded(place: &Place, run: &str) -> BTreeMap<String, String> {
    let path = place.path(&format!("{run}/last.safetensors"));
    let file = tensors::read(&path).unwrap_or_else(|e| panic!("{e}"));
    checkpoint::split(file, &path).unwrap_or_else(|e| panic!("{e}")).2.rungs
}

/// Every convolution of a run's plan: `direction:layer`, family and parameters.
fn convolutions(place: &Place, run: &str) -> Vec<(String, Family, ConvParams)> {
    let config = s3gpu::train::folder::read_config(&place.path(run)).unwrap_or_else(|e| panic!("{e}"));
    let setup = Setup::new(config).unwrap_or_else(|e| panic!("{e}"));
    let gpu = gpu::open(None).expect("the tests need an adapter: run `make setup`");
    let options = setup.options(RungChoice::default()).on(&gpu);
    let lowered = lower(&setup.graph, &options).unwrap_or_else(|e| panic!("{e}"));
    let vars = Vars { n: options.batch, ..Vars::default() };
    let one = |c: &s3gpu::graph::Call| {
        let (family, _) = Family::of(c.kernel.name())?;
        Some((format!("{family:?}:{}", c.label), family, bytemuck::pod_read_unaligned(&(c.params)(&vars))))
    };
    lowered.train.calls.iter().filter_map(one).collect()
}

#[test]
fn tune_chooses_rungs_that_fit_and_a_resumed_run_keeps_its_own() {
    let place = Place::new();
    let said = place.run(&with(TRAIN, "--out a --steps 3 --tune --tune-seconds 600")).ok();
    assert!(
        ["tuning for at most 600 s", "<- taken", "(built-in)", "kept in"].iter().all(|w| said.err.contains(w)),
        "{}",
        said.err
    );
    let (kept, rungs) = (choices(&place), recorded(&place, "a"));
    let all = convolutions(&place, "a");
    assert_eq!(all.len(), 20, "seven forward, seven weight gradients, six to the input");
    for (name, family, p) in &all {
        let (of, rung) = Family::of(&rungs[name]).expect("a rung");
        assert!(of == *family && rung.fits(p), "{name}: {}", rung.name());
        assert_eq!(kept[&family.key(p)], rungs[name], "{name}");
    }

    // Every choice becomes the readable rung: a new run takes it, a resumed one does not, and --rung wins.
    let naive = |name: &str| format!("{}_naive", Family::of(name).expect("a rung").0.name());
    let mut text = fs::read_to_string(tuned(&place)).expect("the file");
    for rung in kept.values() {
        text = text.replace(&format!("\"rung\": \"{rung}\""), &format!("\"rung\": \"{}\"", naive(rung)));
    }
    fs::write(tuned(&place), text).expect("the file");
    place.run("train --resume a --steps 4").ok();
    assert_eq!(recorded(&place, "a"), rungs);
    place.run(&with(TRAIN, "--out b --steps 1")).ok();
    let fresh = recorded(&place, "b");
    assert!(all.iter().all(|(name, family, _)| fresh[name] == format!("{}_naive", family.name())), "{fresh:?}");
    place.run(&with(TRAIN, "--out c --steps 1 --rung conv_forward_direct")).ok();
    let forced = recorded(&place, "c");
    assert!(all.iter().all(|(n, f, _)| (*f == Family::Forward) == (forced[n] == "conv_forward_direct")), "{forced:?}");

    place.run("train --resume a --tune").fails(2, &["--tune", "--resume"]);
    place.run(&with(TRAIN, "--out d --tune --rung conv_forward_direct")).fails(2, &["--tune", "--rung"]);
}

#[test]
fn bad_cache_files_are_ignored_with_a_note() {
    let place = Place::new();
    // Too short for any shape but the first ones: the others keep the built-in choice.
    let said = place.run(&with(TRAIN, "--out a --steps 1 --tune --tune-seconds 1")).ok();
    assert!(said.err.contains("start: ") && said.err.contains("first step"), "{}", said.err);
    let clean = recorded(&place, "a");
    // The driver's pipelines have a file only where it hands them out, but one that lies there is looked at everywhere.
    let choices = tuned(&place);
    let gpu = gpu::open(None).expect("the tests need an adapter: run `make setup`");
    let pipelines = gpu::DriverCache::file_name(&gpu.info).map(|name| choices.with_file_name(name));
    for file in [Some(choices), pipelines].into_iter().flatten() {
        let good = fs::read(&file).unwrap_or_else(|_| b"s3gpu pipelines 1\nanother adapter\n0 0\n".into());
        for bad in [&good[..good.len() / 2], b"\n", b"PK\x03\x04 something else\n"] {
            fs::write(&file, bad).expect("a file");
            let said = place.run(&with(TRAIN, "--out b --steps 1 --force")).ok();
            let name = file.file_name().expect("a name").to_string_lossy().into_owned();
            assert!(said.err.contains("note: ") && said.err.contains(&name), "{}", said.err);
            assert_eq!(recorded(&place, "b").len(), clean.len());
        }
    }
}

#[test]
fn a_cache_folder_that_cannot_be_written_stops_nothing() {
    let place = Place::new();
    place.put("blocked", b"a file");
    let run = |cache: &str, out: &str| {
        let args = with(TRAIN, &format!("--out {out} --steps 1 --tune --tune-seconds 1"));
        let mut command = place.command(&args);
        program::Said::of(command.env("S3GPU_CACHE", cache).output().expect("the program starts")).ok()
    };
    let said = run("blocked", "a");
    assert!(said.err.contains("note: ") && said.err.contains("blocked"), "{}", said.err);
    let said = run("", "b");
    assert!(said.err.contains("no cache folder") && said.err.contains("no cache)"), "{}", said.err);
    assert!(place.kept().is_empty());
}
