//! Long runs and large batches through the command line: steps in parts, an early end, kept epochs, the watch without a terminal.

mod program;

use std::sync::atomic::AtomicBool;

use program::{Place, TRAIN_IMAGES, with};
use s3gpu::data::{self, Manifest, Splits};
use s3gpu::error::Error;
use s3gpu::files::tensors;
use s3gpu::gpu;
use s3gpu::train::folder::Claim;
use s3gpu::train::{Config, EvalRecord, Observer, Outcome, Run, Setup, TrainRecord};
use serde_json::Value;

/// 6 steps an epoch, the last with 3 images.
const TRAIN: &str =
    "train --dataset cifar10 --data-dir data --model resnet8 --epochs 2 --batch-size 4 --log-every 4 --seed 7";

/// Metrics of one kind without the one field that a clock decides.
fn metrics(place: &Place, run: &str, kind: &str) -> Vec<Value> {
    let text = String::from_utf8(place.get(&format!("{run}/metrics.jsonl"))).expect("UTF-8");
    let lines = text.lines().map(|l| serde_json::from_str::<Value>(l).unwrap_or_else(|e| panic!("{l}: {e}")));
    let mut lines: Vec<_> = lines.filter(|l| l["kind"] == kind).collect();
    lines.iter_mut().filter_map(Value::as_object_mut).for_each(|o| drop(o.remove("images_per_s")));
    lines
}

fn assert_same(place: &Place, run: &str, whole: &str) {
    for kind in ["train", "eval", "dynamics"] {
        assert_eq!(metrics(place, run, kind), metrics(place, whole, kind), "{run}");
    }
    assert_eq!(place.names(run), place.names(whole), "{run}");
    for file in place.names(whole).iter().filter(|f| f.ends_with(".safetensors")) {
        assert!(place.get(&format!("{run}/{file}")) == place.get(&format!("{whole}/{file}")), "{run}/{file} differs");
    }
}

#[test]
fn a_run_in_parts_counts_every_image_and_goes_on_bit_for_bit() {
    let place = Place::new();
    let args = with(TRAIN, "--accumulate 3 --log-every 1");
    let said = place.run(&with(&args, "--out whole")).ok();
    assert!(said.err.contains("3 parts of at most 2 images") && said.err.contains("batch norm"), "{}", said.err);
    let counts: Vec<_> = metrics(&place, "whole", "train").iter().filter_map(|l| l["count"].as_u64()).collect();
    assert_eq!(counts, [4, 4, 4, 4, 4, 3, 4, 4, 4, 4, 4, 3]);
    place.run(&with(&args, "--out stopped --steps 5")).ok();
    place.run("train --resume stopped").ok();
    assert_same(&place, "stopped", "whole");

    let said = place.run(&with(&args, "--out dry --dry-run")).ok();
    for words in
        ["one of 3 parts of a training step", "before a training step", "at a training step's end", " accumulate "]
    {
        assert!(said.out.contains(words), "{words}: {}", said.out);
    }
    // The first step's loss comes before any update: parts change it by no more than batch norm's smaller batches do.
    place.run(&with(TRAIN, "--log-every 1 --steps 1 --out once")).ok();
    let loss = |run: &str| metrics(&place, run, "train")[0]["loss"].as_f64().expect("a number");
    assert!((loss("once") - loss("whole")).abs() < 1.0, "{} {}", loss("once"), loss("whole"));
    place.refuses(&with(&args, "--out more --accumulate 5"), 2, &["--accumulate is 5", "from 1 to 4"]);
}

#[test]
fn a_run_without_patience_left_ends_early_whether_it_was_stopped_or_not() {
    let place = Place::new();
    // Without a learning rate nothing but the running statistics moves, and those come to rest.
    let args = with(TRAIN, "--lr 0 --epochs 60 --patience 2 --log-every 5");
    let said = place.run(&with(&args, "--out whole")).ok();
    assert!(said.out.contains("finished early, after 2 evaluations"), "{}", said.out);
    let tops: Vec<_> = metrics(&place, "whole", "eval").iter().filter_map(|l| l["top1"].as_f64()).collect();
    let (mut best, mut waited, mut ends) = (f64::MIN, 0, tops.len());
    for (i, top) in tops.iter().enumerate() {
        (best, waited) = if *top > best { (*top, 0) } else { (best, waited + 1) };
        if waited == 2 {
            ends = i + 1;
            break;
        }
    }
    assert!(waited == 2 && ends == tops.len() && ends < 60, "{tops:?}");
    // Every image of every epoch is in the metrics, those after the last full interval too.
    let images: u64 = metrics(&place, "whole", "train").iter().filter_map(|l| l["count"].as_u64()).sum();
    assert_eq!(images, (TRAIN_IMAGES * ends) as u64);

    let before = place.snapshot();
    let said = place.run("train --resume whole").ok();
    assert!(said.out.contains("ended early, as --patience says"), "{}", said.out);
    assert_eq!(place.snapshot(), before);

    // Between the best evaluation and the end.
    place.run(&with(&args, &format!("--out stopped --steps {}", 6 * (ends - 1)))).ok();
    place.run("train --resume stopped").ok();
    assert_same(&place, "stopped", "whole");
}

#[test]
fn the_last_epochs_are_kept_and_can_be_gone_back_to() {
    let place = Place::new();
    let args = with(TRAIN, "--epochs 4 --keep 2");
    place.run(&with(&args, "--out whole")).ok();
    let kept = ["epoch-0003.safetensors", "epoch-0004.safetensors"];
    let names = place.names("whole");
    assert_eq!(names.iter().filter(|n| n.starts_with("epoch-")).collect::<Vec<_>>(), kept);
    assert!(place.get("whole/epoch-0004.safetensors") == place.get("whole/last.safetensors"));
    let eval = place.run("eval --weights whole/epoch-0003.safetensors --dataset cifar10 --data-dir data --json").ok();
    assert!(eval.out.contains("\"epoch\":2"), "{}", eval.out);

    place.run(&with(&args, "--out stopped --steps 15")).ok();
    assert!(place.names("stopped").contains(&"epoch-0001.safetensors".into()));
    place.run("train --resume stopped").ok();
    assert_same(&place, "stopped", "whole");

    // Back to an epoch: its file becomes the last one.
    place.put("stopped/last.safetensors", &place.get("whole/epoch-0003.safetensors"));
    place.run("train --resume stopped").ok();
    assert_same(&place, "stopped", "whole");
    // A new run takes the old one's epochs away.
    place.run(&with(TRAIN, "--out whole --force --steps 1")).ok();
    assert!(!place.names("whole").iter().any(|n| n.starts_with("epoch-")), "{:?}", place.names("whole"));
}

#[test]
fn one_evaluation_and_a_watch_that_finds_no_terminal() {
    let place = Place::new();
    let said = place.run(&with(TRAIN, "--eval-only-last --watch --out run")).ok();
    assert_eq!(metrics(&place, "run", "eval").len(), 1);
    assert_eq!(said.err.matches("--watch needs a terminal").count(), 1, "{}", said.err);
    assert!(said.out.contains("epoch 2/2: ") && !said.out.contains('\u{1b}'), "{}", said.out);
    place.refuses(&with(TRAIN, "--eval-only-last --eval-every 2"), 2, &["--eval-only-last", "--eval-every"]);
    place.refuses(&with(TRAIN, "--eval-only-last --patience 2"), 2, &["--eval-only-last", "--patience"]);
    place.refuses(&with(TRAIN, "--patience 0"), 2, &["--patience"]);
    for flag in ["--amp", "--fp16", "--half", "--bf16"] {
        let named = if flag == "--half" { "--fp16" } else { flag };
        place.refuses(&with(TRAIN, flag), 2, &[named, "f32", "docs/f16-and-cooperative-matrices.md", "--accumulate"]);
    }
}

/// `script` gives the program a terminal, and keeps what it wrote there; in a session of its own nothing stops it for want of one.
#[cfg(target_os = "linux")]
#[test]
fn a_watch_gives_the_terminal_back() {
    let place = Place::new();
    if place.shell("command -v script && command -v setsid").code != Some(0) {
        program::skip("--watch on a terminal", "install util-linux, whose `script` makes one");
        return;
    }
    let on_terminal = |term: &str, args: &str| {
        let line = format!("stty rows 30 cols 100; \"$S3GPU\" {args}");
        let code = place.shell(&format!("TERM={term} setsid -w script -qec '{line}' seen </dev/null")).code;
        (code, String::from_utf8_lossy(&place.get("seen")).into_owned())
    };
    const TAKE: &str = "\u{1b}[?1049h";
    const GIVE: &str = "\u{1b}[?1049l";
    const HIDE: &str = "\u{1b}[?25l";
    const SHOW: &str = "\u{1b}[?25h";
    let given_back = |text: &str, then: &str| {
        let at = |what: &str| text.rfind(what).unwrap_or_else(|| panic!("no {what:?} in {text:?}"));
        assert!(text.find(TAKE) < text.find(GIVE) && at(GIVE) < at(then) && at(HIDE) < at(SHOW), "{text:?}");
    };
    let watch = with(TRAIN, "--watch --epochs 4 --out run");
    let (code, text) = on_terminal("xterm-256color", &watch);
    assert_eq!(code, Some(0), "{text}");
    given_back(&text, "finished: run");
    assert!(text.contains("accuracy") && text.contains("epoch 4/4: "), "{text:?}");

    let (code, text) = on_terminal("xterm", &with(&watch, "--force --method fp32 --lr 1e6 --weight-decay 1e3"));
    assert_eq!(code, Some(1), "{text}");
    given_back(&text, "diverged");

    let (code, text) = on_terminal("dumb", &with(&watch, "--force --epochs 1"));
    assert_eq!((code, text.matches("--watch needs a terminal").count()), (Some(0), 1), "{text}");
    assert!(!text.contains(TAKE), "{text:?}");
}

/// Acts after a step or an evaluation.
struct At<F: FnMut()>(&'static str, u64, F);

impl<F: FnMut()> Observer for At<F> {
    fn step(&mut self, done: u64, _: u64, _: Option<&TrainRecord>) {
        if ("step", done) == (self.0, self.1) {
            self.2();
        }
    }
    fn eval(&mut self, record: &EvalRecord, _: Option<&TrainRecord>, _: f64) {
        if ("eval", record.epoch) == (self.0, self.1) {
            self.2();
        }
    }
}

/// The device is taken away at the boundary to the driver, where the network is about to be read back, and between the parts of a step.
#[test]
fn a_device_lost_while_a_checkpoint_is_made_leaves_the_one_before() {
    let place = Place::new();
    let manifest = Manifest::find("cifar10").expect("built in");
    let data = data::load(&manifest, Some(&place.path("data")), Splits::BOTH).expect("the data");
    let on = Config::on("cifar10").expect("built in");
    let config = Config { model: "resnet8".into(), epochs: 3, batch_size: 4, accumulate: 2, keep: 1, ..on };
    let setup = Setup::new(config).expect("a configuration");
    let open = || gpu::open(None).expect("the tests need an adapter: run `make setup`");
    let (go, both) = (AtomicBool::new(false), || data.both().expect("both"));
    let start = |out: &str, gpu| Run::start(&setup, gpu, both(), &place.path(out), false).expect("a run");
    assert_eq!(start("whole", open()).train(None, &go, &mut ()).expect("an end"), Outcome::Finished);

    for (out, what, when) in [("evaluated", "eval", 1), ("midway", "step", 8)] {
        let gpu = open();
        let device = gpu.device.clone();
        let outcome = start(out, gpu).train(None, &go, &mut At(what, when, || device.destroy()));
        let error = outcome.expect_err("a lost device");
        assert!(matches!(error, Error::DeviceLost { .. }) && error.exit_code() == 1, "{error:?}");
        assert!(error.to_string().contains("s3gpu train --resume"), "{error}");
        let last = tensors::read(place.path(out).join("last.safetensors")).expect("the checkpoint");
        assert_eq!(last.meta["step"], "6");
        let claim = Claim::take(&place.path(out)).expect("a folder that is free again");
        let mut run = Run::resume(&setup, open(), both(), claim, last).expect("a run");
        assert_eq!(run.train(None, &go, &mut ()).expect("an end"), Outcome::Finished);
        drop(run);
        assert_same(&place, out, "whole");
    }
}
