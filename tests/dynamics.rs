//! How weights move: a run's records against a plain computation on its checkpoints, and observations across stops, slabs and parts.

mod common;
mod program;

use common::{FP32, lively, options, records};
use program::{Place, with};
use s3gpu::files::tensors;
use s3gpu::gpu;
use s3gpu::graph::{Graph, Options, Shape, lower};
use s3gpu::methods::MethodSpec;
use s3gpu::model::resnet::ModelOptions;
use s3gpu::model::{Arch, FirstLast, Shortcut};
use s3gpu::train::Engine;
use s3gpu::train::dynamics::{Dynamics, DynamicsRecord};
use s3gpu::train::metrics::{self, Record};
use s3gpu::train::network::Network;

/// 6 steps an epoch, with rates that move many weights.
const TRAIN: &str = "train --dataset cifar10 --data-dir data --model resnet8 --epochs 3 --batch-size 4 --seed 7 --keep 3 \
                     --eval-only-last --lr 0.2 --latent-lr 30 --latent-init normal";

fn observations(place: &Place, run: &str) -> Vec<DynamicsRecord> {
    let records = metrics::read(place.path(run).join("metrics.jsonl")).unwrap_or_else(|e| panic!("{e}"));
    let dynamics = |r| if let Record::Dynamics(record) = r { Some(*record) } else { None };
    records.into_iter().filter_map(dynamics).collect()
}

/// A network's composed convolutions by name, those that a method's figures are about marked.
fn convolutions(place: &Place, file: &str) -> Vec<(String, bool, Vec<f32>)> {
    let path = place.path(file);
    let network = Network::read(&tensors::read(&path).unwrap_or_else(|e| panic!("{e}")), &path);
    let network = network.unwrap_or_else(|e| panic!("{e}"));
    let carriers: Vec<_> = network.shift_layers().map(String::from).collect();
    let weights = network.composed();
    let order = network.graph.layers.iter().filter_map(|l| {
        let tensor = weights.get(&format!("{}.weight", l.name)).filter(|t| t.shape.len() == 4)?;
        Some((l.name.clone(), carriers.contains(&l.name) && l.name != "conv1", tensor.data.clone()))
    });
    order.collect()
}

/// All values that one weight had at the observations so far, the last one now: what the definitions say of it.
fn judge(history: &[f32]) -> [bool; 3] {
    let [.., old, now] = *history else { return [false; 3] };
    let sign = |v: f32| if v > 0.0 { 1 } else { -i32::from(v < 0.0) };
    let last = history[..history.len() - 1].iter().rev().find(|v| **v != 0.0);
    let changed = sign(old) * sign(now) < 0;
    let through = old == 0.0 && last.is_some_and(|v| sign(*v) * sign(now) < 0);
    [changed, (old == 0.0) != (now == 0.0), through]
}

/// The figures of weights, each with its history, on levels (`levels` holds the smallest) or plain.
fn figures(layers: &[(&[Vec<f32>], f32)], levels: Option<f64>) -> Dynamics {
    let weights: Vec<(&Vec<f32>, f32)> = layers.iter().flat_map(|(l, tau)| l.iter().map(move |w| (w, *tau))).collect();
    let count = weights.len() as f64;
    let share = |test: &dyn Fn(&[f32], f32) -> bool| weights.iter().filter(|(w, t)| test(w, *t)).count() as f64 / count;
    let now = |w: &[f32]| w[w.len() - 1];
    let first = weights[0].0.len() == 1;
    let change = |test: fn([bool; 3]) -> bool| (!first).then(|| share(&|w, _| test(judge(w))));
    let turned = [|j: [bool; 3]| j[0], |j: [bool; 3]| j[2]].map(|t| share(&|w, _| t(judge(w))) * count);
    let mut bins = std::collections::BTreeMap::new();
    for (w, _) in &weights {
        let w = now(w);
        let level = if w == 0.0 { 0.0 } else { w.signum() * w.abs().log2().floor().exp2() };
        // Sorted as integers: the levels are a few powers of two.
        bins.entry((f64::from(level) * 2f64.powi(40)) as i64).or_insert((f64::from(level), 0)).1 += 1;
    }
    let taus: Vec<_> = layers.iter().map(|(_, tau)| f64::from(*tau)).collect();
    Dynamics {
        count: weights.len() as u64,
        wsvr: change(|j| j[0]),
        wsvr_zero: change(|j| j[0] || j[1]),
        wlvr: share(&|w, tau| now(w).abs() <= tau),
        tau: taus.iter().all(|t| *t == taus[0]).then_some(taus[0]),
        zero: share(&|w, _| now(w) == 0.0),
        lowest: levels.map(|least| share(&|w, _| f64::from(now(w).abs()) == least)),
        through_zero: (turned[0] + turned[1] > 0.0).then(|| turned[1] / (turned[0] + turned[1])),
        latent: None,
        levels: bins.into_values().collect(),
    }
}

fn same(what: &str, got: &Dynamics, want: &Dynamics) {
    let close = |a: f64, b: f64| (a - b).abs() < 1e-12;
    // A share of shares is computed in another order here.
    let through = [got, want].map(|d| d.through_zero.unwrap_or(-1.0));
    assert!(close(through[0], through[1]), "{what}: {through:?}");
    let but = |d: &Dynamics| Dynamics { through_zero: None, ..d.clone() };
    assert_eq!(but(got), but(want), "{what}");
    assert_eq!(got.levels.iter().map(|(_, n)| n).sum::<u64>(), got.count, "{what}");
}

#[test]
fn a_runs_records_are_what_its_checkpoints_say() {
    let place = Place::new();
    for (method, least) in [("fp32", None), ("s3 --bits 2", Some(1.0)), ("s3 --bits 3", Some(1.0))] {
        let args = with(TRAIN, &format!("--method {method}"));
        place.run(&with(&args, "--steps 1 --force --out start")).ok();
        place.run(&with(&args, "--init start/last.safetensors --force --out run")).ok();
        let mut files = vec!["start/last.safetensors".to_string()];
        files.extend((1..=3).map(|epoch| format!("run/epoch-000{epoch}.safetensors")));
        let found = observations(&place, "run");
        let steps: Vec<_> = found.iter().map(|r| (r.epoch, r.steps, r.distance)).collect();
        assert_eq!(steps, [(0, 0, 0), (0, 6, 6), (1, 12, 6), (2, 18, 6)], "{method}");

        let mut histories: Vec<Vec<Vec<f32>>> = Vec::new();
        let (mut changed, mut through) = (0.0, 0.0);
        for (record, file) in found.iter().zip(&files) {
            let layers = convolutions(&place, file);
            histories.resize(layers.len(), Vec::new());
            for (history, (_, _, weights)) in histories.iter_mut().zip(&layers) {
                history.resize(weights.len(), Vec::new());
                history.iter_mut().zip(weights).for_each(|(h, w)| h.push(*w));
            }
            let names: Vec<_> = record.layers.iter().map(|l| &l.name).collect();
            assert_eq!(names, layers.iter().map(|(name, ..)| name).collect::<Vec<_>>(), "{method}");
            let least = |name: &str| least.filter(|_| name != "conv1");
            let tau = |name: &str, weights: &[f32]| match least(name) {
                Some(_) => 0.0,
                None => 0.05 * weights.iter().fold(0.0, |m: f32, w| m.max(w.abs())),
            };
            let taus: Vec<_> = layers.iter().map(|(name, _, weights)| tau(name, weights)).collect();
            for (i, layer) in record.layers.iter().enumerate() {
                let want = figures(&[(&histories[i], taus[i])], least(&layer.name));
                same(&format!("{method}, {file}, {}", layer.name), &layer.dynamics, &want);
            }
            let whole: Vec<_> =
                (0..layers.len()).filter(|i| layers[*i].1).map(|i| (&histories[i][..], taus[i])).collect();
            same(&format!("{method}, {file}"), &record.whole, &figures(&whole, least("all")));
            changed += record.whole.wsvr.unwrap_or_default();
            through += record.whole.through_zero.unwrap_or_default();
        }
        assert!(changed > 0.0 && (through > 0.0) == (method != "fp32"), "{method}: nothing moved: {changed} {through}");
    }
}

#[test]
fn observations_between_epochs_go_on_over_stops() {
    let place = Place::new();
    let args = with(TRAIN, "--dynamics-every 4 --epochs 2 --keep 0");
    place.run(&with(&args, "--out whole")).ok();
    let whole = observations(&place, "whole");
    let steps: Vec<_> = whole.iter().map(|r| (r.steps, r.distance)).collect();
    assert_eq!(steps, [(0, 0), (4, 4), (6, 2), (8, 2), (12, 4)]);
    // At an observation, between two, at an epoch's end.
    for stop in [4, 5, 6, 8] {
        place.run(&with(&args, &format!("--out stopped --force --steps {stop}"))).ok();
        place.run("train --resume stopped").ok();
        assert_eq!(observations(&place, "stopped"), whole, "stopped after {stop} steps");
        assert!(place.get("stopped/last.safetensors") == place.get("whole/last.safetensors"), "after {stop} steps");
    }
    let info = place.run("info whole").ok();
    let words = ["weights at step 12: ", "% changed sign in 4 steps (WSVR)", "% low (WLVR)"];
    assert!(words.iter().all(|w| info.out.contains(w)), "{}", info.out);
    place.refuses(&with(&args, "--out no --dynamics-every 1000001"), 2, &["--dynamics-every is 1000001", "at most"]);
}

#[test]
fn a_checkpoint_of_an_older_version_goes_on_and_a_spoiled_one_does_not() {
    let place = Place::new();
    place.run(&with(TRAIN, "--out run --steps 8")).ok();
    let last = place.path("run/last.safetensors");
    let good = tensors::read(&last).unwrap_or_else(|e| panic!("{e}"));
    let name = "dynamics.seen.layer1.0.conv1";
    for spoil in [|v: &mut Vec<f32>| v[3] = 0.5, |v: &mut Vec<f32>| v[3] = 64.0, |v: &mut Vec<f32>| v[3] = f32::NAN] {
        let mut file = good.clone();
        spoil(&mut file.tensors.get_mut(name).expect("signs").data);
        tensors::write(&last, &file).unwrap_or_else(|e| panic!("{e}"));
        place.run("train --resume run").fails(1, &["last.safetensors", name, "--init"]);
    }
    let mut file = good.clone();
    file.tensors.remove(name);
    tensors::write(&last, &file).unwrap_or_else(|e| panic!("{e}"));
    place.run("train --resume run").fails(1, &[name, "missing"]);

    // Before there were observations.
    file.tensors.retain(|name, _| !name.starts_with("dynamics."));
    let progress = file.meta.get_mut("progress").expect("progress");
    *progress = progress.replace(r#""observed":6,"#, "");
    assert!(!progress.contains("observed"), "{progress}");
    tensors::write(&last, &file).unwrap_or_else(|e| panic!("{e}"));
    place.run("train --resume run").ok();
    let found = observations(&place, "run");
    let steps: Vec<_> = found.iter().map(|r| (r.steps, r.distance, r.whole.wsvr.is_some())).collect();
    assert_eq!(steps, [(0, 0, false), (6, 6, true), (12, 0, false), (18, 6, true)]);
}

fn graph(method: MethodSpec) -> Graph {
    let options = ModelOptions {
        input: Shape { h: 16, w: 16, c: 3 },
        classes: 10,
        method,
        first_last: FirstLast::Fp32,
        shortcut: Shortcut::Conv,
        width: 1,
    };
    let arch = Arch::find("resnet8").expect("known");
    arch.build(&options).unwrap_or_else(|e| panic!("{e}"))
}

/// On an adapter whose bindings hold `bytes` at most.
fn engine(graph: &Graph, options: &Options, bytes: Option<u64>) -> Engine {
    let mut gpu = gpu::open(None).expect("the tests need an adapter: run `make setup`");
    if let Some(bytes) = bytes {
        gpu.limits.max_storage_buffer_binding_size = bytes;
    }
    Engine::new(gpu, graph, options).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn slabs_and_parts_change_nothing() {
    // The largest layer has 36,864 weights, of one latent or four.
    for (method, most) in [(FP32, 300_000), (MethodSpec::find("s3", Some(3)).expect("known"), 600_000)] {
        let graph = graph(method);
        let base = Options { dynamics: true, ..options(2) };
        let fresh = lower(&graph, &base).unwrap_or_else(|e| panic!("{e}"));
        let values = [61, 62, 63].map(|seed| lively(&graph, &fresh, seed));
        let mut all = Vec::new();
        for (bytes, accumulate) in [(None, 1), (Some(most), 1), (Some(most), 2)] {
            let mut engine = engine(&graph, &Options { accumulate, ..base.clone() }, bytes);
            let slabs = engine.layout.groups.len();
            assert_eq!(slabs > 1, bytes.is_some(), "{slabs} slabs");
            let mut counters = Vec::new();
            for values in &values {
                // Loading weights forgets what was seen of those before.
                let seen = engine.seen().unwrap_or_else(|e| panic!("{e}"));
                engine.load(values);
                engine.load_seen(&seen).unwrap_or_else(|e| panic!("{e}"));
                let indices: Vec<u32> = (0..2 * accumulate).collect();
                let records = records(graph.nodes[0].shape, 10, 4);
                engine.step(&records, &indices, 0, 0.0).unwrap_or_else(|e| panic!("{e}"));
                counters.push(engine.observe().unwrap_or_else(|e| panic!("{e}")));
                engine.figures().unwrap_or_else(|e| panic!("{e}"));
            }
            all.push(counters);
        }
        assert!(all[0][1].iter().flatten().any(|n| *n > 0));
        assert!(all[1] == all[0] && all[2] == all[0], "{}", method.title());
    }
}

#[test]
fn weights_that_are_not_finite_count_and_do_not_panic() {
    let graph = graph(FP32);
    let options = Options { dynamics: true, ..options(2) };
    let fresh = lower(&graph, &options).unwrap_or_else(|e| panic!("{e}"));
    let mut values = lively(&graph, &fresh, 9);
    let stem = &mut values.0.get_mut("conv1.weight").expect("a stem").data;
    (stem[0], stem[1], stem[2]) = (f32::NAN, f32::INFINITY, f32::NEG_INFINITY);
    let mut engine = engine(&graph, &options, None);
    engine.load(&values);
    let counters = engine.observe().unwrap_or_else(|e| panic!("{e}"));
    let bins = &counters[0][s3gpu::kernels::dynamics::BINS..];
    assert_eq!(bins.iter().sum::<u32>(), 432, "every weight is in a bin");
    assert!(!f32::from_bits(counters[0][s3gpu::kernels::dynamics::MAX]).is_finite());
}
