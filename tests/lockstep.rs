//! Whole training steps of whole networks on an adapter, dispatch by dispatch and from end to end, against the twins.

mod common;

use std::collections::BTreeSet;

use common::{Cpu, FP32, TRAIN, lively, options, records};
use s3gpu::gpu;
use s3gpu::graph::{Graph, Options, RungChoice, Shape, Vars, lower};
use s3gpu::kernels::AnyKernel;
use s3gpu::kernels::conv::{ADD, Family, GATE, rungs};
use s3gpu::kernels::optim::Optimizer;
use s3gpu::methods::{METHODS, MethodSpec};
use s3gpu::model::resnet::ModelOptions;
use s3gpu::model::{Arch, FirstLast, Shortcut};
use s3gpu::train::Engine;

/// The sections beside [`TRAIN`].
const COMPOSE: usize = 1;
const EVAL: usize = 2;

fn s3(bits: u32) -> MethodSpec {
    MethodSpec::find("s3", Some(bits)).expect("known")
}

fn resnet8(method: MethodSpec, shortcut: Shortcut) -> Graph {
    let input = Shape { h: 32, w: 32, c: 3 };
    let options = ModelOptions { input, classes: 10, method, first_last: FirstLast::Fp32, shortcut, width: 1 };
    let arch = Arch::find("resnet8").expect("known");
    arch.build(&options).unwrap_or_else(|e| panic!("{e}"))
}

/// ImageNet's parts at a size that a twin can afford: 7x7 stem, max pool, a basic and a bottleneck block with a stride, odd channels.
fn imagenet_parts(method: MethodSpec) -> Graph {
    let build = || {
        let mut g = Graph::new(Shape { h: 30, w: 32, c: 3 });
        let mut x = g.conv("conv1", 0, 10, [7, 2, 3], FP32)?;
        x = g.batch_norm("bn1", x)?;
        x = g.relu("relu", x);
        x = g.max_pool("maxpool", x, [3, 2, 1])?;
        let basic = vec![(12, [3, 2, 1]), (12, [3, 1, 1])];
        let bottleneck = vec![(5, [1, 1, 0]), (5, [3, 2, 1]), (20, [1, 1, 0])];
        for (name, cout, convs) in [("basic", 12, basic), ("bottleneck", 20, bottleneck)] {
            let mut y = x;
            for (i, (channels, conv)) in convs.iter().enumerate() {
                y = g.conv(&format!("{name}.conv{i}"), y, *channels, *conv, method)?;
                y = g.batch_norm(&format!("{name}.bn{i}"), y)?;
                if i + 1 < convs.len() {
                    y = g.relu(&format!("{name}.relu{i}"), y);
                }
            }
            let short = g.conv(&format!("{name}.downsample.0"), x, cout, [1, 2, 0], method)?;
            let short = g.batch_norm(&format!("{name}.downsample.1"), short)?;
            let sum = g.add(&format!("{name}.add"), y, short)?;
            x = g.relu(&format!("{name}.relu"), sum);
        }
        let pooled = g.global_avg_pool("avgpool", x);
        g.linear("fc", pooled, 10)?;
        Ok::<_, s3gpu::Error>(g)
    };
    build().unwrap_or_else(|e| panic!("{e}"))
}

fn engine(graph: &Graph, options: &Options) -> Engine {
    let gpu = gpu::open(None).expect("the tests need an adapter: run `make setup`");
    Engine::new(gpu, graph, options).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_dispatch_of_a_training_step_agrees_with_its_twin() {
    let graphs = [
        ("resnet8 fp32, pad", resnet8(FP32, Shortcut::Pad)),
        ("resnet8 s3 3-bit, conv", resnet8(s3(3), Shortcut::Conv)),
        ("imagenet's parts, fp32", imagenet_parts(FP32)),
        ("imagenet's parts, s3 4-bit", imagenet_parts(s3(4))),
    ];
    let fused = graphs.iter().map(|(name, graph)| (*name, graph, false, 1));
    // The separate kernels behind `keep_gradients`, which the golden tests read; a step in two parts.
    let others = [(graphs[1].0, &graphs[1].1, true, 1), (graphs[1].0, &graphs[1].1, false, 2)];
    for (name, graph, keep_gradients, accumulate) in fused.chain(others) {
        // Everything on that a kernel can do.
        let on = Options {
            smoothing: 0.1,
            decay: 0.01,
            alpha: 0.01,
            nesterov: true,
            latent_rate: 3.0,
            pad: 4,
            flip: true,
            keep_gradients,
            accumulate,
            dynamics: true,
            ..options(4 / accumulate)
        };
        let mut engine = engine(graph, &on);
        let fresh = lower(graph, &on).unwrap_or_else(|e| panic!("{e}"));
        engine.load(&lively(graph, &fresh, 21));
        let records = records(graph.nodes[0].shape, 10, 7);
        // The second batch is a partial one, on slabs and momenta that the first has left.
        for indices in [&[0, 1, 2, 3][..], &[4, 5, 6]] {
            let mut failures = engine.checked_step(&records, indices, 0.1).unwrap_or_else(|e| panic!("{e}"));
            failures.extend(engine.checked_observation().unwrap_or_else(|e| panic!("{e}")));
            for (dispatch, bad) in &failures {
                println!("{name}, {} images: {dispatch}: {} wrong, the first {:?}", indices.len(), bad.len(), bad[0]);
            }
            assert!(failures.is_empty(), "{name}: {} of {} dispatches", failures.len(), engine.dispatches());
        }
    }
}

#[test]
fn every_method_and_optimizer_agrees_with_its_twins() {
    let optimizers = [Optimizer::Sgd, Optimizer::Adam, Optimizer::RAdam];
    for (i, method) in METHODS.iter().enumerate() {
        let method = MethodSpec { method: *method, bits: method.default_bits() };
        let graph = imagenet_parts(method);
        // Each method with two optimizers in turn, so that each optimizer meets several.
        for optimizer in [optimizers[0], optimizers[1 + i % 2]] {
            let name = format!("{}, {optimizer:?}", method.title());
            let on = Options { optimizer, decay: 0.01, alpha: 0.01, latent_rate: 3.0, ..options(3) };
            let mut engine = engine(&graph, &on);
            let fresh = lower(&graph, &on).unwrap_or_else(|e| panic!("{e}"));
            let mut values = lively(&graph, &fresh, 23);
            values.freeze(&graph, &fresh.layout, 0.5);
            engine.load(&values);
            let records = records(graph.nodes[0].shape, 10, 6);
            for indices in [&[0, 1, 2][..], &[3, 4]] {
                let failures = engine.checked_step(&records, indices, 0.1).unwrap_or_else(|e| panic!("{e}"));
                for (dispatch, bad) in &failures {
                    println!("{name}: {dispatch}: {} wrong, the first {:?}", bad.len(), bad[0]);
                }
                assert!(failures.is_empty(), "{name}: {} of {} dispatches", failures.len(), engine.dispatches());
            }
            let after = engine.values().unwrap_or_else(|e| panic!("{e}"));
            let momenta = engine.momenta().unwrap_or_else(|e| panic!("{e}"));
            let moves = |t: &&String| after.0[*t].data != values.0[*t].data;
            assert!(after.0.keys().filter(|t| t.starts_with("basic.conv")).any(|t| moves(&t)), "{name}: nothing moved");
            for (flags, frozen) in after.0.iter().filter(|(t, _)| t.ends_with(".frozen")) {
                let weight = flags.replace(".frozen", ".weight");
                let momentum = &momenta.0[&format!("optimizer.momentum.{weight}")].data;
                let (before, now) = (&values.0[&weight].data, &after.0[&weight].data);
                for i in (0..frozen.data.len()).filter(|i| frozen.data[*i] == 1.0) {
                    assert_eq!((now[i], momentum[i]), (before[i], 0.0), "{name}: {weight} {i}");
                }
                assert!(before != now, "{name}: no free weight of {weight} moved");
            }
        }
    }
}

/// A network of nothing but the method: its stem reads the images, its classifier has no batch norm behind it.
fn all_of(method: MethodSpec) -> s3gpu::Result<Graph> {
    let mut g = Graph::new(Shape { h: 7, w: 9, c: 3 });
    let mut x = g.conv("conv1", 0, 10, [3, 1, 1], method)?;
    x = g.batch_norm("bn1", x)?;
    x = g.relu("relu", x);
    x = g.conv("conv2", x, 18, [3, 2, 1], method)?;
    x = g.batch_norm("bn2", x)?;
    x = g.relu("relu2", x);
    x = g.global_avg_pool("pool", x);
    g.linear_of("fc", x, 10, method)?;
    Ok(g)
}

#[test]
fn stem_and_classifier_of_every_method_agree_with_their_twins() {
    for method in METHODS.iter().map(|m| MethodSpec { method: *m, bits: m.default_bits() }) {
        let graph = all_of(method).unwrap_or_else(|e| panic!("{e}"));
        for (keep_gradients, accumulate) in [(false, 1), (true, 1), (false, 2)] {
            let name = format!("{}, gradients {keep_gradients}, {accumulate} parts", method.title());
            let base = Options { decay: 0.01, alpha: 0.01, latent_rate: 3.0, ..options(4 / accumulate) };
            let on = Options { keep_gradients, accumulate, ..base };
            let mut engine = engine(&graph, &on);
            let fresh = lower(&graph, &on).unwrap_or_else(|e| panic!("{e}"));
            let mut values = lively(&graph, &fresh, 29);
            values.freeze(&graph, &fresh.layout, 0.5);
            engine.load(&values);
            let records = records(graph.nodes[0].shape, 10, 7);
            for indices in [&[0, 1, 2, 3][..], &[4, 5, 6]] {
                let failures = engine.checked_step(&records, indices, 0.1).unwrap_or_else(|e| panic!("{e}"));
                for (dispatch, bad) in &failures {
                    println!("{name}: {dispatch}: {} wrong, the first {:?}", bad.len(), bad[0]);
                }
                assert!(failures.is_empty(), "{name}: {} of {} dispatches", failures.len(), engine.dispatches());
            }
            let after = engine.values().unwrap_or_else(|e| panic!("{e}"));
            for layer in ["conv1.", "fc."] {
                let mut own = after.0.iter().filter(|(t, _)| t.starts_with(layer) && !t.ends_with("bias"));
                assert!(own.any(|(t, v)| v.data != values.0[t].data), "{name}: nothing of {layer} moved");
            }
            assert!(after.0["fc.bias"] != values.0["fc.bias"], "{name}: the bias stayed");
            for (flags, frozen) in after.0.iter().filter(|(t, _)| t.ends_with(".frozen")) {
                let weight = flags.replace(".frozen", ".weight");
                let held = |i: usize| after.0[&weight].data[i] == values.0[&weight].data[i];
                assert!((0..frozen.data.len()).all(|i| frozen.data[i] == 0.0 || held(i)), "{name}: {weight}");
                assert!(frozen.data.iter().filter(|f| **f == 1.0).count() == frozen.data.len() / 2, "{name}: {flags}");
            }
        }
    }
}

/// A stem of 3 channels, an odd channel count, strides with 3x3 and 1x1 kernels, widths that each size of tile is made for, and two
/// residual blocks: behind an identity and behind a padding shortcut. All but the stem are of the method, the classifier included.
fn every_width(method: MethodSpec) -> s3gpu::Result<Graph> {
    let mut g = Graph::new(Shape { h: 9, w: 11, c: 3 });
    let mut x = g.conv("stem", 0, 18, [3, 1, 1], FP32)?;
    x = g.batch_norm("stem.bn", x)?;
    x = g.relu("stem.relu", x);
    for (i, (channels, conv)) in [(40, [3, 2, 1]), (64, [1, 1, 0]), (20, [3, 1, 1])].into_iter().enumerate() {
        x = g.conv(&format!("conv{i}"), x, channels, conv, method)?;
        x = g.batch_norm(&format!("bn{i}"), x)?;
        // Behind the others gradients pass no gate.
        if i == 0 {
            x = g.relu(&format!("relu{i}"), x);
        }
    }
    for (name, channels, stride) in [("same", 20, 1), ("pad", 30, 2)] {
        let y = g.conv(&format!("{name}.conv0"), x, channels, [3, stride, 1], method)?;
        let y = g.batch_norm(&format!("{name}.bn0"), y)?;
        let y = g.relu(&format!("{name}.relu0"), y);
        let y = g.conv(&format!("{name}.conv1"), y, channels, [3, 1, 1], method)?;
        let y = g.batch_norm(&format!("{name}.bn1"), y)?;
        let short = if stride == 1 { x } else { g.pad_shortcut(&format!("{name}.short"), x, channels, stride)? };
        let sum = g.add(&format!("{name}.add"), y, short)?;
        x = g.relu(&format!("{name}.relu"), sum);
    }
    x = g.conv("last", x, 12, [1, 2, 0], method)?;
    let pooled = g.global_avg_pool("pool", x);
    g.linear_of("fc", pooled, 10, method)?;
    Ok(g)
}

#[test]
fn every_dispatch_agrees_with_its_twin_whichever_rung_is_forced() {
    let [plain, s3] = [FP32, s3(3)].map(|method| every_width(method).unwrap_or_else(|e| panic!("{e}")));
    let records = records(plain.nodes[0].shape, 10, 4);
    let subgroup = gpu::open(None).expect("the tests need an adapter: run `make setup`").subgroup;
    for family in [Family::Forward, Family::BackwardInput, Family::BackwardWeight] {
        for rung in rungs(family).iter().filter(|r| !r.subgroups || subgroup.is_some()) {
            let name = AnyKernel::name(*rung);
            let graph = if rung.packed { &s3 } else { &plain };
            let forced = RungChoice { forced: vec![name.into()], ..Default::default() };
            let options = Options { rungs: forced, subgroup, ..options(4) };
            let mut engine = engine(graph, &options);
            assert!(engine.rungs.values().any(|taken| taken == name), "{name}: no layer took it: {:?}", engine.rungs);
            let fresh = lower(graph, &options).unwrap_or_else(|e| panic!("{e}"));
            if family == Family::BackwardInput {
                let its_own = |kernel: &str| Family::of(kernel).is_some_and(|(_, r)| AnyKernel::name(r) == name);
                let calls = fresh.train.calls.iter().filter(|c| its_own(c.kernel.name()));
                let consts = calls.flat_map(|c| c.kernel.consts(&(c.params)(&Vars { n: 4, ..Vars::default() })));
                let kinds: BTreeSet<_> = consts.filter(|c| c.0 == "EPILOGUE").map(|c| c.1).collect();
                assert_eq!(kinds, BTreeSet::from([0, ADD, GATE, ADD | GATE]), "{name}: epilogues");
            }
            engine.load(&lively(graph, &fresh, 21));
            // The second batch is a partial one.
            for indices in [&[0, 1, 2, 3][..], &[1, 2, 3]] {
                let failures = engine.checked_step(&records, indices, 0.1).unwrap_or_else(|e| panic!("{e}"));
                for (dispatch, bad) in &failures {
                    println!("{name}: {dispatch}: {} wrong, the first {:?}", bad.len(), bad[0]);
                }
                assert!(failures.is_empty(), "{name}: {} of {} dispatches", failures.len(), engine.dispatches());
            }
        }
    }
}

/// A part that repeats the images of the one before has the same batch norm statistics, so the sum is the step at once in every gradient.
#[test]
fn a_step_in_equal_parts_has_the_gradients_of_the_step_at_once() {
    for (name, graph) in [("fp32", resnet8(FP32, Shortcut::Conv)), ("s3 3-bit", resnet8(s3(3), Shortcut::Pad))] {
        let base = Options { smoothing: 0.1, alpha: 0.01, keep_gradients: true, ..options(6) };
        let records = records(graph.nodes[0].shape, 10, 3);
        let [whole, parts] = [base.clone(), Options { batch: 3, accumulate: 2, ..base }].map(|options| {
            let fresh = lower(&graph, &options).unwrap_or_else(|e| panic!("{e}"));
            let mut engine = engine(&graph, &options);
            engine.load(&lively(&graph, &fresh, 41));
            engine.step(&records, &[0, 1, 2, 0, 1, 2], 0, 0.0).unwrap_or_else(|e| panic!("{e}"));
            let figures = engine.figures().unwrap_or_else(|e| panic!("{e}"));
            (figures, engine.gradients().unwrap_or_else(|e| panic!("{e}")))
        });
        let ([a], [b]) = (&whole.0[..], &parts.0[..]) else { panic!("one step has one figure") };
        close(&format!("{name}, in parts"), b.loss, a.loss);
        assert_eq!((a.correct, a.top5, a.count, a.steps), (b.correct, b.top5, b.count, b.steps), "{name}");
        assert!((a.regularizer - b.regularizer).abs() <= 1e-6 * a.regularizer, "{name}: {a:?} {b:?}");
        for (tensor, want) in &whole.1.0 {
            let got = &parts.1.0[tensor].data;
            let size = (want.data.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>() / got.len() as f64).sqrt();
            let off = want.data.iter().zip(got).map(|(a, b)| f64::from((a - b).abs())).fold(0.0, f64::max);
            assert!(size > 1e-9 && off <= 1e-3 * size, "{name}: {tensor} differs by {off:e} at a size of {size:e}");
        }
    }
}

#[test]
fn losses_of_a_whole_step_and_of_an_evaluation_agree_with_the_twins() {
    for (name, graph) in [("fp32", resnet8(FP32, Shortcut::Pad)), ("s3 3-bit", resnet8(s3(3), Shortcut::Conv))] {
        let options = Options { smoothing: 0.1, alpha: 1e-5, ..options(4) };
        let (mut cpu, mut engine) = (Cpu::new(&graph, &options), engine(&graph, &options));
        let values = lively(&graph, &cpu.lowered, 31);
        cpu.load(&values);
        engine.load(&values);
        let records = records(graph.nodes[0].shape, 10, 7);
        let mut total = (0.0, 0.0);
        // A rate of zero: the steps move nothing but the running statistics, which the evaluation then reads.
        for indices in [0..4, 4..7] {
            cpu.send(&records, indices.clone());
            let (loss, correct) = cpu.run(TRAIN, indices.len() as u32);
            let images: Vec<u32> = indices.map(|i| i as u32).collect();
            engine.step(&records, &images, 0, 0.0).unwrap_or_else(|e| panic!("{e}"));
            let figures = engine.figures().unwrap_or_else(|e| panic!("{e}"));
            close(&format!("{name}, {} images", images.len()), figures[0].loss / images.len() as f64, loss);
            assert_eq!(figures[0].correct as f64, correct, "{name}: right answers");
        }
        cpu.run(COMPOSE, 0);
        for indices in [0..4, 4..7] {
            cpu.send(&records, indices.clone());
            let (loss, correct) = cpu.run(EVAL, indices.len() as u32);
            total = (total.0 + loss * indices.len() as f64, total.1 + correct);
        }
        let got = engine.evaluate(&records).unwrap_or_else(|e| panic!("{e}"));
        close(&format!("{name}, evaluation"), got.loss, total.0);
        assert_eq!((got.count, got.correct as f64), (7, total.1), "{name}: evaluation");
    }
}

/// Within 1e-5: what plain float32 loses against float64 over a dozen layers, with room.
fn close(what: &str, got: f64, want: f64) {
    assert!((got - want).abs() <= 1e-5 * want, "{what}: loss {got}, the twins' {want}");
}
