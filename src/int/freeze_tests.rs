use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

use super::*;
use crate::graph::Shape;
use crate::int::evaluate::{class, differences};
use crate::int::float::FloatNode;
use crate::int::{Fast, file, plain};

/// A small network with everything a ResNet has: stem, max pool, a block of two convolutions with a strided shortcut, pool,
/// classifier. All but the stem on `levels`, drawn at random.
fn network(levels: &Levels, seed: u64) -> FloatNet {
    network_with(levels, None, seed)
}

/// As [`network`], stem and classifier on `outer` where there are such.
fn network_with(levels: &Levels, outer: Option<&Levels>, seed: u64) -> FloatNet {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut uniform = |n: usize, low: f32, high: f32| (0..n).map(|_| rng.random_range(low..high)).collect::<Vec<f32>>();
    let mut nodes = Vec::new();
    let mut push = |name: &str, op, inputs: &[usize], [h, w, c]: [u32; 3], relu| {
        nodes.push(FloatNode { name: name.into(), op, inputs: inputs.to_vec(), shape: Shape { h, w, c }, relu });
    };
    fn draw(uniform: &mut impl FnMut(usize, f32, f32) -> Vec<f32>, l: &Levels, count: usize) -> Vec<f32> {
        let (draw, signs) = (uniform(count, 0.0, 1.0), uniform(count, -1.0, 1.0));
        let unit = if l.scaled { 0.37f32 } else { (l.exponent as f32).exp2() };
        let pick = |u: &f32| l.table[(u * l.table.len() as f32) as usize].map_or(0.0, |s| unit * f32::from(s).exp2());
        draw.iter().map(pick).zip(signs).map(|(m, s)| m * s.signum()).collect()
    }
    let mut conv = |window: [u32; 3], cin: usize, cout: usize, levels: Option<&Levels>| {
        let count = (window[0] * window[0]) as usize * cin * cout;
        let weight = match levels {
            None => uniform(count, -1.0, 1.0),
            Some(l) => draw(&mut uniform, l, count),
        };
        let size = (weight.iter().map(|w: &f32| w * w).sum::<f32>() / cout as f32).sqrt().max(1e-20);
        let norm = Norm {
            gamma: uniform(cout, 0.5, 1.5),
            beta: uniform(cout, -0.5, 0.5),
            mean: uniform(cout, -0.2, 0.2).iter().map(|m| m * size).collect(),
            var: uniform(cout, 0.5, 1.5).iter().map(|v| v * size * size).collect(),
        };
        FloatOp::Conv { window, weight, levels: levels.cloned(), norm }
    };
    let stem = conv([3, 1, 1], 3, 6, outer);
    let [first, second] = [conv([3, 2, 1], 6, 8, Some(levels)), conv([3, 1, 1], 8, 8, Some(levels))];
    let down = conv([1, 1, 0], 8, 8, Some(levels));
    let weight = match outer {
        None => uniform(40, -0.3, 0.3),
        Some(l) => draw(&mut uniform, l, 40).iter().map(|w| w * LOGIT_SCALE).collect(),
    };
    let bias = uniform(5, -0.5, 0.5);
    push("input", FloatOp::Input, &[], [12, 10, 3], false);
    push("conv1", stem, &[0], [12, 10, 6], true);
    push("maxpool", FloatOp::MaxPool { window: [3, 1, 1] }, &[1], [12, 10, 6], false);
    push("a.conv1", first, &[2], [6, 5, 8], true);
    push("a.conv2", second, &[3], [6, 5, 8], false);
    push("a.shortcut", FloatOp::PadShortcut { stride: 2 }, &[2], [6, 5, 8], false);
    push("a.add", FloatOp::Add, &[4, 5], [6, 5, 8], true);
    push("b.downsample.0", down, &[6], [6, 5, 8], false);
    push("b.add", FloatOp::Add, &[6, 7], [6, 5, 8], true);
    push("avgpool", FloatOp::GlobalAvgPool, &[8], [1, 1, 8], false);
    push("fc", FloatOp::Linear { weight, levels: outer.cloned(), bias }, &[9], [1, 1, 5], false);
    FloatNet { nodes, mean: vec![0.4, 0.5, 0.6], std: vec![0.2, 0.25, 0.3] }
}

fn images(count: usize) -> Records {
    let mut rng = ChaCha8Rng::seed_from_u64(9);
    let image_len = 3 * 12 * 10;
    Records { pixels: (0..count * image_len).map(|_| rng.random()).collect(), labels: vec![0; count], image_len }
}

fn info(classes: usize) -> Info {
    Info {
        model: "test".into(),
        method: "test".into(),
        class_names: (0..classes).map(|c| format!("class, {c}")).collect(),
        mean: vec![0.4, 0.5, 0.6],
        std: vec![0.2, 0.25, 0.3],
        terms: 3,
        calibration: 64,
        ..Info::default()
    }
}

fn every_method() -> Vec<(&'static str, Levels)> {
    let mut all = vec![("twn", Levels::ternary()), ("binary", Levels::binary()), ("inq", Levels::inq(5, -2))];
    all.extend((2..=4).map(|b| ("s3", Levels::s3(b))));
    all.extend((2..=5).map(|b| ("denseshift", Levels::dense_shift(b))));
    all.extend((2..=6).map(|b| ("deepshift-q", Levels::deep_shift_q(b))));
    all.extend((2..=5).map(|b| ("deepshift-ps", Levels::deep_shift_ps(b))));
    all
}

#[test]
fn every_method_freezes_to_nearly_the_float_network() {
    let images = images(64);
    let both = every_method().into_iter().flat_map(|method| [(method.clone(), false), (method, true)]);
    for (i, ((name, levels), outer)) in both.enumerate() {
        let net = network_with(&levels, outer.then_some(&levels), i as u64 / 2);
        let Frozen { model, .. } = freeze(&net, &images, info(5)).unwrap_or_else(|e| panic!("{name} {levels:?}: {e}"));
        // It comes back from its file.
        let bytes = model.to_file().to_bytes();
        let raw = crate::files::raw::RawFile::from_bytes(&bytes, "x".as_ref()).unwrap();
        assert_eq!(Model::from_file(raw, "x".as_ref()).unwrap(), model, "{name}");
        assert_eq!(file::FORMAT, model.to_file().meta["format"]);
        // Plain and fast agree at every node.
        let (fast, mut scratch) = (Fast::new(&model), Default::default());
        for i in 0..4 {
            let mut seen = Vec::new();
            let logits = plain::forward(&model, images.image(i), |_, out| seen.push(out.to_vec()));
            let again =
                fast.forward(images.image(i), &mut scratch, |n, out| assert_eq!(out, seen[n], "{name}, node {n}"));
            assert_eq!(logits, again);
        }
        // Each layer is near the float network, clipped values included; a wrong fold would be as far off as the signal is large.
        let last = model.nodes.len() - 1;
        let (mut error, mut signal) = (vec![0.0; last], vec![0.0; last]);
        for i in 0..16 {
            let floats = net.forward(images.image(i));
            fast.forward(images.image(i), &mut scratch, |n, out| {
                // Pooled sums and logits have scales of their own.
                if model.nodes[n].kind != Kind::I32 {
                    let unit = f64::from(model.nodes[n].exponent).exp2();
                    let squares =
                        floats[n].iter().zip(out).map(|(f, q)| (f64::from(*f) - f64::from(*q) * unit).powi(2));
                    error[n] += squares.sum::<f64>();
                    signal[n] += floats[n].iter().map(|f| f64::from(*f).powi(2)).sum::<f64>();
                }
            });
        }
        for ((e, s), node) in error.iter().zip(&signal).zip(&model.nodes) {
            assert!(*e <= 0.01 * s, "{name} {levels:?}: {}: {e} of {s}", node.name);
        }
    }
}

/// The frozen classifier, and what 1 of its weights stands for.
fn frozen_classifier(net: &FloatNet, images: &Records) -> (Frozen, Vec<i8>, f64) {
    let frozen = freeze(net, images, info(5)).unwrap();
    let [.., pooled, last] = &frozen.model.nodes[..] else { panic!() };
    let Op::Linear(linear) = &last.op else { panic!() };
    let (weight, unit) = (linear.weight.clone(), linear.scale * 30.0 / f64::from(pooled.exponent).exp2());
    (frozen, weight, unit)
}

#[test]
fn a_classifier_on_levels_is_one_shift_a_weight() {
    let images = images(32);
    let mut lossy = Vec::new();
    for (name, levels) in every_method() {
        let net = network_with(&levels, Some(&levels), 4);
        let (Frozen { model, notes }, int8, unit) = frozen_classifier(&net, &images);
        assert!(int8.iter().all(|q| super::super::digits::digits((*q).into()).len() <= 1), "{name}: {int8:?}");
        let Some(FloatOp::Linear { weight, .. }) = net.nodes.last().map(|n| &n.op) else { panic!() };
        let is_it = |(w, q): (&f32, &i8)| *q == 0 || (f64::from(*w) / unit - f64::from(*q)).abs() < 1e-9;
        assert!(weight.iter().zip(&int8).all(is_it), "{name} {levels:?}: {weight:?} to {int8:?}");
        // What is lost is below the smallest digit, and told.
        let lost = |w: f32, q: i8| w != 0.0 && q == 0;
        let dropped = weight.iter().zip(&int8).filter(|(w, q)| lost(**w, **q)).count();
        assert!(weight.iter().zip(&int8).all(|(w, q)| !lost(*w, *q) || f64::from(w.abs()) < unit), "{name}");
        assert_eq!(notes.iter().any(|n| n.starts_with("fc: its scale rose by 2^")), dropped > 0, "{name}: {notes:?}");
        if dropped > 0 {
            lossy.push(name);
        }
        let off = differences(&net, &model, &images, 32).pop().unwrap();
        assert!(off.largest < 0.05 * off.range, "{name} {levels:?}: {off:?}");
    }
    lossy.dedup();
    // Eight levels and more: the smallest of them meets int8's end.
    assert_eq!(lossy, ["inq", "denseshift", "deepshift-q", "deepshift-ps"]);
}

#[test]
fn a_scale_for_each_class_takes_several_digits_and_says_so() {
    let (images, levels) = (images(32), Levels::binary());
    let mut net = network_with(&levels, Some(&levels), 4);
    let Some(FloatOp::Linear { weight, .. }) = net.nodes.last_mut().map(|n| &mut n.op) else { panic!() };
    weight.chunks_mut(8).zip(1u8..).for_each(|(row, k)| row.iter_mut().for_each(|w| *w *= f32::from(k) / 5.0));
    let (Frozen { model, notes }, int8, _) = frozen_classifier(&net, &images);
    assert!(notes.iter().any(|n| n.contains("fc: each class has a scale of its own")), "{notes:?}");
    assert_eq!(int8.chunks(8).map(|row| row[0].abs()).collect::<Vec<_>>(), [25, 51, 76, 102, 127]);
    let off = differences(&net, &model, &images, 32).pop().unwrap();
    assert!(off.largest < 0.05 * off.range, "{off:?}");
}

#[test]
fn a_classifier_off_its_levels_is_refused() {
    let (images, levels) = (images(4), Levels::inq(5, -2));
    let mut net = network_with(&levels, Some(&levels), 4);
    let Some(FloatOp::Linear { weight, .. }) = net.nodes.last_mut().map(|n| &mut n.op) else { panic!() };
    weight[7] = 0.3 * LOGIT_SCALE;
    let text = freeze(&net, &images, info(5)).unwrap_err().to_string();
    assert!(text.contains("fc") && text.contains("weight 0.3 is on no level"), "{text}");
}

#[test]
fn classes_are_those_of_the_float_network() {
    let images = images(64);
    let net = network(&Levels::s3(3), 3);
    let model = freeze(&net, &images, info(5)).unwrap().model;
    let fast = Fast::new(&model);
    let same = |i: &usize| {
        let floats = net.forward(images.image(*i)).pop().unwrap();
        class(&floats) == class(&fast.forward(images.image(*i), &mut Default::default(), |_, _| ()))
    };
    let agreed = (0..64).filter(same).count();
    assert!(agreed >= 60, "{agreed} of 64");
}

#[test]
fn more_terms_come_nearer() {
    let images = images(32);
    let net = network(&Levels::s3(3), 5);
    let error = |terms| {
        let model = freeze(&net, &images, Info { terms, ..info(5) }).unwrap().model;
        differences(&net, &model, &images, 32).last().unwrap().largest
    };
    let errors = [1, 2, 3].map(error);
    assert!(errors[0] > errors[1] && errors[1] > errors[2] * 0.8, "{errors:?}");
}

#[test]
fn channels_keep_their_means() {
    let images = images(64);
    let net = network(&Levels::s3(3), 6);
    // One digit is off by up to a third.
    let model = freeze(&net, &images, Info { terms: 1, ..info(5) }).unwrap().model;
    let (fast, mut scratch) = (Fast::new(&model), Default::default());
    // What has no ReLU: both networks show it as it is.
    let seen = ["a.conv2", "b.downsample.0", "fc"].map(|name| net.nodes.iter().position(|n| n.name == name).unwrap());
    let mut off = vec![vec![0.0; 8]; net.nodes.len()];
    for i in 0..images.len() {
        let floats = net.forward(images.image(i));
        fast.forward(images.image(i), &mut scratch, |n, out| {
            if seen.contains(&n) {
                let unit = if n == seen[2] { model.logit_scale() } else { f64::from(model.nodes[n].exponent).exp2() };
                let pixels = out.len() / model.nodes[n].shape.c as usize;
                for (p, (f, q)) in floats[n].iter().zip(out).enumerate() {
                    off[n][p / pixels] += (f64::from(*f) / unit - f64::from(*q)) / (pixels * images.len()) as f64;
                }
            }
        });
    }
    for n in seen {
        assert!(off[n].iter().all(|o| o.abs() < 0.6), "{}: means are off by {:?} steps", net.nodes[n].name, off[n]);
    }
}

#[test]
fn a_wide_classifier_takes_a_preshift() {
    // 120 pixels of up to 255, 3,000 features and weights of up to 127: beyond 2^31 without one.
    let (features, images) = (3000, images(16));
    let mut rng = ChaCha8Rng::seed_from_u64(4);
    let mut uniform = |n: usize| (0..n).map(|_| rng.random_range(-0.5f32..0.5)).collect::<Vec<_>>();
    let [gamma, var] = [1.0, 0.25].map(|v| vec![v; features]);
    let norm = Norm { gamma, beta: uniform(features), mean: vec![0.0; features], var };
    let stem = FloatOp::Conv { window: [1, 1, 0], weight: uniform(3 * features), levels: None, norm };
    let fc = FloatOp::Linear { weight: uniform(5 * features), levels: None, bias: uniform(5) };
    let node = |name: &str, op, inputs: &[usize], [h, w, c]: [u32; 3], relu| FloatNode {
        name: name.into(),
        op,
        inputs: inputs.to_vec(),
        shape: Shape { h, w, c },
        relu,
    };
    let nodes = vec![
        node("input", FloatOp::Input, &[], [12, 10, 3], false),
        node("conv1", stem, &[0], [12, 10, 3000], true),
        node("avgpool", FloatOp::GlobalAvgPool, &[1], [1, 1, 3000], false),
        node("fc", fc, &[2], [1, 1, 5], false),
    ];
    let net = FloatNet { nodes, mean: vec![0.4, 0.5, 0.6], std: vec![0.2, 0.25, 0.3] };
    let model = freeze(&net, &images, info(5)).unwrap().model;
    let Op::GlobalSum { preshift } = model.nodes[2].op else { panic!() };
    assert!(preshift > 0, "{preshift}");
    let found = differences(&net, &model, &images, 16);
    assert!(found[2..].iter().all(|d| d.largest < 0.03 * d.range), "{found:?}");
}

#[test]
fn a_scale_rises_by_the_least_that_fits() {
    // 72 weights of up to 2^31 on uint8: Σ|w| · 255 must stay below 2^31.
    let images = images(8);
    let net = network(&Levels::dense_shift(6), 1);
    let Frozen { model, notes } = freeze(&net, &images, info(5)).unwrap();
    assert!(notes.iter().any(|n| n.starts_with("a.conv2: its scale rose by 2^")), "{notes:?}");
    let Op::Conv(conv) = &model.nodes[4].op else { panic!() };
    let Weight::Shift { exponent, codes, .. } = &conv.weight else { panic!() };
    assert!(*exponent > 0);
    // One less would not have fitted.
    let levels = Levels::dense_shift(6);
    let FloatOp::Conv { weight, .. } = &net.nodes[4].op else { panic!() };
    let all = quantize(&levels, 1.0, weight).unwrap();
    let largest = |raise: i32| {
        let sums = all.chunks(72).map(|row| {
            let level = |c: &ShiftWeight| u128::from(levels.table[usize::from(c.index)].unwrap());
            row.iter().map(level).filter(|p| *p as i32 >= raise).map(|p| 1u128 << (p as i32 - raise)).sum::<u128>()
        });
        sums.max().unwrap() * 255
    };
    assert!(largest(*exponent) <= proof::LIMIT && largest(exponent - 1) > proof::LIMIT);
    // A weight that became zero has no sign.
    let Weight::Shift { table, .. } = &conv.weight else { panic!() };
    assert!(codes.iter().all(|c| table[usize::from(c.index)].is_some() || !c.negative));
}

#[test]
fn pixels_and_weights_become_the_nearest_integers() {
    let net = network(&Levels::s3(3), 0);
    let lut = look_up_table(&net, -5);
    for (i, q) in lut.iter().enumerate() {
        let (c, x) = (i / 256, (i % 256) as f64);
        let steps = 32.0 * (x / 255.0 - f64::from(net.mean[c])) / f64::from(net.std[c]);
        assert!((steps - f64::from(*q)).abs() <= 0.5, "channel {c}, pixel {x}: {q} for {steps}");
    }
    assert_eq!((lut[0], look_up_table(&net, -7)[0], look_up_table(&net, -7)[255]), (-64, -128, 127));
    assert_eq!(to_int8(&[1.27, -0.636, 0.006]).0, [127, -64, 1]);
    assert_eq!(to_int8(&[1.27, 1.26]).0, [127, 126]);
    assert_eq!(to_int8(&[0.0, 0.0]), (vec![0, 0], 0.0));
}

#[test]
fn trailing_zeros_leave_every_result() {
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for _ in 0..20_000 {
        let (m, n): (i32, u32) = (rng.random_range(-255..256), rng.random_range(1..24));
        let (b, acc) = (rng.random_range(-1 << 22..1 << 22), rng.random_range(-1 << 21..1 << 21));
        let (m2, b2, n2) = without_trailing_zeros((m, b, n));
        let q = |m, b, n| plain::requantize(acc, m, b, n, [i32::MIN, i32::MAX]);
        assert_eq!(q(m, b, n), q(m2, b2, n2), "{m} {b} {n} to {m2} {b2} {n2}");
        assert!(n2 >= 1 && (m2 % 2 != 0 || n2 == 1));
    }
}

#[test]
fn shifts_are_the_largest_that_are_proven() {
    let constants = Constants::new(3);
    let folding = Folding { input: (Kind::U8, 0), out: Scale { kind: Kind::I8, exponent: 0 }, constants: &constants };
    // 0.7 · 2^8 = 179.2, and 176 = 256 − 64 − 16 is the nearest of three digits; 2^9 would pass 2^8.
    let found = folding.channel(&Channel { largest: 1000, factor: 0.7, mean: 0.0, at_mean: 2.5 }, 0).unwrap();
    assert_eq!(found, (176, 640, 8));
    // At its mean the sum is exact whatever M_c: 0.7 · (100 − 100) + 2.5 = (176 · 100 + 640 − 17600) / 2^8.
    let found = folding.channel(&Channel { largest: 1000, factor: 0.7, mean: 100.0, at_mean: 2.5 }, 0).unwrap();
    assert_eq!(found, (176, 640 - 17_600, 8));
    // With a pre-shift by 2 sums are a quarter: M_c = 0.7 · 4 · 2^6, its mean 25.
    let found = folding.channel(&Channel { largest: 1000, factor: 0.7, mean: 100.0, at_mean: 2.5 }, 2).unwrap();
    assert_eq!(found, (176, 160 - 176 * 25, 6));
    // With sums of up to 2^24 partial sums must stay below 2^31: 88 = 128 − 32 − 8 counts 168, 44 = 64 − 16 − 4 counts 84.
    let found = folding.channel(&Channel { largest: 1 << 24, factor: 0.7, mean: 0.0, at_mean: 0.0 }, 0).unwrap();
    assert_eq!(found, (44, 0, 6));
    // A dead channel ends at zero.
    let found = folding.channel(&Channel { largest: 1000, factor: 0.0, mean: 7.0, at_mean: -3.0 }, 0).unwrap();
    assert_eq!((found.0, without_trailing_zeros(found)), (0, (0, -6, 1)));
    // Sums beyond the multiplier's reach take a pre-shift.
    let strong = Channel { largest: 1 << 30, factor: 1e-5, mean: 0.0, at_mean: 0.0 };
    let solved = folding.solve(&[strong]).unwrap().unwrap();
    assert!(solved.preshift > 0, "{solved:?}");
    assert_eq!(folding.solve(&[Channel { largest: 1 << 40, factor: 1.0, mean: 0.0, at_mean: 0.0 }]), Ok(None));
    assert!(folding.solve(&[Channel { largest: 10, factor: 1e9, mean: 0.0, at_mean: 0.0 }]).is_err());
}
