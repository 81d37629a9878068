//! Stem and classifier under the method, through the command line: trained, stopped and resumed, from fp32 weights, as integers.

mod program;

use program::{Place, with};
use s3gpu::files::tensors::{self, TensorFile};
use s3gpu::graph::{Layout, Shape};
use s3gpu::int::Model;
use s3gpu::int::digits::digits;
use s3gpu::int::model::{Op, Weight};
use s3gpu::kernels::AnyKernel;
use s3gpu::kernels::int::RUNGS;
use s3gpu::methods::{METHODS, MethodSpec, Scale};
use s3gpu::model::resnet::ModelOptions;
use s3gpu::model::{Arch, FirstLast, Shortcut, Values};
use s3gpu::train::checkpoint::{Identity, file};
use s3gpu::train::network::Network;
use serde_json::Value;

/// 24 steps, 6 an epoch: as many epochs as INQ has portions.
const TRAIN: &str = "train --dataset cifar10 --data-dir data --model resnet8 --epochs 4 --batch-size 4 --eval-only-last --seed 7 \
                     --lr 0.05 --first-last shift";
const EVAL: &str = "eval --dataset cifar10 --data-dir data --json";

fn weights(place: &Place, name: &str) -> TensorFile {
    tensors::read(place.path(name)).unwrap_or_else(|e| panic!("{e}"))
}

fn json(said: &str) -> Value {
    serde_json::from_str(said.lines().last().expect("a line")).unwrap_or_else(|e| panic!("{said}: {e}"))
}

/// A place with an fp32 network that has been trained a little.
fn pretrained() -> Place {
    let place = Place::new();
    place.run(&with(TRAIN, "--first-last fp32 --method fp32 --epochs 1 --out fp32")).ok();
    place
}

#[test]
fn stem_and_classifier_train_stop_resume_and_become_shifts() {
    let place = pretrained();
    for (name, flags) in [
        ("s3", "--method s3 --bits 3 --latent-lr 30 --accumulate 2 --epochs 2"),
        ("inq", "--method inq --bits 4 --init fp32/best.safetensors"),
    ] {
        place.run(&with(TRAIN, &format!("{flags} --out {name}"))).ok();
        place.run(&with(TRAIN, &format!("{flags} --out {name}-stopped --steps 9"))).ok();
        place.run(&format!("train --resume {name}-stopped")).ok();
        for kind in ["best", "last"] {
            let [whole, stopped] = ["", "-stopped"].map(|end| place.get(&format!("{name}{end}/{kind}.safetensors")));
            assert!(whole == stopped, "{name}: {kind}.safetensors differs after a stop");
        }
        let file = weights(&place, &format!("{name}/best.safetensors"));
        assert_eq!(file.meta["first_last"], "shift");
        let latents = file.tensors.iter().filter(|(t, _)| t.starts_with("fc.") && **t != "fc.bias");
        assert!(latents.into_iter().all(|(_, t)| t.shape == [10, 64, 1, 1]), "{name}");
        let config = String::from_utf8(place.get(&format!("{name}/config.toml"))).expect("UTF-8");
        assert!(config.contains("first-last = \"shift\""), "{config}");

        let said = place.run(&format!("export {name} --out {name}.safetensors --json")).ok();
        let export = json(&said.out);
        assert!(!said.err.contains("fc:"), "{name} loses nothing: {}", said.err);
        let devices = ["--device cpu", "--device gpu", "--device gpu --shift-only"].map(String::from);
        // Every rung, on one network.
        let rungs = RUNGS.map(|rung| format!("--rung {}", AnyKernel::name(rung)));
        for flags in devices.into_iter().chain(rungs.into_iter().filter(|_| name == "s3")) {
            let eval = json(&place.run(&format!("{EVAL} --weights {name}.safetensors {flags}")).ok().out);
            assert_eq!(eval["logits_hash"], export["logits_hash"], "{name} {flags}");
        }
        let model = Model::read(&place.path(&format!("{name}.safetensors"))).unwrap_or_else(|e| panic!("{e}"));
        let is_shift = |op: &Op| match op {
            Op::Conv(conv) => matches!(conv.weight, Weight::Shift { .. }),
            Op::Linear(linear) => linear.weight.iter().all(|w| digits((*w).into()).len() <= 1),
            _ => true,
        };
        assert!(model.nodes.iter().all(|n| is_shift(&n.op)), "{name}: a weight takes more than one shift");
    }
}

#[test]
fn other_forms_hold_the_same_network() {
    let place = Place::new();
    place.run(&with(TRAIN, "--method s3 --bits 3 --latent-lr 30 --epochs 1 --out run")).ok();
    for (form, out) in [("c", "net.c"), ("npz", "net.npz"), ("hex", "words"), ("onnx", "net.onnx"), ("web", "page")] {
        place.run(&format!("export run --format {form} --out {out}")).ok();
    }
    // Bit planes: 3 words of 8 hexadecimal digits for every 32 weights of the stem.
    let words = String::from_utf8(place.get("words/conv1.weight.hex")).expect("text");
    assert_eq!(words.lines().filter(|l| l.len() == 8).count(), 3 * (16 * 3 * 9usize).div_ceil(32));
    // The plain form of PyTorch has the same logits.
    place.run("export run --format torch --out plain.safetensors").ok();
    let plain = weights(&place, "plain.safetensors");
    assert_eq!((&plain.tensors["fc.weight"].shape[..], plain.meta.get("first_last")), (&[10, 64][..], None));
    let level = |w: &f32| [0.0, 0.125, 0.25, 0.5].contains(&w.abs());
    assert!(plain.tensors["fc.weight"].data.iter().all(level), "{:?}", plain.tensors["fc.weight"]);
    let [before, after] =
        ["run", "plain.safetensors"].map(|w| json(&place.run(&format!("{EVAL} --weights {w}")).ok().out));
    assert_eq!(before["correct"], after["correct"]);
    let off = before["loss"].as_f64().expect("a loss") - after["loss"].as_f64().expect("a loss");
    assert!(off.abs() < 1e-5, "{before} {after}");
    // And comes back from it as it was.
    place.run(&with(TRAIN, "--method s3 --bits 3 --init plain.safetensors --epochs 1 --lr 0 --out again")).ok();
    let read = |name: &str| {
        let path = place.path(name);
        Network::read(&weights(&place, name), &path).unwrap_or_else(|e| panic!("{e}")).composed()
    };
    let [first, again] = ["run/best.safetensors", "again/best.safetensors"].map(read);
    for name in ["conv1.weight", "layer2.0.conv1.weight", "fc.weight"] {
        assert!(first[name].data == again[name].data, "{name}");
    }
    let [first, again] = [&first["fc.bias"].data, &again["fc.bias"].data];
    assert!(first.iter().zip(again).all(|(a, b)| (a - b).abs() <= 1e-6 * a.abs()), "{first:?} {again:?}");
}

/// A classifier's logits become as many times larger as its levels' scale asks, weight and bias alike.
#[test]
fn a_plain_classifier_converts_with_its_bias() {
    let place = pretrained();
    let path = place.path("fp32/best.safetensors");
    let plain = tensors::read(&path).unwrap_or_else(|e| panic!("{e}"));
    let own = Identity::read(&plain, &path).unwrap_or_else(|e| panic!("{e}"));
    for method in METHODS.iter().map(|m| MethodSpec { method: *m, bits: m.default_bits() }) {
        if method == MethodSpec::FP32 {
            continue;
        }
        let name = method.title();
        let (first_last, shortcut) = (FirstLast::Shift, Shortcut::Pad);
        let input = Shape { h: 32, w: 32, c: 3 };
        let options = ModelOptions { input, classes: 10, method, first_last, shortcut, width: 1 };
        let graph = Arch::find("resnet8").and_then(|a| a.build(&options)).unwrap_or_else(|e| panic!("{e}"));
        let values = Values::start_from(&graph, &Layout::new(&graph, 1 << 30), &plain, &path);
        let meta = Identity { method, first_last, ..own.clone() }.meta(&vec!["class".to_string(); 10]);
        let converted = file(meta, values.unwrap_or_else(|e| panic!("{e}")), None).unwrap_or_else(|e| panic!("{e}"));
        let got = Network::read(&converted, &path).unwrap_or_else(|e| panic!("{name}: {e}")).plain();

        let bias = |of: &[f32]| of.iter().map(|b| f64::from(*b)).collect::<Vec<_>>();
        let (old, new) = (bias(&plain.tensors["fc.bias"].data), bias(&got["fc.bias"].data));
        let c = new[0] / old[0];
        assert!(old.iter().zip(&new).all(|(a, b)| (c * a - b).abs() < 1e-6 * b.abs()), "{name}: {old:?} {new:?}");
        // What takes its scale from the weights needs none of the logits.
        if method.method.scale() == Some(Scale::Mean) || method.method.name() == "inq" {
            assert_eq!(c, 1.0, "{name}");
        }
        for (layer, factor) in [("fc.weight", Some(c)), ("conv1.weight", None)] {
            let (w, q) = (&plain.tensors[layer], &got[layer]);
            assert_eq!(w.shape, q.shape, "{name}: {layer}");
            let dot = |a: &[f32], b: &[f32]| a.iter().zip(b).map(|(a, b)| f64::from(a * b)).sum::<f64>();
            let c = factor.unwrap_or_else(|| dot(&q.data, &q.data) / dot(&w.data, &q.data));
            let off = w.data.iter().zip(&q.data).map(|(w, q)| (f64::from(*w) - f64::from(*q) / c).powi(2)).sum::<f64>();
            let off = (off / dot(&w.data, &w.data)).sqrt();
            // As for all layers: a sign with one scale keeps some 60 % of a bell, three levels and zero some 90 %.
            let most = match method.method.name() {
                "bwn" => 0.65,
                "twn" => 0.5,
                _ => 0.3,
            };
            assert!(off <= most, "{name}: {layer} is off by {off}");
        }
    }
}
