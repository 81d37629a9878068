//! The backward pass, without a GPU: finite differences on the f64 twins with every operation in the middle of a graph, S3's
//! straight-through gradients against the relaxed product; SGD and batch norm's running values by hand.

mod common;

use common::{Cpu, FP32, TRAIN, lively, options, records};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use s3gpu::graph::{Graph, NodeId, Options, Role, Shape, Vars};
use s3gpu::kernels::check::run_twin;
use s3gpu::kernels::compose::s3::{S3Backward, S3Compose, S3Params};
use s3gpu::kernels::compose::{Segment, table};
use s3gpu::kernels::norm::{BatchNormParams, BnStatsMerge};
use s3gpu::kernels::optim::{Adam, AdamParams, Sgd, SgdParams};
use s3gpu::kernels::{AnyKernel, Arg, Args, Data, Output};

fn params(cpu: &mut Cpu) -> &mut [f64] {
    match cpu.exec.data_mut(cpu.lowered.groups[0].params) {
        Data::F32(v) => v,
        Data::U32(_) => unreachable!("parameters are floats"),
    }
}

/// Small against the distance to the next ReLU or maximum, large against f64's rounding.
const STEP: f64 = 1e-6;

/// Central differences of a loss near 2 carry 1e-16 · 2 / STEP of rounding, times what a few thousand additions make of it: some 1e-8,
/// where gradients are around 1e-2. A kink that is crossed, or a wrong rule, is off by far more.
const DIFFERENCE: f64 = 1e-5;

/// Numbers as the gradients of all tensors, a few elements each, against those that the backward pass wrote.
fn finite_differences(name: &str, graph: &Graph, smoothing: f32) {
    let mut cpu = Cpu::new(graph, &Options { smoothing, ..options(4) });
    let values = lively(graph, &cpu.lowered, 11);
    cpu.load(&values);
    let records = records(graph.nodes[0].shape, graph.classes(), 8);
    // A full batch first: the partial one that is differentiated must not see what it left behind.
    cpu.send(&records, 4..8);
    cpu.run(TRAIN, 4);
    cpu.send(&records, 0..3);
    cpu.run(TRAIN, 3);
    let grads = cpu.exec.data(cpu.lowered.groups[0].grads).f32().to_vec();
    let tensors: Vec<_> = cpu.lowered.layout.tensors.iter().filter(|t| t.role == Role::Param).cloned().collect();
    for t in tensors {
        let words: Vec<usize> = t.words().collect();
        let size = (words.iter().map(|w| grads[*w].powi(2)).sum::<f64>() / words.len() as f64).sqrt();
        assert!(size > 1e-6, "{name}: {} has no gradient to speak of: {size:e}", t.name);
        for at in 0..5 {
            // Both ends and some between.
            let word = words[at * (words.len() - 1) / 4];
            let w = params(&mut cpu)[word];
            let mut loss = |x: f64| {
                params(&mut cpu)[word] = x;
                cpu.run(TRAIN, 3).0
            };
            let numeric = (loss(w + STEP) - loss(w - STEP)) / (2.0 * STEP);
            loss(w);
            let off = (numeric - grads[word]).abs();
            assert!(
                off <= DIFFERENCE * size,
                "{name}: {}, word {word}: {:e}, numerically {numeric:e}",
                t.name,
                grads[word]
            );
        }
    }
}

/// A convolution before, the operation, a convolution after it, and the head; odd sizes and channels all along.
fn around(op: impl FnOnce(&mut Graph, NodeId) -> s3gpu::Result<NodeId>) -> Graph {
    between(op, |g, x| g.linear("fc", x, 7))
}

fn between(
    op: impl FnOnce(&mut Graph, NodeId) -> s3gpu::Result<NodeId>,
    head: impl FnOnce(&mut Graph, NodeId) -> s3gpu::Result<NodeId>,
) -> Graph {
    let build = || {
        let mut g = Graph::new(Shape { h: 9, w: 7, c: 3 });
        let before = g.conv("before", 0, 5, [3, 1, 1], FP32)?;
        let x = op(&mut g, before)?;
        let after = g.conv("after", x, 6, [3, 1, 1], FP32)?;
        let pooled = g.global_avg_pool("pool", after);
        head(&mut g, pooled)?;
        Ok::<_, s3gpu::Error>(g)
    };
    build().unwrap_or_else(|e| panic!("{e}"))
}

/// Two steps of SGD, the second on fewer images, at once and in parts: the parameters after them and the losses on the way.
fn two_steps(graph: &Graph, options: &Options, values: &s3gpu::model::Values) -> (Vec<f64>, Vec<f64>) {
    const COMPOSE: usize = 1;
    const UPDATE: usize = 3;
    let mut cpu = Cpu::new(graph, options);
    cpu.load(values);
    let records = records(graph.nodes[0].shape, graph.classes(), 13);
    let mut losses = Vec::new();
    for images in [0..8, 8..13] {
        let base = Vars { total: images.len() as u32, rate: 0.1, ..Vars::default() };
        let mut loss = 0.0;
        let size = options.batch as usize;
        if options.accumulates() {
            cpu.exec.run(COMPOSE, &base);
        }
        for (part, start) in images.clone().step_by(size).enumerate() {
            let part_of = start..images.end.min(start + size);
            cpu.send(&records, part_of.clone());
            cpu.exec.run(TRAIN, &Vars { n: part_of.len() as u32, part: part as u32, ..base });
            loss += cpu.exec.data(cpu.lowered.ring).f32()[0];
        }
        if options.accumulates() {
            cpu.exec.run(UPDATE, &base);
        }
        losses.push(loss);
        losses.push(cpu.exec.data(cpu.lowered.ring).f32()[1]);
    }
    (params(&mut cpu).to_vec(), losses)
}

#[test]
fn a_step_in_parts_is_the_step_at_once() {
    for (name, bits) in [("fp32", 0), ("s3", 3)] {
        let method = s3gpu::methods::MethodSpec::find(name, (bits > 0).then_some(bits)).expect("known");
        // No batch norm: it sees one part at a time, which is the difference that the help names.
        let op = |g: &mut Graph, x| {
            let x = g.conv("op", x, 7, [3, 2, 1], method)?;
            Ok(g.relu("relu", x))
        };
        let graph = if bits == 0 { around(op) } else { between(op, |g, x| g.linear_of("fc", x, 7, method)) };
        for keep_gradients in [false, true] {
            let base = Options { alpha: 0.01, decay: 0.01, smoothing: 0.1, keep_gradients, ..options(8) };
            let values = lively(&graph, &Cpu::new(&graph, &base).lowered, 17);
            let (whole, losses) = two_steps(&graph, &base, &values);
            assert!(losses.iter().all(|l| *l != 0.0) || bits == 0, "no loss or no regularizer: {losses:?}");
            // 3 + 3 + 2 images, then 3 + 2.
            let (parts, theirs) = two_steps(&graph, &Options { batch: 3, accumulate: 3, ..base.clone() }, &values);
            let close = |a: &[f64], b: &[f64]| a.iter().zip(b).all(|(a, b)| (a - b).abs() <= 1e-12 * (1.0 + a.abs()));
            assert!(close(&losses, &theirs), "{name}: losses {losses:?}, in parts {theirs:?}");
            assert!(whole.len() == parts.len() && close(&whole, &parts), "{name}, keep {keep_gradients}: parameters");
            // The test can fail: another number of images is another mean.
            let (other, _) = two_steps(&graph, &Options { batch: 3, accumulate: 3, smoothing: 0.0, ..base }, &values);
            assert!(!close(&whole, &other));
        }
    }
}

#[test]
fn convolutions_differentiate() {
    for conv in [[3, 1, 1], [3, 2, 1], [1, 1, 0], [1, 2, 0], [7, 1, 3], [7, 2, 3]] {
        finite_differences(&format!("conv {conv:?}"), &around(|g, x| g.conv("op", x, 7, conv, FP32)), 0.0);
    }
}

/// Its convolution, scale and bias; seven classes leave padding behind them.
#[test]
fn a_classifier_of_a_method_differentiates() {
    let graph = between(|g, x| Ok(g.relu("op", x)), |g, x| g.linear_of("fc", x, 7, FP32));
    finite_differences("classifier as a convolution", &graph, 0.1);
}

#[test]
fn norm_and_activation_differentiate() {
    finite_differences("batch norm, smoothed labels", &around(|g, x| g.batch_norm("op", x)), 0.1);
    finite_differences("relu", &around(|g, x| Ok(g.relu("op", x))), 0.0);
    let both = around(|g, x| {
        let x = g.batch_norm("bn", x)?;
        Ok(g.relu("relu", x))
    });
    finite_differences("batch norm and relu", &both, 0.0);
}

#[test]
fn pools_differentiate() {
    for pool in [[3, 2, 1], [2, 2, 0], [3, 1, 1]] {
        finite_differences(&format!("max pool {pool:?}"), &around(|g, x| g.max_pool("op", x, pool)), 0.0);
    }
    for (cout, stride) in [(5, 2), (9, 2), (11, 1)] {
        let name = format!("pad shortcut to {cout}, stride {stride}");
        finite_differences(&name, &around(|g, x| g.pad_shortcut("op", x, cout, stride)), 0.0);
    }
    finite_differences("global average pool", &around(|g, x| Ok(g.global_avg_pool("op", x))), 0.0);
}

#[test]
fn sums_and_shared_inputs_differentiate() {
    let two = around(|g, x| {
        let a = g.conv("a", x, 5, [3, 1, 1], FP32)?;
        let b = g.conv("b", x, 5, [1, 1, 0], FP32)?;
        g.add("op", a, b)
    });
    finite_differences("add of two convolutions", &two, 0.0);
    let residual = around(|g, x| {
        let x = g.relu("relu", x);
        let a = g.conv("a", x, 5, [3, 1, 1], FP32)?;
        g.add("op", a, x)
    });
    finite_differences("residual", &residual, 0.0);
    let thrice = around(|g, x| {
        let a = g.conv("a", x, 5, [3, 1, 1], FP32)?;
        let once = g.add("once", a, x)?;
        let b = g.batch_norm("b", x)?;
        g.add("op", once, b)
    });
    finite_differences("three readers", &thrice, 0.0);
    finite_differences("twice itself", &around(|g, x| g.add("op", x, x)), 0.0);
    let images = around(|g, x| {
        let short = g.pad_shortcut("short", 0, 5, 1)?;
        g.add("op", short, x)
    });
    finite_differences("the images beside", &images, 0.0);
    let block = around(|g, x| {
        let x = g.relu("relu", x);
        let a = g.conv("a", x, 9, [3, 2, 1], FP32)?;
        let a = g.batch_norm("bn_a", a)?;
        let b = g.conv("b", x, 9, [1, 2, 0], FP32)?;
        let b = g.batch_norm("bn_b", b)?;
        let sum = g.add("sum", a, b)?;
        let short = g.pad_shortcut("short", x, 9, 2)?;
        g.add("op", sum, short)
    });
    finite_differences("three paths with strides", &block, 0.0);
}

/// relu(bn(conv(relu(bn(conv(x))))) + shortcut), which lowering fuses into few dispatches; a shortcut of as many channels is `x` itself.
fn block(
    g: &mut Graph,
    name: &str,
    x: NodeId,
    [cout, stride]: [u32; 2],
    short: impl FnOnce(&mut Graph) -> s3gpu::Result<NodeId>,
) -> s3gpu::Result<NodeId> {
    let y = g.conv(&format!("{name}.conv0"), x, cout, [3, stride, 1], FP32)?;
    let y = g.batch_norm(&format!("{name}.bn0"), y)?;
    let y = g.relu(&format!("{name}.relu0"), y);
    let y = g.conv(&format!("{name}.conv1"), y, cout, [3, 1, 1], FP32)?;
    let y = g.batch_norm(&format!("{name}.bn1"), y)?;
    let short = short(g)?;
    let sum = g.add(&format!("{name}.add"), y, short)?;
    Ok(g.relu(&format!("{name}.relu"), sum))
}

#[test]
fn chained_blocks_differentiate() {
    let conv = around(|g, x| {
        let x = g.relu("relu", x);
        let x = block(g, "same", x, [5, 1], |_| Ok(x))?;
        block(g, "conv", x, [9, 2], |g| {
            let y = g.conv("short", x, 9, [1, 2, 0], FP32)?;
            g.batch_norm("short.bn", y)
        })
    });
    finite_differences("an identity block, then one with a convolution as its shortcut", &conv, 0.0);
    let pad = around(|g, x| {
        let x = block(g, "same", x, [5, 1], |_| Ok(x))?;
        let x = block(g, "pad", x, [9, 2], |g| g.pad_shortcut("short", x, 9, 2))?;
        block(g, "again", x, [9, 1], |_| Ok(x))
    });
    finite_differences("a padding shortcut between identity blocks", &pad, 0.0);
}

#[test]
fn a_node_with_two_gated_readers_differentiates() {
    // x waits for a gradient with the gate of `one` when that with the gate of `two` arrives, and the other way round.
    let sums = around(|g, x| {
        let [a, b] = [("a", 3), ("b", 1)].map(|(name, k)| g.conv(name, x, 5, [k, 1, k / 2], FP32));
        let [a, b] = [g.batch_norm("bn_a", a?)?, g.batch_norm("bn_b", b?)?];
        let one = g.add("one.add", a, x)?;
        let one = g.relu("one", one);
        let two = g.add("two.add", b, x)?;
        let two = g.relu("two", two);
        g.add("op", one, two)
    });
    finite_differences("two residual sums", &sums, 0.0);
    let bare = around(|g, x| {
        let one = g.relu("one", x);
        let bent = g.batch_norm("bn", x)?;
        let sum = g.add("two.add", bent, x)?;
        let two = g.relu("two", sum);
        g.add("op", one, two)
    });
    finite_differences("a ReLU and a residual sum", &bare, 0.0);
}

/// W(σ, ρ, h_1 … h_T) = σ · ρ · 2^{s_T}, s_t = h_t · (s_{t−1} + 1), for real σ, ρ and h.
fn relaxed(v: &[f64]) -> f64 {
    let s = v[2..].iter().fold(0.0, |s, h| h * (s + 1.0));
    v[0] * v[1] * s.exp2()
}

/// One layer of 2,304 weights: enough for every pattern of six gates.
fn layer(shifts: u32) -> (Vec<u32>, u32, usize) {
    let (cin, cout, taps) = (8, 32, 9);
    let count = cin * cout * taps;
    let (words, groups) = table(&[Segment { base: 0, stride: count, cin, cout, taps, w: 0, plain: false, aux: 0 }]);
    (words, groups, (count * (shifts + 2)) as usize)
}

fn floats(outputs: &[Option<Output>], i: usize) -> Vec<f64> {
    outputs[i].as_ref().expect("an output").data.f32().to_vec()
}

#[test]
fn straight_through_is_the_relaxed_product_at_the_binarized_point() {
    for shifts in [0u32, 2, 6] {
        let (segments, groups, words) = layer(shifts);
        let count = words / (shifts as usize + 2);
        let mut rng = ChaCha8Rng::seed_from_u64(3);
        let mut random = |n: usize| (0..n).map(|_| rng.random_range(-1.0f32..1.0)).collect::<Vec<_>>();
        let (mut latents, upstream) = (random(words), random(count));
        // Zeros, which count as a positive sign, a closed gate and a sparse latent that is not regularized.
        latents.iter_mut().step_by(13).for_each(|v| *v = 0.0);
        let bits = |v: &[f32]| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>();
        let backward = |alpha: f32| {
            let params = S3Params { groups, shifts, alpha };
            let buffers = [segments.clone(), bits(&latents), bits(&upstream), vec![0; words]];
            floats(&run_twin(&S3Backward, bytemuck::bytes_of(&params), &buffers), 3)
        };
        let params = S3Params { groups, shifts, alpha: 0.0 };
        let buffers = [segments.clone(), bits(&latents), vec![0; count], vec![0; count]];
        let composed = floats(&run_twin(&S3Compose, bytemuck::bytes_of(&params), &buffers), 2);

        let (grads, regularized) = (backward(0.0), backward(0.01));
        let mut patterns = std::collections::BTreeSet::new();
        for i in 0..count {
            let g = f64::from(upstream[i]);
            let latent = |k: usize| latents[k * count + i];
            let gate = |k| f64::from(u8::from(latent(k) > 0.0));
            let mut point = vec![if latent(0) >= 0.0 { 1.0 } else { -1.0 }];
            point.extend((1..shifts as usize + 2).map(gate));
            patterns.insert(point.iter().map(|v| *v as i32).collect::<Vec<_>>());
            assert_eq!(composed[i], relaxed(&point), "{shifts} shifts: W[{i}]");
            for k in 0..point.len() {
                let step = 1e-5;
                let at = |v: f64| {
                    let mut moved = point.clone();
                    moved[k] += v;
                    relaxed(&moved)
                };
                let want = g * (at(step) - at(-step)) / (2.0 * step);
                // Third derivatives of 2^s leave step² · (6 ln 2)³ / 6 = 1.2e-9 of the largest weight.
                let allowed = 2e-9 * g.abs() * f64::from(shifts).exp2();
                let got = grads[k * count + i];
                assert!(
                    (got - want).abs() <= allowed,
                    "{shifts} shifts, latent {k} of weight {i}: {got:e}, not {want:e}"
                );
                let alpha = if k == 1 && latent(1) < 0.0 { f64::from(0.01f32) } else { 0.0 };
                assert_eq!(
                    regularized[k * count + i],
                    got - alpha,
                    "{shifts} shifts, latent {k} of weight {i}: regularizer"
                );
            }
        }
        assert_eq!(patterns.len(), 4 << shifts, "every pattern of signs and gates occurred");
    }
}

/// Three steps of PyTorch's SGD by hand: w = 1; gradients 0.5, −0.25, 1; momentum 0.9, weight decay 0.1.
#[test]
fn sgd_is_pytorchs() {
    let (gradients, rate) = ([0.5, -0.25, 1.0], 0.1);
    // (Nesterov, lr 0.1 after each step, lr 0.2 after each step: the latents', at twice the rate)
    let by_hand = [
        (0, [0.94, 0.9016, 0.758024], [0.88, 0.8044, 0.520272]),
        (1, [0.886, 0.868066, 0.630906146], [0.772, 0.740464, 0.272839968]),
    ];
    for (nesterov, plain, latent) in by_hand {
        let p = SgdParams { len4: 2, latents: 1, nesterov, rate, latent_rate: 2.0, momentum: 0.9, decay: 0.1 };
        let new = |v: f64| Output::new(Data::F32(vec![v; 8]), false);
        let (mut params, mut velocity) = (new(1.0), new(0.0));
        for (step, g) in gradients.into_iter().enumerate() {
            let grads = Data::F32(vec![g; 8]);
            let mut args = Args(vec![Arg::In(&grads), Arg::Out(&mut params), Arg::Out(&mut velocity)]);
            AnyKernel::twin(&Sgd, bytemuck::bytes_of(&p), &mut args);
            for (i, w) in params.data.f32().iter().enumerate() {
                let want = if i < 4 { plain[step] } else { latent[step] };
                // The settings are f32: 0.9 and 0.1 carry 3e-8.
                assert!((w - want).abs() <= 2e-7, "nesterov {nesterov}, step {step}, word {i}: {w}, not {want}");
            }
        }
    }
}

/// Seven steps of PyTorch's Adam and RAdam from bias-corrected moments: w = 1, lr 0.1, weight decay 0.1. RAdam's first five steps have no
/// second moment.
#[test]
fn adam_and_radam_are_pytorchs() {
    let gradients = [0.5, -0.25, 1.0, 0.5, -2.0, 0.75, 0.1];
    let base = AdamParams { len4: 1, latents: 1, latent_rate: 1.0, decay: 0.1, ..Default::default() };
    let by_hand = [
        [0.900000002, 0.854441367, 0.7815044, 0.702879381, 0.708705539, 0.696355465, 0.682174662],
        [0.94, 0.919789474, 0.86674228, 0.812060824, 0.817588117, 0.817250369, 0.816757452],
    ];
    for (radam, want) in [false, true].into_iter().zip(by_hand) {
        let new = |v: f64| Output::new(Data::F32(vec![v; 4]), false);
        let (mut params, mut first, mut second) = (new(1.0), new(0.0), new(0.0));
        for (t, (g, want)) in (1..).zip(gradients.into_iter().zip(want)) {
            let p = if radam { base.radam(0.1, t) } else { base.adam(0.1, t) };
            let grads = Data::F32(vec![g; 4]);
            let outputs = [&mut params, &mut first, &mut second].map(Arg::Out);
            AnyKernel::twin(
                &Adam,
                bytemuck::bytes_of(&p),
                &mut Args(std::iter::once(Arg::In(&grads)).chain(outputs).collect()),
            );
            let w = params.data.f32()[3];
            // The settings are f32.
            assert!((w - want).abs() <= 5e-7, "RAdam {radam}, step {t}: {w}, not {want}");
        }
    }
}

/// Two values 1 and 5: mean 3, squared deviations 8, so 8 unbiased and 4 biased. Running values start at 2 and 1.
#[test]
fn running_values_are_pytorchs() {
    let p = BatchNormParams { running_var: 1, ..BatchNormParams::new(2, 4) };
    let words = |pair: [f32; 2]| pair.iter().flat_map(|v| [v.to_bits(); 4]).collect::<Vec<_>>();
    let buffers = [words([3.0, 8.0]), vec![0; 8], words([2.0, 1.0])];
    let outputs = run_twin(&BnStatsMerge, bytemuck::bytes_of(&p), &buffers);
    // 0.9 · 2 + 0.1 · 3 and 0.9 · 1 + 0.1 · 8; normalization takes the biased 4. eps and momentum are f32.
    let (stats, running) = (floats(&outputs, 1), floats(&outputs, 2));
    for (got, want) in
        [(running[0], 2.1), (running[4], 1.7), (stats[0], 3.0), (stats[4], (4.0f64 + 1e-5).sqrt().recip())]
    {
        assert!((got - want).abs() <= 1e-7, "{got}, not {want}: {running:?}, {stats:?}");
    }
}
