//! What a run offers once it is there: lists, information, evaluation in detail, the page, export, and its settings for the next run.

mod program;

use program::{Place, TEST_IMAGES};
use serde_json::Value;

/// A run of one epoch in `runs/one`, on 23 images.
const TRAIN: &str = "train --dataset cifar10 --data-dir data --model resnet8 --method s3 --bits 3 --epochs 1 --batch-size 4 --out runs/one";

fn json(line: &str) -> Value {
    serde_json::from_str(line.lines().last().unwrap_or_default()).unwrap_or_else(|e| panic!("{e}: {line}"))
}

fn sum(list: &Value, key: &str) -> u64 {
    list.as_array().expect("a list").iter().filter_map(|v| v[key].as_u64()).sum()
}

#[test]
fn a_run_is_listed_described_evaluated_and_exported() {
    let place = Place::new();
    // Diagnostics on demand, and never wgpu's.
    let said = place.run(&format!("{TRAIN} -v")).ok();
    assert!(said.err.contains("saved") && said.err.contains("last.safetensors"), "{}", said.err);
    assert!(!said.err.contains("wgpu") && !said.err.contains("naga"), "{}", said.err);
    listed(&place);
    described(&place);
    evaluated(&place);
    exported(&place);
    settings_again(&place);
}

fn listed(place: &Place) {
    let all = place.run("runs").ok().out;
    let line = all.lines().nth(1).unwrap_or_else(|| panic!("{all}"));
    assert!(
        ["runs/one", "cifar10", "resnet8", "s3 3-bit", "1/1", "finished"].iter().all(|w| line.contains(w)),
        "{all}"
    );
    let run = &json(&place.run("runs --json").ok().out)[0];
    assert_eq!((run["state"].as_str(), run["steps_done"].as_u64()), (Some("finished"), Some(6)), "{run}");
    let metrics = String::from_utf8(place.get("runs/one/metrics.jsonl")).expect("text");
    let eval = metrics.lines().find(|line| line.contains("\"eval\"")).expect("an evaluation");
    assert_eq!(run["best_top1"], json(eval)["top1"], "{run}");

    // While another process trains there.
    let lock = std::fs::File::open(place.path("runs/one/.lock")).expect("a lock");
    lock.lock().expect("nobody else");
    assert_eq!(json(&place.run("runs --json").ok().out)[0]["state"], "running");
    drop(lock);

    // A damaged one hides no other.
    place.put("runs/two/config.toml", b"epochs = 1");
    let said = place.run("runs").ok().out;
    assert!(said.contains("runs/one ") && said.contains("damaged: runs/two/config.toml"), "{said}");
    std::fs::remove_dir_all(place.path("runs/two")).expect("a folder");
}

fn described(place: &Place) {
    let said = place.run("info runs/one").ok().out;
    assert!(["finished", "resnet8 s3 3-bit on cifar10", "best.safetensors"].iter().all(|w| said.contains(w)), "{said}");
    let said = place.run("info runs/one/last.safetensors").ok().out;
    assert!(["optimizer's momenta", "layer3.0.conv2.shift2", "levels"].iter().all(|w| said.contains(w)), "{said}");
    let info = json(&place.run("info runs/one/best.safetensors --json").ok().out);
    let layers = info["layers"].as_array().expect("layers");
    assert_eq!(layers.len(), 7, "six convolutions and all together");
    for layer in layers {
        assert_eq!(sum(&layer["levels"], "count"), layer["weights"].as_u64().expect("a number"), "{layer}");
        let known = |l: &Value| [-4.0, -2.0, -1.0, 0.0, 1.0, 2.0, 4.0].contains(&l["level"].as_f64().expect("a level"));
        assert!(layer["levels"].as_array().expect("levels").iter().all(known), "{layer}");
    }
    assert_eq!(layers[6]["weights"], 2 * 2304 + 4608 + 9216 + 18432 + 36864);
    place.run("info runs/one/curves.svg").fails(1, &["curves.svg", "s3gpu knows"]);
}

fn evaluated(place: &Place) {
    let eval = "eval --weights runs/one --dataset cifar10 --data-dir data";
    let result = json(&place.run(&format!("{eval} --json")).ok().out);
    assert_eq!((sum(&result["classes"], "count"), &result["count"]), (TEST_IMAGES as u64, &TEST_IMAGES.into()));
    assert_eq!(sum(&result["classes"], "correct"), result["correct"].as_u64().expect("a number"), "{result}");
    assert_eq!((result["kind"].as_str(), result.get("worst")), (Some("eval"), None));

    let said = place.run(&format!("{eval} --json --details --worst 3 --report page.html --batch-size 4")).ok();
    let details = json(&said.out);
    let wrong = TEST_IMAGES as u64 - details["correct"].as_u64().expect("a number");
    assert_eq!(sum(&details["confusions"], "count"), wrong, "{details}");
    let worst = details["worst"].as_array().expect("a list");
    assert_eq!(worst.len() as u64, wrong.min(3), "{details}");
    let loss = |v: &Value| v["loss"].as_f64().expect("a loss");
    assert!(worst.iter().zip(&worst[1..]).all(|(a, b)| loss(a) >= loss(b)), "{details}");
    // The images are those that lie there: a record's label is its number's last digit.
    for mistake in worst {
        assert_eq!(mistake["label"].as_u64().expect("a class"), mistake["image"].as_u64().expect("a place") % 10);
    }
    let page = String::from_utf8(place.get("page.html")).expect("text");
    assert_eq!(page.matches("src=\"data:image/png;base64,").count(), worst.len());
    assert!(page.contains("resnet8 s3 3-bit on cifar10") && page.contains("Confusion matrix"), "{page}");

    let said = place.run(&format!("{eval} --details")).ok().out;
    assert!(["most often taken for", "as class", "test image"].iter().all(|w| said.contains(w)), "{said}");
    place.refuses(&format!("{eval} --report page.html"), 2, &["page.html exists already", "--force"]);
    place.run(&format!("{eval} --report page.html --force --worst 0")).ok();
    assert!(place.get("page.html").len() < page.len(), "it was replaced");
    let integer = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/int/shapes-resnet8-s3-3bit.safetensors");
    let words = ["integer network", "no --report", "exported from"];
    place.refuses(&format!("eval --weights {integer} --dataset shapes --report int.html"), 2, &words);
    place.refuses(&format!("{eval} --report runs --force"), 2, &["--report runs is a folder"]);
    place.run(&format!("{eval} --report nowhere/page.html")).fails(1, &["nowhere", "cannot write to"]);
}

fn exported(place: &Place) {
    place.run("export --format torch runs/one --out torch.safetensors").ok();
    place.refuses("export --format torch runs/one --out torch.safetensors", 2, &["torch.safetensors", "--force"]);
    let info = json(&place.run("info torch.safetensors --json").ok().out);
    let tensors = info["tensors"].as_array().expect("tensors");
    let find = |name: &str| tensors.iter().find(|t| t["name"] == name).unwrap_or_else(|| panic!("no {name}: {info}"));
    assert_eq!(find("layer2.0.conv1.weight")["shape"], serde_json::json!([32, 16, 3, 3]));
    assert_eq!(find("layer2.0.bn1.num_batches_tracked")["type"], "I64");
    assert!(tensors.iter().all(|t| !t["name"].as_str().expect("a name").contains("sign")), "{info}");
    // The same network without latents gives the same answers.
    let eval = "eval --dataset cifar10 --data-dir data --json --weights";
    let [shift, plain] = ["runs/one", "torch.safetensors"].map(|w| json(&place.run(&format!("{eval} {w}")).ok().out));
    for key in ["correct", "top5", "loss", "classes"] {
        assert_eq!(shift[key], plain[key], "{key}");
    }
}

fn settings_again(place: &Place) {
    let own = String::from_utf8(place.get("runs/one/config.toml")).expect("text");
    let table = |text: &str| text.parse::<toml::Table>().unwrap_or_else(|e| panic!("{e}: {text}"));
    for args in ["config --config runs/one/config.toml", "config --resume runs/one"] {
        let said = place.run(args).ok().out;
        assert_eq!(table(&said), table(&own), "{args}");
        assert!(said.lines().all(|l| l.contains("  # ") && l.contains("runs/one")), "{said}");
    }
    // What is printed is a configuration; a run from it is the same run.
    let said = place.run(&format!("{} --lr 0.05", TRAIN.replacen("train", "config", 1))).ok().out;
    place.put("again.toml", said.as_bytes());
    place.run("train --config again.toml --steps 1 --out runs/again").ok();
    let mut again = table(&String::from_utf8(place.get("runs/again/config.toml")).expect("text"));
    // The run may go on in another folder.
    let kept = again.insert("data-dir".into(), "data".into()).expect("a data folder");
    assert!(std::path::Path::new(kept.as_str().expect("a path")).is_absolute(), "{kept}");
    assert_eq!(table(&said), again);
    place.run("train --resume runs/again --set lr=1").fails(2, &["--resume", "--set", "cannot be used with"]);
    place
        .run("train --resume runs/again --config again.toml")
        .fails(2, &["--resume", "--config", "cannot be used with"]);
}
