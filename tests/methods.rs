//! Every method through the command line: trained, stopped and resumed, from fp32 weights, converted, exported.

mod program;

use program::{Place, with};
use s3gpu::files::tensors::{self, TensorFile};
use s3gpu::methods::{METHODS, MethodSpec, Scale};

/// 24 steps, 6 an epoch.
const TRAIN: &str =
    "train --dataset cifar10 --data-dir data --model resnet8 --epochs 4 --batch-size 4 --eval-only-last --seed 7";

fn file(place: &Place, name: &str) -> TensorFile {
    tensors::read(place.path(name)).unwrap_or_else(|e| panic!("{e}"))
}

fn flags(spec: MethodSpec) -> String {
    let bits = if spec.bits == 0 { String::new() } else { format!(" --bits {}", spec.bits) };
    let scale = spec.method.scale().map_or(String::new(), |s| format!(" --scale {}", s.name()));
    format!("--method {}{bits}{scale}", spec.method.name())
}

/// Every method at its default width, fp32 apart.
fn methods() -> impl Iterator<Item = MethodSpec> {
    let spec = |m: &&'static _| MethodSpec { method: *m, bits: s3gpu::methods::Method::default_bits(*m) };
    METHODS.iter().map(spec).filter(|m| *m != MethodSpec::FP32)
}

/// A place with an fp32 network that has been trained a little.
fn pretrained() -> Place {
    let place = Place::new();
    place.run(&format!("{TRAIN} --method fp32 --out fp32")).ok();
    place
}

#[test]
fn every_method_trains_from_fp32_resumes_bit_for_bit_and_becomes_integers() {
    let place = pretrained();
    for spec in methods() {
        let name = spec.title().replace(' ', "-");
        let train = format!("{TRAIN} {} --init fp32/best.safetensors --lr 0.01", flags(spec));
        place.run(&format!("{train} --out {name}")).ok();
        // Stopped where an epoch begins, before its weights are frozen, and in the middle of one.
        place.run(&format!("{train} --out {name}-stopped --steps 12")).ok();
        place.run(&format!("train --resume {name}-stopped --steps 15")).ok();
        place.run(&format!("train --resume {name}-stopped")).ok();
        for kind in ["best", "last"] {
            let [whole, stopped] = ["", "-stopped"].map(|end| place.get(&format!("{name}{end}/{kind}.safetensors")));
            assert!(whole == stopped, "{name}: {kind}.safetensors differs after a stop");
        }
        let said = place.run(&format!("export {name} --dataset cifar10 --data-dir data --out {name}.safetensors")).ok();
        assert!(said.out.contains("top-1"), "{}", said.out);
        let hash = |device: &str| {
            let eval = format!("eval --weights {name}.safetensors --dataset cifar10 --data-dir data --device {device}");
            let said = place.run(&eval).ok();
            let words: Vec<_> = said.out.split_whitespace().map(String::from).collect();
            let at = words.iter().position(|w| w.contains("hash")).unwrap_or_else(|| panic!("no hash: {}", said.out));
            words[at + 1].clone()
        };
        assert_eq!(hash("cpu"), hash("gpu"), "{name}");
        let said = place.run(&format!("info {name}/best.safetensors")).ok();
        assert!(said.out.contains("levels of the composed weights"), "{}", said.out);
    }
}

#[test]
fn optimizers_resume_bit_for_bit_and_differ() {
    let place = Place::new();
    let mut ends = Vec::new();
    for optimizer in ["sgd", "adam", "radam"] {
        let train = with(TRAIN, &format!("--epochs 2 --method s3 --optimizer {optimizer} --lr 0.01"));
        place.run(&format!("{train} --out {optimizer}")).ok();
        place.run(&format!("{train} --out {optimizer}-stopped --steps 7")).ok();
        place.run(&format!("train --resume {optimizer}-stopped")).ok();
        let [whole, stopped] = ["", "-stopped"].map(|end| place.get(&format!("{optimizer}{end}/last.safetensors")));
        assert!(whole == stopped, "{optimizer}: the stop shows");
        let last = file(&place, &format!("{optimizer}/last.safetensors"));
        let has_second = last.tensors.keys().any(|name| name.starts_with("optimizer.second."));
        assert_eq!(has_second, optimizer != "sgd", "{optimizer}");
        ends.push(last.tensors["fc.weight"].data.clone());
    }
    assert!(ends[0] != ends[1] && ends[1] != ends[2], "two optimizers did the same");
}

#[test]
fn inq_freezes_its_portions_and_keeps_them() {
    let place = pretrained();
    let train = format!("{TRAIN} --method inq --bits 4 --init fp32/best.safetensors --keep 4 --out inq");
    let said = place.run(&train).ok();
    for share in ["50 %", "75 %", "87.5 %", "100 %"] {
        assert!(said.out.contains(&format!("{share} of each layer")), "{}", said.out);
    }
    let layer = "layer2.0.conv2";
    let level = |w: f32| w == 0.0 || w.to_bits() & 0x7f_ffff == 0;
    let mut before: Option<(Vec<f32>, Vec<f32>)> = None;
    for (epoch, share) in [(1, 0.5), (2, 0.75), (3, 0.875), (4, 1.0)] {
        let f = file(&place, &format!("inq/epoch-000{epoch}.safetensors"));
        let [weight, frozen] = ["weight", "frozen"].map(|t| f.tensors[&format!("{layer}.{t}")].data.clone());
        assert_eq!(frozen.iter().sum::<f32>(), (share * frozen.len() as f64).round() as f32, "epoch {epoch}");
        assert!(
            weight.iter().zip(&frozen).all(|(w, f)| *f == 0.0 || level(*w)),
            "epoch {epoch}: a frozen weight off its level"
        );
        if let Some((earlier, was)) = before {
            assert!(
                (0..was.len()).all(|i| was[i] == 0.0 || weight[i] == earlier[i]),
                "epoch {epoch}: a frozen weight moved"
            );
            assert!(earlier != weight, "epoch {epoch}: nothing moved");
        }
        before = Some((weight, frozen));
    }
    // Before the first step half of the weights is on levels, and the other half as it was.
    let still = with(&train, "--lr 0 --weight-decay 0 --steps 1 --out still");
    place.run(&still).ok();
    let [was, now] = ["fp32/best", "still/last"].map(|f| file(&place, &format!("{f}.safetensors")));
    let [was, now_, frozen] =
        [(&was, "weight"), (&now, "weight"), (&now, "frozen")].map(|(f, t)| &f.tensors[&format!("{layer}.{t}")].data);
    let free: Vec<_> = (0..was.len()).filter(|i| frozen[*i] == 0.0).collect();
    assert!(free.len() == was.len() / 2 && free.iter().all(|i| was[*i] == now_[*i]), "free weights moved");
    assert!(now_.iter().zip(frozen).all(|(w, f)| *f == 0.0 || level(*w)));
    // A network that is not wholly frozen is no candidate for the best.
    place
        .run(&format!("{} --patience 1", train.replace("--eval-only-last", "").replace("--out inq", "--out each")))
        .ok();
    let best = file(&place, "each/best.safetensors");
    assert!(best.tensors[&format!("{layer}.frozen")].data.iter().all(|f| *f == 1.0));
    // What is not frozen yet has no levels to show or to export.
    let said = place.run("info inq/epoch-0002.safetensors").ok();
    assert!(said.out.contains("not frozen on a level yet"), "{}", said.out);
    place
        .run("export inq/epoch-0002.safetensors --dataset cifar10 --data-dir data --out half.safetensors")
        .fails(1, &["on no level"]);
}

#[test]
fn conversion_tells_its_accuracy_before_any_training() {
    let place = pretrained();
    for spec in methods() {
        let out = format!("{}.safetensors", spec.title().replace(' ', "-"));
        let convert = format!("convert fp32 --out {out} {}", flags(spec));
        let said = place.run(&format!("{convert} --dataset cifar10 --data-dir data --json")).ok();
        let json: serde_json::Value = serde_json::from_str(&said.out).expect("one object");
        let after = json["accuracy"]["after"].clone();
        let said = place.run(&format!("eval --weights {out} --dataset cifar10 --data-dir data --json")).ok();
        let eval: serde_json::Value = serde_json::from_str(&said.out).expect("one object");
        assert_eq!((&after["loss"], &after["correct"]), (&eval["loss"], &eval["correct"]), "{}", spec.title());
        assert_eq!(json["layers"].as_array().map(Vec::len), Some(6), "{json}");
        let method = file(&place, &out).meta["method"].clone();
        assert_eq!(method, spec.method.name());
        place.run(&convert).fails(2, &["exists already"]);
        let said = place.run(&format!("{convert} --force")).ok();
        assert!(said.out.contains("layer3.0.conv2"), "{}", said.out);
    }
    let said = place.run("convert fp32 --out both.safetensors --method s3 --first-last shift --json").ok();
    let json: serde_json::Value = serde_json::from_str(&said.out).expect("one object");
    assert_eq!(json["layers"].as_array().map(Vec::len), Some(8), "{json}");
    place.run("eval --weights both.safetensors --dataset cifar10 --data-dir data").ok();
    place.run("convert s3-3-bit.safetensors --out x.safetensors --method twn").fails(2, &["of s3 3-bit already"]);
    place.run("convert fp32 --out x.safetensors --method fp32").fails(2, &["converts nothing"]);
    place.run("convert fp32 --out x.safetensors --method s5").fails(2, &["s5"]);
}

/// A network on the levels already is the same network after its conversion.
#[test]
fn weights_on_the_levels_lose_nothing() {
    let place = Place::new();
    place.run(&with(TRAIN, "--epochs 2 --method s3 --bits 3 --latent-lr 30 --out s3")).ok();
    place.run("export s3 --format torch --out plain.safetensors").ok();
    let said = place.run("convert plain.safetensors --out again.safetensors --method s3 --bits 3 --json").ok();
    let json: serde_json::Value = serde_json::from_str(&said.out).expect("one object");
    for layer in json["layers"].as_array().expect("layers") {
        assert!(layer["distance"].as_f64().is_some_and(|d| d < 1e-6), "{layer}");
    }
    let eval = |weights: &str| {
        let said = place.run(&format!("eval --weights {weights} --dataset cifar10 --data-dir data --json")).ok();
        let json: serde_json::Value = serde_json::from_str(&said.out).expect("one object");
        json["loss"].as_f64().expect("a loss")
    };
    let [before, after] = [eval("s3"), eval("again.safetensors")];
    assert!((before - after).abs() < 1e-5 * before, "{before} and {after}");
}

#[test]
fn what_cannot_be_is_told_before_anything_starts() {
    let place = Place::new();
    let refuses = |flags: &str, words: &[&str]| place.refuses(&format!("{TRAIN} --out run {flags}"), 2, words);
    refuses("--method inq", &["--method inq", "--init"]);
    refuses("--method twn --scale half", &["half"]);
    refuses("--method s3 --scale none", &["s3 has no scale"]);
    refuses("--method bwn --bits 2", &["2-bit", "1"]);
    refuses("--method deepshift", &["deepshift", "deepshift-q"]);
    refuses("--optimizer sdg", &["sdg"]);
    assert_eq!(Scale::None.name(), "none");
    // Weights of another method are no start.
    place.run(&with(TRAIN, "--epochs 1 --method s3 --out s3")).ok();
    let said = place.run(&format!("{TRAIN} --method inq --init s3/best.safetensors --out run"));
    said.fails(1, &["of the method s3", "inq 5-bit"]);
    // Nor are frozen levels of other bits, or weights that batch norm knows with another scale.
    place.run(&with(TRAIN, "--epochs 1 --steps 1 --method fp32 --out plain")).ok();
    place.run(&with(TRAIN, "--epochs 4 --steps 1 --method inq --init plain/last.safetensors --out inq5")).ok();
    place.run(&with(TRAIN, "--epochs 1 --steps 1 --method twn --out twn")).ok();
    for (flags, words) in [
        ("--epochs 4 --method inq --bits 3 --init inq5/last.safetensors", ["--bits 5", "--bits 3"]),
        ("--method twn --scale none --init twn/last.safetensors", ["--scale mean", "--scale none"]),
    ] {
        place.run(&with(TRAIN, &format!("{flags} --out run"))).fails(1, &words);
    }
}
