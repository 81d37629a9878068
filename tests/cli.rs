//! The commands as a user meets them: help, version, and the adapter's own pages.

mod program;

use program::Place;

/// The flags that each command promises.
const FLAGS: [(&str, &[&str]); 4] = [
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
            "--dense-reg",
            "--init",
            "--resume",
            "--out",
            "--force",
            "--log-every",
            "--eval-every",
            "--adapter",
            "--dry-run",
            "--shortcut",
            "--width",
        ],
    ),
    ("eval", &["--weights", "--dataset", "--data-dir", "--batch-size", "--adapter", "--json"]),
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
    assert!(said.err.contains("Usage: s3gpu <COMMAND>"), "{}", said.err);
}

#[test]
fn devices_lists_what_adapter_takes() {
    let place = Place::new();
    let listed = place.run("devices").ok().out;
    let first = listed.lines().next().and_then(|l| l.strip_prefix("0: ")).unwrap_or_else(|| panic!("{listed}"));
    for word in ["type ", "storage buffers a stage", "largest binding", "features"] {
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
