//! Runs through the command line: the same seed gives the same bytes, a stop anywhere changes nothing, and networks learn.

mod program;

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use program::{Place, Said, TEST_IMAGES, TRAIN_IMAGES, with};
use s3gpu::files::tensors;
use serde_json::Value;

/// 12 steps: 6 an epoch, the last with 7 images; metrics lines at steps 3, 7 and 11 cross the epochs' border.
const TRAIN: &str = "train --dataset cifar10 --data-dir data --model resnet8 --method s3 --bits 3 --epochs 2 --batch-size 8 \
                     --log-every 4 --warmup 0.5 --seed 7 --out whole";
const STEPS: u64 = 12;
const STEPS_PER_EPOCH: u64 = 6;

fn metrics(place: &Place, run: &str) -> Vec<Value> {
    let text = String::from_utf8(place.get(&format!("{run}/metrics.jsonl"))).expect("UTF-8");
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{l}: {e}"))).collect()
}

/// Metrics without the one field that a clock decides.
fn timeless(place: &Place, run: &str) -> Vec<Value> {
    let mut lines = metrics(place, run);
    lines.iter_mut().filter_map(Value::as_object_mut).for_each(|o| drop(o.remove("images_per_s")));
    lines
}

/// Both checkpoints byte for byte, the metrics but for speed, and no file that is not a run's.
fn assert_same(place: &Place, run: &str, whole: &str) {
    for file in ["last.safetensors", "best.safetensors"] {
        assert!(place.get(&format!("{run}/{file}")) == place.get(&format!("{whole}/{file}")), "{run}/{file} differs");
    }
    assert_eq!(timeless(place, run), timeless(place, whole), "{run}: metrics");
    let files = ["best.safetensors", "config.toml", "curves.svg", "last.safetensors", "metrics.jsonl"];
    assert_eq!(place.names(run), files, "{run}");
}

#[test]
fn a_seed_decides_every_bit() {
    let place = Place::new();
    for (out, seed) in [("a", 7), ("b", 7), ("c", 8)] {
        place.run(&with(TRAIN, &format!("--out {out} --seed {seed}"))).ok();
    }
    assert_same(&place, "a", "b");
    assert!(place.get("a/last.safetensors") != place.get("c/last.safetensors"), "the seed changes nothing");
}

/// Stops at each of `stops` in turn by --steps, goes on to the end, and compares with the run that was not stopped.
fn stopped_at(place: &Place, flags: &str, whole: &str, stops: &[u64]) {
    let out = format!("{whole}-{}", stops.iter().map(u64::to_string).collect::<Vec<_>>().join("-"));
    for (i, stop) in stops.iter().enumerate() {
        let said = match i {
            0 => place.run(&with(TRAIN, &format!("{flags} --out {out} --steps {stop}"))).ok(),
            _ => place.run(&format!("train --resume {out} --steps {stop}")).ok(),
        };
        assert!(said.out.contains(&format!("stopped after {stop} steps")) && said.out.contains("--resume"), "{}", said.out);
        // Where it stops the metrics are complete: every image is counted, and the network evaluated as it is.
        let lines = metrics(place, &out);
        let sum = |kind: &str| lines.iter().filter(|l| l["kind"] == kind).filter_map(|l| l["count"].as_u64()).sum::<u64>();
        let (epochs, rest) = (stop / STEPS_PER_EPOCH, stop % STEPS_PER_EPOCH);
        assert_eq!(sum("train"), epochs * TRAIN_IMAGES as u64 + 8 * rest, "{out}: {lines:?}");
        assert!(lines.iter().any(|l| l["kind"] == "eval" && l["step"] == stop - 1), "{out}: {lines:?}");
    }
    let said = place.run(&format!("train --resume {out}")).ok();
    assert!(said.err.contains(&format!("resumed at step {} of {STEPS}", stops.last().expect("a stop"))), "{}", said.err);
    assert_same(place, &out, whole);
}

#[test]
fn a_stop_at_any_step_changes_nothing() {
    let place = Place::new();
    place.run(TRAIN).ok();
    // In mid-epoch and mid-interval; at an epoch's end; at an interval's end; more than once.
    for stops in [&[2][..], &[6], &[8], &[5, 11]] {
        stopped_at(&place, "", "whole", stops);
    }

    let before = place.snapshot();
    let said = place.run("train --resume whole").ok();
    assert!(said.out.contains("finished") && said.out.contains("12 of 12"), "{}", said.out);
    assert_eq!(place.snapshot(), before);
}

#[test]
fn a_stop_changes_nothing_for_fp32_and_rare_evaluations() {
    let place = Place::new();
    let fp32 = "--method fp32 --nesterov --label-smoothing 0.1 --schedule step";
    // TRAIN's bits are a flag that fp32 does not take.
    let fp32 = &format!("{fp32} --bits 0");
    let _ = fp32;
    let rare = "--eval-every 2 --log-every 5";
    place.run(&with(TRAIN, &format!("{rare} --out rare"))).ok();
    assert_eq!(metrics(&place, "rare").iter().filter(|l| l["kind"] == "eval").count(), 1);
    // The end of an epoch that is not evaluated in the unbroken run.
    stopped_at(&place, rare, "rare", &[6]);
}
