//! A run's folder: what is taken, damaged, replaced, shared, or gone on with somewhere else.

mod program;

use std::fs;
use std::path::Path;
use std::process::Stdio;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use program::{Place, Said, damage, records, started, with};
use s3gpu::data::{Dataset, Manifest, Source, Splits};
use s3gpu::error::Error;
use s3gpu::files::tensors;
use s3gpu::gpu::{self, Gpu};
use s3gpu::train::Config;
use s3gpu::train::folder::Claim;
use s3gpu::train::metrics::{EvalRecord, Record, TrainRecord};
use s3gpu::train::run::{Observer, Outcome, Run};
use s3gpu::train::setup::Setup;
use serde_json::Value;

const TRAIN: &str = "train --dataset cifar10 --data-dir data --model resnet8 --epochs 1 --batch-size 4 --out run";

#[test]
fn runs_that_cannot_go_on() {
    let place = Place::new();
    place.run(&with(TRAIN, "--steps 2")).ok();
    place.run(&with(TRAIN, "--steps 2 --out other --method fp32")).ok();
    let (last, config) = (place.get("run/last.safetensors"), place.get("run/config.toml"));
    let resume = |words: &[&str]| place.refuses("train --resume run", 1, words);

    for (bytes, says) in damage(&last) {
        place.put("run/last.safetensors", &bytes);
        resume(&["run/last.safetensors", says]);
    }
    place.put("run/last.safetensors", &place.get("other/last.safetensors"));
    resume(&["run/last.safetensors", "its bits is 0", "config.toml says 3", "another run"]);
    place.put("run/last.safetensors", &place.get("run/best.safetensors"));
    resume(&["run/last.safetensors", "does not say where its run stands", "--init"]);

    place.put("run/last.safetensors", &last);
    let spoil = |change: fn(&mut tensors::TensorFile)| {
        let path = place.path("run/last.safetensors");
        fs::write(&path, &last).expect("a file");
        let mut file = tensors::read(&path).unwrap_or_else(|e| panic!("{e}"));
        change(&mut file);
        tensors::write(&path, &file).unwrap_or_else(|e| panic!("{e}"));
    };
    spoil(|f| f.tensors.get_mut("fc.weight").expect("a tensor").shape = vec![64, 10]);
    resume(&["fc.weight is [64, 10], not [10, 64]"]);
    spoil(|f| drop(f.tensors.remove("optimizer.momentum.fc.bias")));
    resume(&["run/last.safetensors", "lacks optimizer.momentum.fc.bias"]);
    spoil(|f| f.meta.insert("progress".into(), "{}".into()).map_or((), drop));
    resume(&["run/last.safetensors", "progress"]);
    spoil(|f| f.meta.insert("model".into(), "resnet14".into()).map_or((), drop));
    resume(&["its model is resnet14", "config.toml says resnet8"]);

    place.put("run/last.safetensors", &last);
    place.put("run/config.toml", b"lr = ");
    resume(&["config.toml", "--resume"]);
    place.put("run/config.toml", &[&config[..], b"\ncolour = 1\n"].concat());
    resume(&["config.toml", "colour"]);
    place.put("run/config.toml", &config);
    let metrics = place.get("run/metrics.jsonl");
    place.put("run/metrics.jsonl", &[b"{\"kind\":\n", &metrics[..]].concat());
    resume(&["metrics.jsonl", "line 1 is damaged"]);
    place.put("run/metrics.jsonl", &metrics);
    fs::remove_file(place.path("run/last.safetensors")).expect("a file");
    resume(&["run", "no last.safetensors", "--force"]);

    place.refuses("train --resume nowhere", 1, &["nowhere", "no config.toml", "--out"]);
    place.refuses("train --resume data", 1, &["data", "no config.toml", "--out"]);
    // What the run has settled cannot be set again; flags with a default count only when they are typed.
    for flag in [
        "--dataset shapes",
        "--model resnet8",
        "--width 1",
        "--shortcut pad",
        "--method s3",
        "--bits 3",
        "--latent-init dense",
        "--latent-lr 1",
        "--dense-reg 0",
        "--init f",
        "--epochs 1",
        "--batch-size 8",
        "--lr 0.1",
        "--schedule step",
        "--warmup 0",
        "--momentum 0.9",
        "--nesterov",
        "--weight-decay 0",
        "--label-smoothing 0",
        "--seed 0",
        "--no-augment",
        "--no-shuffle",
        "--accumulate 1",
        "--patience 1",
        "--eval-only-last",
        "--keep 0",
        "--out o",
        "--force",
        "--log-every 1",
        "--eval-every 1",
        "--eval-int-every 1",
        "--rung conv_forward_naive",
    ] {
        let name = flag.split_whitespace().next().expect("a flag");
        place.refuses(&format!("train --resume other {flag}"), 2, &["--resume", name, "cannot be used with"]);
    }
    let before = place.snapshot();
    place.run("train --resume other --data-dir data --adapter 0 --steps 3 --dry-run").ok();
    assert_eq!(place.snapshot(), before);
}

#[test]
fn folders_that_are_taken_or_cannot_be_written() {
    let place = Place::new();
    // Root may write anywhere, but nobody below a file.
    place.put("file", b"kept");
    place.refuses(&with(TRAIN, "--out file"), 1, &["file", "cannot create", "choose another"]);
    place.refuses(&with(TRAIN, "--out file/run"), 1, &["file/run", "cannot create", "not a folder"]);

    place.run(&with(TRAIN, "--steps 1")).ok();
    place.refuses(&with(TRAIN, ""), 1, &["run", "holds a run already", "--out", "--resume run", "--force"]);
    // What fails before training leaves the old run whole, --force or not.
    place.refuses(&with(TRAIN, "--force --init nowhere"), 1, &["nowhere"]);
    place.refuses(&with(TRAIN, "--force --batch-size 24"), 2, &["23 images"]);
    place.refuses(&with(TRAIN, "--force --adapter nonsense"), 1, &["nonsense"]);

    place.put("run/note.txt", b"the user's own");
    place.put("run/.last.safetensors.a1B2c3.tmp", b"of a process that was killed");
    let old = place.get("run/last.safetensors");
    place.run(&with(TRAIN, "--force --seed 5")).ok();
    assert!(place.get("run/last.safetensors") != old);
    let files = ["best.safetensors", "config.toml", "curves.svg", "last.safetensors", "metrics.jsonl", "note.txt"];
    assert_eq!(place.names("run"), files);

    // A replacement that was killed after it took the old configuration away.
    fs::remove_file(place.path("run/config.toml")).expect("a file");
    place.refuses(&with(TRAIN, ""), 1, &["run", "no config.toml", "--out", "--force"]);
    place.refuses("train --resume run", 1, &["run", "no config.toml", "new run", "--force"]);
    place.run(&with(TRAIN, "--force --seed 6")).ok();
    assert_eq!(place.names("run"), files);
}

#[test]
fn two_processes_never_share_a_folder() {
    let place = Place::new();
    // Longer than any test: it ends by the kill below.
    let mut child = started(&place, &with(TRAIN, "--epochs 100000"), "epoch 1/");
    let attempts = ["train --resume run", &with(TRAIN, "--force"), "train --resume run --dry-run"];
    let [resume, replace, dry] = attempts.map(|args| place.run(args));
    let undisturbed = child.try_wait().expect("its state").is_none();
    child.kill().expect("kill -9");
    child.wait().expect("its end");
    for said in [resume, replace] {
        said.fails(1, &["run", "another s3gpu process", "--out"]);
    }
    dry.ok();
    assert!(undisturbed, "the first process was disturbed");
    let last = tensors::read(place.path("run/last.safetensors")).unwrap_or_else(|e| panic!("{e}"));
    let step: u64 = last.meta["step"].parse().expect("a number");
    place.run(&format!("train --resume run --steps {}", step + 1)).ok();

    // Two that start at once: one has the folder, the other says why not.
    let start = || {
        let mut command = place.command(&with(TRAIN, "--out both"));
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the program starts")
    };
    let mut ends = [start(), start()].map(|c| Said::of(c.wait_with_output().expect("its end")));
    ends.sort_by_key(|said| said.code);
    let [first, second] = ends;
    first.ok();
    let held = ["another s3gpu process", "holds a run already"];
    assert!(second.code == Some(1) && held.iter().any(|w| second.err.contains(w)), "{}", second.err);
    place.run(&with(TRAIN, "--out alone")).ok();
    assert!(place.get("both/last.safetensors") == place.get("alone/last.safetensors"), "one disturbed the other");
}

/// Puts a change into the progress that a run's last.safetensors keeps.
fn change_progress(place: &Place, change: impl FnOnce(&mut Value)) {
    let path = place.path("run/last.safetensors");
    let mut file = tensors::read(&path).unwrap_or_else(|e| panic!("{e}"));
    let mut progress = serde_json::from_str(&file.meta["progress"]).expect("JSON");
    change(&mut progress);
    file.meta.insert("progress".into(), progress.to_string());
    tensors::write(&path, &file).unwrap_or_else(|e| panic!("{e}"));
}

#[test]
fn a_run_goes_on_elsewhere_and_says_so() {
    let place = Place::new();
    let not_bit_for_bit = "not bit for bit";
    place.run(&with(TRAIN, "--steps 2")).ok();
    let said = place.run("train --resume run --steps 3").ok();
    assert!(!said.err.contains(not_bit_for_bit), "{}", said.err);

    change_progress(&place, |p| p["adapter"] = "Voodoo 2 (Glide, 3.10)".into());
    let said = place.run("train --resume run --steps 4").ok();
    assert!(said.err.contains("Voodoo 2") && said.err.contains(not_bit_for_bit), "{}", said.err);
    // From now on the run is this adapter's.
    change_progress(&place, |p| {
        assert_ne!(p["adapter"], "Voodoo 2 (Glide, 3.10)");
        let rungs = p["rungs"].as_object_mut().expect("rungs");
        rungs.values_mut().for_each(|rung| *rung = "conv_forward_of_a_later_version".into());
    });
    let said = place.run("train --resume run --steps 5").ok();
    assert!(said.err.contains("lacks some of the kernels") && said.err.contains(not_bit_for_bit), "{}", said.err);

    // A driver that is really another one, where this machine has it.
    let icd = std::env::var("SWIFTSHADER_ICD").unwrap_or("/usr/lib/chromium/vk_swiftshader_icd.json".into());
    let here = gpu::adapters().first().expect("the tests need an adapter: run `make setup`").info.name.clone();
    if !Path::new(&icd).is_file() || here.contains("SwiftShader") {
        program::skip("resuming on SwiftShader", &format!("install it ({icd}), beside another default adapter"));
        return;
    }
    let mut command = place.command("train --resume run");
    let said = Said::of(command.env("VK_DRIVER_FILES", &icd).env("VK_ICD_FILENAMES", &icd).output().expect("a start"));
    let said = said.ok();
    assert!(said.err.contains("SwiftShader") && said.err.contains(not_bit_for_bit), "{}", said.err);
    assert!(said.out.contains("finished"), "{}", said.out);
}

#[test]
fn a_run_wants_the_data_that_it_had() {
    let place = Place::new();
    place.run(&with(TRAIN, "--steps 2")).ok();
    let words = ["run/last.safetensors", "23 training and 11 test images", "--data-dir"];
    let changed = |file: &str, range: std::ops::Range<usize>, now: &str| {
        let old = place.get(file);
        place.put(file, &records(range));
        place.refuses("train --resume run", 1, &[&words[..], &[now]].concat());
        place.put(file, &old);
    };
    changed("data/data_batch_2.bin", 14..24, "has 24 and 11");
    changed("data/test_batch.bin", 100..110, "has 23 and 10");
    place.refuses("train --resume run --data-dir nowhere", 1, &["nowhere", "no such folder"]);
    place.run("train --resume run").ok();
}

#[test]
fn a_finished_run_needs_no_folder_that_can_be_written() {
    let place = Place::new();
    place.run(&with(TRAIN, "--steps 2")).ok();
    // Root may write anywhere, so a folder in the lock's place stands for one that cannot be written.
    fs::remove_file(place.path("run/.lock")).expect("a file");
    fs::create_dir(place.path("run/.lock")).expect("a folder");
    let said = place.run("train --resume run");
    assert!(said.code == Some(1) && said.err.contains("run/.lock: cannot create"), "{}", said.err);
    let said = place.run("train --resume run --steps 2").ok();
    assert!(said.out.contains("has done that many steps (2 of 6 steps)"), "{}", said.out);
    change_progress(&place, |p| p["step"] = 6.into());
    let said = place.run("train --resume run").ok();
    assert!(said.out.contains("this run is finished (6 of 6 steps)"), "{}", said.out);
}

#[test]
fn a_resumed_dry_run_shows_the_recorded_rungs() {
    let place = Place::new();
    place.run(&with(TRAIN, "--steps 1")).ok();
    let naive = |said: Said| said.out.lines().filter(|l| l.contains(" conv_forward_naive ")).count();
    assert_eq!(naive(place.run("train --resume run --dry-run").ok()), 0);
    change_progress(&place, |p| p["rungs"]["Forward:layer2.0.conv1"] = "conv_forward_naive".into());
    assert_eq!(naive(place.run("train --resume run --dry-run").ok()), 2, "in training and in evaluation");
}

/// Listens to a run, and acts after one of its steps.
struct After<F: FnMut()>(u64, F);

impl<F: FnMut()> Observer for After<F> {
    fn started(&mut self, _: &gpu::Startup) {}
    fn step(&mut self, done: u64, _: u64, _: Option<&TrainRecord>) {
        if done == self.0 {
            self.1();
        }
    }
    fn eval(&mut self, _: &EvalRecord, _: Option<&TrainRecord>, _: f64) {}
}

fn open() -> Gpu {
    gpu::open(None).expect("the tests need an adapter: run `make setup`")
}

/// Two epochs of six steps on the place's images.
fn library_run(place: &Place) -> (Setup, Dataset) {
    let manifest = Manifest::find("cifar10").expect("built in");
    let data =
        s3gpu::data::load(&manifest, Some(&place.path("data")), Splits { train: true, test: true }).expect("the data");
    let (mean, std) = (manifest.mean.clone(), manifest.std.clone());
    let named = Config { dataset: manifest.name, model: "resnet8".into(), ..Config::default() };
    let setup = Setup::new(Config { epochs: 2, batch_size: 4, mean, std, ..named }).expect("a configuration");
    (setup, data)
}

fn both(data: &Dataset) -> [&dyn Source; 2] {
    [&data.train, &data.test].map(|r| r.as_deref().expect("both were asked for"))
}

/// Goes on to the end, which must be that of the run in `whole`.
fn finish(place: &Place, (setup, data): &(Setup, Dataset), out: &str, step: &str) {
    let last = tensors::read(place.path(out).join("last.safetensors")).expect("the checkpoint");
    assert_eq!(last.meta["step"], step);
    let claim = Claim::take(&place.path(out)).expect("a folder that is free again");
    let mut run = Run::resume(setup, open(), both(data), claim, last).expect("a run");
    let outcome = run.train(None, &AtomicBool::new(false), &mut After(0, || ())).expect("an end");
    assert_eq!(outcome, Outcome::Finished);
    for file in ["last.safetensors", "best.safetensors"] {
        assert!(place.get(&format!("{out}/{file}")) == place.get(&format!("whole/{file}")), "{out}/{file}");
    }
    let evals = |run: &str| String::from_utf8(place.get(&format!("{run}/metrics.jsonl"))).expect("UTF-8");
    let evals = |run: &str| evals(run).lines().filter(|l| l.contains("eval")).map(str::to_string).collect::<Vec<_>>();
    assert_eq!(evals(out), evals("whole"));
}

#[test]
fn a_device_that_is_lost_and_a_stop_at_an_epochs_end() {
    let place = Place::new();
    let run = library_run(&place);
    let (go, stop) = (AtomicBool::new(false), AtomicBool::new(false));
    let start = |out: &str, gpu| Run::start(&run.0, gpu, both(&run.1), &place.path(out), false).expect("a run");
    let whole = start("whole", open()).train(None, &go, &mut After(0, || ()));
    assert_eq!(whole.expect("an end"), Outcome::Finished);

    let lost = |out: &str, step: u64| {
        let gpu = open();
        let device = gpu.device.clone();
        let outcome = start(out, gpu).train(None, &go, &mut After(step, || device.destroy()));
        let error = outcome.expect_err("a lost device");
        assert!(matches!(error, Error::DeviceLost { .. }), "{error:?}");
        error.to_string()
    };
    // In the second epoch the first one's checkpoint stays; in the first there is nothing to go on from.
    let text = lost("lost", 8);
    assert!(["lost", "near step", "s3gpu train --resume"].iter().all(|w| text.contains(w)), "{text}");
    finish(&place, &run, "lost", "6");
    let text = lost("early", 2);
    assert!(["lost", "near step", "start again"].iter().all(|w| text.contains(w)), "{text}");

    // Ctrl-C in an epoch's last step must not cost that epoch its evaluation.
    let press = &mut After(6, || stop.store(true, Ordering::Relaxed));
    assert_eq!(start("stopped", open()).train(None, &stop, press).expect("an end"), Outcome::Interrupted);
    finish(&place, &run, "stopped", "6");
}

#[test]
fn speed_after_a_resume_counts_no_image_of_before() {
    let place = Place::new();
    let (mut setup, data) = library_run(&place);
    setup.config.log_every = 12;
    let (go, stop, out) = (AtomicBool::new(false), AtomicBool::new(false), place.path("run"));
    let press = &mut After(10, || stop.store(true, Ordering::Relaxed));
    let mut run = Run::start(&setup, open(), both(&data), &out, false).expect("a run");
    assert_eq!(run.train(None, &stop, press).expect("an end"), Outcome::Interrupted);
    drop(run);

    // Two steps, 7 of the interval's 46 images, are left; they take more than the second that is slept between them.
    let last = tensors::read(out.join("last.safetensors")).expect("the checkpoint");
    let mut run = Run::resume(&setup, open(), both(&data), Claim::take(&out).expect("free"), last).expect("a run");
    let started = Instant::now();
    let sleep = &mut After(11, || std::thread::sleep(Duration::from_secs(1)));
    assert_eq!(run.train(None, &go, sleep).expect("an end"), Outcome::Finished);
    let seconds = started.elapsed().as_secs_f64();
    let records = s3gpu::train::metrics::read(out.join("metrics.jsonl")).expect("metrics");
    let speeds = records.iter().filter_map(|r| match r {
        Record::Train(r) => Some((r.count, r.images_per_s)),
        Record::Eval(_) | Record::Int(_) | Record::Dynamics(_) => None,
    });
    let [(46, speed)] = speeds.collect::<Vec<_>>()[..] else { panic!("{records:?}") };
    assert!((7.0 / seconds..7.0).contains(&speed), "{speed} images/s in {seconds} s");
}
