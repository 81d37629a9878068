//! Bad input and bad luck: one message that says what, where and the way out, the right exit code, and nothing lost or left over.

mod program;

use std::fs;

use program::{Place, damage, record, records, with};
use s3gpu::files::tensors::{self, TensorFile};
use s3gpu::gpu;

const TRAIN: &str = "train --dataset cifar10 --data-dir data --model resnet8 --epochs 1 --batch-size 4 --out run";

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
        ("--first-last int8", &["int8", "fp32, shift"]),
        ("--method fp32 --first-last shift", &["--first-last shift", "fp32 has no levels", "--method s3"]),
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
        ("--dataset shapes", &["reads no --data-dir", "drop --data-dir"]),
    ] {
        place.refuses(&with(TRAIN, flags), 2, words);
    }
    place.refuses("train --dataset cifar10 --model resnet8", 2, &["no --data-dir", "cifar-10-batches-bin"]);
    place.refuses("train", 2, &["--dataset", "--help"]);
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
        place.refuses(&with(TRAIN, ""), 1, words);
    }
    let place = Place::new();
    place.refuses(&with(TRAIN, "--data-dir nowhere"), 1, &["nowhere", "no such folder", "--data-dir"]);
    place.refuses(&with(TRAIN, "--data-dir data/test_batch.bin"), 1, &["test_batch.bin", "not a folder", "--data-dir"]);
    place.refuses(
        &with(TRAIN, "--dataset cifar100"),
        1,
        &["data", "none of the files of cifar100", "cifar-100-binary"],
    );
}

#[test]
fn weights_that_do_not_fit() {
    let place = Place::new();
    place.run(&with(TRAIN, "--steps 1 --out old")).ok();
    let best = "old/best.safetensors";
    let unlike = "its tensors are not those of this model and method";
    let from = |flags: &str| format!("--init {best} {flags}");
    place.refuses(
        &with(TRAIN, &from("--method fp32")),
        1,
        &[best, "of the method s3", "this network is of fp32", "--method"],
    );
    place.refuses(
        &with(TRAIN, &from("--first-last shift")),
        1,
        &[best, unlike, "missing conv1.sparse", "--first-last"],
    );
    place.refuses(&with(TRAIN, &from("--bits 2")), 1, &[best, unlike, "unexpected layer1.0.conv1.shift"]);
    place.refuses(&with(TRAIN, &from("--model resnet14")), 1, &[best, unlike, "missing layer1.1.conv1", "--model"]);
    place.refuses(
        &with(TRAIN, &from("--width 2")),
        1,
        &[best, unlike, "conv1.weight is [16, 3, 3, 3], not [32, 3, 3, 3]"],
    );
    place.refuses(&with(TRAIN, "--init nowhere"), 1, &["nowhere", "cannot read", "path"]);
    place.refuses(&with(TRAIN, "--init data"), 1, &["data", "not a file"]);
    for (bytes, says) in damage(&place.get(best)) {
        place.put("bad.safetensors", &bytes);
        place.refuses(&with(TRAIN, "--init bad.safetensors"), 1, &["bad.safetensors", says]);
        let eval = "eval --weights bad.safetensors --dataset cifar10 --data-dir data";
        place.refuses(eval, 1, &["bad.safetensors", says]);
    }
    place.refuses(
        "eval --weights old --dataset cifar100 --data-dir data",
        1,
        &[best, "10 classes", "cifar100 has 100"],
    );
    place.refuses("eval --weights data --dataset shapes", 1, &["best.safetensors", "cannot read"]);
}

#[test]
fn weights_that_are_no_networks() {
    let place = Place::new();
    place.run(&with(TRAIN, "--method fp32 --steps 1")).ok();
    let whole = tensors::read(place.path("run/best.safetensors")).unwrap_or_else(|e| panic!("{e}"));
    let eval = "eval --weights bad.safetensors --dataset cifar10 --data-dir data --json";
    let bad = |change: fn(&mut TensorFile), words: &[&str]| {
        let mut file = whole.clone();
        change(&mut file);
        tensors::write(place.path("bad.safetensors"), &file).unwrap_or_else(|e| panic!("{e}"));
        place.refuses(eval, 1, &[&["bad.safetensors"][..], words].concat());
    };
    fn fill(file: &mut TensorFile, name: &str, value: f32) {
        file.tensors.get_mut(name).expect("a tensor").data.fill(value);
    }
    let not_finite = ["1 of its tensors", "not finite, fc.weight first", "earlier checkpoint"];
    bad(|f| fill(f, "fc.weight", f32::NAN), &not_finite);
    place.refuses(&with(TRAIN, "--method fp32 --init bad.safetensors --out new"), 1, &not_finite);
    bad(|f| fill(f, "fc.weight", f32::INFINITY), &not_finite);
    // Finite weights whose logits are not: no accuracy may be claimed.
    let logits = ["logits on cifar10 are not finite", "no accuracy", "earlier checkpoint"];
    bad(|f| fill(f, "bn1.running_var", -1.0), &logits);
    bad(|f| ["bn1.weight", "fc.weight"].iter().for_each(|name| fill(f, name, 1e38)), &logits);

    let set = |key: &'static str, value: &'static str| {
        let mut file = whole.clone();
        file.meta.insert(key.into(), value.into());
        tensors::write(place.path("bad.safetensors"), &file).unwrap_or_else(|e| panic!("{e}"));
    };
    for (key, value, words) in [
        ("mean", "0.5,0.5", &["2 means and 3 standard deviations", "3 channels"][..]),
        ("std", "0.2,0.2,0.2,0.2", &["3 means and 4 standard deviations", "3 channels"]),
        ("std", "0.2,0,0.2", &["std = `0.2,0,0.2`", "comma-separated"]),
        ("mean", "nan,0,0", &["mean = `nan,0,0`", "comma-separated"]),
        ("mean", "", &["mean = ``", "comma-separated"]),
    ] {
        set(key, value);
        place.refuses(eval, 1, &[&["bad.safetensors"][..], words].concat());
        place.refuses(&with(TRAIN, "--method fp32 --init bad.safetensors --out new"), 1, words);
    }
    for (key, value, words) in [
        ("model", "vgg", &["model = `vgg`"][..]),
        ("bits", "three", &["bits = `three`"]),
        ("method", "s9", &["method and bits", "s9"]),
        ("shortcut", "mul", &["shortcut = `mul`"]),
        ("width", "0", &["width = `0`"]),
        ("first_last", "both", &["first_last = `both`"]),
        ("first_last", "shift", &["first_last = `shift`"]), // of fp32 weights
    ] {
        set(key, value);
        place.refuses(eval, 1, &[&["bad.safetensors"][..], words].concat());
    }
    place.put("data/test_batch.bin", &[&[10][..], &record(3)[1..]].concat());
    let eval = "eval --weights run --dataset cifar10 --data-dir data --json";
    place.refuses(eval, 1, &["test_batch.bin", "record 0", "label 10", "0 to 9"]);
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

/// A file system of its own, in a mount namespace that ends with the shell: room for one epoch's checkpoints, not for the next ones beside
/// them; then there is room again.
#[cfg(target_os = "linux")]
#[test]
fn a_small_disk_fills_up_and_is_enlarged() {
    let place = Place::new();
    fs::create_dir(place.path("disk")).expect("a folder");
    let mount = "mount -t tmpfs -o size=4500k tmpfs disk";
    if place.shell(&format!("unshare -m bash -c '{mount}'")).code != Some(0) {
        program::skip("a disk that fills up", "run the tests as root, who may mount one (CAP_SYS_ADMIN)");
        return;
    }
    let args = with(TRAIN, "--epochs 3");
    place.run(&with(&args, "--out whole")).ok();
    let full = with(&args, "--out disk/run");
    let script = format!(
        "{mount}; \"$S3GPU\" {full}; echo \"exit code $?\"; cp -r disk/run left; mount -o remount,size=64m disk; \
         \"$S3GPU\" train --resume disk/run && cp -r disk/run after"
    );
    let said = place.shell(&format!("unshare -m bash -c '{script}'")).ok();
    assert!(said.out.contains("exit code 1"), "{}{}", said.out, said.err);
    let words = ["disk/run/", "cannot write", "disk is full", "resumed at step 6 of 18"];
    assert!(words.iter().all(|w| said.err.contains(w)), "{}", said.err);
    let last = tensors::read(place.path("left/last.safetensors")).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(last.meta["step"], "6", "the last good checkpoint");
    assert!(place.names("left").iter().all(|n| !n.ends_with(".tmp")), "{:?}", place.names("left"));
    assert_eq!(place.names("after"), place.names("whole"));
    for file in ["last.safetensors", "best.safetensors"] {
        assert!(place.get(&format!("after/{file}")) == place.get(&format!("whole/{file}")), "{file}");
    }
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
    place.refuses(&with(TRAIN, "--adapter nonsense"), 1, &["--adapter nonsense", "there are:", "0: ", &name]);
    place.refuses(&with(TRAIN, "--adapter 99"), 1, &["--adapter 99", "0: "]);
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
        place.refuses(&format!("{wide} --batch-size {}", fits + 1), 1, &[&format!("--batch-size {fits}")]);
    }
    // ResNet-18 64 times as wide has layers beyond 32-bit counters; 8 times as wide its latents outgrow a binding here.
    place
        .run("train --dataset shapes --model resnet18 --width 64 --batch-size 1 --dry-run")
        .fails(1, &["layer2.0.conv1", "weights", "--width"]);
    let said = place.run("train --dataset shapes --model resnet18 --width 8 --batch-size 1 --dry-run");
    said.fails(1, &[" from layer", "needs", "adapter's max", "--width"]);
}

/// On a software adapter the process's own memory is the device's, so a limit on it stands for a GPU that is full.
#[cfg(target_os = "linux")]
#[test]
fn a_device_whose_memory_is_full() {
    let place = Place::new();
    let adapter = gpu::adapters().first().expect("the tests need an adapter: run `make setup`").info.name.clone();
    if !adapter.contains("llvmpipe") {
        let what = format!("a full memory of {adapter}, which cannot be limited from here");
        program::skip(&what, "name lavapipe's ICD in VK_DRIVER_FILES and VK_ICD_FILENAMES");
        return;
    }
    let train = "train --dataset shapes --model resnet20 --width 4 --batch-size 512 --out run";
    let before = place.snapshot();
    let said = place.shell(&format!("ulimit -v 2500000; exec \"$S3GPU\" {train}"));
    let said = said.fails(1, &["the plan needs", "bytes for", "memory was full after", "is likely to fit", "--model"]);
    assert_eq!(place.snapshot(), before);
    let fits = number(&said.err, "--batch-size ");
    // In proportion to what the device gave, less something for the driver.
    let (held, need) = (number(&said.err, "full after "), number(&said.err, "the plan needs "));
    let most = 512 * held / need;
    assert!((most / 2..most).contains(&fits), "{}", said.err);
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
