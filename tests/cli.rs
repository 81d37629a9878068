//! The commands as a user meets them: help, version, and the adapter's own pages.

mod program;

use program::Place;

/// The flags that each command promises.
const FLAGS: [(&str, &[&str]); 9] = [
    (
        "train",
        &[
            "--dataset",
            "--data-dir",
            "--model",
            "--method",
            "--bits",
            "--epochs",
            "--steps",
            "--batch-size",
            "--lr",
            "--schedule",
            "--warmup",
            "--momentum",
            "--nesterov",
            "--weight-decay",
            "--label-smoothing",
            "--seed",
            "--no-augment",
            "--no-shuffle",
            "--latent-init",
            "--latent-lr",
            "--latent-scale",
            "--dense-reg",
            "--init",
            "--resume",
            "--out",
            "--force",
            "--log-every",
            "--eval-every",
            "--eval-int-every",
            "--adapter",
            "--dry-run",
            "--shortcut",
            "--width",
            "--rung",
            "--tune",
            "--tune-seconds",
            "--recipe",
            "--config",
            "--set",
            "--accumulate",
            "--patience",
            "--eval-only-last",
            "--keep",
            "--watch",
        ],
    ),
    ("config", &["--recipe", "--config", "--set", "--dataset", "--resume"]),
    (
        "eval",
        &[
            "--weights",
            "--dataset",
            "--data-dir",
            "--batch-size",
            "--adapter",
            "--device",
            "--json",
            "--details",
            "--report",
            "--worst",
        ],
    ),
    (
        "export",
        &["--out", "--format", "--force", "--dataset", "--data-dir", "--calibration", "--terms", "--adapter", "--json"],
    ),
    ("infer", &["--top", "--device", "--json"]),
    ("runs", &["--json"]),
    ("info", &["--json"]),
    ("devices", &[]),
    ("doctor", &["--adapter", "--kernel", "--dump-shader", "--dump-shaders"]),
];

#[test]
fn help_names_every_command_and_flag() {
    let place = Place::new();
    let all = place.run("--help").ok().out;
    for (command, flags) in FLAGS {
        assert!(all.contains(&format!("\n  {command} ")), "{all}");
        let help = place.run(&format!("{command} --help")).ok().out;
        for flag in flags {
            // Each with a text of its own.
            let at = help.find(&format!("{flag} ")).or_else(|| help.find(&format!("{flag}\n")));
            let at = at.unwrap_or_else(|| panic!("{command}: no {flag} in\n{help}"));
            let text = help[at..].split("\n      --").next().unwrap_or_default();
            assert!(text.split_whitespace().count() >= 3, "{command}: {flag} has no text:\n{help}");
        }
    }
    for command in ["train", "eval"] {
        let help = place.run(&format!("{command} --help")).ok().out;
        assert!(help.contains("[default: "), "{help}");
    }
}

#[test]
fn version_and_unknown_commands() {
    let place = Place::new();
    assert_eq!(place.run("--version").ok().out, format!("s3gpu {}\n", env!("CARGO_PKG_VERSION")));
    place.run("trian").fails(2, &["trian", "--help"]);
    place.run("devices --json").fails(2, &["--json", "--help"]);
    let said = place.run("");
    assert_eq!(said.code, Some(2));
    assert!(said.err.contains("Usage: s3gpu [OPTIONS] <COMMAND>"), "{}", said.err);
}

#[test]
fn devices_lists_what_adapter_takes() {
    let place = Place::new();
    let listed = place.run("devices").ok().out;
    let first = listed.lines().next().and_then(|l| l.strip_prefix("0: ")).unwrap_or_else(|| panic!("{listed}"));
    for word in ["type ", "storage buffers a stage", "largest binding", "features", "subgroups "] {
        assert!(listed.contains(word), "no `{word}` in {listed}");
    }
    for adapter in ["0", first.split([' ', '(']).next().unwrap_or_default()] {
        let said = place.run(&format!("doctor --kernel relu --adapter {adapter}")).ok();
        assert!(said.out.contains(first), "{}", said.out);
    }
}

#[test]
fn doctor_prints_a_table() {
    let place = Place::new();
    let said = place.run("doctor --kernel relu").ok();
    let row = |kernel: &str| said.out.lines().find(|l| l.split_whitespace().next() == Some(kernel)).map(str::to_string);
    for kernel in ["relu", "relu_backward"] {
        assert!(row(kernel).is_some_and(|l| l.ends_with("ok")), "{}", said.out);
    }
    assert!(row("sgd").is_none() && said.out.contains("2 kernels right, 0 wrong"), "{}", said.out);
    place.run("doctor --kernel rleu").fails(2, &["rleu", "relu_backward"]);
}

#[test]
fn doctor_dumps_shaders() {
    let place = Place::new();
    let text = place.run("doctor --dump-shader relu").ok().out;
    assert!(text.contains("fn relu(") && text.contains("@compute"), "{text}");
    place.run("doctor --dump-shader rleu").fails(2, &["rleu", "relu_backward"]);

    let said = place.run("doctor --dump-shaders new/shaders").ok();
    let files = place.names("new/shaders");
    assert!(said.out.contains(&format!("{} shaders in new/shaders", files.len())), "{}", said.out);
    for kernel in s3gpu::kernels::registry() {
        let of = |name: &String| name.split('.').next() == Some(kernel.name()) && name.ends_with(".wgsl");
        // Subgroup kernels do not run everywhere.
        assert_eq!(files.iter().any(of), !kernel.needs_subgroups(), "{} in {files:?}", kernel.name());
    }
    place.put("file", b"");
    place.run("doctor --dump-shaders file/shaders").fails(1, &["file/shaders", "cannot create", "not a folder"]);
}

#[test]
fn bench_help_names_every_command_and_flag() {
    let place = Place::new();
    let workload =
        ["--model", "--width", "--shortcut", "--batch-size", "--method", "--bits", "--rung", "--adapter", "--json"];
    let measured = ["--steps", "--compare", "--profile"];
    let all = place.run("bench --help").ok().out;
    for (command, flags) in [("kernels", &measured[..]), ("step", &measured), ("scaling", &["--cap", "--out"])] {
        assert!(all.contains(&format!("\n  {command} ")), "{all}");
        let help = place.run(&format!("bench {command} --help")).ok().out;
        for flag in workload.iter().chain(flags) {
            assert!(help.contains(&format!("      {flag}")), "bench {command}: no {flag} in\n{help}");
        }
    }
    place.run("bench scaling --cap 0").fails(2, &["--cap", "above 0"]);
    place.run("bench step --method s4").fails(2, &["s4", "known methods"]);
}

#[test]
fn bench_step_measures_compares_and_profiles() {
    let place = Place::new();
    let flags = "--model resnet8 --batch-size 8 --method s3 --bits 3 --steps 1 --json";
    let said = place.run(&format!("bench step {flags} --profile trace.json")).ok();
    let last = said.out.lines().last().unwrap_or_default();
    let json: serde_json::Value = serde_json::from_str(last).unwrap_or_else(|e| panic!("{e}: {last}"));
    for key in ["seconds_per_step", "seconds_per_forward", "images_per_s", "host_seconds", "bytes", "flops", "floor"] {
        assert!(json[key].as_f64().is_some_and(|x| x > 0.0), "{key} in {last}");
    }
    for (key, value) in [("model", "resnet8"), ("method", "s3 3-bit"), ("shortcut", "pad")] {
        assert_eq!(json[key], value);
    }
    assert_eq!(json["batch"], 8);
    assert_eq!(json["rung_order"], "built-in order");
    assert!(
        json["ceilings"]["flops_per_s"].as_f64() > Some(0.0) && json["ceilings"]["bytes_per_s"].as_f64() > Some(0.0)
    );
    let parts = json["parts"].as_array().expect("parts");
    let dispatches: u64 = parts.iter().filter_map(|p| p["times"].as_u64()).sum();
    assert_eq!(Some(dispatches), json["dispatches"].as_u64(), "every dispatch is in a part");
    assert!(parts.iter().all(|p| p["seconds"].as_f64() > Some(0.0) && p["share"].as_f64().is_some()), "{last}");
    assert!(json["rungs"].as_object().is_some_and(|r| r.keys().any(|k| k.ends_with(":layer3.0.conv2"))), "{last}");

    let trace: serde_json::Value = serde_json::from_slice(&place.get("trace.json")).expect("a chrome trace is JSON");
    let events = trace["traceEvents"].as_array().expect("events");
    assert_eq!(events.len() as u64, dispatches, "one event a dispatch");
    assert!(events.iter().all(|e| e["ph"] == "X" && e["dur"].as_f64() >= Some(0.0)), "{trace}");

    // The whole output serves as what to compare with; a wrong file is refused before anything is measured.
    place.put("old.txt", said.out.as_bytes());
    let said = place.run(&format!("bench kernels {flags} --compare old.txt")).ok();
    for word in ["compared with", "  step ", "  forward ", "parts within"] {
        assert!(said.out.contains(word), "no `{word}` in {}", said.out);
    }
    place.put("wrong.json", b"{}");
    place.run(&format!("bench step {flags} --compare wrong.json")).fails(2, &["wrong.json", "bench step --json"]);
}

#[test]
fn guard_records_once_and_then_judges() {
    let place = Place::new();
    let flags = "--model resnet8 --batch-size 8 --rounds 1 --file guard.toml";
    let said = place.run(&format!("bench guard {flags}")).ok();
    assert!(
        said.out.contains("no default plan has a naive rung") && said.out.contains("no ratio stored"),
        "{}",
        said.out
    );
    let said = place.run(&format!("bench guard {flags} --record")).ok();
    assert!(said.out.contains("recorded in guard.toml"), "{}", said.out);
    // A hundredfold ratio cannot be met, nor a hundredth of it missed, however busy the machine.
    let text = String::from_utf8(place.get("guard.toml")).expect("text");
    let line = text.lines().find(|l| l.starts_with("ratio = ")).expect("a ratio");
    let ratio: f64 = line["ratio = ".len()..].parse().expect("a number");
    for (stored, code, word) in [(ratio * 100.0, 0, "times faster"), (ratio / 100.0, 1, "FAILED")] {
        place.put("guard.toml", text.replace(line, &format!("ratio = {stored:?}")).as_bytes());
        let said = place.run(&format!("bench guard {flags}"));
        assert!(said.code == Some(code) && said.out.contains(word), "{:?} {}{}", said.code, said.out, said.err);
    }
}
