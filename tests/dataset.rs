//! `s3gpu dataset`: where sets are found, what is said of them, and bad input.

mod program;
mod server;
mod sets;

use std::fs;

use program::{Place, Said, TRAIN_IMAGES};
use server::Server;
use sets::*;

#[test]
fn what_is_fetched_is_trained_on_by_path_and_evaluated() {
    let file = good();
    let server = Server::of(&file);
    let place = place(&[&server], &size_and_sum(&file));
    // Into the user's data folder, where train and eval look.
    run(&place, "dataset fetch mine.toml").ok();
    let train = "train --dataset mine.toml --model resnet8 --epochs 1 --batch-size 8 --steps 1";
    run(&place, train).ok();
    assert_eq!(place.names("runs"), ["mine-resnet8-s3-3-bit"]);
    fs::create_dir(place.path("elsewhere")).expect("a folder");
    let mut resumed = command(&place, "train --resume ../runs/mine-resnet8-s3-3-bit");
    Said::of(resumed.current_dir(place.path("elsewhere")).output().expect("the program starts")).ok();
    run(&place, "eval --dataset mine.toml --weights runs/mine-resnet8-s3-3-bit").ok();
}

#[test]
fn bad_input() {
    let place = Place::new();
    let file = good();
    let good_toml = toml(&members(&["http://127.0.0.1:9/mine.tar.gz".into()], &size_and_sum(&file)));
    place.put("mine.toml", good_toml.as_bytes());
    place.put("file", b"x");
    for (args, code, words) in [
        (
            "fetch cifra10",
            2,
            &["unknown data set `cifra10`", "did you mean `cifar10`?", "path of a set's own TOML"][..],
        ),
        ("info CIFAR10", 2, &["did you mean `cifar10`?"]),
        ("info elephants", 2, &["unknown data set `elephants`", "takes one of: cifar10"]),
        ("info nowhere.toml", 1, &["nowhere.toml", "cannot read", "check the path"]),
        ("info sets/mine", 1, &["sets/mine", "cannot read"]),
        ("info ./data", 1, &["./data", "not a data set's manifest"]),
        ("fetch shapes", 2, &["drawn by the program", "use it as it is"]),
        ("verify shapes", 2, &["drawn by the program", "dataset stats"]),
        (
            "verify cifar10",
            2,
            &["no --data-dir", "S3GPU_DATA is not set", "s3gpu dataset fetch cifar10", "cifar10 is not there"],
        ),
        ("verify mnist", 2, &["s3gpu dataset fetch mnist", "train-images-idx3-ubyte"]),
        ("stats folder", 2, &["s3gpu dataset info folder", "--val-split 0.1"]),
        ("fetch imagenet", 2, &["cannot be fetched by a program", "image-net.org"]),
        ("stats mine.toml", 2, &["s3gpu dataset fetch mine.toml"]),
        (
            "stats cifar10 --data-dir nowhere",
            1,
            &["nowhere", "no such folder", "`s3gpu dataset fetch cifar10 --data-dir nowhere` gets cifar10 into it"],
        ),
        ("stats mnist --data-dir data", 1, &["data", "`s3gpu dataset fetch mnist --data-dir data` gets"]),
        ("stats imagenette --data-dir data", 1, &["data", "`s3gpu dataset fetch imagenette --data-dir data` gets"]),
        ("stats shapes --grid nowhere/grid.png", 1, &["nowhere/grid.png", "cannot create", "path"]),
        ("fetch mine.toml --data-dir file", 1, &["file", "cannot create", "another path"]),
        ("fetch mine.toml --url ftp://x/y", 2, &["ftp://x/y", "--from FILE"]),
        ("fetch mine.toml --url nowhere/", 2, &["nowhere/", "--from FILE"]),
    ] {
        let before = place.snapshot();
        let said = run(&place, &format!("dataset {args}")).fails(code, words);
        assert!(said.out.is_empty() || args.starts_with("stats"), "{args}: {}", said.out);
        assert!(place.snapshot() == before, "{args}: left {:?}", place.names("."));
    }
    place.put("no.toml", toml("").split("[[download]]").next().unwrap_or_default().as_bytes());
    run(&place, "dataset fetch no.toml").fails(2, &["names nothing to fetch", "[[download]]"]);

    for (from, to, words) in [
        ("format = ", "format ", &["not a data set's manifest", "correct the key"][..]),
        ("url = \"http", "url = \"ftp", &["only http and https"]),
        ("mine.tar.gz\"", "\"", &["does not end in a file's name"]),
        ("mirrors", "mirror", &["mirror"]),
        ("unpacked = 200000", "", &["`unpacked`"]),
        ("unpacked = 200000", "unpacked = -1", &["-1"]),
        ("cifar-10-batches-bin/*", "../*", &["no path below the archive"]),
        ("strip = 1", "strip = 2", &["no path below the archive"]),
        ("name = \"mine\"", "name = \"../mine\"", &["name is `../mine`"]),
        ("sha256 = \"", "sha256 = \"z", &["64 hexadecimal digits"]),
        ("[[download]]", "[[file]]\npath = \"/etc/passwd\"\n[[download]]", &["/etc/passwd", "below the set's folder"]),
    ] {
        assert!(good_toml.contains(from), "the test's own `{from}` is not in the manifest");
        place.put("bad.toml", good_toml.replacen(from, to, 1).as_bytes());
        run(&place, "dataset fetch bad.toml").fails(1, &[&["bad.toml: "], words].concat());
    }
    place.put("bad.toml", &[0xff; 40]);
    run(&place, "dataset info bad.toml").fails(1, &["bad.toml", "not a text", "datasets/"]);
}

#[test]
fn sets_are_found_in_order() {
    let place = Place::new();
    let file = good();
    place.put("mine.toml", toml(&members(&["http://127.0.0.1:9/mine.tar.gz".into()], &size_and_sum(&file))).as_bytes());
    place.put("mine.tar.gz", &file);
    let with = |variable: &str, args: &str| {
        let mut command = command(&place, args);
        Said::of(command.env("S3GPU_DATA", place.path(variable)).output().expect("the program starts"))
    };
    let found = |said: Said| said.out.lines().find_map(|l| l.strip_prefix("here ").map(|l| l.trim().to_string()));
    let own = |dir: &str| Some(place.path(dir).display().to_string());
    assert_eq!(
        found(run(&place, "dataset info mine.toml")),
        Some("no; `s3gpu dataset fetch mine.toml` gets it".into())
    );
    // The user's folder, below it the variable's, below that --data-dir.
    run(&place, "dataset fetch mine.toml --from mine.tar.gz").ok();
    let users = found(run(&place, "dataset info mine.toml")).expect("a folder");
    assert!(users.ends_with("share/s3gpu/mine"), "{users}");
    assert_eq!(found(with("sets", "dataset info mine.toml")), Some(users));
    with("sets", "dataset fetch mine.toml --from mine.tar.gz").ok();
    assert_eq!(found(with("sets", "dataset info mine.toml")), own("sets/mine"));
    // The variable may name the set's own folder.
    assert_eq!(found(with("data", "dataset info cifar10")), own("data"));
    let given = |dir: &str| found(with("sets", &format!("dataset info mine.toml --data-dir {dir}")));
    assert_eq!([given("data"), given("sets")], [Some("data".into()), Some("sets/mine".into())]);
    assert!(given("runs").is_some_and(|said| said.starts_with("no")), "--data-dir counts alone");

    let list = with("sets", "dataset list").ok().out;
    let line = |name: &str| list.lines().find(|l| l.starts_with(name)).map(str::to_string).unwrap_or_default();
    assert!(line("cifar10 ").contains("162.17 MiB") && line("cifar10 ").ends_with("no"), "{list}");
    assert!(line("shapes").ends_with("drawn by the program"), "{list}");
}

#[test]
fn stats_counts_and_draws() {
    let place = Place::new();
    let said = run(&place, "dataset stats cifar10 --data-dir data --grid grid.png").ok();
    assert!(said.out.contains("23 training and 11 test images, 3x32x32"), "{}", said.out);
    let row = |class: &str| {
        let line = said.out.lines().find(|l| l.starts_with(class)).unwrap_or_default();
        line.split_whitespace().skip(1).map(str::to_string).collect::<Vec<_>>()
    };
    assert_eq!([row("airplane"), row("truck")], [["3", "2"], ["2", "1"]]);
    // By hand, of the first channel.
    let pixels: Vec<f64> =
        (0..TRAIN_IMAGES).flat_map(|i| program::record(i)[1..1025].to_vec()).map(f64::from).collect();
    let mean = pixels.iter().sum::<f64>() / pixels.len() as f64;
    let variance = pixels.iter().map(|p| (p - mean).powi(2)).sum::<f64>() / pixels.len() as f64;
    assert!(said.out.contains(&format!("mean = [{:.4}, ", mean / 255.0)), "{}", said.out);
    assert!(said.out.contains(&format!("std = [{:.4}, ", variance.sqrt() / 255.0)), "{}", said.out);
    assert!(said.err.contains("its manifest says"), "{}", said.err);

    let shown = image::load_from_memory(&place.get("grid.png")).expect("a PNG").into_rgb8();
    assert_eq!(shown.dimensions(), (12 * 66 + 2, 10 * 66 + 2));
    // The second class's first image, record 1, enlarged twice: its first pixel.
    let record = program::record(1);
    assert_eq!(shown.get_pixel(2, 66 + 2).0, [record[1], record[1025], record[2049]]);

    run(&place, "dataset stats shapes").ok();
    assert!(place.names(".").contains(&"shapes.png".to_string()));
}

#[test]
fn verify_holds_a_copy_against_the_official_sums() {
    let place = Place::new();
    let said = run(&place, "dataset verify cifar10 --data-dir data");
    for words in ["data_batch_1.bin", "bytes, not 30730000", "data_batch_5.bin", "missing", "was not kept"] {
        assert!(said.out.contains(words), "{words} in {}", said.out);
    }
    assert!(said.out.contains("23 training and 11 test images, not 50000 and 10000"), "{}", said.out);
    said.fails(1, &["data: this is not cifar10 as it is published", "TOML of its own"]);
}

#[test]
fn help_names_every_command_and_flag() {
    let place = Place::new();
    let all = place.run("dataset --help").ok().out;
    for (command, flags) in [
        ("list", &[][..]),
        ("info", &["--data-dir"]),
        ("fetch", &["--data-dir", "--from", "--url", "--keep-archive"]),
        ("verify", &["--data-dir"]),
        ("stats", &["--data-dir", "--grid", "--image-size", "--val-split", "--threads", "--strict"]),
    ] {
        assert!(all.contains(&format!("\n  {command} ")), "{all}");
        let help = place.run(&format!("dataset {command} --help")).ok().out;
        assert!(flags.iter().all(|flag| help.contains(&format!("      {flag}"))), "{help}");
    }
}

/// A PNG of one grey.
fn grey_png(grey: u8) -> Vec<u8> {
    s3gpu::files::png(&[grey; 4800], [3, 40, 40]).expect("a picture")
}

/// What a manifest of small pictures in the folders n01 and n02 says before it says where they are from.
fn two_folders() -> String {
    let imagenette = include_str!("../datasets/imagenette.toml");
    let own = imagenette.split("\n[images]").next().expect("what comes before the tables");
    let (start, end) = (own.find("classes = [").expect("classes"), own.find("# ImageNet's").expect("a comment"));
    let own =
        format!("{}classes = [\"dark\", \"light\"]\nfolders = [\"n01\", \"n02\"]\n{}", &own[..start], &own[end..]);
    own.replacen("\"imagenette\"", "\"mine\"", 1).replace("224", "32")
}

#[test]
fn a_folder_without_a_split_is_fetched_and_trained_on() {
    let pictures: Vec<_> = (0..12).map(|i| (format!("n0{}/{i}.png", 1 + i % 2), grey_png(60 + 9 * i as u8))).collect();
    let members: Vec<_> = pictures.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    let server = Server::of(&archive(&members));
    let open = two_folders().replace("folders = [\"n01\", \"n02\"]\n", "");
    let open = open.replace("classes = [\"dark\", \"light\"]\n", "");
    for own in [two_folders(), open] {
        for flags in ["", " --data-dir sets"] {
            let place = Place::new();
            let toml = format!(
                "{own}\n[images]\ntrain = 10\ntest = 2\n[[download]]\nurl = {:?}\nunpacked = 9000\n\
                 members = [\"*/*.png\"]\n",
                server.url("pictures.tgz")
            );
            place.put("mine.toml", toml.as_bytes());
            run(&place, &format!("dataset fetch mine.toml{flags}")).ok();
            let before = server.asked().len();
            let said = run(&place, &format!("dataset fetch mine.toml{flags}")).ok();
            assert!(said.out.contains("here already") && server.asked().len() == before, "{}", said.out);
            let said = run(&place, &format!("dataset verify mine.toml{flags}")).ok();
            assert!(said.out.contains("12 images without a split"), "{}", said.out);
            let train = format!(
                "train --dataset mine.toml{flags} --val-split 0.3 --model resnet8 --batch-size 8 --steps 1 --out run"
            );
            let said = run(&place, &train).ok();
            assert!(said.err.contains("8 training images, 4 test images"), "{}", said.err);
            if !flags.is_empty() {
                fs::remove_file(place.path("sets/mine/n01/0.png")).expect("a file");
                let said = run(&place, &format!("dataset verify mine.toml{flags}"));
                said.fails(1, &["not mine as it is published"]);
            }
        }
    }
}

#[test]
fn stats_of_a_folder_without_a_split() {
    let place = Place::new();
    (0..6).for_each(|i| place.put(&format!("pics/{}/{i}.png", ["dark", "light"][i % 2]), &grey_png(51)));
    place.put("pics/dark/notes.txt", b"no picture");
    let stats = "dataset stats folder --data-dir pics --image-size 24";
    let said = run(&place, stats).ok();
    for words in ["folder: 6 training images, 3x24x24\n", "mean = [0.2000,", "\nclass   training\ndark           3\n"] {
        assert!(said.out.contains(words), "no {words:?} in {}", said.out);
    }
    assert!(said.err.contains("1 file is left out"), "{}", said.err);
    let said = run(&place, &format!("{stats} --val-split 0.3 --threads 2")).ok();
    for words in ["4 training and 2 test images", "\ndark           2          1\n"] {
        assert!(said.out.contains(words), "no {words:?} in {}", said.out);
    }
    run(&place, &format!("{stats} --val-split 2")).fails(2, &["--val-split is 2", "below 1"]);
    run(&place, &format!("{stats} --strict")).fails(1, &["notes.txt", "--strict"]);
    fs::create_dir(place.path("alone")).expect("a folder");
    fs::rename(place.path("pics"), place.path("alone/val")).expect("renamed");
    let said = run(&place, "dataset stats folder --data-dir alone").ok();
    assert!(said.out.contains("folder: 6 test images, "), "{}", said.out);
}

#[test]
fn an_image_folder_is_fetched_and_described() {
    let place = Place::new();
    let mut pictures = Vec::new();
    for (split, count) in [("train", 3u8), ("val", 2)] {
        for (class, grey) in [("n01", 51u8), ("n02", 204)] {
            for i in 0..count {
                pictures.push((format!("pictures-1.0/{split}/{class}/{i}.png"), grey_png(grey)));
            }
        }
    }
    let mut members: Vec<_> = pictures.iter().map(|(name, bytes)| (name.as_str(), bytes.as_slice())).collect();
    members.push(("pictures-1.0/noisy.csv", b"a,b"));
    let server = Server::of(&archive(&members));
    let own = two_folders();
    let toml = format!(
        "{own}\n[images]\ntrain = 6\ntest = 4\n[[download]]\nurl = {:?}\nstrip = 1\nunpacked = 9000\n\
         members = [\"pictures-1.0/train/*/*.png\", \"pictures-1.0/val/*/*.png\"]\n",
        server.url("pictures-1.0.tgz")
    );
    place.put("mine.toml", toml.as_bytes());
    run(&place, "dataset fetch mine.toml").ok();
    let said = run(&place, "dataset verify mine.toml").ok();
    assert!(said.out.contains("all 10 files are as they were fetched"), "{}", said.out);
    assert!(said.out.contains("6 training and 4 test images, which were not decoded"), "{}", said.out);
    let said = run(&place, "dataset stats mine.toml").ok();
    assert!(said.out.contains("mean = [0.5000, 0.5000, 0.5000]\nstd = [0.3000, 0.3000, 0.3000]"), "{}", said.out);
    assert!(said.out.contains("light          3          2"), "{}", said.out);
}

#[test]
fn every_recipe_is_one_that_training_takes() {
    let mut recipes = 0;
    for name in s3gpu::data::Manifest::names() {
        let manifest = s3gpu::data::Manifest::find(name).expect("built in");
        let mut settings = toml::Table::try_from(s3gpu::train::Config::default()).expect("a table");
        if let Some(recipe) = manifest.recipe {
            recipes += 1;
            settings.extend(recipe);
        }
        let config: s3gpu::train::Config = settings.try_into().unwrap_or_else(|e| panic!("{name}: {e}"));
        config.check().unwrap_or_else(|e| panic!("{name}: {e}"));
    }
    assert_eq!(recipes, 6);
}
