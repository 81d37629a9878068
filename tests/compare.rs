//! Sweeps: stopped and resumed by cell, cells that fail, folders that are not theirs.

mod program;

use std::collections::BTreeMap;
use std::fs;

use program::{Place, Said, started};
use s3gpu::files::tensors;
use s3gpu::train::folder::Claim;
use serde_json::Value;

const HEAD: &str = "models = [\"resnet8\"]\nseeds = [1, 2]\n[settings]\ndataset = \"cifar10\"\ndata-dir = \"data\"\nepochs = 2\n\
                    batch-size = 4\nlog-every = 5\n";
const FP32: &str = "[[methods]]\nmethod = \"fp32\"\n";
const S3: &str = "[[methods]]\nmethod = \"s3\"\nbits = [2]\n";
/// Weight decay alone makes every weight a billion times larger with each step.
const WILD: &str = "[[methods]]\nlabel = \"wild\"\nmethod = \"fp32\"\nsettings = { lr = 1e6, weight-decay = 1e3 }\n";

/// A place with a sweep of these methods in `mine.toml`.
fn place(methods: &str) -> Place {
    let place = Place::new();
    put(&place, &format!("{HEAD}{methods}"));
    place
}

fn put(place: &Place, text: &str) {
    place.put("mine.toml", text.as_bytes());
}

fn json(place: &Place, out: &str) -> Value {
    serde_json::from_slice(&place.get(&format!("{out}/results.json"))).expect("JSON")
}

/// The cells' states by name.
fn states(place: &Place, out: &str) -> BTreeMap<String, String> {
    let text = |v: &Value| v.as_str().expect("a text").to_string();
    let json = json(place, out);
    let cells = json["cells"].as_array().expect("cells").iter();
    cells.map(|c| (text(&c["name"]), text(&c["state"]))).collect()
}

/// The results without times.
fn timeless(place: &Place, out: &str) -> Value {
    fn strip(v: &mut Value) {
        match v {
            Value::Object(keys) => {
                keys.remove("minutes");
                keys.values_mut().for_each(strip);
            }
            Value::Array(all) => all.iter_mut().for_each(strip),
            _ => (),
        }
    }
    let mut v = json(place, out);
    strip(&mut v);
    v
}

/// Two sweeps' folders hold the same, times left out.
fn assert_same(place: &Place, a: &str, b: &str) {
    assert_eq!(timeless(place, a), timeless(place, b));
    assert_eq!(place.names(a), place.names(b));
    for cell in states(place, b).keys() {
        assert_eq!(place.names(&format!("{a}/{cell}")), place.names(&format!("{b}/{cell}")));
        for file in ["last.safetensors", "best.safetensors", "config.toml", "cell.json"] {
            let [ours, theirs] = [a, b].map(|out| place.get(&format!("{out}/{cell}/{file}")));
            assert!(ours == theirs, "{cell}/{file}");
        }
    }
}

#[cfg(unix)]
#[test]
fn a_sweep_that_was_stopped_comes_to_the_same() {
    let place = place(&[FP32, S3].concat());
    let said = place.run("compare mine.toml --out whole").ok();
    for words in ["cell 1 of 4: fp32-resnet8-seed1", "cell 4 of 4: s3-2bit-resnet8-seed2", "finished: whole/results.md"]
    {
        assert!(said.out.contains(words), "no {words:?} in {}", said.out);
    }
    let files = ["fp32-resnet8-seed1", "fp32-resnet8-seed2", "results.csv", "results.json", "results.md"];
    let names = place.names("whole");
    assert_eq!(names, [&files[..], &["s3-2bit-resnet8-seed1", "s3-2bit-resnet8-seed2", "sweep.toml"]].concat());
    // A cell is the run that `train` makes of the same settings.
    let train = "train --dataset cifar10 --data-dir data --model resnet8 --method s3 --bits 2 --epochs 2 --batch-size 4 \
                 --log-every 5 --seed 2 --out alone";
    place.run(train).ok();
    for file in ["last.safetensors", "best.safetensors", "config.toml"] {
        assert!(
            place.get(&format!("alone/{file}")) == place.get(&format!("whole/s3-2bit-resnet8-seed2/{file}")),
            "{file}"
        );
    }

    // Ctrl-C in the second cell, then kill -9 in the third.
    let child = started(&place, "compare mine.toml --out stopped", "cell 2 of 4");
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(kill.expect("kill").success());
    let said = Said::of(child.wait_with_output().expect("its end"));
    assert_eq!(said.code, Some(130), "{}{}", said.out, said.err);
    assert!(said.out.contains("stopped and saved; the same command goes on"), "{}", said.out);
    let finished = states(&place, "stopped").values().filter(|state| *state == "finished").count();
    assert!((1..4).contains(&finished), "{finished} finished");

    let mut child = started(&place, "compare mine.toml --out stopped", "cell 3 of 4");
    child.kill().expect("kill -9");
    child.wait().expect("its end");
    // What it may have been writing when it was killed.
    place.put("stopped/.results.json.x7Kq2w.tmp", b"{");
    place.put("stopped/fp32-resnet8-seed1/.cell.json.x7Kq2w.tmp", b"{");
    // Its folder is enough to go on.
    let said = place.run("compare stopped").ok();
    assert!(!said.out.contains("cell 1 of 4"), "a finished cell is trained again: {}", said.out);
    assert_eq!(json(&place, "stopped")["sweep"], "stopped/sweep.toml");
    place.run("compare mine.toml --out stopped").ok();
    assert_same(&place, "stopped", "whole");
}

#[test]
fn a_cell_that_fails_keeps_its_reason_and_ends_nothing() {
    let place = place(&[WILD, FP32].concat());
    let words = ["2 of 4 cells failed", "results.md", "--retry"];
    let said = place.run("compare mine.toml --out out").fails(1, &words);
    assert!(said.out.contains("wild-resnet8-seed1 failed: ") && said.out.contains("diverged"), "{}", said.out);
    let markdown = String::from_utf8(place.get("out/results.md")).expect("UTF-8");
    for words in ["2 of 4 cells finished, 2 failed", "| wild | resnet8 | 0 of 2, 2 failed | – |", "training diverged"]
    {
        assert!(markdown.contains(words), "no {words:?} in {markdown}");
    }
    let reason = String::from_utf8(place.get("out/wild-resnet8-seed1/cell.json")).expect("UTF-8");
    assert!(reason.contains("\"failed\"") && reason.contains("diverged"), "{reason}");

    // Left alone, it stays as it is; asked for, it is trained once more.
    let cell = place.get("out/fp32-resnet8-seed2/last.safetensors");
    let said = place.run("compare mine.toml --out out").fails(1, &words);
    assert!(!said.out.contains("cell 1 of"), "{}", said.out);
    let said = place.run("compare mine.toml --out out --retry --only *seed1").fails(1, &["1 of 2 cells failed"]);
    assert!(said.out.contains("cell 1 of 2: wild-resnet8-seed1"), "{}", said.out);

    // Other settings may be the cure; what was finished is not touched.
    put(&place, &[HEAD, &WILD.replace("1e6", "0.1").replace("1e3", "0.0"), FP32].concat());
    place.run("compare mine.toml --out out").ok();
    assert!(states(&place, "out").values().all(|state| state == "finished"));
    assert!(!place.get("out/wild-resnet8-seed1/cell.json").windows(6).any(|w| w == b"failed"));
    assert!(place.get("out/fp32-resnet8-seed2/last.safetensors") == cell);

    // A damaged checkpoint is one cell's matter.
    place.put("out/fp32-resnet8-seed2/last.safetensors", &cell[..99]);
    let said = place.run("compare mine.toml --out out").fails(1, &["1 of 4 cells failed"]);
    assert!(!said.out.contains("cell "), "{}", said.out);
    assert_eq!(states(&place, "out")["fp32-resnet8-seed2"], "failed");
    place.run("compare mine.toml --out out --retry").ok();
    assert!(place.get("out/fp32-resnet8-seed2/last.safetensors") == cell);

    // Weights that are finished are never trained away, whatever became of the log beside them.
    let log = place.get("out/fp32-resnet8-seed2/metrics.jsonl");
    place.put("out/fp32-resnet8-seed2/metrics.jsonl", b"scribble\n");
    place.run("compare mine.toml --out out --retry").fails(1, &["1 of 4 cells failed", "results.md"]);
    assert_eq!(states(&place, "out")["fp32-resnet8-seed2"], "damaged");
    let markdown = String::from_utf8(place.get("out/results.md")).expect("UTF-8");
    assert!(markdown.contains("1 failed") && markdown.contains("line 1 is damaged"), "{markdown}");
    assert!(place.get("out/fp32-resnet8-seed2/last.safetensors") == cell);
    place.put("out/fp32-resnet8-seed2/metrics.jsonl", &log);
    place.run("compare mine.toml --out out").ok();
}

#[test]
fn a_failed_cell_goes_on_from_its_checkpoint() {
    let place = place(FP32);
    place.run("compare mine.toml --out whole --only *seed1").ok();
    let train =
        "train --dataset cifar10 --data-dir data --model resnet8 --method fp32 --epochs 2 --batch-size 4 --log-every 5";
    place.run(&format!("{train} --seed 1 --steps 7 --out out/fp32-resnet8-seed1")).ok();
    place.put("out/fp32-resnet8-seed1/cell.json", br#"{"programs":[],"failed":"out of memory"}"#);
    place.run("compare mine.toml --out out --only *seed1").fails(1, &["1 of 1 cells failed", "--retry"]);
    let said = place.run("compare mine.toml --out out --only *seed1 --retry").ok();
    let all = said.out + &said.err;
    assert!(all.contains("resumed at step 7"), "{all}");
    let [ours, theirs] = ["out", "whole"].map(|out| place.get(&format!("{out}/fp32-resnet8-seed1/last.safetensors")));
    assert!(ours == theirs);

    // One that diverged would do so again from there.
    place.run(&format!("{train} --seed 2 --steps 7 --out out/fp32-resnet8-seed2")).ok();
    place.put("out/fp32-resnet8-seed2/cell.json", br#"{"programs":[],"failed":"NaN","diverged":true}"#);
    // A list is to be had while another process is in a cell; training is not.
    let claim = Claim::take(&place.path("out/fp32-resnet8-seed2")).unwrap_or_else(|e| panic!("{e}"));
    assert!(place.run("compare mine.toml --out out --dry-run").ok().out.contains("running"));
    place.run("compare mine.toml --out out").fails(1, &["another s3gpu process", "fp32-resnet8-seed2"]);
    drop(claim);
    let said = place.run("compare mine.toml --out out --retry").ok();
    assert!(!(said.out + &said.err).contains("resumed"), "it starts anew");
    assert!(!String::from_utf8(place.get("out/fp32-resnet8-seed2/cell.json")).expect("UTF-8").contains("diverged"));
}

#[test]
fn every_seed_has_weights_of_its_own_to_start_from() {
    let place = place(FP32);
    place.run("compare mine.toml --out first").ok();
    let init = "settings = { init = \"first/fp32-resnet8-seed{seed}/best.safetensors\", lr = 0.0, momentum = 0.0 }\n";
    put(&place, &[HEAD, FP32, init].concat());
    place.run("compare mine.toml --out second").ok();
    for seed in [1, 2] {
        let [first, second] = ["first", "second"].map(|out| {
            let path = place.path(&format!("{out}/fp32-resnet8-seed{seed}/best.safetensors"));
            tensors::read(&path).unwrap_or_else(|e| panic!("{e}")).tensors["fc.weight"].data.clone()
        });
        assert_eq!(first, second, "without a rate, the weights stay those of the start");
    }
    let markdown = String::from_utf8(place.get("second/results.md")).expect("UTF-8");
    assert!(markdown.contains("fp32-resnet8-seed{seed}"), "{markdown}");
}

#[test]
fn cells_are_added_chosen_and_listed() {
    let place = place(S3);
    let short = "--set epochs=1 --out out";
    let list = |args: &str| place.run(&format!("compare mine.toml {short} {args} --dry-run")).ok().out;
    let before = place.snapshot();
    assert_eq!(list("").matches("to do").count(), 2);
    assert_eq!(place.snapshot(), before, "a list leaves nothing");
    place.refuses(&format!("compare mine.toml {short} --only nothing*"), 2, &["--only", "none", "--dry-run"]);

    let said = place.run(&format!("compare mine.toml {short} --only *seed2")).ok();
    assert!(said.out.contains("cell 1 of 1: s3-2bit-resnet8-seed2"), "{}", said.out);
    let csv = String::from_utf8(place.get("out/results.csv")).expect("UTF-8");
    assert!(csv.lines().count() == 3 && csv.contains("seed1,") && csv.contains(",to do,"), "{csv}");
    let done = place.get("out/s3-2bit-resnet8-seed2/last.safetensors");
    let listed = list("");
    assert!(listed.contains("to do") && listed.contains("finished"), "{listed}");

    put(&place, &[HEAD, S3, FP32].concat().replace("[1, 2]", "[3, 2]"));
    let words = ["out/s3-2bit-resnet8-seed2", "trained with epochs = 1", "the sweep now says 2", "label"];
    place.refuses("compare mine.toml --out out", 1, &words);
    let said = place.run(&format!("compare mine.toml {short}")).ok();
    assert!(!said.out.contains("s3-2bit-resnet8-seed2\n"), "{}", said.out);
    assert_eq!(states(&place, "out").len(), 4);
    assert!(place.get("out/s3-2bit-resnet8-seed2/last.safetensors") == done);

    // A cell that the file has no more is not lost.
    put(&place, &[HEAD, S3].concat().replace("[1, 2]", "[2]"));
    place.refuses(
        &format!("compare mine.toml {short}"),
        1,
        &["out/fp32-resnet8-seed2", "none of the cells of mine.toml"],
    );
}

#[test]
fn folders_that_are_not_a_sweeps() {
    let place = place(FP32);
    place.put("notes/results.md", b"mine");
    place.refuses("compare mine.toml --out notes", 1, &["notes", "no sweep.toml", "results.md", "--out"]);
    place.refuses("compare mine.toml --out mine.toml/x", 1, &["mine.toml/x", "not a folder"]);
    place.refuses("compare notes", 2, &["notes is no sweep's folder", "sweep.toml"]);
    place.refuses("compare nowhere.toml", 1, &["nowhere.toml", "cannot read"]);
    let train =
        "train --dataset cifar10 --data-dir data --model resnet8 --epochs 1 --batch-size 4 --steps 1 --out runs/alone";
    place.run(train).ok();
    place.refuses("compare mine.toml --out runs/alone", 1, &["runs/alone", "a run's, not a sweep's"]);
    place.refuses("compare mine.toml --out runs", 1, &["runs/alone", "none of the cells of mine.toml"]);
    place.refuses("compare mine.toml --data-dir nowhere", 1, &["nowhere", "no such folder"]);
}

#[test]
fn two_sweeps_never_share_a_folder() {
    let place = place(FP32);
    // Longer than any test: it ends by the kill below.
    let mut child = started(&place, "compare mine.toml --out out --set epochs=100000", "epoch 1/");
    let said = place.run("compare mine.toml --out out --set epochs=100000");
    // Nor does a sweep take a cell from `train`, or the other way round.
    let train = place.run("train --resume out/fp32-resnet8-seed1");
    let undisturbed = child.try_wait().expect("its state").is_none();
    child.kill().expect("kill -9");
    child.wait().expect("its end");
    said.fails(1, &["out", "another s3gpu process"]);
    train.fails(1, &["out/fp32-resnet8-seed1", "another s3gpu process"]);
    assert!(undisturbed, "the first process was disturbed");

    let mut child = started(&place, "train --resume out/fp32-resnet8-seed1", "epoch ");
    let said = place.run("compare mine.toml --out out --set epochs=100000");
    child.kill().expect("kill -9");
    child.wait().expect("its end");
    said.fails(1, &["out/fp32-resnet8-seed1", "another s3gpu process"]);
    assert!(!place.get("out/fp32-resnet8-seed1/cell.json").windows(6).any(|w| w == b"failed"));
}

/// A file that may not grow stands for a disk that fills up.
#[cfg(target_os = "linux")]
#[test]
fn a_disk_that_fills_up_costs_no_finished_cell() {
    let place = place(FP32);
    let compare = "compare mine.toml --out out --set epochs=1";
    place.run(&format!("{compare} --only *seed1")).ok();
    let done = place.get("out/fp32-resnet8-seed1/last.safetensors");
    let limited = format!("trap '' XFSZ; ulimit -f 500; exec \"$S3GPU\" {compare}");
    let said = place.shell(&limited).fails(1, &["out/fp32-resnet8-seed2/", "cannot write", "ulimit -f"]);
    assert!(!said.out.contains("failed"), "a full disk is not the cell's fault: {}", said.out);
    assert!(place.get("out/fp32-resnet8-seed1/last.safetensors") == done);
    place.run(compare).ok();
    assert!(states(&place, "out").values().all(|state| state == "finished"));
}

/// The example as it is, on fewer and smaller things.
#[test]
fn the_example_in_small() {
    let place = Place::new();
    place.put("sweep.toml", include_bytes!("../examples/sweep.toml"));
    let set = include_str!("../datasets/shapes.toml");
    let small = set.replace("train = 8000", "train = 32").replace("test = 2000", "test = 20");
    assert_ne!(small, set);
    place.put("small.toml", small.as_bytes());
    let flags = "--set dataset=small.toml --set batch-size=16 --set epochs=1";
    let said = place.run(&format!("compare sweep.toml {flags} --only *-seed1")).ok();
    assert!(said.out.contains("finished: runs/example/results.md"), "{}", said.out);
    let json = json(&place, "runs/example");
    let rows = json["rows"].as_array().expect("rows");
    assert!(rows.len() >= 5 && rows.iter().all(|row| row["last-top1"]["n"] == 1), "{rows:?}");
    // `runs` finds the cells.
    let said = place.run("runs").ok();
    assert_eq!(said.out.matches("finished").count(), rows.len(), "{}", said.out);
}

/// `script` gives the program a terminal, and keeps what it wrote there; in a session of its own nothing stops it for want of one.
#[cfg(target_os = "linux")]
#[test]
fn the_table_on_a_terminal() {
    let place = place(&[FP32, WILD].concat());
    if place.shell("command -v script && command -v setsid").code != Some(0) {
        program::skip("the table on a terminal", "install util-linux, whose `script` makes one");
        return;
    }
    let line = "stty rows 30 cols 110; \"$S3GPU\" compare mine.toml --out out --set epochs=20 --only *seed1";
    let said = place.shell(&format!("TERM=xterm-256color setsid -w script -qec '{line}' seen </dev/null"));
    assert_eq!(said.code, Some(1), "{}{}", said.out, said.err);
    let text = String::from_utf8_lossy(&place.get("seen")).into_owned();
    for words in
        ["last top-1, %", "fp32-resnet8-seed1: top-1 ", "wild-resnet8-seed1 failed: ", "1/2 cells", "0/2, 1 failed"]
    {
        assert!(text.contains(words), "no {words:?} in {text:?}");
    }
    assert!(text.contains("epoch ") && text.contains("images/s"), "the cell under way: {text:?}");
    // The table stays at the end.
    let rest = &text[text.rfind("last top-1, %").expect("a table")..];
    assert!(rest.contains("fp32") && rest.contains("1/2"), "{rest:?}");
    assert!(fs::metadata(place.path("out/results.md")).is_ok());
}
