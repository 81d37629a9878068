//! `s3gpu report`: one page about several runs, from their folders and their data, whatever state those are in.

mod program;

use std::fs;

use program::{Place, TEST_IMAGES, with};
use serde_json::Value;

const TRAIN: &str =
    "train --dataset cifar10 --data-dir data --model resnet8 --method s3 --bits 2 --epochs 2 --batch-size 8";

fn page(place: &Place, name: &str) -> String {
    String::from_utf8(place.get(name)).expect("text")
}

/// What the text has between two others.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    let after = text.split(from).nth(1).unwrap_or_else(|| panic!("no {from} in {text}"));
    after.split(to).next().unwrap_or_default()
}

/// The details of the `i`-th run.
fn run(text: &str, i: usize) -> &str {
    between(text, &format!("id=\"run{i}\""), "</details>")
}

#[test]
fn runs_beside_each_other() {
    let place = Place::new();
    for (name, flags) in [("a", "--seed 0"), ("b", "--seed 1"), ("plain", "--method fp32 --bits 0")] {
        place.run(&with(TRAIN, &format!("{flags} --out runs/{name}"))).ok();
    }
    place.run(&with(TRAIN, "--steps 2 --out runs/short")).ok();
    let said = place.run("report runs --out all.html").ok();
    assert!(said.out.starts_with("all.html: 4 runs, "), "{}", said.out);
    assert!(said.err.contains("evaluating 4 of 4: short"), "{}", said.err);
    let text = page(&place, "all.html");
    assert!(text.contains("2 configurations, 4 runs on cifar10") && text.contains("3 of 4 finished"), "{text}");

    // The same run's figures as other commands tell.
    let listed: Value = serde_json::from_str(place.run("runs --json").ok().out.trim()).expect("JSON");
    let own = &listed[0];
    let row = between(between(&text, "id=\"runs\"", "</section>"), "#run0", "</tr>");
    for part in
        [format!("<td class=\"number\">{:.2} %</td>", own["best_top1"].as_f64().expect("a number")), "2 of 2".into()]
    {
        assert!(row.contains(&part), "{part} in {row}");
    }
    assert_eq!(own["version"], env!("CARGO_PKG_VERSION"));
    assert!(row.contains(env!("CARGO_PKG_VERSION")), "{row}");
    let eval = "eval --dataset cifar10 --data-dir data --json --weights runs/a";
    let result: Value = serde_json::from_str(place.run(eval).ok().out.trim()).expect("JSON");
    let top1 = result["top1"].as_f64().expect("a number");
    let a = run(&text, 0);
    assert!(a.contains(&format!("top-1 {top1:.2} %")) && a.contains(&format!("on {TEST_IMAGES} images")), "{a}");
    let titles = a.split("title=\"").skip(1).filter_map(|title| title.split('"').next());
    assert_eq!(titles.filter(|t| t.contains(" taken for ")).count(), 100, "a cell for each pair of classes");

    // And as an export tells.
    let export = place.run("export runs/a --out m.safetensors --json").ok().out;
    let export: Value = serde_json::from_str(export.lines().last().unwrap_or_default()).expect("JSON");
    for key in ["additions", "shifts"] {
        let n = export["all"][key].as_u64().expect("a number").to_string();
        assert!(a.replace(',', "").contains(&format!("<td class=\"number\">{n}</td>")), "{key} {n} in {a}");
    }
    assert!(run(&text, 2).contains("No integer network: fp32 weights are floats"), "{}", run(&text, 2));
    assert!(
        between(&text, "Means over seeds", "</section>").contains("0, 1, 0"),
        "the short run is of the same configuration"
    );
    assert!(between(&text, "Means over seeds", "</section>").contains("2 of 3"));

    // The same input gives the same bytes; nothing is replaced unasked.
    place.refuses("report runs --out all.html", 2, &["--out all.html exists already", "--force"]);
    place.refuses("report runs --out runs --force", 2, &["--out runs is a folder"]);
    place.refuses("report runs --out nowhere/all.html", 1, &["nowhere", "cannot write to"]);
    place.run("report runs --out all.html --force").ok();
    assert_eq!(page(&place, "all.html"), text);
    let said = place.run("report runs --out quick.html --no-eval --adapter 99");
    assert_eq!(said.code, Some(2), "{}", said.err);
    let said = place.run("report runs --out quick.html --no-eval").ok();
    assert!(!said.err.contains("evaluating"), "{}", said.err);
    assert_eq!(page(&place, "quick.html").matches("Not evaluated, as --no-eval").count(), 8);

    moved_data(&place);
    bad_runs(&place);
    a_page_that_does_not_fit(&place, &text);
}

fn moved_data(place: &Place) {
    fs::rename(place.path("data"), place.path("elsewhere")).expect("a folder");
    let said = place.run("report runs/a --out moved.html").ok();
    assert!(said.err.contains("a is not evaluated: ") && said.err.contains("data"), "{}", said.err);
    let text = page(place, "moved.html");
    assert_eq!(text.matches("Not evaluated: ").count(), 2, "{text}");
    assert!(text.contains("id=\"run0\" open"), "one run is open at once");
    place.run("report runs/a --data-dir elsewhere --out moved.html --force").ok();
    assert!(!page(place, "moved.html").contains("Not evaluated"));
    place.refuses("report runs/a --data-dir nowhere --out x.html", 1, &["nowhere", "cannot read"]);
    place.refuses("report runs/a --adapter nosuch --out x.html", 1, &["nosuch"]);
    fs::rename(place.path("elsewhere"), place.path("data")).expect("a folder");
}

fn bad_runs(place: &Place) {
    place.refuses("report data --out x.html", 1, &["data", "no run in this folder", "s3gpu runs"]);
    place.refuses("report nowhere --out x.html", 1, &["nowhere", "cannot read"]);
    place.refuses("report runs/a nowhere --out x.html", 1, &["nowhere", "cannot read"]);
    place.refuses("report runs/a/metrics.jsonl --out x.html", 1, &["metrics.jsonl", "a file"]);
    place.refuses("report --out x.html", 2, &["RUN"]);
    let copy = |name: &str, file: &str, bytes: &[u8]| {
        for own in ["config.toml", "metrics.jsonl", "best.safetensors", "last.safetensors"] {
            place.put(&format!("bad/{name}/{own}"), &place.get(&format!("runs/a/{own}")));
        }
        place.put(&format!("bad/{name}/{file}"), bytes);
    };
    copy("log", "metrics.jsonl", b"{\"kind\":\"tr\n{}\n");
    copy("last", "last.safetensors", &place.get("runs/a/last.safetensors")[..500]);
    copy("settings", "config.toml", b"epochs = \"many\"");
    for (name, word) in [("log", "line 1 is damaged"), ("last", "truncated"), ("settings", "config.toml")] {
        place.refuses(&format!("report bad/{name} --out x.html"), 1, &[word]);
    }
    // Best weights are asked for later: the rest is shown.
    copy("weights", "best.safetensors", b"{}");
    copy("fresh", "metrics.jsonl", &place.get("runs/a/metrics.jsonl"));
    fs::remove_file(place.path("bad/fresh/best.safetensors")).expect("a file");
    let said = place.run("report bad runs/b runs/b/../b data/test_batch.bin --out bad.html").ok();
    assert!(said.out.contains("3 runs, "), "{}", said.out);
    for word in [
        "left out: bad/log: ",
        "left out: data/test_batch.bin: ",
        "bad/weights is not evaluated: ",
        "bad/fresh is not evaluated: ",
    ] {
        assert!(said.err.contains(word), "no {word} in {}", said.err);
    }
    let text = page(place, "bad.html");
    assert_eq!(text.matches("<tr class=\"problem\">").count(), 4, "{text}");
    assert!(text.contains("line 1 is damaged") && text.contains("no best weights yet"), "{text}");
}

fn a_page_that_does_not_fit(place: &Place, old: &str) {
    place.put("full.html", old.as_bytes());
    let before = place.names(".");
    let limited = "trap '' XFSZ; ulimit -f 10; exec \"$S3GPU\" report runs --no-eval --force --out full.html";
    place.shell(limited).fails(1, &["full.html", "cannot write", "ulimit -f"]);
    assert_eq!((page(place, "full.html"), place.names(".")), (old.to_string(), before));
}
