//! The integer network on the adapter: logits equal to the plain reference's, whichever rung computes them.

mod shifts;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use s3gpu::data::{Manifest, Records, Splits, load};
use s3gpu::gpu;
use s3gpu::graph::Shape;
use s3gpu::int::digits::Constants;
use s3gpu::int::evaluate::class;
use s3gpu::int::gpu::{CODE, Choice, Network, measure};
use s3gpu::int::model::{Accuracy, Conv, Info, Input, Kind, Linear, Node, Op, Weight};
use s3gpu::int::packing::ShiftWeight;
use s3gpu::int::{Fast, Model, plain};
use s3gpu::kernels::AnyKernel;
use s3gpu::kernels::int::RUNGS;

/// Images whose logits are compared: whole batches and a part of one; fewer on SwiftShader, which takes a tenth of a second for each.
const IMAGES: usize = 256;
const FEW: usize = 28;
const BATCH: u32 = 100;

fn model() -> Model {
    let path = "tests/fixtures/int/shapes-resnet8-s3-3bit.safetensors";
    Model::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|e| panic!("{e}"))
}

fn images() -> Records {
    let manifest = Manifest::find("shapes").expect("built in");
    let data = load(&manifest, None, Splits::TEST).expect("drawn");
    let test = data.test.expect("asked for");
    let slow = gpu::adapters().first().is_some_and(|a| a.info.name.contains("SwiftShader"));
    let count = if slow { FEW } else { IMAGES };
    Records::of(test.as_ref(), 0..count).expect("drawn")
}

fn network(model: &Model, batch: u32, choice: &Choice) -> Network {
    let gpu = gpu::open(None).expect("the tests need an adapter: run `make setup`");
    Network::new(gpu, model, batch, choice).unwrap_or_else(|e| panic!("{e}"))
}

#[test]
fn every_rung_gives_the_references_logits() {
    let (model, images) = (model(), images());
    let plain: Vec<i32> = (0..images.len()).flat_map(|i| plain::forward(&model, images.image(i), |_, _| ())).collect();
    for rung in RUNGS {
        let name = AnyKernel::name(rung);
        let mut network = network(&model, BATCH, &Choice { forced: vec![name.into()], ..Choice::default() });
        // The stem's int8 weights are too large for sums of 16 bits.
        let elsewhere: Vec<_> =
            network.rungs.iter().filter(|(_, r)| **r != name).map(|(node, _)| node.as_str()).collect();
        assert!(
            elsewhere.is_empty() || (name.contains("pairs") || name.ends_with("shift")) && elsewhere == ["conv1"],
            "{name}: {:?}",
            network.rungs
        );
        assert!(network.logits(&images).unwrap_or_else(|e| panic!("{e}")) == plain, "{name}");
    }
}

#[test]
fn every_rung_takes_a_stem_of_shifts() {
    let (model, images) = (shifts::with_shift_stem(model()), images());
    let plain: Vec<i32> = (0..images.len()).flat_map(|i| plain::forward(&model, images.image(i), |_, _| ())).collect();
    let classes = |logits: &[i32]| logits.chunks(10).map(class).collect::<Vec<_>>();
    let found: BTreeSet<_> = classes(&plain).into_iter().collect();
    assert!(found.len() > 5, "the stem has lost the pictures: {found:?}");
    for name in RUNGS.map(AnyKernel::name).into_iter().chain([CODE]) {
        let mut network = network(&model, BATCH, &Choice { forced: vec![name.into()], ..Choice::default() });
        assert_eq!(network.rungs["conv1"], name);
        assert!(network.logits(&images).unwrap_or_else(|e| panic!("{e}")) == plain, "{name}");
    }
}

#[test]
fn layers_of_like_names_keep_their_own_code() {
    let (mut model, images) = (model(), images());
    if images.len() == FEW {
        // SwiftShader compiles so much code for minutes, and which adapter it is makes no difference to names.
        return;
    }
    for (from, to) in [("layer1.0.conv1", "x.y"), ("layer1.0.conv2", "x_y")] {
        let node = model.nodes.iter_mut().find(|n| n.name == from).expect("a layer");
        node.name = to.into();
    }
    let wanted = Fast::new(&model).logits(&images);
    let choice = Choice { forced: vec![CODE.into()], compile_budget: Some(1e3), ..Choice::default() };
    let mut network = network(&model, BATCH, &choice);
    assert_eq!(["x.y", "x_y"].map(|name| network.rungs[name]), [CODE; 2]);
    assert!(network.logits(&images).unwrap_or_else(|e| panic!("{e}")) == wanted);
}

#[test]
fn shift_only_takes_no_rung_that_multiplies_and_measuring_takes_the_fastest() {
    let (model, images) = (model(), images());
    let adapter = gpu::open(None).expect("an adapter");
    // SwiftShader compiles for minutes: what is not measured in time is as built in.
    let (cap, least) = if images.len() == FEW { (5, 0) } else { (300, 7) };
    let measured = measure(&adapter, &model, 4, Duration::from_secs(cap)).unwrap_or_else(|e| panic!("{e}"));
    assert!(measured.iter().map(|m| m.times).sum::<usize>() >= least, "{measured:?}");
    let wanted = Fast::new(&model).logits(&images);
    for shift_only in [false, true] {
        for choice in [Choice { shift_only, ..Choice::default() }, Choice::fastest(&measured, shift_only)] {
            let mut network = network(&model, BATCH, &choice);
            assert!(!shift_only || !network.multiplies(), "{:?}", network.rungs);
            assert!(network.logits(&images).unwrap_or_else(|e| panic!("{e}")) == wanted);
        }
    }
}

/// A network with what the fixture lacks: a max pool, odd channels, an int8 activation behind the stem, pre-shifts, levels that no
/// int8 holds, a shortcut that is no whole word, a window of 5.
fn odd() -> Model {
    let shape = |h, w, c| Shape { h, w, c };
    let node = |name: &str, inputs: &[usize], shape, kind, exponent, op| Node {
        name: name.into(),
        inputs: inputs.into(),
        shape,
        kind,
        exponent,
        op,
    };
    let mixed = |i: usize| (i as u32).wrapping_mul(2_654_435_761) >> 13;
    let lut = (0..512).map(|i| (mixed(i) as u8) as i8).collect();
    let conv = |kernel, stride, cout: usize, cin: usize, weight, preshift, shift| {
        let nearest = |i: usize| Constants::new(3).nearest(f64::from(mixed(i) % 200) - 60.0).expect("below 2^8");
        let multiplier = (0..cout).map(nearest).collect();
        let bias = (0..cout).map(|c| (mixed(c + cin) as i32 % 5000) - 2000).collect();
        Op::Conv(Conv { kernel, stride, pad: kernel / 2, weight, preshift, multiplier, bias, shift: vec![shift; cout] })
    };
    let int8 = |count: usize| Weight::Int8 { values: (0..count).map(|i| (mixed(i) as u8) as i8).collect() };
    let shift = |count: usize, table: &[Option<u8>]| {
        let code = |i: usize| {
            let index = (mixed(i) % table.len() as u32) as u8;
            ShiftWeight { index, negative: table[usize::from(index)].is_some() && mixed(i) & 64 != 0 }
        };
        let bits = table.len().ilog2() + 1;
        Weight::Shift { bits, table: table.into(), exponent: 0, codes: (0..count).map(code).collect() }
    };
    let s3 = [None, Some(0), Some(1), Some(2)];
    let wide = [None, Some(0), Some(3), Some(7), Some(9), Some(1), Some(2), Some(10)];
    let nodes = vec![
        node("input", &[], shape(13, 11, 2), Kind::I8, -5, Op::Input(Input { lut })),
        node("stem", &[0], shape(13, 11, 6), Kind::I8, -4, conv(5, 1, 6, 2, int8(300), 2, 12)),
        node("relu", &[1], shape(13, 11, 5), Kind::U8, -4, conv(3, 1, 5, 6, shift(270, &s3), 0, 11)),
        node("pool", &[2], shape(7, 6, 5), Kind::U8, -4, Op::MaxPool { kernel: 3, stride: 2, pad: 1 }),
        node("wide", &[3], shape(4, 3, 7), Kind::I8, -3, conv(3, 2, 7, 5, shift(315, &wide), 5, 14)),
        node("short", &[3], shape(4, 3, 7), Kind::U8, -4, Op::PadShortcut { stride: 2 }),
        node("add", &[4, 5], shape(4, 3, 7), Kind::U8, -2, Op::Add),
        node("sum", &[6], shape(1, 1, 7), Kind::I32, -1, Op::GlobalSum { preshift: 1 }),
        node(
            "fc",
            &[7],
            shape(1, 1, 3),
            Kind::I32,
            0,
            Op::Linear(Linear {
                weight: (0..21).map(|i| (mixed(i) as u8) as i8).collect(),
                bias: vec![5, -700, 90],
                scale: 0.01,
            }),
        ),
    ];
    let names = ["a", "b", "c"].map(String::from).to_vec();
    let accuracy = Some(Accuracy { images: 0, float_top1: 0.0, int_top1: 0.0, agreement: 0.0 });
    Model { info: Info { class_names: names, accuracy, ..Info::default() }, nodes }
}

#[test]
fn odd_networks_agree_in_every_kernel() {
    let model = odd();
    model.check().unwrap_or_else(|e| panic!("{e}"));
    let len = s3gpu::int::model::len(model.input());
    let pixels: Vec<u8> = (0..9 * len as u32).map(|i| (i.wrapping_mul(2_246_822_519) >> 21) as u8).collect();
    let plain: Vec<i32> = pixels.chunks(len).flat_map(|image| plain::forward(&model, image, |_, _| ())).collect();
    assert!(plain.chunks(3).any(|l| l != &plain[..3]), "all images alike prove nothing");
    for rung in RUNGS {
        let choice = Choice { forced: vec![AnyKernel::name(rung).into()], ..Choice::default() };
        let mut network = network(&model, 4, &choice);
        // Levels up to 2^10 fit no int8: the digits take over.
        assert_eq!(network.rungs["wide"], "int_conv_digits");
        assert_eq!(network.run(&pixels).unwrap_or_else(|e| panic!("{e}")), plain, "{:?}", network.rungs);
        let wrong = network.check(&pixels[..3 * len]).unwrap_or_else(|e| panic!("{e}"));
        assert!(wrong.is_empty(), "{wrong:?}");
    }
}

#[test]
fn code_gives_the_references_logits_within_its_budget() {
    let code =
        |compile_budget| Choice { forced: vec![CODE.into()], shift_only: true, compile_budget, ..Choice::default() };
    let (fixture, images) = (model(), images());
    // The budget ends before the layers of 64 channels.
    let mut first = network(&fixture, BATCH, &code(Some(2.0)));
    let coded: Vec<_> = first.rungs.iter().filter(|(_, r)| **r == CODE).map(|(node, _)| node.as_str()).collect();
    assert!(coded.contains(&"layer1.0.conv1") && !coded.contains(&"layer3.0.conv2"), "{:?}", first.rungs);
    assert!(!first.multiplies());
    assert!(first.logits(&images).unwrap_or_else(|e| panic!("{e}")) == Fast::new(&fixture).logits(&images));
    let none = network(&fixture, 1, &code(Some(0.0)));
    assert!(none.rungs.values().all(|r| *r != CODE));

    let model = odd();
    let len = s3gpu::int::model::len(model.input());
    let pixels: Vec<u8> = (0..9 * len as u32).map(|i| (i.wrapping_mul(2_246_822_519) >> 21) as u8).collect();
    let plain: Vec<i32> = pixels.chunks(len).flat_map(|image| plain::forward(&model, image, |_, _| ())).collect();
    let mut network = network(&model, 4, &code(None));
    assert_eq!(network.rungs["relu"], CODE);
    assert_eq!(network.run(&pixels).unwrap_or_else(|e| panic!("{e}")), plain);
    let wrong = network.check(&pixels[..3 * len]).unwrap_or_else(|e| panic!("{e}"));
    assert!(wrong.is_empty(), "{wrong:?}");
}

#[test]
fn wrong_rungs_are_refused() {
    let refused = |choice: &Choice, words: &[&str]| {
        let gpu = gpu::open(None).expect("an adapter");
        let message = Network::new(gpu, &model(), 1, choice).err().expect("refused").to_string();
        assert!(words.iter().all(|w| message.contains(w)), "{message}");
    };
    refused(&Choice { forced: vec!["conv".into()], ..Choice::default() }, &["conv", "int_conv_pairs"]);
    let forced = vec!["int_conv_dot".into()];
    refused(&Choice { forced, shift_only: true, ..Choice::default() }, &["int_conv_dot", "--shift-only"]);
}
