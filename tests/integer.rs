//! Integer networks from outside: the kept network in plain Rust, fast Rust and C, damaged files, and the commands.
//!
//! `tests/fixtures/int/shapes-resnet8-s3-3bit.safetensors` is `s3gpu export` of `s3gpu train --dataset shapes --model resnet8
//! --method s3 --bits 3 --latent-lr 30 --epochs 2 --seed 1`.

mod program;
mod shifts;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use program::{Place, records, with};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rayon::prelude::*;
use s3gpu::data::{Manifest, Records, Source, Splits, load};
use s3gpu::files::raw::RawFile;
use s3gpu::int::evaluate::{figures, logits_hash};
use s3gpu::int::export::c;
use s3gpu::int::{Fast, Model, plain};

/// The hash of the kept network's logits on all test images of `shapes`: the same on every adapter and in every language.
const HASH: &str = "12b56f86b071d0bc";

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/int/shapes-resnet8-s3-3bit.safetensors")
}

fn model() -> Model {
    Model::read(&fixture()).unwrap_or_else(|e| panic!("{e}"))
}

/// The first `count` test images of `shapes`.
fn images(count: usize) -> Records {
    let manifest = Manifest::find("shapes").expect("shapes");
    let data = load(&manifest, None, Splits::TEST).expect("drawn");
    let test = data.test.expect("a test set");
    Records::of(test.as_ref(), 0..count.min(test.len())).expect("drawn")
}

#[test]
fn fast_is_plain_bit_for_bit() {
    // The plain one takes its time; C, which shares no line with it, runs on more.
    let (model, images) = (model(), images(200));
    let plain: Vec<i32> = (0..images.len())
        .into_par_iter()
        .flat_map_iter(|i| plain::forward(&model, images.image(i), |_, _| ()))
        .collect();
    assert!(Fast::new(&model).logits(&images) == plain);
}

#[test]
fn all_test_images_give_the_kept_hash_and_accuracy() {
    let (model, images) = (model(), images(usize::MAX));
    let logits = Fast::new(&model).logits(&images);
    assert_eq!(format!("{:016x}", logits_hash(&logits)), HASH);
    let accuracy = model.info.accuracy.clone().expect("measured at export");
    let found = figures(&model, &logits, &images.labels);
    assert_eq!(found.count, accuracy.images);
    assert_eq!(100.0 * found.correct as f64 / found.count as f64, accuracy.int_top1);
    assert!(accuracy.int_top1 >= accuracy.float_top1 - 0.3 - 1e-9, "{accuracy:?}");
}

/// Compiles the network with a main that answers images on stdin by logits on stdout, and runs it.
fn run_c(model: &Model, images: &Records, flags: &[&str]) -> Vec<i32> {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let files = c::write(model, "net");
    let main = r#"
#include "net.h"
#include <stdio.h>
int main(void)
{
    static uint8_t pixels[NET_PIXELS];
    int32_t logits[NET_CLASSES];
    while (fread(pixels, 1, sizeof pixels, stdin) == sizeof pixels) {
        net_infer(pixels, logits);
        for (int i = 0; i < NET_CLASSES; i++) printf("%ld\n", (long)logits[i]);
    }
    return net_class_names[0][0] == '\0';
}
"#;
    for (name, text) in [("net.h", &files.header[..]), ("net.c", &files.source), ("main.c", main)] {
        std::fs::write(folder.path().join(name), text).expect("a file");
    }
    let strict = ["-std=c99", "-pedantic", "-Wall", "-Wextra", "-Wshadow", "-Werror", "net.c", "main.c", "-o", "net"];
    let built = Command::new("cc").args(strict).args(flags).current_dir(folder.path()).output().expect("cc starts");
    assert!(built.status.success(), "{}", String::from_utf8_lossy(&built.stderr));
    let mut child = Command::new(folder.path().join("net"))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("a pipe");
    let pixels = images.pixels.clone();
    let writer = std::thread::spawn(move || stdin.write_all(&pixels));
    let output = child.wait_with_output().expect("its output");
    writer.join().expect("a writer").expect("it reads");
    assert!(output.status.success() && output.stderr.is_empty(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).lines().map(|l| l.parse().expect("a number")).collect()
}

#[test]
fn c_gives_the_same_logits() {
    let (model, images) = (model(), images(1000));
    assert!(run_c(&model, &images, &["-O3"]) == Fast::new(&model).logits(&images));
}

/// Then it has no int8 convolution, and an unused function would not compile.
#[test]
fn c_takes_a_stem_of_shifts() {
    let (model, images) = (shifts::with_shift_stem(model()), images(300));
    assert!(run_c(&model, &images, &["-O3"]) == Fast::new(&model).logits(&images));
}

#[test]
fn c_has_nothing_undefined() {
    let (model, images) = (model(), images(32));
    let flags = ["-O1", "-g", "-fsanitize=undefined,address", "-fno-sanitize-recover=all"];
    assert!(run_c(&model, &images, &flags) == Fast::new(&model).logits(&images));
}

/// The kept file with one key of its metadata changed; without its sum, so that the field itself is looked at.
fn changed(key: &str, from: &str, to: &str) -> RawFile {
    let mut file = RawFile::read(&fixture()).expect("the fixture");
    file.meta.remove("crc32");
    let text = file.meta.get_mut(key).unwrap_or_else(|| panic!("no {key}"));
    assert!(text.contains(from), "{key} has no {from}: {text}");
    *text = text.replacen(from, to, 1);
    file
}

fn refused(file: RawFile, words: &[&str]) {
    let message = Model::from_file(file, Path::new("m.safetensors")).expect_err("refused").to_string();
    assert!(
        message.starts_with("m.safetensors: ") && words.iter().all(|w| message.contains(w)),
        "{words:?}: {message}"
    );
    assert!(message.contains('\n'), "no way out: {message}");
}

#[test]
fn every_field_is_checked_and_named() {
    let cases: &[(&str, &str, &str, &[&str])] = &[
        ("format", "s3gpu-int 1", "s3gpu-int 2", &["format", "s3gpu-int 2"]),
        ("bits", "3", "99999999999", &["bits"]),
        ("mean", "0.", "x.", &["mean"]),
        ("std", ",", ",inf,", &["std"]),
        ("class_names", "\"disc\",", "", &["class_names", "9"]),
        ("class_names", "disc", "di\\u001bsc", &["class_names", "control"]),
        ("accuracy", "images", "image", &["accuracy", "image"]),
        ("graph", "[", "{", &["graph"]),
        ("graph", "\"name\":\"conv1\"", "\"name\":\"../conv1\"", &["graph.nodes[1]", "name"]),
        ("graph", "\"name\":\"conv1\"", "\"name\":\"input\"", &["graph.nodes[1]", "name"]),
        ("graph", "\"inputs\":[0]", "\"inputs\":[3]", &["graph.nodes[1]", "inputs", "order"]),
        ("graph", "\"inputs\":[0]", "\"inputs\":[0,0]", &["graph.nodes[1]", "inputs"]),
        ("graph", "\"h\":32", "\"h\":4294967295", &["graph.nodes[0]", "shape.h"]),
        ("graph", "\"h\":32", "\"h\":-1", &["graph"]),
        ("graph", "\"c\":3}", "\"c\":4}", &["input.lut", "shape"]),
        ("graph", "\"c\":16}", "\"c\":17}", &["graph.nodes[1]", "multiplier"]),
        ("graph", "\"kernel\":3", "\"kernel\":5", &["graph.nodes[1]", "shape"]),
        ("graph", "\"kernel\":3", "\"kernel\":0", &["graph.nodes[1]", "kernel"]),
        ("graph", "\"pad\":1", "\"pad\":3", &["graph.nodes[1]", "pad"]),
        ("graph", "\"stride\":1", "\"stride\":0", &["graph.nodes[1]", "stride"]),
        ("graph", "\"preshift\":0", "\"preshift\":31", &["graph.nodes[1]", "preshift"]),
        ("graph", "\"exponent\":-", "\"exponent\":-9", &["exponent", "-64"]),
        ("graph", "\"kind\":\"u8\"", "\"kind\":\"i32\"", &["graph.nodes[1]", "kind"]),
        ("graph", "\"kind\":\"u8\"", "\"kind\":\"f32\"", &["graph", "f32"]),
        ("graph", "\"multiplier\":[", "\"multiplier\":[256,", &["graph.nodes[1]", "multiplier"]),
        ("graph", "\"bias\":[", "\"bias\":[2147483647,", &["graph.nodes[1]", "bias"]),
        ("graph", "\"shift\":[", "\"shift\":[40,", &["graph.nodes[1]", "shift"]),
        ("graph", "\"bits\":3", "\"bits\":40", &["bits"]),
        ("graph", "\"table\":[null", "\"table\":[31", &["table"]),
        ("graph", "\"table\":[null,", "\"table\":[", &["table"]),
        ("graph", "\"scale\":", "\"scale\":-", &["scale"]),
        ("graph", "\"op\":\"add\"", "\"op\":\"subtract\"", &["graph", "subtract"]),
        ("graph", "\"op\":", "\"extra\":1,\"op\":", &["graph", "extra"]),
    ];
    for (key, from, to, words) in cases {
        refused(changed(key, from, to), words);
    }
    for key in ["format", "model", "graph", "class_names", "terms"] {
        let mut file = RawFile::read(&fixture()).expect("the fixture");
        file.meta.remove(key);
        refused(file, &["metadata has no", key]);
    }
}

#[test]
fn sums_that_could_overflow_are_refused() {
    let mut m = model();
    use s3gpu::int::model::Op;
    let channel = |m: &mut Model, node: usize, change: fn(&mut s3gpu::int::model::Conv)| match &mut m.nodes[node].op {
        Op::Conv(conv) => change(conv),
        other => panic!("{other:?}"),
    };
    channel(&mut m, 1, |conv| conv.bias[3] = i32::MAX);
    refused(m.to_file(), &["graph.nodes[1]", "channel 3", "multiplier"]);
    let mut m = model();
    channel(&mut m, 2, |conv| {
        let s3gpu::int::model::Weight::Shift { table, .. } = &mut conv.weight else { panic!() };
        table[1] = Some(30);
    });
    refused(m.to_file(), &["graph.nodes[2]", "largest sum"]);
}

#[test]
fn a_layers_shifts_are_counted_where_they_shift() {
    use s3gpu::int::model::{Op, Weight};
    use s3gpu::int::{counts, digits};
    let model = model();
    let (node, count) = (&model.nodes[2], &counts::count(&model)[2]);
    let Op::Conv(conv) = &node.op else { panic!("{node:?}") };
    let Weight::Shift { table, codes, .. } = &conv.weight else { panic!("{node:?}") };
    let of = |least: u8| codes.iter().filter(|c| table[usize::from(c.index)].is_some_and(|s| s >= least)).count();
    let digits =
        |least: u32| conv.multiplier.iter().flat_map(|m| digits::digits(*m)).filter(|d| d.shift >= least).count();
    let pixels = u64::from(node.shape.h * node.shape.w);
    // A term is an addition, and a shift unless it is by 0; then B_c and the rounding constant are one addition, n_c one shift.
    let each = |least: u8| (of(least) + digits(least.into()) + conv.bias.len()) as u64 * pixels;
    assert_eq!((count.additions, count.shifts, count.multiplications), (each(0), each(1), 0));
}

#[test]
fn bounds_count_every_term() {
    use s3gpu::int::model::Kind::{I8, U8};
    use s3gpu::int::proof::{accumulator, addition, half, requantized, residual, shifted};
    assert_eq!([0, 1, 5].map(half), [0, 1, 16]);
    assert_eq!((accumulator(10, I8), accumulator(10, U8)), (1280, 2550));
    // (1000 + 4) >> 3; a shift by 0 adds nothing.
    assert_eq!((shifted(1004, 3), shifted(1003, 3), shifted(7, 0)), (126, 125, 7));
    // 7 = 8 − 1 counts 9, the bias by its magnitude, half of 2^4.
    assert_eq!(requantized(100, 7, -50, 4), 900 + 50 + 8);
    // Both sides at once, each at its own shift, and what rounding adds.
    let shifts = addition([-3, -1], -2);
    assert_eq!((shifts, residual([I8, U8], shifts)), ([0, 2, 1], 128 + 255 * 4 + 1));
}

#[test]
fn tensors_must_be_those_of_the_graph() {
    let whole = RawFile::read(&fixture()).expect("the fixture");
    let without_sum = || {
        let mut file = whole.clone();
        file.meta.remove("crc32");
        file
    };
    let name = whole.tensors.keys().find(|n| n.ends_with("conv2.weight")).expect("a convolution").clone();
    let mut file = without_sum();
    file.tensors.remove(&name);
    refused(file, &[&name, "missing"]);
    let mut file = without_sum();
    let extra = file.tensors[&name].clone();
    file.tensors.insert("more".into(), extra);
    refused(file, &["more", "not of the graph"]);
    let mut file = without_sum();
    let tensor = file.tensors.get_mut(&name).expect("it");
    tensor.bytes.truncate(4);
    tensor.shape = vec![1];
    refused(file, &[&name, "shape [1]"]);
    let mut file = without_sum();
    file.tensors.get_mut(&name).expect("it").dtype = safetensors::Dtype::F32;
    refused(file, &[&name, "F32"]);
    // One bit of a weight changes no shape: the sum tells.
    let mut file = whole.clone();
    file.tensors.get_mut(&name).expect("it").bytes[7] ^= 4;
    refused(file, &["crc32", "damaged"]);
}

#[test]
fn damaged_bytes_never_get_through() {
    let whole = std::fs::read(fixture()).expect("the fixture");
    let good = model();
    let read =
        |bytes: &[u8]| RawFile::from_bytes(bytes, Path::new("m")).and_then(|f| Model::from_file(f, Path::new("m")));
    for (bytes, words) in program::damage(&whole) {
        let message = read(&bytes).expect_err(words).to_string();
        assert!(message.contains(words), "{words}: {message}");
    }
    // Any change is refused, or is one of the few that mean nothing (blanks, a digit of the accuracy, a name).
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let header = 8 + u64::from_le_bytes(whole[..8].try_into().expect("eight")) as usize;
    for round in 0..3000 {
        let mut bytes = whole.clone();
        let at = rng.random_range(0..if round % 2 == 0 { header } else { bytes.len() });
        match round % 5 {
            0 => bytes.truncate(at),
            1 => drop(bytes.drain(at..(at + rng.random_range(1..9)).min(whole.len()))),
            _ => bytes[at] ^= 1 << rng.random_range(0..8),
        }
        if let Ok(found) = read(&bytes) {
            assert!(found.nodes == good.nodes, "round {round}: byte {at} changed the network unseen");
        }
    }
}

/// Numbers of the graph replaced at random, without a sum to tell: whatever is accepted must run, and alike in both forms.
#[test]
fn hostile_graphs_are_refused_or_run() {
    let file = RawFile::read(&fixture()).expect("the fixture");
    let graph = file.meta["graph"].clone();
    let digits: Vec<usize> = graph.bytes().enumerate().filter(|(_, b)| b.is_ascii_digit()).map(|(i, _)| i).collect();
    let (image, input) = (images(1), model().input());
    let mut rng = ChaCha8Rng::seed_from_u64(8);
    let mut accepted = 0;
    for _ in 0..1500 {
        let start = digits[rng.random_range(0..digits.len())];
        let rest = &graph[start..];
        let end = start + rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
        let values = [
            "0",
            "1",
            "2",
            "7",
            "31",
            "32",
            "64",
            "255",
            "65535",
            "65536",
            "2147483647",
            "4294967295",
            "-1",
            "1e9",
            "null",
        ];
        let mut changed = file.clone();
        changed.meta.remove("crc32");
        let value = values[rng.random_range(0..values.len())];
        changed.meta.insert("graph".into(), format!("{}{value}{}", &graph[..start], &graph[end..]));
        if let Ok(model) = Model::from_file(changed, Path::new("m")) {
            accepted += 1;
            if model.input() == input && accepted % 8 == 0 {
                let fast = Fast::new(&model).logits(&image);
                assert!(fast == plain::forward(&model, image.image(0), |_, _| ()));
            }
        }
    }
    assert!(accepted > 0, "a B_c can be another number");
}

const TRAIN: &str = "train --dataset cifar10 --data-dir data --model resnet8 --batch-size 8 --epochs 1";

#[test]
fn export_eval_and_infer_work_as_commands() {
    let place = Place::new();
    place.run(&with(TRAIN, "--method s3 --bits 3 --out run")).ok();
    let said = place.run("export run --out m.safetensors --json").ok();
    let json: serde_json::Value = serde_json::from_str(said.out.lines().last().expect("a line")).expect("JSON");
    assert_eq!((json["kind"].as_str(), json["all"]["multiplications"].as_u64()), (Some("export"), Some(0)));
    let hash = json["logits_hash"].as_str().expect("a hash");
    let eval = "eval --weights m.safetensors --dataset cifar10 --data-dir data --json";
    for device in ["", "--device gpu --shift-only", "--device cpu"] {
        let said = place.run(&format!("{eval} {device}")).ok();
        let line: serde_json::Value = serde_json::from_str(said.out.lines().last().expect("a line")).expect("JSON");
        assert_eq!((line["kind"].as_str(), line["logits_hash"].as_str()), (Some("eval"), Some(hash)));
        assert!(line["count"] == 11 && line["images_per_s"].as_f64() > Some(0.0), "{line}");
        assert_eq!(line["top1"], json["accuracy"]["int_top1"]);
    }
    // The same again is the same file.
    let first = place.get("m.safetensors");
    place.run("export run/best.safetensors --data-dir data --out again.safetensors").ok();
    assert!(first == place.get("again.safetensors"));

    // A picture with the pixels of a test image gets that image's logits.
    let image = &records(100..101)[1..];
    let rgb: Vec<u8> = (0..1024).flat_map(|i| [image[i], image[1024 + i], image[2048 + i]]).collect();
    image::save_buffer(place.path("a.png"), &rgb, 32, 32, image::ColorType::Rgb8).expect("a picture");
    let said = place.run("infer m.safetensors a.png --top 10 --json").ok();
    let line: serde_json::Value = serde_json::from_str(said.out.trim()).expect("JSON");
    let model = Model::read(&place.path("m.safetensors")).expect("the network");
    let logits = plain::forward(&model, image, |_, _| ());
    for entry in line["top"].as_array().expect("a list") {
        assert_eq!(entry["logit"], logits[entry["index"].as_u64().expect("an index") as usize]);
    }
    place.put("pictures/b.jpg", b"no picture");
    place.run("infer m.safetensors pictures").fails(1, &["b.jpg", "cannot be decoded"]);
    assert!(place.run("infer m.safetensors a.png").ok().out.contains('%'));

    // Other forms, from the integer network and from the run.
    for (source, form, out, files) in [
        ("m.safetensors", "c", "c/net.c", &["net.c", "net.h"][..]),
        ("run", "npz", "n/net.npz", &["net.npz"]),
        ("m.safetensors", "hex", "words", &["conv1.weight.hex", "fc.bias.hex", "graph.json"]),
        ("run", "onnx", "o/net.onnx", &["net.onnx"]),
    ] {
        let out = Path::new(out);
        let folder = if form == "hex" { out } else { out.parent().expect("a folder") };
        std::fs::create_dir_all(place.path(&folder.to_string_lossy())).expect("a folder");
        place.run(&format!("export {source} --format {form} --out {}", out.display())).ok();
        let names = place.names(&folder.to_string_lossy());
        assert!(files.iter().all(|f| names.iter().any(|n| n == f)), "{form}: {names:?}");
    }
}

#[test]
fn what_cannot_be_is_refused_with_the_way_out() {
    let place = Place::new();
    place.run(&with(TRAIN, "--method fp32 --out run")).ok();
    place.refuses("export run --out m.safetensors", 2, &["fp32", "--method s3"]);
    place.refuses("eval --weights run --dataset cifar10 --data-dir data --device cpu", 2, &["--device cpu", "export"]);
    let model = fixture();
    let model = model.display();
    place.refuses(
        &format!("eval --weights {model} --dataset shapes --rung int_conv"),
        2,
        &["int_conv", "int_conv_digits"],
    );
    let rung = "--rung int_conv_pairs --shift-only";
    place.refuses(&format!("eval --weights {model} --dataset shapes {rung}"), 2, &["int_conv_pairs", "--shift-only"]);
    place.refuses(
        &format!("eval --weights {model} --dataset shapes --device cpu {rung}"),
        2,
        &["--device cpu", "--rung"],
    );
    place.refuses("eval --weights run --dataset cifar10 --data-dir data --shift-only", 2, &["--shift-only", "export"]);
    place.refuses(&format!("eval --weights {model} --dataset cifar100 --data-dir data"), 1, &["10 classes", "100"]);
    place.refuses(&format!("export {model} --out m.safetensors"), 2, &["already"]);
    place.refuses(&format!("export {model} --format c --out net.txt"), 2, &["net.txt", ".c"]);
    place.refuses("infer run/best.safetensors data", 1, &["best.safetensors", "format"]);
    place.put("m.safetensors", b"<html>404 not found</html>");
    place.refuses("infer m.safetensors data", 1, &["m.safetensors", "not a safetensors file"]);
}
