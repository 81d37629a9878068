use std::path::Path;

use super::super::judge::Integers;
use super::*;
use crate::error::Error;
use crate::int::counts::Count;
use crate::train::assess::Assessment;
use crate::train::dynamics::{Dynamics, DynamicsRecord, LayerDynamics};
use crate::train::metrics::{EvalRecord, TrainRecord};
use crate::train::summary::Summary;
use crate::train::{Config, metrics};

/// Steps in an epoch.
const STEPS: u64 = 10;

pub(in super::super) fn eval(step: u64, loss: f64, top1: f64) -> Record {
    Record::Eval(EvalRecord { epoch: step / STEPS, step, loss, correct: 1, count: 2, top1, top5: 99.0 })
}

/// Weights of one layer that grow sparse at a constant rate, `t` from 0 to 1.
fn layer(t: f64, first: bool) -> Dynamics {
    let zeros = (400.0 * t) as u64;
    let wsvr = (!first).then_some(0.1 * (1.0 - t));
    let levels = vec![(-1.0, 300 - zeros / 4), (0.0, 100 + zeros), (1.0, 400 - zeros / 4), (2.0, 200 - zeros / 2)];
    Dynamics {
        count: 1000,
        wsvr,
        wlvr: 0.1 + 0.4 * t,
        tau: Some(0.0),
        zero: 0.1 + 0.4 * t,
        levels,
        ..Dynamics::default()
    }
}

fn observations(epochs: u64, layers: usize) -> impl Iterator<Item = Record> {
    (0..=epochs).map(move |e| {
        let whole = layer(e as f64 / epochs as f64, e == 0);
        let one = |i: usize| LayerDynamics { name: format!("layer{i}.conv1"), dynamics: whole.clone() };
        let layers = (0..layers).map(one).collect();
        let distance = if e == 0 { 0 } else { STEPS };
        let epoch = e.saturating_sub(1);
        Record::Dynamics(Box::new(DynamicsRecord { epoch, steps: e * STEPS, distance, whole, layers }))
    })
}

/// A finished run, whose top-1 rises to `top1`.
pub(in super::super) fn run(name: &str, config: Config, top1: f64) -> Entry {
    let epochs = config.epochs;
    let method = config.method().unwrap().title();
    let records: Vec<_> = (0..epochs)
        .flat_map(|e| {
            let step = (e + 1) * STEPS - 1;
            let train = TrainRecord {
                epoch: e,
                step,
                loss: 2.0 / (e + 1) as f64,
                regularizer: 0.0,
                correct: 30,
                count: 100,
                lr: 0.1,
                images_per_s: 9.0,
                data_wait: 0.0,
            };
            [Record::Train(train), eval(step, 1.0, top1 - (epochs - e - 1) as f64)]
        })
        .collect();
    let summary = Summary {
        path: name.into(),
        dataset: config.dataset.clone(),
        model: config.model.clone(),
        method,
        epochs_done: epochs as f64,
        epochs,
        steps_done: epochs * STEPS,
        steps: Some(epochs * STEPS),
        best_top1: Some(top1),
        adapter: Some("card (driver 1)".into()),
        version: Some("9.8.7".into()),
        state: State::Finished,
    };
    Entry { name: name.into(), path: name.into(), run: Ok(RunFiles { config, summary, records }) }
}

pub(in super::super) fn config(bits: u32, seed: u64) -> Config {
    let method = if bits == 0 { "fp32" } else { "s3" };
    Config { method: method.into(), bits, seed, epochs: 3, ..Config::default() }
}

fn files(entry: &mut Entry) -> &mut RunFiles {
    entry.run.as_mut().unwrap()
}

fn judgement(integers: Result<Integers, String>) -> Judgement {
    let mut assessment = Assessment::new(&["disc", "<ring>"].map(String::from), 0);
    assessment.add(&[0, 1, 1], &[2.0, 1.0, 0.0, 5.0, 3.0, 1.0]);
    let record = EvalRecord { epoch: 1, step: 19, loss: 0.5, correct: 2, count: 3, top1: 66.67, top5: 100.0 };
    Judgement { record, assessment, adapter: "card".into(), integers }
}

/// Two configurations of two seeds each, one of them not finished, and one folder that is damaged.
fn report() -> Report {
    let mut entries = vec![
        run("a0", config(3, 0), 60.0),
        run("a1", config(3, 1), 64.0),
        run("b<0>", config(0, 0), 70.0),
        run("b1", config(0, 1), 10.0),
    ];
    for entry in &mut entries[..3] {
        let records = &mut files(entry).records;
        records.extend(observations(3, 2));
    }
    files(&mut entries[3]).summary.state = State::Stopped;
    let error = Error::checkpoint(Path::new("c"), "line 7 is damaged: <no> JSON", "delete that line");
    entries.push(Entry { name: "c".into(), path: "c".into(), run: Err(error) });
    let mut report = Report::new(entries);
    let conv = Count {
        name: "conv1".into(),
        weights: 432,
        zeros: 32,
        packed_bytes: 162,
        float_bytes: 1792,
        additions: 123_456,
        ..Count::default()
    };
    report.judgements[0] =
        Some(Ok(judgement(Ok(Integers { costs: vec![conv], notes: vec!["conv1 lost a channel".into()] }))));
    report.judgements[2] = Some(Ok(judgement(Err("fp32 weights are floats".into()))));
    report.judgements[3] = Some(Err(Error::data("d", "test_batch.bin is missing", "give --data-dir")));
    report
}

/// Every element that is opened is closed in its order, every attribute has its quotation marks, and no character stands for markup by
/// mistake.
fn check_markup(page: &str) {
    const VOID: [&str; 3] = ["meta", "img", "br"];
    let mut open: Vec<&str> = Vec::new();
    let mut rest = page.strip_prefix("<!DOCTYPE html>").unwrap();
    while let Some((text, after)) = rest.split_once('<') {
        if open.last() != Some(&"style") {
            assert!(!text.contains('>'), "a stray > in {text}");
            let entities =
                text.split('&').skip(1).all(|e| ["lt;", "gt;", "amp;", "quot;"].iter().any(|k| e.starts_with(k)));
            assert!(entities, "a stray & in {text}");
        }
        let (tag, after) = after.split_once('>').unwrap();
        rest = after;
        if let Some(name) = tag.strip_prefix('/') {
            assert_eq!(open.pop(), Some(name), "closed in another order");
            continue;
        }
        assert_eq!(tag.matches('"').count() % 2, 0, "{tag}");
        let name = tag.split([' ', '/']).next().unwrap();
        if !VOID.contains(&name) && !tag.ends_with('/') {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "never closed: {open:?}");
}

#[test]
fn the_page_is_whole_and_loads_nothing() {
    let page = report().render().unwrap();
    check_markup(&page);
    for id in ["runs", "seeds", "settings", "curves", "dynamics", "each", "run0", "run1", "run2", "run3"] {
        assert_eq!(page.matches(&format!(" id=\"{id}\"")).count(), 1, "{id}");
    }
    for link in page.split("href=\"").skip(1).map(|l| l.split('"').next().unwrap()) {
        assert!(link.strip_prefix('#').is_some_and(|id| page.contains(&format!(" id=\"{id}\""))), "{link}");
    }
    for outside in ["http:", "https:", "//", "url(", "@import", "<link", "<script", "<iframe", "src="] {
        assert!(!page.contains(outside), "{outside}");
    }
    assert!(page.contains("default-src 'none'") && page.contains("b&lt;0&gt;") && page.contains("&lt;ring&gt;"));
    for svg in page.split("<svg").skip(1).map(|s| s.split("</svg>").next().unwrap()) {
        assert!(!svg.contains("NaN") && !svg.contains("inf") && !svg.contains("#0"), "{svg}");
    }
    assert_eq!(page, report().render().unwrap(), "the same runs give the same page");
}

#[test]
fn every_part_says_what_is_known() {
    let page = report().render().unwrap();
    for text in [
        "2 configurations, 4 runs on shapes",
        "3 of 4 finished, 1 more cannot be read",
        "<td class=\"unfinished\">stopped</td>",
        "line 7 is damaged: &lt;no&gt; JSON",
        "<td class=\"number\">60.00 %</td>",
        "9.8.7",
        "Not every run has a record of them: fp32.",
        "WSVR of a0 by layer and epoch",
        "WLVR is the share of zeros",
        "start: epoch 0",
        "middle: epoch 1",
        "end: epoch 3",
        "The log has no record of weight dynamics.",
        "disc taken for &lt;ring&gt;: 0 of 1",
        "&lt;ring&gt; taken for disc: 1 of 2",
        "123,456",
        "162 B of 1.75 KiB",
        "conv1 lost a channel",
        "No integer network: fp32 weights are floats",
        "Not evaluated: d: test_batch.bin is missing",
        "give --data-dir",
        "Not evaluated, as --no-eval was asked for",
        "<div class=\"differs\"><dt>bits</dt><dd>3</dd></div>",
    ] {
        assert!(page.contains(text), "no `{text}` in {page}");
    }
    // Test and training loss and accuracy, learning rate; WSVR, WLVR and zeros; of three runs a heat map each of WSVR and WLVR, bars, levels.
    assert_eq!(page.matches("<svg class=\"chart\"").count(), 5 + 3 + 3 * 4);
}

#[test]
fn means_are_over_finished_seeds() {
    let page = report().render().unwrap();
    let rows = page.split("Means over seeds").nth(1).unwrap().split("<tbody>").nth(1).unwrap();
    let row = |label: &str| rows.split(label).nth(1).unwrap().split("</tr>").next().unwrap().to_string();
    // 60 and 64: the deviation is √8.
    assert!(
        row("s3 3-bit").contains("0, 1</td><td class=\"number\">2 of 2</td><td class=\"number\">62.00 ± 2.83</td>"),
        "{}",
        row("s3 3-bit")
    );
    assert!(row("fp32").contains("1 of 2</td><td class=\"number\">70.00</td>"), "{}", row("fp32"));
}

#[test]
fn old_runs_and_runs_without_a_checkpoint_have_a_page() {
    let old = run("old", config(2, 0), 50.0);
    let mut new = run("new", config(3, 0), 50.0);
    let summary = &mut files(&mut new).summary;
    (summary.steps, summary.adapter, summary.version, summary.best_top1) = (None, None, None, None);
    summary.state = State::Empty;
    let page = Report::new(vec![old]).render().unwrap();
    check_markup(&page);
    assert!(
        page.contains("There is no record of weight dynamics in these runs' logs")
            && page.contains("<details class=\"run\" id=\"run0\" open>")
    );
    assert!(!page.contains("Means over seeds") && !page.contains("Settings that differ"));
    let page = Report::new(vec![new]).render().unwrap();
    check_markup(&page);
    assert!(page.contains("No run has reached its first checkpoint") && page.contains("no checkpoint"), "{page}");
}

#[test]
fn one_observation_and_equal_times_are_no_maps() {
    for count in [1, 2] {
        let mut entry = run("a", config(3, 0), 50.0);
        let first = observations(1, 2).next().unwrap();
        files(&mut entry).records.extend(std::iter::repeat_n(first, count));
        let page = Report::new(vec![entry]).render().unwrap();
        check_markup(&page);
        assert!(page.contains("observed once") && page.contains("start: epoch 0"), "{page}");
    }
}

#[test]
fn twenty_long_runs_stay_small() {
    let entries = (0..20).map(|i| {
        let epochs = 200;
        let mut entry = run(&format!("run{i}"), Config { epochs, lr: 0.1 + i as f32, ..config(3, 0) }, 90.0);
        let records = &mut files(&mut entry).records;
        records.extend(observations(epochs, 53));
        entry
    });
    let page = Report::new(entries.collect()).render().unwrap();
    assert!(page.len() < 4_000_000, "{} bytes", page.len());
}

#[test]
fn what_is_read_is_what_was_logged() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let put = |name: &str, text: &str| {
        std::fs::create_dir_all(path(name).parent().unwrap()).unwrap();
        std::fs::write(path(name), text).unwrap();
    };
    let text = toml::to_string(&config(3, 4)).unwrap();
    put("sweep/a/config.toml", &text);
    let mut log = metrics::MetricsLog::create(path("sweep/a/metrics.jsonl")).unwrap();
    observations(2, 3).for_each(|r| log.append(&r).unwrap());
    put("sweep/b/config.toml", &text.replace("lr = 0.1", "lr = -1.0"));
    put("sweep/c/config.toml", &text);
    put("sweep/c/metrics.jsonl", "{\n{}\n");
    put("notes/x.txt", "x");

    let read = |names: &[&str]| super::super::read(&names.iter().map(|n| path(n)).collect::<Vec<_>>());
    let entries = read(&["sweep", "sweep/a", "notes", "notes/x.txt"]).unwrap();
    let names: Vec<_> = entries.iter().map(|e| e.name.as_str()).collect();
    assert_eq!(names, ["sweep/a", "sweep/b", "sweep/c", "notes", "notes/x.txt"], "each once");
    let run = entries[0].run.as_ref().unwrap();
    assert_eq!((run.records.len(), run.config.seed, run.summary.state), (3, 4, State::Empty));
    let problems: Vec<_> = Report::new(entries).problems().map(|(_, why)| why).collect();
    for (why, word) in problems.iter().zip(["--lr is -1", "line 1 is damaged", "no run in this folder", "a file"]) {
        assert!(why.contains(word) && why.contains('\n'), "{why}");
    }
    assert!(read(&["sweep/b"]).unwrap_err().to_string().contains("--lr is -1"));
    assert!(read(&["notes"]).unwrap_err().to_string().contains("no run in this folder"));
    assert!(matches!(read(&["sweep", "nowhere"]).unwrap_err(), Error::Io { .. }));
}
