//! How weights move: a run's records against a plain computation on its checkpoints, and observations across stops, slabs and parts.

mod common;
mod program;

use common::{FP32, lively, options, records};
use program::{Place, with};
use s3gpu::files::tensors;
use s3gpu::gpu;
use s3gpu::graph::{Graph, LayerKind, Options, Shape, lower};
use s3gpu::methods::MethodSpec;
use s3gpu::model::resnet::ModelOptions;
use s3gpu::model::{Arch, FirstLast, Shortcut};
use s3gpu::train::Engine;
use s3gpu::train::dynamics::{Dynamics, DynamicsRecord, LatentDynamics};
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

/// A convolution as a checkpoint has it.
struct Convolution {
    name: String,
    /// Whether the figures of all layers together are about it.
    counts: bool,
    /// Composed W.
    weight: Vec<f32>,
    /// Whether W is levels, at least in part.
    on_levels: bool,
    /// The latent that W is a quantization of, where it is one.
    latent: Option<Vec<f32>>,
}

fn convolutions(place: &Place, file: &str) -> Vec<Convolution> {
    let path = place.path(file);
    let file = tensors::read(&path).unwrap_or_else(|e| panic!("{e}"));
    let network = Network::read(&file, &path).unwrap_or_else(|e| panic!("{e}"));
    let carriers: Vec<_> = network.shift_layers().map(String::from).collect();
    let weights = network.composed();
    let convs = network.graph.layers.iter().filter(|l| matches!(l.kind, LayerKind::Conv { .. }));
    let order = convs.filter_map(|l| {
        let key = format!("{}.weight", l.name);
        let tensor = weights.get(&key).filter(|t| t.shape.len() == 4)?;
        let counts = carriers.contains(&l.name) && l.name != "conv1" && l.name != "fc";
        let on_levels = carriers.contains(&l.name) && file.meta["method"] != "fp32";
        let mut latent = file.tensors.get(&key).filter(|_| on_levels).map(|t| t.data.clone());
        if file.meta["method"] == "deepshift-q" {
            // What composes W clamps them first; here they have 3 bits.
            let clamp = |w: &mut f32| *w = if *w == 0.0 { 0.0 } else { w.signum() * w.abs().clamp(0.125, 1.0) };
            latent.iter_mut().flatten().for_each(clamp);
        }
        Some(Convolution { name: l.name.clone(), counts, weight: tensor.data.clone(), on_levels, latent })
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

/// A layer's weights and latents, each with its history.
#[derive(Default)]
struct Past {
    counts: bool,
    weights: Vec<Vec<f32>>,
    latents: Option<Vec<Vec<f32>>>,
    tau: f32,
    /// Weights at the smallest level but zero.
    lowest: Option<usize>,
}

/// How many of a layer's weights are at the method's smallest level but zero.
type Lowest = fn(&[f32]) -> usize;

impl Past {
    fn see(&mut self, now: &Convolution, lowest: Option<Lowest>) {
        let push = |histories: &mut Vec<Vec<f32>>, values: &[f32]| {
            histories.resize(values.len(), Vec::new());
            histories.iter_mut().zip(values).for_each(|(h, v)| h.push(*v));
        };
        push(&mut self.weights, &now.weight);
        if let Some(latent) = &now.latent {
            push(self.latents.get_or_insert_default(), latent);
        }
        self.counts = now.counts;
        self.tau = if now.on_levels { 0.0 } else { low(&now.weight) };
        self.lowest = lowest.filter(|_| now.on_levels).map(|count| count(&now.weight));
    }
}

/// τ of plain floats.
fn low(values: &[f32]) -> f32 {
    0.05 * values.iter().fold(0.0, |m: f32, v| m.max(v.abs()))
}

/// The value that all have.
fn common(taus: &[f32]) -> Option<f64> {
    taus.iter().all(|t| *t == taus[0]).then_some(f64::from(taus[0]))
}

/// The last value of a history.
fn now(history: &[f32]) -> f32 {
    history[history.len() - 1]
}

/// The figures of layers' weights together.
fn figures(layers: &[&Past]) -> Dynamics {
    let weights: Vec<(&Vec<f32>, f32)> = layers.iter().flat_map(|l| l.weights.iter().map(|w| (w, l.tau))).collect();
    let count = weights.len() as f64;
    let share = |test: &dyn Fn(&[f32], f32) -> bool| weights.iter().filter(|(w, t)| test(w, *t)).count() as f64 / count;
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
    let lowest: Option<Vec<_>> = layers.iter().map(|l| l.lowest).collect();
    let latents: Option<Vec<_>> = layers.iter().map(|l| l.latents.as_deref()).collect();
    Dynamics {
        count: weights.len() as u64,
        wsvr: change(|j| j[0]),
        wsvr_zero: change(|j| j[0] || j[1]),
        wlvr: share(&|w, tau| now(w).abs() <= tau),
        tau: common(&layers.iter().map(|l| l.tau).collect::<Vec<_>>()),
        zero: share(&|w, _| now(w) == 0.0),
        lowest: lowest.map(|l| l.iter().sum::<usize>() as f64 / count),
        through_zero: (turned[0] + turned[1] > 0.0).then(|| turned[1] / (turned[0] + turned[1])),
        latent: latents.map(|l| latent_figures(&l)),
        levels: bins.into_values().collect(),
    }
}

/// The figures of layers' latents together.
fn latent_figures(layers: &[&[Vec<f32>]]) -> LatentDynamics {
    let taus: Vec<_> = layers.iter().map(|l| low(&l.iter().map(|h| now(h)).collect::<Vec<_>>())).collect();
    let all = || layers.iter().zip(&taus).flat_map(|(l, tau)| l.iter().map(move |h| (h, *tau)));
    let count = all().count() as f64;
    let share = |n: usize| n as f64 / count;
    LatentDynamics {
        wsvr: (layers[0][0].len() > 1).then(|| share(all().filter(|(h, _)| judge(h)[0]).count())),
        wlvr: share(all().filter(|(h, tau)| now(h).abs() <= *tau).count()),
        tau: common(&taus),
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

/// Weights of this size.
fn at(level: f32, weights: &[f32]) -> usize {
    weights.iter().filter(|w| w.abs() == level).count()
}

fn nonzero(weights: &[f32]) -> usize {
    weights.len() - at(0.0, weights)
}

/// At 3 bits INQ has two levels but zero: half of the largest is the smaller.
fn half_of_largest(weights: &[f32]) -> usize {
    at(weights.iter().fold(0.0, |m: f32, w| m.max(w.abs())) / 2.0, weights)
}

#[test]
fn a_runs_records_are_what_its_checkpoints_say() {
    let place = Place::new();
    place.run(&with(TRAIN, "--method fp32 --steps 1 --out plain")).ok();
    let methods: [(&str, Option<Lowest>); 7] = [
        ("fp32", None),
        ("s3 --bits 3", Some(|w| at(1.0, w))),
        ("s3 --bits 2 --first-last shift", Some(nonzero)),
        ("deepshift-q --bits 3 --lr 1", Some(|w| at(0.125, w))),
        ("inq --bits 3 --epochs 4 --keep 4", Some(half_of_largest)),
        ("twn", Some(nonzero)),
        ("bwn", Some(nonzero)),
    ];
    for (method, lowest) in methods {
        let args = with(TRAIN, &format!("--method {method}"));
        place.run(&with(&args, "--init plain/last.safetensors --steps 1 --force --out start")).ok();
        place.run(&with(&args, "--init start/last.safetensors --force --out run")).ok();
        let epochs = if method.starts_with("inq") { 4 } else { 3 };
        let mut files = vec!["start/last.safetensors".to_string()];
        files.extend((1..=epochs).map(|epoch| format!("run/epoch-000{epoch}.safetensors")));
        let found = observations(&place, "run");
        let steps: Vec<_> = found.iter().map(|r| (r.epoch, r.steps, r.distance)).collect();
        assert_eq!(steps, [(0, 0, 0), (0, 6, 6), (1, 12, 6), (2, 18, 6), (3, 24, 6)][..=epochs], "{method}");

        let mut past: Vec<Past> = Vec::new();
        let (mut changed, mut through) = (0.0, 0.0);
        for (record, file) in found.iter().zip(&files) {
            let layers = convolutions(&place, file);
            past.resize_with(layers.len(), Past::default);
            // INQ's weights are not all on levels before the last portion is frozen.
            let lowest = lowest.filter(|_| epochs == 3 || record.steps == 24);
            past.iter_mut().zip(&layers).for_each(|(past, layer)| past.see(layer, lowest));
            let names: Vec<_> = record.layers.iter().map(|l| &l.name).collect();
            assert_eq!(names, layers.iter().map(|layer| &layer.name).collect::<Vec<_>>(), "{method}");
            for (past, layer) in past.iter().zip(&record.layers) {
                same(&format!("{method}, {file}, {}", layer.name), &layer.dynamics, &figures(&[past]));
            }
            let whole: Vec<_> = past.iter().filter(|past| past.counts).collect();
            same(&format!("{method}, {file}"), &record.whole, &figures(&whole));
            changed += record.whole.wsvr.unwrap_or_default();
            through += record.whole.through_zero.unwrap_or_default();
        }
        let has_zero = !["fp32", "deepshift-q", "bwn"].contains(&method.split(" --").next().unwrap_or_default());
        assert!(changed + through > 0.0 && (has_zero || through == 0.0), "{method}: {changed} {through}");
        assert!(through > 0.0 || !method.starts_with("s3"), "no sign of S3 turned by way of zero");
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
