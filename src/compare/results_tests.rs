use super::*;
use crate::compare::Sweep;

const TEXT: &str = "models = [\"resnet8\"]\nseeds = [1, 2, 3]\n[settings]\ndataset = \"shapes\"\nepochs = 2\nlr = 0.05\n\
                    [[methods]]\nmethod = \"fp32\"\n[[methods]]\nlabel = \"S3 | fast, really\"\nmethod = \"s3\"\nbits = [2]\n\
                    settings = { latent-lr = 30 }";

fn sweep() -> Sweep {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s.toml");
    std::fs::write(&path, TEXT).unwrap();
    Sweep { path: "s.toml".into(), ..Sweep::read(&path, &[]).unwrap() }
}

fn done(top1: f64) -> State {
    State::Finished(Box::new(Figures {
        epochs: 2,
        last_top1: top1,
        best_top1: top1 + 1.0,
        test_loss: 1.25,
        train_loss: 1.5,
        int_top1: None,
        minutes: 3.0,
        zero: Some(0.25),
        wsvr: None,
        wlvr: Some(0.25),
        adapter: "Voodoo 2 (Glide, 3.10)".into(),
        programs: vec!["s3gpu 0.1.0, commit abc".into()],
    }))
}

/// Cells in order: seed 1 of both rows, seed 2, seed 3.
fn results() -> Results {
    let failed = State::Failed("the loss is NaN at step 7: training diverged\n  start again with a lower --lr".into());
    Results::new(&sweep(), &[done(50.0), failed, done(53.0), done(70.25), State::New, State::Stopped(1.0)])
}

#[test]
fn deviations_are_those_of_samples() {
    let spread = Spread::of([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]).unwrap();
    assert_eq!((spread.n, spread.mean), (8, 5.0));
    assert!((spread.std.unwrap() - (32f64 / 7.0).sqrt()).abs() < 1e-12);
    assert_eq!(spread.text(1.0, 2), "5.00 ± 2.14");
    assert_eq!(Spread::of([7.5]), Some(Spread { n: 1, mean: 7.5, std: None }));
    assert_eq!(Spread::of([0.075]).unwrap().text(100.0, 1), "7.5");
    assert_eq!(Spread::of([]), None);
}

#[test]
fn the_table_for_people() {
    let text = results().markdown();
    let lines: Vec<_> = text.lines().collect();
    assert_eq!(lines[0], "# s.toml");
    assert!(lines[2].starts_with("3 of 6 cells finished, 1 failed. s3gpu "), "{text}");
    // No cell was measured as integers or has a WSVR: no column is empty.
    let titles = "| method | model | cells | last top-1, % | best top-1, % | test loss | train loss | minutes | zeros, % | WLVR, % | settings |";
    assert_eq!(lines[4], titles);
    assert_eq!(lines[5].matches("---|").count(), titles.matches(" |").count());
    let fp32 = "| fp32 | resnet8 | 2 of 3 | 51.50 ± 2.12 | 52.50 ± 2.12 | 1.250 ± 0.000 | 1.500 ± 0.000 | 3.0 ± 0.0 | 25.0 ± 0.0 | 25.0 ± 0.0 | – |";
    assert_eq!(lines[6], fp32);
    let s3 = "| S3 \\| fast, really, 2-bit | resnet8 | 1 of 3, 1 failed | 70.25 | 71.25 | 1.250 | 1.500 | 3.0 | 25.0 | 25.0 | latent-lr = 30.0 |";
    assert_eq!(lines[7], s3);
    for words in [
        "sample standard deviation (n − 1)",
        "All cells, where a row says nothing else: batch-size = 128, dataset = \"shapes\", epochs = 2, lr = 0.05, optimizer = \"sgd\"; everything else as `s3gpu config`",
        "Adapter: Voodoo 2 (Glide, 3.10).",
        "Trained by: s3gpu 0.1.0, commit abc.",
        "- `s3-fast-really-2bit-resnet8-seed1`: the loss is NaN at step 7: training diverged; start again with a lower --lr",
    ] {
        assert!(text.contains(words), "no {words:?} in {text}");
    }
}

#[test]
fn files_for_programs() {
    let results = results();
    let bytes = results.csv().unwrap();
    let mut reader = csv::Reader::from_reader(&bytes[..]);
    let titles = reader.headers().unwrap().clone();
    let rows: Vec<_> = reader.records().map(|r| r.unwrap()).collect();
    let of = |row: usize, title: &str| &rows[row][titles.iter().position(|t| t == title).unwrap()];
    assert_eq!(rows.len(), 6);
    let keys = ["cell", "title", "method", "bits", "seed", "state", "last-top1", "zero", "wsvr", "settings", "reason"];
    let s3 = "s3-fast-really-2bit-resnet8-seed2";
    let wanted =
        [s3, "S3 | fast, really, 2-bit", "s3", "2", "2", "finished", "70.25", "0.25", "", "latent-lr = 30.0", ""];
    assert_eq!(keys.map(|k| of(3, k)), wanted);
    assert_eq!(of(1, "state"), "failed");
    assert!(of(1, "reason").contains("diverged; start again"), "{}", of(1, "reason"));
    assert_eq!([of(1, "last-top1"), of(4, "state"), of(5, "state")], ["", "to do", "stopped"]);

    let json = serde_json::to_value(&results).unwrap();
    assert_eq!(json["rows"][0]["last-top1"]["n"], 2);
    assert_eq!(json["rows"][1]["last-top1"]["std"], serde_json::Value::Null);
    assert_eq!(json["rows"][1]["settings"]["latent-lr"], 30.0);
    assert_eq!(json["common"]["lr"], 0.05);
    assert_eq!(json["cells"][3]["figures"]["best-top1"], 71.25);
    assert_eq!(json["cells"][1]["row"], 1);
}
