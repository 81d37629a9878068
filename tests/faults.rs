//! Bad input and bad luck: one message that says what, where and the way out, the right exit code, and nothing lost or left over.

mod program;

use std::fs;
use std::sync::atomic::{AtomicBool, Ordering};

use program::{Place, record, records, with};
use s3gpu::data::{Dataset, Manifest, Records, Splits};
use s3gpu::error::Error;
use s3gpu::files::tensors;
use s3gpu::gpu::{self, Gpu};
use s3gpu::train::Config;
use s3gpu::train::metrics::{EvalRecord, TrainRecord};
use s3gpu::train::run::{Observer, Outcome, Run};
use s3gpu::train::setup::Setup;

const TRAIN: &str = "train --dataset cifar10 --data-dir data --model resnet8 --epochs 1 --batch-size 4 --out run";

/// The base command with other flags fails with this code and these words, and leaves the folder as it was.
fn refused(place: &Place, flags: &str, code: i32, words: &[&str]) {
    refused_line(place, &with(TRAIN, flags), code, words);
}

fn refused_line(place: &Place, line: &str, code: i32, words: &[&str]) {
    let before = place.snapshot();
    let said = place.run(line).fails(code, words);
    assert!(said.out.is_empty(), "{line}: {}", said.out);
    assert!(place.snapshot() == before, "{line}: left {:?}", place.names("."));
}

#[test]
fn wrong_flags_and_values() {
    let place = Place::new();
    for (flags, words) in [
        ("--dataset cifar11", &["cifar11", "cifar10, cifar100, shapes"][..]),
        ("--model resnet9", &["resnet9", "resnet8, resnet14"]),
        ("--method s4", &["s4", "fp32, s3"]),
        ("--frobnicate", &["--frobnicate", "--help"]),
        ("--bits 5", &["5-bit", "--bits from 2, 3, 4"]),
        ("--method fp32 --bits 3", &["fp32", "--bits is 3"]),
        ("--shortcut mul", &["mul", "pad, conv"]),
        ("--batch-size 0", &["--batch-size is 0", "1 to 65536"]),
        ("--batch-size 24", &["--batch-size 24", "23 images", "at most 23"]),
        ("--lr nan", &["--lr is NaN", "0 to"]),
        ("--lr inf", &["--lr is inf", "0 to"]),
        ("--lr -0.1", &["--lr is -0.1", "0 to"]),
        ("--lr fast", &["--lr", "fast"]),
        ("--momentum 2", &["--momentum is 2", "0 to 1"]),
        ("--label-smoothing -1", &["--label-smoothing is -1", "0 to 1"]),
        ("--warmup 2", &["--warmup is 2", "0 to 1"]),
        ("--epochs 0", &["--epochs is 0", "from 1"]),
        ("--epochs -1", &["--epochs", "-1"]),
        ("--steps 0", &["--steps is 0", "--dry-run"]),
        ("--log-every 0", &["--log-every is 0", "from 1"]),
        ("--eval-every 0", &["--eval-every is 0", "from 1"]),
        ("--width 0", &["--width is 0", "from 1"]),
        ("--rung conv_forward_fast", &["conv_forward_fast", "conv_forward_naive"]),
        ("--dataset shapes", &["--data-dir data", "drop --data-dir"]),
    ] {
        refused(&place, flags, 2, words);
    }
    refused_line(&place, "train --dataset cifar10 --model resnet8", 2, &["no --data-dir", "cifar-10-batches-bin"]);
    refused_line(&place, "train", 2, &["--dataset", "--help"]);
}

#[test]
fn bad_data_files() {
    let big = |place: &Place| {
        let file = fs::File::create(place.path("data/data_batch_1.bin")).expect("a file");
        // A hole: it takes no space, but would take 256 GiB of memory.
        file.set_len(1 << 38).expect("a sparse file");
    };
    let put = |name: &'static str, bytes: Vec<u8>| move |place: &Place| place.put(name, &bytes);
    let remove = |name: &'static str| move |place: &Place| fs::remove_file(place.path(name)).expect("a file");
    let label = |label: u8| [&[label][..], &record(3)[1..]].concat();
    let (train, test) = ("data/data_batch_2.bin", "data/test_batch.bin");
    type Case = (Box<dyn Fn(&Place)>, &'static [&'static str]);
    let cases: [Case; 7] = [
        (Box::new(remove(test)), &["test_batch.bin", "no such file"]),
        (Box::new(put(train, Vec::new())), &["data_batch_2.bin", "empty"]),
        (Box::new(put(train, records(0..3)[..7000].to_vec())), &["data_batch_2.bin", "truncated", "2 whole records"]),
        (Box::new(put(test, label(10))), &["test_batch.bin", "record 0", "label 10", "0 to 9"]),
        (Box::new(put(train, label(255))), &["data_batch_2.bin", "label 255"]),
        (Box::new(big), &["data_batch_1.bin", "at most"]),
        (Box::new(put("data/data_batch_3.bin/x", Vec::new())), &["data_batch_3.bin", "not a regular file"]),
    ];
    for (spoil, words) in cases {
        let place = Place::new();
        spoil(&place);
        refused(&place, "", 1, words);
    }
    let place = Place::new();
    refused(&place, "--data-dir nowhere", 1, &["nowhere", "no such folder", "--data-dir"]);
    refused(&place, "--data-dir data/test_batch.bin", 1, &["test_batch.bin", "not a folder", "--data-dir"]);
    refused(&place, "--dataset cifar100", 1, &["data", "none of the files of cifar100", "cifar-100-binary"]);
}

/// Ways to damage a weight file, and what the message must say.
fn damage(whole: &[u8]) -> Vec<(Vec<u8>, &'static str)> {
    let mut long = whole.to_vec();
    long.extend([0; 4]);
    vec![
        (Vec::new(), "empty or truncated"),
        (whole[..100].to_vec(), "truncated"),
        (whole[..whole.len() - 1].to_vec(), "truncated"),
        (long, "after the last tensor"),
        (b"<html>404 not found</html>".repeat(50), "not a safetensors file"),
        ([&whole[..9], &vec![b'?'; whole.len() - 9][..]].concat(), "damaged safetensors header"),
    ]
}

#[test]
fn weights_that_do_not_fit() {
    let place = Place::new();
    place.run(&with(TRAIN, "--steps 1 --out old")).ok();
    let best = "old/best.safetensors";
    let unlike = "its tensors are not those of this model and method";
    let from = |flags: &str| format!("--init {best} {flags}");
    refused(&place, &from("--method fp32"), 1, &[best, unlike, "missing layer1.0.conv1.weight", "--method"]);
    refused(&place, &from("--bits 2"), 1, &[best, unlike, "unexpected layer1.0.conv1.shift"]);
    refused(&place, &from("--model resnet14"), 1, &[best, unlike, "missing layer1.1.conv1", "--model"]);
    refused(&place, &from("--width 2"), 1, &[best, unlike, "conv1.weight is [16, 3, 3, 3], not [32, 3, 3, 3]"]);
    refused(&place, "--init nowhere", 1, &["nowhere", "cannot read", "path"]);
    refused(&place, "--init data", 1, &["data", "not a file"]);
    for (bytes, says) in damage(&place.get(best)) {
        place.put("bad.safetensors", &bytes);
        refused(&place, "--init bad.safetensors", 1, &["bad.safetensors", says]);
        let eval = "eval --weights bad.safetensors --dataset cifar10 --data-dir data";
        refused_line(&place, eval, 1, &["bad.safetensors", says]);
    }
    refused_line(
        &place,
        "eval --weights old --dataset cifar100 --data-dir data",
        1,
        &[best, "10 classes", "cifar100 has 100"],
    );
    refused_line(&place, "eval --weights data --dataset shapes", 1, &["best.safetensors", "cannot read"]);
}

#[test]
fn runs_that_cannot_go_on() {
    let place = Place::new();
    place.run(&with(TRAIN, "--steps 2")).ok();
    place.run(&with(TRAIN, "--steps 2 --out other --method fp32")).ok();
    let (last, config) = (place.get("run/last.safetensors"), place.get("run/config.toml"));
    let resume = |words: &[&str]| refused_line(&place, "train --resume run", 1, words);

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
    resume(&["run/last.safetensors", "momentum of fc.bias"]);
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

    refused_line(&place, "train --resume nowhere", 1, &["nowhere", "no config.toml", "--out"]);
    refused_line(&place, "train --resume data", 1, &["data", "no config.toml", "--out"]);
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
        "--out o",
        "--force",
        "--log-every 1",
        "--eval-every 1",
        "--rung conv_forward_naive",
    ] {
        let name = flag.split_whitespace().next().expect("a flag");
        refused_line(&place, &format!("train --resume other {flag}"), 2, &["--resume", name, "cannot be used with"]);
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
    refused(&place, "--out file", 1, &["file", "cannot create", "choose another"]);
    refused(&place, "--out file/run", 1, &["file/run", "cannot create", "not a folder"]);

    place.run(&with(TRAIN, "--steps 1")).ok();
    refused(&place, "", 1, &["run", "holds a run already", "--out", "--resume run", "--force"]);
    // What fails before training leaves the old run whole, --force or not.
    refused(&place, "--force --init nowhere", 1, &["nowhere"]);
    refused(&place, "--force --batch-size 24", 2, &["23 images"]);
    refused(&place, "--force --adapter nonsense", 1, &["nonsense"]);

    place.put("run/note.txt", b"the user's own");
    place.put("run/.last.safetensors.a1B2c3.tmp", b"of a process that was killed");
    let old = place.get("run/last.safetensors");
    place.run(&with(TRAIN, "--force --seed 5")).ok();
    assert!(place.get("run/last.safetensors") != old);
    let files = ["best.safetensors", "config.toml", "curves.svg", "last.safetensors", "metrics.jsonl", "note.txt"];
    assert_eq!(place.names("run"), files);

    // A replacement that was killed after it took the old configuration away.
    fs::remove_file(place.path("run/config.toml")).expect("a file");
    refused(&place, "", 1, &["run", "no config.toml", "--out", "--force"]);
    refused_line(&place, "train --resume run", 1, &["run", "no config.toml", "new run", "--force"]);
    place.run(&with(TRAIN, "--force --seed 6")).ok();
    assert_eq!(place.names("run"), files);
}

/// A file that may not grow stands for a disk that fills up: the write fails in its middle.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up() {
    let place = Place::new();
    let args = with(TRAIN, "--epochs 2");
    place.run(&with(&args, "--out whole")).ok();
    // 500 blocks of 1024 bytes: no checkpoint fits, the rest does.
    let limited = |args: &str| place.shell(&format!("trap '' XFSZ; ulimit -f 500; exec \"$S3GPU\" {args}"));

    limited(&args).fails(1, &["run/best.safetensors", "cannot write", "ulimit -f", "another folder"]);
    assert_eq!(place.names("run"), ["config.toml", "metrics.jsonl"]);

    place.run(&with(&args, "--force --steps 6")).ok();
    let (best, last) = (place.get("run/best.safetensors"), place.get("run/last.safetensors"));
    limited("train --resume run").fails(1, &["safetensors", "cannot write", "earlier checkpoints are untouched"]);
    assert!(place.get("run/best.safetensors") == best && place.get("run/last.safetensors") == last);
    assert!(place.names("run").iter().all(|n| !n.ends_with(".tmp")), "{:?}", place.names("run"));

    place.run("train --resume run").ok();
    assert!(place.get("run/last.safetensors") == place.get("whole/last.safetensors"));

    place.shell("exec \"$S3GPU\" devices >/dev/full").fails(1, &["standard output", "disk is full"]);
}

#[cfg(unix)]
#[test]
fn a_reader_that_leaves_stops_nothing() {
    let place = Place::new();
    let said = place.shell(&format!("set -o pipefail; \"$S3GPU\" {TRAIN} | true")).ok();
    assert!(said.out.is_empty());
    assert!(place.names("run").contains(&"last.safetensors".into()));
    place.shell("set -o pipefail; \"$S3GPU\" doctor --dump-shader relu | true").ok();
}

#[cfg(target_os = "linux")]
#[test]
fn no_adapter() {
    let place = Place::new();
    let run = |args: &str| {
        let mut command = place.command(args);
        command.env("VK_DRIVER_FILES", "/nonexistent.json").env("VK_ICD_FILENAMES", "/nonexistent.json");
        program::Said::of(command.output().expect("the program starts"))
            .fails(1, &["no Vulkan", "mesa-vulkan-drivers"]);
    };
    let before = place.snapshot();
    ["devices", "doctor", TRAIN, &with(TRAIN, "--dry-run")].into_iter().for_each(run);
    assert_eq!(place.snapshot(), before);
}

#[test]
fn the_wrong_adapter() {
    let place = Place::new();
    let name = gpu::adapters().first().expect("the tests need an adapter: run `make setup`").info.name.clone();
    refused(&place, "--adapter nonsense", 1, &["--adapter nonsense", "there are:", "0: ", &name]);
    refused(&place, "--adapter 99", 1, &["--adapter 99", "0: "]);
}

/// The number that follows `before` in `text`.
fn number(text: &str, before: &str) -> u64 {
    let (_, rest) = text.split_once(before).unwrap_or_else(|| panic!("no `{before}` in {text}"));
    rest.chars().take_while(char::is_ascii_digit).collect::<String>().parse().expect("a number")
}

#[test]
fn an_adapter_too_small_for_the_plan() {
    let place = Place::new();
    // 65,536 images of 32 x 32 x 128 take 32 GiB in one buffer.
    let wide = "train --dataset shapes --model resnet8 --width 8 --out run";
    let dry = |batch: u64| place.run(&format!("{wide} --batch-size {batch} --dry-run"));
    let said = dry(65_536).fails(1, &["relu needs", "bytes", "adapter's max", "largest batch that fits is"]);
    assert!(said.out.contains("buffers:"), "the plan shows where it does not fit");
    // The batch that it names fits, and one image more does not.
    let fits = number(&said.err, "largest batch that fits is ");
    dry(fits).ok();
    dry(fits + 1).fails(1, &[&format!("largest batch that fits is {fits}:")]);
    if fits < 8000 {
        refused_line(&place, &format!("{wide} --batch-size {}", fits + 1), 1, &[&format!("--batch-size {fits}")]);
    }
    // ResNet-18 64 times as wide has layers beyond 32-bit counters; 8 times as wide its latents outgrow a binding here.
    place
        .run("train --dataset shapes --model resnet18 --width 64 --batch-size 1 --dry-run")
        .fails(1, &["layer2.0.conv1", "weights", "--width"]);
    let said = place.run("train --dataset shapes --model resnet18 --width 8 --batch-size 1 --dry-run");
    said.fails(1, &[" from layer", "needs", "adapter's max", "--width"]);
}

#[test]
fn a_run_that_diverges() {
    let place = Place::new();
    // Weight decay alone makes every weight a billion times larger with each step, so no adapter's f32 lasts an epoch.
    let words = ["at step", "diverged", "lower --lr", "no checkpoint yet"];
    place.run(&with(TRAIN, "--method fp32 --lr 1e6 --weight-decay 1e3")).fails(1, &words);
    assert!(!place.names("run").iter().any(|n| n.ends_with(".safetensors")), "{:?}", place.names("run"));

    // The second epoch of a run whose first went well.
    place.run(&with(TRAIN, "--out late --epochs 2 --steps 6")).ok();
    let config = String::from_utf8(place.get("late/config.toml")).expect("UTF-8");
    let faster = config.lines().map(|l| if l.starts_with("weight-decay") { "weight-decay = 1e6" } else { l });
    place.put("late/config.toml", faster.collect::<Vec<_>>().join("\n").as_bytes());
    let (best, last) = (place.get("late/best.safetensors"), place.get("late/last.safetensors"));
    let words = ["at step", "diverged", "lower --lr", "last good checkpoint is late/last.safetensors", "--init"];
    place.run("train --resume late").fails(1, &words);
    assert!(place.get("late/best.safetensors") == best && place.get("late/last.safetensors") == last);
    place.run(&with(TRAIN, "--init late/last.safetensors --out again --steps 1")).ok();
}

/// Listens to a run, and acts after one of its steps.
struct After<F: FnMut()>(u64, F);

impl<F: FnMut()> Observer for After<F> {
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

fn both(data: &Dataset) -> [&Records; 2] {
    [&data.train, &data.test].map(|r| r.as_ref().expect("both were asked for"))
}

/// Goes on to the end, which must be that of the run in `whole`.
fn finish(place: &Place, (setup, data): &(Setup, Dataset), out: &str, step: &str) {
    let last = tensors::read(place.path(out).join("last.safetensors")).expect("the checkpoint");
    assert_eq!(last.meta["step"], step);
    let mut run = Run::resume(setup, open(), both(data), &place.path(out), last).expect("a run");
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
