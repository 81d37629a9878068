//! Runs through the command line: the same seed gives the same bytes, a stop anywhere changes nothing, and networks learn.

mod program;

use program::{Place, Said, TEST_IMAGES, TRAIN_IMAGES, started, with};
use s3gpu::files::tensors;
use serde_json::Value;

/// 12 steps: 6 an epoch, the last with 3 images; metrics lines at steps 3, 7 and 11 cross the epochs' border.
const TRAIN: &str = "train --dataset cifar10 --data-dir data --model resnet8 --epochs 2 --batch-size 4 --log-every 4 \
                     --warmup 0.5 --seed 7 --out whole";
const STEPS: u64 = 12;
const BATCH: u64 = 4;
const STEPS_PER_EPOCH: u64 = 6;

fn metrics(place: &Place, run: &str) -> Vec<Value> {
    let text = String::from_utf8(place.get(&format!("{run}/metrics.jsonl"))).expect("UTF-8");
    text.lines().map(|l| serde_json::from_str(l).unwrap_or_else(|e| panic!("{l}: {e}"))).collect()
}

/// Metrics without the fields that a clock decides.
fn timeless(place: &Place, run: &str) -> Vec<Value> {
    let mut lines = metrics(place, run);
    lines.iter_mut().filter_map(Value::as_object_mut).for_each(|o| {
        o.remove("images_per_s");
        o.remove("data_wait");
    });
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

/// Of S3's latents only the signs count: four times as large at four times the rate they are the same network. Exactly, as 4 is a power of
/// two; weight decay alone would tell them apart.
#[test]
fn the_latents_scale_is_one_over_their_rate() {
    let place = Place::new();
    let start = "--method s3 --bits 3 --weight-decay 0 --steps 8";
    let read = |scale: u32| {
        let out = format!("by-{scale}");
        place.run(&with(TRAIN, &format!("{start} --latent-scale {scale} --latent-lr {scale} --out {out}"))).ok();
        tensors::read(place.path(&format!("{out}/last.safetensors"))).unwrap_or_else(|e| panic!("{e}")).tensors
    };
    let [one, four] = [1, 4].map(read);
    assert_eq!(one["fc.weight"].data, four["fc.weight"].data);
    let mut latents = 0;
    for (name, tensor) in one.iter().filter(|(name, _)| name.starts_with("layer") && name.ends_with("sparse")) {
        let scaled: Vec<_> = tensor.data.iter().map(|v| 4.0 * v).collect();
        assert_eq!(four[name].data, scaled, "{name}");
        latents += 1;
    }
    assert!(latents >= 6, "{latents} layers have a sparse latent");
}

/// Stops at each of `stops` in turn by --steps, goes on to the end, and compares with the run that was not stopped.
fn stopped_at(place: &Place, flags: &str, whole: &str, stops: &[u64]) {
    let out = format!("{whole}-{}", stops.iter().map(u64::to_string).collect::<Vec<_>>().join("-"));
    for (i, stop) in stops.iter().enumerate() {
        let said = match i {
            0 => place.run(&with(TRAIN, &format!("{flags} --out {out} --steps {stop}"))).ok(),
            _ => place.run(&format!("train --resume {out} --steps {stop}")).ok(),
        };
        assert!(
            said.out.contains(&format!("stopped after step {stop},")) && said.out.contains("--resume"),
            "{}",
            said.out
        );
        // Where it stops the metrics are complete: every image is counted, and the network evaluated as it is.
        let lines = metrics(place, &out);
        let sum =
            |kind: &str| lines.iter().filter(|l| l["kind"] == kind).filter_map(|l| l["count"].as_u64()).sum::<u64>();
        let (epochs, rest) = (stop / STEPS_PER_EPOCH, stop % STEPS_PER_EPOCH);
        assert_eq!(sum("train"), epochs * TRAIN_IMAGES as u64 + BATCH * rest, "{out}: {lines:?}");
        assert!(lines.iter().any(|l| l["kind"] == "eval" && l["step"] == stop - 1), "{out}: {lines:?}");
    }
    let said = place.run(&format!("train --resume {out}")).ok();
    assert!(
        said.err.contains(&format!("resumed at step {} of {STEPS}", stops.last().expect("a stop"))),
        "{}",
        said.err
    );
    assert_same(place, &out, whole);
}

#[test]
fn a_stop_at_any_step_changes_nothing() {
    let place = Place::new();
    place.run(TRAIN).ok();
    // At an interval's end; in mid-epoch and mid-interval, and then at the epoch's end.
    for stops in [&[8][..], &[5, 6]] {
        stopped_at(&place, "", "whole", stops);
    }

    // With its data, and when they are gone.
    for data in ["data", "elsewhere"] {
        if data != "data" {
            std::fs::rename(place.path("data"), place.path(data)).expect("a folder that can be moved");
        }
        let before = place.snapshot();
        let said = place.run("train --resume whole").ok();
        assert!(said.out.contains("finished") && said.out.contains("12 of 12"), "{}", said.out);
        let said = place.run("train --resume whole --steps 5").ok();
        assert!(said.out.contains("finished") && said.out.contains("12 of 12"), "{}", said.out);
        assert_eq!(place.snapshot(), before);
    }
}

#[test]
fn a_stop_changes_nothing_for_fp32_and_rare_evaluations() {
    let place = Place::new();
    let flags = "--method fp32 --nesterov --label-smoothing 0.1 --schedule step --eval-every 2 --log-every 5";
    place.run(&with(TRAIN, &format!("{flags} --out rare"))).ok();
    assert_eq!(metrics(&place, "rare").iter().filter(|l| l["kind"] == "eval").count(), 1);
    // The end of an epoch that the unbroken run does not evaluate, and the middle of one.
    stopped_at(&place, flags, "rare", &[6, 9]);
}

#[test]
fn evaluations_as_integers_change_nothing_and_are_what_export_says() {
    let place = Place::new();
    place.run(TRAIN).ok();
    let said = place.run(&with(TRAIN, "--eval-int-every 1 --out int")).ok();
    assert_eq!(said.out.matches(", as integers: test loss").count(), 2, "{}", said.out);
    // The same weights, the same other lines.
    for file in ["last.safetensors", "best.safetensors"] {
        assert!(place.get(&format!("int/{file}")) == place.get(&format!("whole/{file}")), "{file} differs");
    }
    let (ints, others): (Vec<_>, Vec<_>) = timeless(&place, "int").into_iter().partition(|l| l["kind"] == "int");
    assert_eq!(others, timeless(&place, "whole"));
    let steps: Vec<_> = ints.iter().map(|l| l["step"].as_u64()).collect();
    assert_eq!(steps, [Some(STEPS_PER_EPOCH - 1), Some(STEPS - 1)]);
    let svg = String::from_utf8(place.get("int/curves.svg")).expect("UTF-8");
    assert!(svg.contains("integer top-1"));
    // The last one is the network of the last checkpoint.
    place.run("export int/last.safetensors --data-dir data --out m.safetensors").ok();
    let said = place.run("eval --weights m.safetensors --dataset cifar10 --data-dir data --json").ok();
    let json: Value = serde_json::from_str(said.out.lines().last().expect("a line")).expect("JSON");
    for key in ["loss", "top1", "top5", "correct", "count"] {
        assert_eq!(json[key], ints[1][key], "{key}: {json}");
    }
    // A stop changes nothing; every second epoch is the last alone.
    stopped_at(&place, "--eval-int-every 1", "int", &[5]);
    place.run(&with(TRAIN, "--eval-int-every 2 --out rare")).ok();
    let rare: Vec<_> = timeless(&place, "rare").into_iter().filter(|l| l["kind"] == "int").collect();
    assert_eq!(rare, ints[1..]);
    place.refuses(&with(TRAIN, "--method fp32 --eval-int-every 2"), 2, &["--eval-int-every 2", "fp32", "--method s3"]);
}

#[cfg(unix)]
#[test]
fn ctrl_c_and_kill_lose_nothing() {
    let place = Place::new();
    // Long enough that the signal arrives before the end on any GPU.
    let long = with(TRAIN, "--epochs 5");
    place.run(&long).ok();

    let child = started(&place, &with(&long, "--out stopped"), "epoch 1/");
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill").success());
    let said = Said::of(child.wait_with_output().expect("its end"));
    assert_eq!(said.code, Some(130), "{}{}", said.out, said.err);
    assert!(said.err.contains("stopping"), "{}", said.err);
    let words = ["stopped and saved", "s3gpu train --resume stopped"];
    assert!(words.iter().all(|w| said.out.contains(w)), "{}", said.out);
    place.run("train --resume stopped").ok();
    assert_same(&place, "stopped", "whole");

    let mut child = started(&place, &with(&long, "--out killed"), "epoch 2/");
    child.kill().expect("kill -9");
    child.wait().expect("its end");
    let last = tensors::read(place.path("killed/last.safetensors")).unwrap_or_else(|e| panic!("{e}"));
    let step: u64 = last.meta["step"].parse().expect("a number");
    assert!(step >= STEPS_PER_EPOCH && step.is_multiple_of(STEPS_PER_EPOCH), "a checkpoint at step {step}");
    // What it may have been writing when it was killed.
    place.put("killed/.last.safetensors.x7Kq2w.tmp", &[0; 999]);
    place.run("train --resume killed").ok();
    assert_same(&place, "killed", "whole");
}

/// The lengths of an event file's records, whose frames must be whole and right.
fn event_lengths(place: &Place, run: &str) -> Vec<usize> {
    let files: Vec<_> = place.names(run).into_iter().filter(|n| n.starts_with("events.out.tfevents.")).collect();
    assert_eq!(files.len(), 1, "{files:?}");
    let bytes = place.get(&format!("{run}/{}", files[0]));
    let good = |data: &[u8], sum: &[u8]| {
        let wanted = crc32c::crc32c(data).rotate_right(15).wrapping_add(0xa282_ead8);
        assert_eq!(wanted.to_le_bytes(), sum);
    };
    let (mut rest, mut lengths) = (&bytes[..], Vec::new());
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().expect("8 bytes")) as usize;
        good(&rest[..8], &rest[8..12]);
        good(&rest[12..12 + length], &rest[12 + length..16 + length]);
        lengths.push(length);
        rest = &rest[16 + length..];
    }
    lengths
}

#[test]
fn event_files_have_each_record_once_whatever_stops_the_run() {
    let place = Place::new();
    let args = with(TRAIN, "--eval-int-every 2 --dynamics-every 4 --tensorboard");
    place.run(&args).ok();
    let whole = event_lengths(&place, "whole");
    // A mark of the version and one of the start.
    assert_eq!(whole.len(), 2 + metrics(&place, "whole").len());
    for (first, then) in [("--tensorboard", "--tensorboard"), ("--patience 9", "--tensorboard")] {
        let args =
            with(TRAIN, &format!("--eval-int-every 2 --dynamics-every 4 {first} --out stopped --force --steps 5"));
        place.run(&args).ok();
        let begun = place.names("stopped").iter().any(|n| n.starts_with("events"));
        assert_eq!(begun, first == "--tensorboard");
        place.run(&format!("train --resume stopped {then}")).ok();
        assert_eq!(event_lengths(&place, "stopped"), whole, "{first}, then {then}");
    }
    // A new run has nothing of the old one's.
    place.run(&with(TRAIN, "--out whole --force --steps 1")).ok();
    assert!(!place.names("whole").iter().any(|n| n.starts_with("events")), "{:?}", place.names("whole"));
    place.refuses(&with(TRAIN, "--tensorboard --dry-run"), 2, &["--tensorboard", "--dry-run"]);
}

fn keys(line: &Value) -> Vec<&str> {
    line.as_object().expect("an object").keys().map(String::as_str).collect()
}

#[test]
fn metrics_count_every_image_and_eval_repeats_them() {
    let place = Place::new();
    let args = with(TRAIN, "--log-every 1");
    let before = place.snapshot();
    let said = place.run(&with(&args, "--dry-run")).ok();
    assert!(
        ["buffers:", "a training step:", "sgd", "GFLOP a step"].iter().all(|w| said.out.contains(w)),
        "{}",
        said.out
    );
    assert_eq!(place.snapshot(), before, "--dry-run wrote something");
    place.run(&args).ok();

    let lines = metrics(&place, "whole");
    let moved = lines.iter().filter(|l| l["kind"] == "dynamics");
    assert_eq!(moved.filter_map(|l| l["steps"].as_u64()).collect::<Vec<_>>(), [0, STEPS_PER_EPOCH, STEPS]);
    let lines = lines.iter().filter(|l| l["kind"] != "dynamics");
    let (train, evals): (Vec<_>, Vec<_>) = lines.partition(|l| l["kind"] == "train");
    assert_eq!((train.len() as u64, evals.len()), (STEPS, 2));
    for (step, line) in (0u64..).zip(&train) {
        // serde_json sorts an object's keys.
        let wanted =
            ["count", "correct", "data_wait", "epoch", "images_per_s", "kind", "loss", "lr", "regularizer", "step"];
        let mut found = keys(line);
        found.sort_by_key(|k| wanted.iter().position(|w| w == k));
        assert_eq!(found, wanted, "{line}");
        assert_eq!((&line["step"], &line["epoch"]), (&step.into(), &(step / STEPS_PER_EPOCH).into()));
        // The last batch of an epoch is what is left.
        let count = if (step + 1).is_multiple_of(STEPS_PER_EPOCH) { TRAIN_IMAGES as u64 % BATCH } else { BATCH };
        assert_eq!(line["count"], count, "{line}");
        assert!(line["correct"].as_u64().is_some_and(|c| c <= count), "{line}");
        assert!(
            line["loss"].as_f64().is_some_and(|l| l > 0.0) && line["regularizer"].as_f64().is_some_and(|r| r >= 0.0)
        );
        // Warm-up over half an epoch to 0.1 (an f32), then half a cosine period over two epochs.
        let lr = if step < 3 { 0.1 * (step + 1) as f64 / 3.0 } else { [0.1, 0.05][(step / STEPS_PER_EPOCH) as usize] };
        assert!((line["lr"].as_f64().expect("a number") - lr).abs() < 1e-7, "{line}");
    }
    for (epoch, line) in (0u64..).zip(&evals) {
        let wanted = ["kind", "epoch", "step", "loss", "correct", "count", "top1", "top5"];
        let mut found = keys(line);
        found.sort_by_key(|k| wanted.iter().position(|w| w == k));
        assert_eq!(found, wanted, "{line}");
        assert_eq!((&line["epoch"], &line["step"]), (&epoch.into(), &(6 * epoch + 5).into()), "{line}");
        let top1 = 100.0 * line["correct"].as_f64().expect("a number") / TEST_IMAGES as f64;
        assert_eq!((&line["count"], &line["top1"]), (&TEST_IMAGES.into(), &top1.into()), "{line}");
    }

    let best = evals.iter().rev().max_by_key(|l| l["correct"].as_u64()).expect("an evaluation");
    let weights = [("whole/last.safetensors", evals[1]), ("whole/best.safetensors", best), ("whole", best)];
    for (file, want) in weights {
        let said =
            place.run(&format!("eval --weights {file} --dataset cifar10 --data-dir data --batch-size 5 --json")).ok();
        let line = said.out.lines().last().expect("a line");
        let got: Value = serde_json::from_str(line).unwrap_or_else(|e| panic!("{line}: {e}"));
        for key in ["kind", "epoch", "step", "correct", "count", "top1", "top5"] {
            assert_eq!(got[key], want[key], "{file}: {key}");
        }
        // Batches of 5, not of 4: the same images in f32 sums of another length.
        let [got, want] = [&got, want].map(|l| l["loss"].as_f64().expect("a number"));
        assert!((got - want).abs() <= 1e-6 * want, "{file}: loss {got}, not {want}");
    }
}

#[test]
fn networks_learn() {
    let place = Place::new();
    // S3's latents need a large rate in so few steps.
    for flags in ["--method fp32 --lr 0.05 --out fp32", "--method s3 --bits 3 --latent-lr 10 --lr 0.05 --out s3"] {
        place.run(&with(TRAIN, &format!("{flags} --epochs 8 --log-every 12 --eval-every 8 --no-augment"))).ok();
        let run = flags.split_whitespace().last().expect("--out");
        let lines = metrics(&place, run);
        let losses: Vec<_> = lines.iter().filter(|l| l["kind"] == "train").filter_map(|l| l["loss"].as_f64()).collect();
        // Ten colours under noise: who guesses has a loss of ln 10 = 2.3.
        let (first, last) = (losses[0], losses[losses.len() - 1]);
        assert!(first > 2.0 && last < 0.75 * 10f64.ln(), "{run}: {losses:?}");
    }
}
