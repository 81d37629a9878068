//! The cache folder and --tune through the command line: what is kept, what is chosen, and what bad files do.

mod program;

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use program::{Place, with};
use s3gpu::data::Manifest;
use s3gpu::files::tensors;
use s3gpu::gpu;
use s3gpu::graph::Vars;
use s3gpu::graph::lower::{RungChoice, lower};
use s3gpu::kernels::AnyKernel;
use s3gpu::kernels::conv::{ConvParams, Family, rungs};
use s3gpu::train::setup::Setup;
use s3gpu::train::{Config, checkpoint};
use s3gpu::tune::{self, Choice, Table};
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

/// Every convolution of a run's plan: `direction:layer`, the built-in rung, family and parameters.
fn convolutions(place: &Place, run: &str) -> Vec<(String, &'static str, Family, ConvParams)> {
    let config = s3gpu::train::folder::read_config(&place.path(run)).unwrap_or_else(|e| panic!("{e}"));
    let setup = Setup::new(config).unwrap_or_else(|e| panic!("{e}"));
    let options = setup.options(RungChoice::default()).on(&open());
    let lowered = lower(&setup.graph, &options).unwrap_or_else(|e| panic!("{e}"));
    let vars = Vars { n: options.batch, ..Vars::default() };
    let one = |c: &s3gpu::graph::Call| {
        let (family, rung) = Family::of(c.kernel.name())?;
        let p = bytemuck::pod_read_unaligned(&(c.params)(&vars));
        Some((format!("{family:?}:{}", c.label), AnyKernel::name(rung), family, p))
    };
    lowered.train.calls.iter().filter_map(one).collect()
}

fn open() -> gpu::Gpu {
    gpu::open(None).expect("the tests need an adapter: run `make setup`")
}

/// Writes a file of choices that takes the naive rung for all of these.
fn keep_naive(place: &Place, all: &[(String, &'static str, Family, ConvParams)]) {
    let mut table = Table::new(&gpu::describe(&open().info));
    for (_, _, family, p) in all {
        let seconds: BTreeMap<_, _> = rungs(*family).iter().map(|r| (AnyKernel::name(*r).to_string(), 1e-3)).collect();
        let choice = Choice { rung: format!("{}_naive", family.name()), seconds, ..Choice::default() };
        table.choices.insert(family.key(p), choice);
    }
    table.save(&place.cache()).unwrap_or_else(|e| panic!("{e}"));
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
    for (name, _, family, p) in &all {
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
    assert!(all.iter().all(|(name, _, family, _)| fresh[name] == format!("{}_naive", family.name())), "{fresh:?}");
    place.run(&with(TRAIN, "--out c --steps 1 --rung conv_forward_direct")).ok();
    let forced = recorded(&place, "c");
    assert!(
        all.iter().all(|(n, _, f, _)| (*f == Family::Forward) == (forced[n] == "conv_forward_direct")),
        "{forced:?}"
    );

    place.run("train --resume a --tune").fails(2, &["--tune", "--resume"]);
    place.run(&with(TRAIN, "--out d --tune --rung conv_forward_direct")).fails(2, &["--tune", "--rung"]);
}

#[test]
fn bad_cache_files_are_ignored_with_a_note() {
    let place = Place::new();
    let said = place.run(&with(TRAIN, "--out a --steps 1")).ok();
    assert!(said.err.contains("start: ") && said.err.contains("first step"), "{}", said.err);
    let all = convolutions(&place, "a");
    keep_naive(&place, &all);
    place.run(&with(TRAIN, "--out b --steps 1")).ok();
    let naive = recorded(&place, "b");
    assert!(all.iter().all(|(name, builtin, ..)| naive[name].ends_with("_naive") && naive[name] != *builtin));
    // The driver's pipelines have a file only where it hands them out, but one that lies there is looked at everywhere.
    let choices = tuned(&place);
    let pipelines = gpu::DriverCache::file_name(&open().info).map(|name| choices.with_file_name(name));
    for file in [Some(choices), pipelines].into_iter().flatten() {
        let good = fs::read(&file).unwrap_or_else(|_| b"s3gpu pipelines 1\nanother adapter\n0 0\n".into());
        for bad in [&good[..good.len() / 2], b"\n", b"PK\x03\x04 something else\n"] {
            fs::write(&file, bad).expect("a file");
            let said = place.run(&with(TRAIN, "--out b --steps 1 --force")).ok();
            let name = file.file_name().expect("a name").to_string_lossy().into_owned();
            assert!(said.err.contains("note: ") && said.err.contains(&name), "{}", said.err);
            let taken = recorded(&place, "b");
            assert!(all.iter().all(|(name, builtin, ..)| taken[name] == *builtin), "{taken:?}");
        }
    }
}

#[test]
fn a_batch_too_large_is_refused_before_anything_is_measured() {
    let place = Place::new();
    let args = "train --dataset shapes --model resnet8 --width 64 --batch-size 2000 --out run --tune";
    let started = std::time::Instant::now();
    let said = place.run(args).fails(1, &["needs", "adapter's max"]);
    assert!(!said.err.contains("tuning for"), "{}", said.err);
    assert!(started.elapsed().as_secs() < 60, "the shapes are drawn in a second or two");
}

#[test]
fn time_that_is_up_leaves_no_half_measured_choice() {
    let place = Place::new();
    let setup = Setup::new(Config { batch_size: 4, ..workload() }).unwrap_or_else(|e| panic!("{e}"));
    let mut lines = Vec::new();
    let choices = tune::measured(&setup, &open(), Duration::ZERO, &mut |l| lines.push(l.to_string()));
    assert!(choices.unwrap_or_else(|e| panic!("{e}")).is_empty(), "{lines:?}");
    assert!(lines.len() > 5 && lines[1..].iter().all(|l| l.ends_with("not measured, time is up")), "{lines:?}");
    assert!(place.kept().is_empty());
}

fn workload() -> Config {
    let manifest = Manifest::find("shapes").expect("built in");
    let (mean, std) = (manifest.mean, manifest.std);
    Config { dataset: "shapes".into(), model: "resnet8".into(), mean, std, ..Config::default() }
}

#[test]
fn benches_neither_read_nor_write_the_choices() {
    let place = Place::new();
    let bench = |more: &str| place.run(&format!("bench step --model resnet8 --batch-size 4 --steps 1 {more}")).ok();
    let said = bench("--tune 1");
    assert!(said.out.contains("\nrungs: tuned in this run\n") && said.err.contains("tuning for"), "{}", said.out);
    assert!(!place.kept().iter().any(|p| p.extension().is_some_and(|e| e == "json")), "{:?}", place.kept());

    // The same shapes as a training run's, for which the naive rungs are kept.
    place.run("train --dataset shapes --model resnet8 --batch-size 4 --out run --steps 1").ok();
    keep_naive(&place, &convolutions(&place, "run"));
    let said = place.run("train --dataset shapes --model resnet8 --batch-size 4 --dry-run").ok();
    assert!(said.out.contains("conv_forward_naive"), "{}", said.out);
    let said = bench("");
    assert!(said.out.contains("\nrungs: built-in order\n") && !said.out.contains("_naive"), "{}", said.out);
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
