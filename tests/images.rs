//! Data sets that users bring, through the command line: image folders, IDX files, archives.

mod program;

use std::io::{Cursor, Write};

use flate2::{Compression, write::GzEncoder};
use image::{ImageFormat, RgbImage};
use program::{Place, record, with};
use s3gpu::data::Manifest;
use s3gpu::files::tensors;
use serde_json::Value;

fn encoded(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).expect("an encoder");
    bytes.into_inner()
}

/// A record's image as a picture.
fn picture(record: &[u8]) -> RgbImage {
    RgbImage::from_fn(32, 32, |x, y| image::Rgb([0, 1, 2].map(|c| record[1 + (c * 32 + y as usize) * 32 + x as usize])))
}

/// 23 training and 11 test records in the order of their labels, as an image folder lists them.
fn sorted() -> [Vec<Vec<u8>>; 2] {
    [0..23, 100..111].map(|range| {
        let mut records: Vec<_> = range.map(record).collect();
        records.sort_by_key(|r| r[0]);
        records
    })
}

/// Metrics without the fields that a clock decides.
fn timeless(place: &Place, run: &str) -> Vec<Value> {
    let text = String::from_utf8(place.get(&format!("{run}/metrics.jsonl"))).expect("UTF-8");
    let mut lines: Vec<Value> = text.lines().map(|l| serde_json::from_str(l).expect("JSON")).collect();
    lines.iter_mut().filter_map(Value::as_object_mut).for_each(|o| {
        o.remove("images_per_s");
        o.remove("data_wait");
    });
    lines
}

fn assert_same(place: &Place, run: &str, whole: &str) {
    for file in ["last.safetensors", "best.safetensors"] {
        let [a, b] = [run, whole].map(|r| tensors::read(place.path(&format!("{r}/{file}"))).expect("a checkpoint"));
        assert!(a.tensors == b.tensors, "{run}/{file} differs from {whole}'s");
    }
    assert_eq!(timeless(place, run), timeless(place, whole), "{run}: metrics");
}

/// The last line of an evaluation that the run's own metrics must agree with.
fn assert_eval(place: &Place, run: &str, flags: &str) {
    let said = place.run(&format!("eval --weights {run}/last.safetensors --batch-size 4 --json {flags}")).ok();
    let got: Value = serde_json::from_str(said.out.lines().last().expect("a line")).expect("JSON");
    let want = timeless(place, run).into_iter().rfind(|l| l["kind"] == "eval").expect("an evaluation");
    for key in ["correct", "count", "top5"] {
        assert_eq!(got[key], want[key], "{flags}: {key}");
    }
}

const FLAGS: &str = "--model resnet8 --epochs 2 --batch-size 4 --log-every 4 --seed 7";

#[test]
fn a_folder_of_lossless_images_trains_to_the_bits_of_the_binary_layout() {
    let place = Place::new();
    let [train, test] = sorted();
    place.put("binary/data_batch_1.bin", &train.concat());
    place.put("binary/test_batch.bin", &test.concat());
    let cifar = Manifest::find("cifar10").expect("built in");
    for (split, records) in [("train", &train), ("test", &test)] {
        for (i, record) in records.iter().enumerate() {
            let format = if i % 2 == 0 { ImageFormat::Png } else { ImageFormat::WebP };
            let class = &cifar.classes[usize::from(record[0])];
            place.put(&format!("images/{split}/{class}/{i:03}"), &encoded(&picture(record), format));
        }
    }
    let mut tar = tar::Builder::new(GzEncoder::new(Vec::new(), Compression::fast()));
    for (name, bytes) in [("data_batch_1.bin", train.concat()), ("test_batch.bin", test.concat())] {
        let mut header = tar::Header::new_gnu();
        header.set_size(bytes.len() as u64);
        tar.append_data(&mut header, format!("cifar-10-batches-bin/{name}"), &bytes[..]).expect("a member");
    }
    place.put("cifar-10-binary.tar.gz", &tar.into_inner().and_then(GzEncoder::finish).expect("an archive"));
    let mine = Manifest { name: "mine".into(), format: s3gpu::data::Format::Folder, ..cifar };
    place.put("mine.toml", toml::to_string(&mine).expect("a manifest").as_bytes());

    place.run(&format!("train --dataset cifar10 --data-dir binary --out binary-run {FLAGS}")).ok();
    place.run(&format!("train --dataset cifar10 --data-dir cifar-10-binary.tar.gz --out archive {FLAGS}")).ok();
    assert_same(&place, "archive", "binary-run");
    place.run(&format!("train --dataset mine.toml --data-dir images --threads 2 --out images-run {FLAGS}")).ok();
    assert_same(&place, "images-run", "binary-run");
    assert_eval(&place, "images-run", "--dataset mine.toml --data-dir images");
    assert_eval(&place, "images-run", "--dataset cifar10 --data-dir binary");
    // The same without a manifest, but for its mean and deviation.
    let free = "--dataset folder --data-dir images --image-size 32 --pad 4";
    place.run(&with(&format!("train {free} --out free {FLAGS}"), "--epochs 1")).ok();
    assert_eval(&place, "free", "--dataset folder --data-dir images");
}

/// `pics/` with the folders red, green and blue, in which are pictures of many sizes in a noisy colour, some damaged.
fn colours(place: &Place) {
    for (label, class) in ["red", "green", "blue"].into_iter().enumerate() {
        for i in 0..9u32 {
            let noise = |x: u32, y: u32| ((x * 31 + y * 17 + i * 7) % 40) as u8;
            let image = RgbImage::from_fn(40 + 9 * i, 90 - 5 * i, |x, y| {
                image::Rgb([0, 1, 2].map(|c| noise(x, y) + if c == label { 180 } else { 20 }))
            });
            let format = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP][i as usize % 3];
            place.put(&format!("pics/{class}/{i}.img"), &encoded(&image, format));
        }
    }
    let whole = place.get("pics/red/3.img");
    place.put("pics/red/3.img", &whole[..whole.len() / 2]);
    place.put("pics/red/notes.txt", b"not a picture");
}

#[test]
fn any_folder_of_images_trains_and_a_stop_changes_nothing() {
    let place = Place::new();
    colours(&place);
    let train = format!("train --dataset folder --data-dir pics --image-size 32 --val-split 0.3 --out whole {FLAGS}");
    let said = place.run(&with(&train, "--threads 1")).ok();
    // 9 pictures of each colour, of which 3 are kept to measure on.
    assert!(said.err.contains("18 training images, 9 test images"), "{}", said.err);
    assert!(
        ["1 file is left out", "notes.txt", "1 file is damaged", "3.img"].iter().all(|w| said.err.contains(w)),
        "{}",
        said.err
    );
    let config = String::from_utf8(place.get("whole/config.toml")).expect("UTF-8");
    assert!(config.contains("image-size = 32") && config.contains("classes = ["), "{config}");

    place.run(&with(&train, "--threads 3 --cache 1MiB --out stopped --steps 3")).ok();
    place.run("train --resume stopped --threads 2 --steps 7").ok();
    place.run("train --resume stopped --threads 5 --cache 30kB").ok();
    assert_same(&place, "stopped", "whole");
    assert_eval(&place, "whole", "--dataset folder --data-dir pics");
    let whole = "eval --weights whole --dataset folder --data-dir pics --val-split 0 --json";
    assert!(place.run(whole).ok().out.contains("\"count\":27"));

    place.run(&with(&train, "--strict")).fails(1, &["already", "--force"]);
    let config = place.run("info whole/config.toml").ok().out;
    assert!(config.contains("a configuration of") && config.contains("classes = ["), "{config}");
    place.refuses(&with(&train, "--strict --out strict"), 1, &["notes.txt", "not an image", "--strict"]);
    // A run knows its classes and counts, and that it is finished even when the images are gone.
    place.run(&with(&train, "--out early --steps 2")).ok();
    std::fs::rename(place.path("pics/red"), place.path("pics/rot")).expect("renamed");
    place.refuses("train --resume early", 1, &["`rot` is none of the 3 classes"]);
    std::fs::rename(place.path("pics/rot"), place.path("pics/red")).expect("renamed");
    std::fs::remove_file(place.path("pics/blue/8.img")).expect("a file");
    place.refuses("train --resume early", 1, &["18 training and 9 test images", "now has 18 and 8"]);
    std::fs::remove_dir_all(place.path("pics")).expect("a folder");
    assert!(place.run("train --resume whole").ok().out.contains("finished"));
    place.refuses("train --resume early", 1, &["pics", "no such folder", "--data-dir"]);
}

#[test]
fn grey_digits_train_from_idx_files() {
    let place = Place::new();
    let idx = |shape: &[u32], bytes: Vec<u8>| {
        let mut file = vec![0, 0, 8, shape.len() as u8];
        shape.iter().for_each(|extent| file.extend(extent.to_be_bytes()));
        [file, bytes].concat()
    };
    let gz = |bytes: Vec<u8>| {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(&bytes).and_then(|()| packed.finish()).expect("gzip")
    };
    for (name, count) in [("train", 23u32), ("t10k", 11)] {
        let pixels = (0..count).flat_map(|i| (0..784).map(move |p| (i % 10 * 20 + p % 7 * 5) as u8)).collect();
        place.put(&format!("digits/{name}-images-idx3-ubyte.gz"), &gz(idx(&[count, 28, 28], pixels)));
        place.put(
            &format!("digits/{name}-labels-idx1-ubyte"),
            &idx(&[count], (0..count).map(|i| (i % 10) as u8).collect()),
        );
    }
    let train = format!("train --dataset mnist --data-dir digits --out whole {FLAGS}");
    place.run(&train).ok();
    let stem =
        tensors::read(place.path("whole/best.safetensors")).expect("weights").tensors["conv1.weight"].shape.clone();
    assert_eq!(stem, [16, 1, 3, 3]);
    place.run(&with(&train, "--out stopped --steps 5")).ok();
    place.run("train --resume stopped").ok();
    assert_same(&place, "stopped", "whole");
    assert_eval(&place, "whole", "--dataset mnist --data-dir digits");
    place.refuses("eval --weights whole --dataset cifar10 --data-dir data", 1, &["1 means", "3 channels"]);
    place.refuses(&with(&train, "--image-size 32 --out other"), 2, &["--image-size is 32", "mnist has 28 x 28"]);
    place.refuses(&with(&train, "--val-split 0.1 --out other"), 2, &["--val-split", "leave --val-split out"]);
}

#[test]
fn wrong_flags_about_images() {
    let place = Place::new();
    colours(&place);
    let train = format!("train --dataset folder --data-dir pics --image-size 32 --val-split 0.3 --out run {FLAGS}");
    for (flags, code, words) in [
        ("--image-size 0", 2, &["height is 0", "between 1 and 4096", "--image-size"][..]),
        ("--image-size 5000", 2, &["height is 5000"]),
        ("--pad 40", 2, &["pad is 40", "--pad"]),
        ("--val-split 1.5", 2, &["--val-split is 1.5", "below 1"]),
        ("--threads 0", 2, &["--threads", "0"]),
        ("--threads 257", 2, &["--threads", "257", "1..=256"]),
        ("--cache lots", 2, &["--cache", "lots"]),
        ("--data-dir nowhere", 1, &["nowhere", "no such folder", "train/"]),
        ("--dataset nowhere.toml", 1, &["nowhere.toml", "cannot read"]),
        ("--dataset imagenette", 1, &["`blue` is none of the 10 classes of imagenette"]),
    ] {
        place.refuses(&with(&train, flags), code, words);
    }
    place.refuses("train --dataset imagenet --model resnet18 --out run", 2, &["no --data-dir", "train/ and val/"]);
    let resume = "train --resume run --image-size 64";
    place.refuses(resume, 2, &["--image-size", "--resume"]);
}
