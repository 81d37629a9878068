use std::fs;
use std::io::Cursor;

use image::{ImageFormat, RgbImage};

use super::*;
use crate::data::{self, Dataset};

const BOTH: Splits = Splits { train: true, test: true };

/// A picture with a slope across and a seed in the third channel.
fn picture(width: u32, height: u32, seed: u32) -> RgbImage {
    RgbImage::from_fn(width, height, |x, y| image::Rgb([(x * 255 / width) as u8, (y * 3) as u8, (seed * 37) as u8]))
}

fn encoded(image: &RgbImage, format: ImageFormat) -> Vec<u8> {
    let mut bytes = Cursor::new(Vec::new());
    image.write_to(&mut bytes, format).unwrap();
    bytes.into_inner()
}

fn png(seed: u32) -> Vec<u8> {
    encoded(&picture(40, 30, seed), ImageFormat::Png)
}

fn put(dir: &Path, name: &str, bytes: &[u8]) {
    let path = dir.join(name);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, bytes).unwrap();
}

/// train/ and val/ with `cat` and `dog`: four and two images, JPEG, PNG and WebP, whatever their names say.
fn pets() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (split, count) in [("train", 4), ("val", 2)] {
        for (label, class) in ["cat", "dog"].into_iter().enumerate() {
            for i in 0..count {
                let format = [ImageFormat::Jpeg, ImageFormat::Png, ImageFormat::WebP][i as usize % 3];
                let seed = i + 4 * label as u32 + if split == "val" { 2 } else { 0 };
                put(dir.path(), &format!("{split}/{class}/{i}.jpg"), &encoded(&picture(40 + i, 30, seed), format));
            }
        }
    }
    dir
}

fn manifest(size: usize, pad: usize) -> Manifest {
    Manifest::find("folder").unwrap().with(Some(size), Some(pad)).unwrap()
}

fn open(dir: &Path, reading: Reading) -> Result<Dataset> {
    data::open(&manifest(16, 0), Some(dir), BOTH, &reading)
}

fn shown(source: &dyn Source, indices: &[u32], view: View) -> Vec<u8> {
    let mut pixels = vec![7; indices.len() * source.image_len()];
    source.fill(indices, view, &mut pixels).unwrap();
    pixels
}

fn all(source: &dyn Source, view: View) -> Vec<u8> {
    shown(source, &(0..source.len() as u32).collect::<Vec<_>>(), view)
}

fn labels(source: &dyn Source) -> Vec<u32> {
    (0..source.len()).map(|i| source.label(i)).collect()
}

/// The message of a folder that must be refused, with a way out on its own line.
fn refusal(dir: &Path, reading: Reading) -> String {
    let text = open(dir, reading).unwrap_err().to_string();
    assert!(text.contains("\n  "), "{text}");
    text
}

#[test]
fn folders_become_splits_and_classes() {
    let dir = pets();
    // What an unpacked archive puts around it, and what others leave in it.
    put(dir.path(), "train/cat/.DS_Store", &[1]);
    put(dir.path(), "train/list.txt", &[1]);
    put(dir.path(), "train/dog/more/deep.png", &png(9));
    let outer = tempfile::tempdir().unwrap();
    fs::rename(dir.path(), outer.path().join("pets-v2")).unwrap();
    for dir in [outer.path().to_path_buf(), outer.path().join("pets-v2")] {
        let set = open(&dir, Reading::default()).unwrap();
        assert_eq!(set.manifest.classes, ["cat", "dog"]);
        let (train, test) = (set.train.unwrap(), set.test.unwrap());
        assert_eq!(labels(&*train), [0, 0, 0, 0, 1, 1, 1, 1, 1]);
        assert_eq!(labels(&*test), [0, 0, 1, 1]);
        assert_eq!((train.image_len(), train.remarks()), (3 * 16 * 16, Vec::<String>::new()));
        // Planar: red slopes across, green down, blue is the picture's number.
        let image = shown(&*test, &[1], View::Test);
        let at = |c: usize, y: usize, x: usize| i32::from(image[(c * 16 + y) * 16 + x]);
        assert!(at(0, 3, 0) < 90 && at(0, 3, 15) > 160 && (at(0, 2, 8) - at(0, 12, 8)).abs() < 2, "{image:?}");
        assert!(at(1, 0, 3) < 20 && at(1, 15, 3) > 70);
        assert_eq!(at(2, 8, 8), 3 * 37);
    }
    // Another order of the classes, by other folder names.
    let named = Manifest {
        classes: vec!["hound".into(), "kitten".into()],
        folders: vec!["dog".into(), "cat".into()],
        ..manifest(16, 0)
    };
    let set = data::open(&named, Some(outer.path()), BOTH, &Reading::default()).unwrap();
    assert_eq!(labels(set.test.as_deref().unwrap()), [0, 0, 1, 1]);
    // A JPEG, so not to the bit.
    assert!(shown(set.test.as_deref().unwrap(), &[0], View::Test)[2 * 256 + 136].abs_diff(6 * 37) < 3);
}

#[test]
fn images_depend_on_seed_epoch_and_index_alone() {
    let dir = pets();
    let with = |reading: Reading| open(dir.path(), reading).unwrap().train.unwrap();
    let (plain, train) = (with(Reading::default()), View::Train { epoch: 3 });
    let want = all(&*plain, train);
    // In any order, in any batch, kept or decoded anew.
    let backward = shown(&*plain, &[7, 6, 5, 4, 3, 2, 1, 0], train);
    assert!(want.chunks(768).eq(backward.rchunks(768)));
    for cache in [1, 5000, 1 << 20] {
        let kept = with(Reading { cache, ..Reading::default() });
        for epoch in [2, 3] {
            let same = all(&*kept, View::Train { epoch }) == all(&*plain, View::Train { epoch });
            assert!(same, "a cache of {cache} bytes, epoch {epoch}");
        }
    }
    assert_ne!(all(&*plain, View::Train { epoch: 4 }), want);
    assert_ne!(all(&*with(Reading { seed: 1, ..Reading::default() }), train), want);
    let still = with(Reading { augment: false, ..Reading::default() });
    assert_eq!(all(&*still, train), all(&*still, View::Train { epoch: 4 }));
    assert_eq!(all(&*still, train), all(&*plain, View::Test));
}

#[test]
fn what_is_kept_is_not_read_again() {
    let dir = pets();
    let set = |cache| open(dir.path(), Reading { cache, ..Reading::default() }).unwrap().train.unwrap();
    // Pictures of 40 to 43 by 30 pixels: room for three of the eight.
    let (whole, part) = (set(1 << 20), set(3 * 43 * 30 * 3));
    let want = all(&*whole, View::Test);
    assert_eq!(all(&*part, View::Test), want);
    fs::remove_dir_all(dir.path().join("train")).unwrap();
    assert_eq!(all(&*whole, View::Test), want);
    shown(&*part, &[0, 1, 2], View::Test);
    assert!(part.fill(&[4, 5], View::Test, &mut [0; 2 * 768]).is_err());
}

#[test]
fn both_splits_share_the_bound_of_what_is_kept() {
    let dir = pets();
    let shared = |room| open(dir.path(), Reading { cache: room, augment: false, ..Reading::default() }).unwrap();
    // Prepared without augmentation all are 16 by 16; there are four to measure on, and room for one of them or for all.
    let image = 3 * 16 * 16;
    for (room, whole) in [(9 * image, false), (12 * image, true)] {
        let set = shared(room);
        let (train, test) = (set.train.unwrap(), set.test.unwrap());
        all(&*train, View::Test);
        all(&*test, View::Test);
        fs::rename(dir.path().join("val"), dir.path().join("away")).unwrap();
        assert!(test.fill(&[0], View::Test, &mut [0; 768]).is_ok());
        assert_eq!(test.fill(&[3], View::Test, &mut [0; 768]).is_ok(), whole, "room for {room} bytes");
        fs::rename(dir.path().join("away"), dir.path().join("val")).unwrap();
    }
}

#[test]
fn pictures_of_the_size_stay_as_they_are_with_padded_crops() {
    let dir = tempfile::tempdir().unwrap();
    let small = picture(16, 16, 2);
    for class in ["a", "b"] {
        put(dir.path(), &format!("train/{class}/x.png"), &encoded(&small, ImageFormat::Png));
        put(dir.path(), &format!("test/{class}/x.webp"), &encoded(&small, ImageFormat::WebP));
    }
    let set = data::open(&manifest(16, 4), Some(dir.path()), BOTH, &Reading::default()).unwrap();
    for source in [set.train.unwrap(), set.test.unwrap()] {
        for view in [View::Test, View::Train { epoch: 1 }] {
            let image = shown(&*source, &[0], view);
            for (i, v) in image.iter().enumerate() {
                assert_eq!(*v, small.get_pixel(i as u32 % 16, i as u32 / 16 % 16)[i / 256]);
            }
        }
    }
}

#[test]
fn jitter_is_for_training_alone() {
    let dir = pets();
    let jitter = data::Jitter { brightness: 0.4, contrast: 0.4, saturation: 0.4 };
    let jittered = Manifest { jitter: Some(jitter), ..manifest(16, 4) };
    let set = data::open(&jittered, Some(dir.path()), BOTH, &Reading::default()).unwrap();
    let (train, test) = (set.train.unwrap(), set.test.unwrap());
    assert_ne!(all(&*train, View::Train { epoch: 0 }), all(&*train, View::Test));
    assert_ne!(all(&*train, View::Train { epoch: 0 }), all(&*train, View::Train { epoch: 1 }));
    assert_eq!(all(&*test, View::Train { epoch: 0 }), all(&*test, View::Test));
}

#[test]
fn grey_networks_get_grey_images() {
    let dir = pets();
    let grey = Manifest { channels: 1, mean: vec![0.5], std: vec![0.2], ..manifest(16, 0) };
    let set = data::open(&grey, Some(dir.path()), BOTH, &Reading::default()).unwrap();
    let test = set.test.unwrap();
    assert_eq!((test.image_len(), all(&*test, View::Test).len()), (256, 4 * 256));
}

#[test]
fn one_folder_is_split_by_class_and_seed() {
    let dir = tempfile::tempdir().unwrap();
    for (class, count) in [("a", 10), ("b", 4), ("c", 2)] {
        (0..count).for_each(|i| put(dir.path(), &format!("{class}/{i}.png"), &png(i)));
    }
    let part = |share, seed| {
        let set = open(dir.path(), Reading { val_split: Some(share), seed, ..Reading::default() }).unwrap();
        let (train, test) = (set.train.unwrap(), set.test.unwrap());
        (labels(&*train), labels(&*test), all(&*test, View::Test), all(&*train, View::Test))
    };
    let (train, test, images, rest) = part(0.3, 1);
    let counts = |labels: &[u32]| [0, 1, 2].map(|l| labels.iter().filter(|x| **x == l).count());
    // 3 of 10, 1.2 of 4, and at least one of 2.
    assert_eq!((counts(&train), counts(&test)), ([7, 3, 1], [3, 1, 1]));
    assert_eq!(part(0.3, 1).2, images);
    assert_ne!(part(0.3, 2).2, images);
    assert_eq!(counts(&part(0.99, 1).0), [1, 1, 1]);
    // Together they are all images, each once: the first class's ten differ in blue.
    let blues = |pixels: &[u8], n: usize| pixels.chunks(768).take(n).map(|p| p[700]).collect::<Vec<_>>();
    let mut found = [blues(&images, 3), blues(&rest, 7)].concat();
    found.sort_unstable();
    found.dedup();
    assert_eq!(found.len(), 10);

    // To measure on, the whole folder serves.
    let test = Splits { train: false, test: true };
    assert_eq!(data::load(&manifest(16, 0), Some(dir.path()), test).unwrap().test.unwrap().len(), 16);
    assert!(refusal(dir.path(), Reading::default()).contains("--val-split 0.1"));
    for share in [0.0, 1.0, -1.0, f64::NAN] {
        let text = refusal(dir.path(), Reading { val_split: Some(share), ..Reading::default() });
        assert!(text.contains("above 0 and below 1"), "{text}");
    }
    fs::remove_file(dir.path().join("c/1.png")).unwrap();
    let text = refusal(dir.path(), Reading { val_split: Some(0.3), ..Reading::default() });
    assert!(text.contains("c/0.png is the only image of its class"), "{text}");
    let text = refusal(pets().path(), Reading { val_split: Some(0.3), ..Reading::default() });
    assert!(text.contains("val") && text.contains("leave --val-split out"), "{text}");
}

/// PNG with a header of another size and a right checksum.
fn resized(png: &[u8], width: u32, height: u32) -> Vec<u8> {
    let mut bytes = png.to_vec();
    bytes[16..20].copy_from_slice(&width.to_be_bytes());
    bytes[20..24].copy_from_slice(&height.to_be_bytes());
    let sum = crc32fast::hash(&bytes[12..29]);
    bytes[29..33].copy_from_slice(&sum.to_be_bytes());
    bytes
}

#[test]
fn files_that_are_no_images_are_left_out_and_named() {
    let dir = pets();
    let bad: [(&str, &[u8], &str); 6] = [
        ("train/cat/empty.jpg", b"", "the file is empty"),
        ("train/cat/page.jpg", b"<html>404 not found</html>", "not an image"),
        ("train/dog/a.txt", b"a", "not an image"),
        ("train/dog/b.gif", include_bytes!("../../../tests/fixtures/images/moving.gif"), "Gif is not read"),
        ("train/dog/c.bmp", b"BM12345678901234567890", "Bmp is not read"),
        ("train/dog/d.png", b"\x89PNG", "not an image"),
    ];
    bad.iter().for_each(|(name, bytes, _)| put(dir.path(), name, bytes));
    let set = open(dir.path(), Reading::default()).unwrap();
    let train = set.train.unwrap();
    assert_eq!(train.len(), 8);
    let remarks = train.remarks().join("\n");
    assert!(remarks.contains("6 files are left out") && remarks.contains("and 1 more"), "{remarks}");
    for (name, _, what) in &bad[..5] {
        let said = format!("{} ({what}", name.strip_prefix("train/").unwrap());
        assert!(remarks.contains(&said), "no `{said}` in {remarks}");
    }
    let text = refusal(dir.path(), Reading { strict: true, ..Reading::default() });
    assert!(text.contains("cat/empty.jpg") && text.contains("leave --strict out"), "{text}");
}

#[test]
fn damaged_images_are_replaced_within_their_class_and_named() {
    let jpeg = encoded(&picture(200, 200, 1), ImageFormat::Jpeg);
    let webp = encoded(&picture(200, 200, 1), ImageFormat::WebP);
    for (bytes, what) in [
        (jpeg[..jpeg.len() / 2].to_vec(), "truncated"),
        (jpeg[..20].to_vec(), "truncated"),
        (png(1)[..60].to_vec(), ""),
        (webp[..webp.len() / 2].to_vec(), ""),
        ([&png(1)[..50], &[0; 400][..]].concat(), ""),
        // 16 gigapixels, of which nothing is allocated.
        (resized(&png(1), 1 << 17, 1 << 17), "131072 x 131072"),
        (resized(&png(1), 0, 5), ""),
        (resized(&png(1), 4000, 4000), ""),
    ] {
        let dir = pets();
        put(dir.path(), "train/cat/1.jpg", &bytes);
        let train = open(dir.path(), Reading::default()).unwrap().train.unwrap();
        let pixels = all(&*train, View::Test);
        assert_eq!(pixels[768..2 * 768], pixels[2 * 768..3 * 768], "the next of its class");
        assert_eq!(labels(&*train), [0, 0, 0, 0, 1, 1, 1, 1]);
        let remarks = train.remarks().join("\n");
        assert!(remarks.contains("1 file is damaged") && remarks.contains("cat/1.jpg ("), "{remarks}");
        assert!(remarks.contains(what), "no `{what}` in {remarks}");

        let strict = open(dir.path(), Reading { strict: true, ..Reading::default() }).unwrap().train.unwrap();
        let text = strict.fill(&[1], View::Test, &mut [0; 768]).unwrap_err().to_string();
        assert!(text.contains("cat/1.jpg") && text.contains("leave --strict out"), "{text}");
    }
}

#[test]
fn a_file_that_cannot_be_read_is_not_a_damaged_one() {
    let dir = pets();
    let train = open(dir.path(), Reading::default()).unwrap().train.unwrap();
    let (path, away) = (dir.path().join("train/cat/1.jpg"), dir.path().join("away"));
    fs::rename(&path, &away).unwrap();
    let refused = || train.fill(&[1], View::Test, &mut [0; 768]).unwrap_err();
    let gone = refused();
    assert!(matches!(gone, Error::Io { .. }) && gone.to_string().contains("cat/1.jpg: cannot read"), "{gone}");
    // A folder in its place opens, but cannot be read.
    fs::create_dir(&path).unwrap();
    assert!(matches!(refused(), Error::Io { .. }));
    // Nothing is held against it when it is back.
    fs::remove_dir(&path).unwrap();
    fs::rename(&away, &path).unwrap();
    assert_ne!(shown(&*train, &[1], View::Test), shown(&*train, &[2], View::Test));
    assert_eq!(train.remarks(), Vec::<String>::new());
}

#[test]
fn a_class_that_is_damaged_altogether_is_an_error() {
    let dir = pets();
    (0..4).for_each(|i| put(dir.path(), &format!("train/dog/{i}.jpg"), &png(1)[..60]));
    let train = open(dir.path(), Reading::default()).unwrap().train.unwrap();
    shown(&*train, &[0, 1, 2, 3], View::Test);
    let text = train.fill(&[5], View::Test, &mut [0; 768]).unwrap_err().to_string();
    assert!(text.contains("dog/1.jpg") && text.contains("all 4 images of its class"), "{text}");
}

#[test]
fn wrong_folders_are_refused() {
    let none = Reading::default();
    let dir = pets();
    assert!(refusal(&dir.path().join("nowhere"), none).contains("no such folder"));
    assert!(refusal(&dir.path().join("train/cat/0.jpg"), none).contains("not a folder"));
    assert!(refusal(&dir.path().join("train/cat"), none).contains("no folders of images"));
    // A class to measure on that there is none of to train on, an empty one, a missing one.
    put(dir.path(), "val/cow/0.png", &png(1));
    assert!(refusal(dir.path(), none).contains("`cow` is none of the 2 classes"));
    fs::remove_dir_all(dir.path().join("val/cow")).unwrap();
    fs::create_dir(dir.path().join("train/cow")).unwrap();
    assert!(refusal(dir.path(), none).contains("`cow` is missing or holds no image"));
    put(dir.path(), "train/cow/0.png", b"no");
    assert!(refusal(dir.path(), none).contains("cow/0.png (not an image"));
    fs::remove_dir_all(dir.path().join("train/cow")).unwrap();
    // Names that a manifest or a resumed run knows.
    let named = Manifest { classes: ["cat", "cow", "dog"].map(String::from).to_vec(), ..manifest(16, 0) };
    let text = data::open(&named, Some(dir.path()), BOTH, &none).unwrap_err().to_string();
    assert!(text.contains("`cow` is missing"), "{text}");
    fs::remove_dir_all(dir.path().join("val")).unwrap();
    assert!(refusal(dir.path(), none).contains("--val-split 0.1"));
    fs::remove_dir_all(dir.path().join("train/dog")).unwrap();
    assert!(refusal(dir.path(), none).contains("1 class folders, but a network needs at least two"));
    put(dir.path(), "val/cat/1.png", &png(1));
    put(dir.path(), "val/dog/1.png", &png(1));
    fs::remove_dir_all(dir.path().join("train")).unwrap();
    assert!(refusal(dir.path(), none).contains("has no train/"));
}

#[cfg(unix)]
#[test]
fn what_is_no_file_is_not_opened() {
    let dir = pets();
    std::os::unix::fs::symlink("gone", dir.path().join("train/cat/link.jpg")).unwrap();
    std::os::unix::fs::symlink("..", dir.path().join("train/cat/loop")).unwrap();
    let pipe = std::process::Command::new("mkfifo").arg(dir.path().join("train/dog/pipe.jpg")).status();
    assert!(pipe.unwrap().success());
    let train = open(dir.path(), Reading::default()).unwrap().train.unwrap();
    let remarks = train.remarks().join("\n");
    assert_eq!(train.len(), 8);
    assert!(
        ["link.jpg (", "loop (not a regular", "pipe.jpg (not a regular"].iter().all(|w| remarks.contains(w)),
        "{remarks}"
    );
}
