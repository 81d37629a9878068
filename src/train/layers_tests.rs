use super::*;

fn layer(text: &str, origin: Origin) -> Layer {
    Layer::parse(text, origin).unwrap()
}

fn set(words: &[&str]) -> Result<Layer> {
    Layer::set(&words.iter().map(|w| w.to_string()).collect::<Vec<_>>())
}

fn flags(text: &str) -> Layer {
    layer(text, Origin::Flag)
}

/// The message of a usage error.
fn usage(e: Error) -> String {
    assert_eq!(e.exit_code(), 2, "{e}");
    e.to_string()
}

#[test]
fn every_key_is_known() {
    let all = Config {
        data_dir: Some("d".into()),
        image_size: Some(32),
        pad: Some(4),
        val_split: Some(0.1),
        classes: vec!["a".into()],
        scale: Some(methods::Scale::None),
        first_last: crate::model::FirstLast::Shift,
        init: Some("i".into()),
        rungs: vec!["r".into()],
        ..Config::default()
    };
    let mut written: Vec<_> = table(&all).keys().cloned().collect();
    let mut known = keys().to_vec();
    written.sort_unstable();
    known.sort_unstable();
    assert_eq!(known, written);
}

#[test]
fn later_layers_win_and_say_so() {
    let recipe = layer("lr = 0.2\nepochs = 7\nwarmup = 1\nseed = 3", Origin::Recipe("r".into()));
    let file = layer("lr = 0.3\nepochs = 8\nwarmup = 2.0", Origin::File("f.toml".into()));
    let words = set(&["lr=0.4", "epochs=9"]).unwrap();
    let l = Layered::new(Some(recipe), vec![file, words, flags("dataset = \"cifar10\"\nlr = 0.5")]).unwrap();
    l.check().unwrap();
    let c = &l.config;
    assert_eq!((c.lr, c.epochs, c.warmup, c.seed, c.batch_size), (0.5, 9, 2.0, 3, 128));
    let from = |key: &str| l.origins[key].to_string();
    let keys = ["lr", "epochs", "warmup", "seed", "batch-size", "mean", "bits"];
    let places = ["flag", "--set", "file f.toml", "recipe r", "default", "data set cifar10", "default"];
    assert_eq!(keys.map(from), places);
    assert_eq!(c.mean, Manifest::find("cifar10").unwrap().mean);
}

#[test]
fn what_is_printed_reads_back_as_the_same() {
    let words = set(&["data-dir=a b", "rungs=[\"conv_forward_naive\"]", "lr=1e-3", "mean=[0.1,0.2,0.3]"]).unwrap();
    let l = Layered::new(None, vec![words, flags("dataset = \"cifar100\"\nmethod = \"fp32\"")]).unwrap();
    let text = l.annotated().unwrap();
    for line in ["lr = 0.001", "method = \"fp32\"", "data-dir = \"a b\"", "bits = 0", "mean = [0.1, 0.2, 0.3]"] {
        assert!(text.contains(&format!("\n{line} ")), "no `{line}` in\n{text}");
    }
    assert!(text.lines().all(|l| l.contains("  # ")), "{text}");
    let again = Layered::new(None, vec![layer(&text, Origin::File("again.toml".into()))]).unwrap();
    assert_eq!(again.config, l.config);
    assert!(again.origins.values().all(|o| matches!(o, Origin::File(_))));
}

#[test]
fn line_breaks_in_a_value_or_a_place_are_printed_too() {
    let keys = "dataset = \"shapes\"\ndata-dir = \"a\\nlr = 5\\n\\\"\\\"\\\"\"\nclasses = [\"x\\ny\", \"z\"]";
    let l = Layered::new(None, vec![layer(keys, Origin::File("odd\nname.toml".into()))]).unwrap();
    let text = l.annotated().unwrap();
    let again = Layered::new(None, vec![layer(&text, Origin::Set)]).unwrap();
    assert_eq!((again.config, l.config.data_dir.clone()), (l.config, Some("a\nlr = 5\n\"\"\"".into())), "{text}");
}

#[test]
fn without_a_data_set_nothing_of_one_is_claimed() {
    let l = Layered::new(None, Vec::new()).unwrap();
    let text = l.annotated().unwrap();
    for key in ["dataset", "mean", "std"] {
        assert!(!text.contains(&format!("{key} = ")), "{text}");
    }
    assert!(usage(l.check().unwrap_err()).contains("no --dataset is given"));
}

#[test]
fn a_method_brings_its_bits_unless_they_are_named_beside_or_above_it() {
    let bits = |recipe: &str, file: &str, flag: &str| {
        let recipe = layer(recipe, Origin::Recipe("r".into()));
        let l = Layered::new(Some(recipe), vec![layer(file, Origin::File("f".into())), flags(flag)]).unwrap();
        (l.config.bits, l.origins["bits"].to_string())
    };
    let of = |bits: u32, from: &str| (bits, from.to_string());
    assert_eq!(bits("", "", ""), of(3, "default"));
    assert_eq!(bits("bits = 2", "", ""), of(2, "recipe r"));
    assert_eq!(bits("bits = 2", "method = \"fp32\"", ""), of(0, "default"));
    assert_eq!(bits("", "method = \"s3\"\nbits = 4", "method = \"fp32\""), of(0, "default"));
    assert_eq!(bits("", "method = \"s3\"\nbits = 4", "method = \"s3\""), of(4, "file f"));
    assert_eq!(bits("method = \"fp32\"", "method = \"s3\"", "bits = 2"), of(2, "flag"));
}

#[test]
fn a_data_sets_own_recipe_gives_way_to_a_named_one() {
    let manifest = |recipe: &str| {
        let mut text: Table = include_str!("../../datasets/cifar10.toml").parse().unwrap();
        text.insert("recipe".into(), recipe.parse::<Table>().unwrap().into());
        Manifest::parse(&text.to_string(), "own.toml").unwrap()
    };
    let own = |recipe: &str| {
        let m = manifest(recipe);
        own_recipe(&m, m.recipe.clone().unwrap())
    };
    let l = own("epochs = 12\nlr = 0.4").unwrap();
    assert_eq!((l.origin.to_string(), l.keys.len()), ("recipe cifar10".into(), 2));
    assert!(usage(own("dataset = \"shapes\"").unwrap_err()).contains("`dataset`"));
    assert!(usage(own("epoch = 3").unwrap_err()).contains("did you mean `epochs`"));
}

#[test]
fn recipes_are_found_by_name_or_file() {
    for (name, _) in RECIPES {
        Layer::recipe(name).unwrap();
    }
    let l = Layered::new(Some(Layer::recipe("published").unwrap()), vec![flags("dataset = \"cifar10\"")]).unwrap();
    l.check().unwrap();
    assert_eq!((l.config.batch_size, &l.origins["lr"]), (256, &Origin::Recipe("published".into())));
    assert!(usage(Layer::recipe("publishd").unwrap_err()).contains("did you mean `published`?"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("mine.toml");
    assert!(Layer::recipe(path.to_str().unwrap()).unwrap_err().to_string().contains("cannot read"));
    std::fs::write(&path, "lr = 0.7").unwrap();
    assert_eq!(Layer::recipe(path.to_str().unwrap()).unwrap().keys["lr"].as_float(), Some(0.7));
}

#[test]
fn values_of_set_are_toml_or_text() {
    let l = set(&["lr=1", "method=fp32", "augment=false", "dataset=\"shapes\"", "init=3", "model = resnet8"]).unwrap();
    assert_eq!(l.keys["lr"].as_integer(), Some(1));
    let text = |key: &str| l.keys[key].as_str();
    assert_eq!(["method", "dataset", "init", "model"].map(text), ["fp32", "shapes", "3", "resnet8"].map(Some));
    assert_eq!(l.keys["augment"].as_bool(), Some(false));
    assert_eq!(Layered::new(None, vec![set(&["lr=1"]).unwrap()]).unwrap().config.lr, 1.0);
}

#[test]
fn errors_name_key_value_and_place() {
    let read = |text: &str| Layer::parse(text, Origin::File("f.toml".into()));
    let resolved = |text: &str| Layered::new(None, vec![read(text)?]).and_then(|l| l.check());
    for (text, words) in [
        ("learning-rate = 1", &["`learning-rate`", "file f.toml", "known keys"][..]),
        ("batchsize = 1", &["`batchsize`", "did you mean `batch-size`"]),
        ("batch_size = 1", &["`batch_size`", "did you mean `batch-size`"]),
        ("epochs = \"ten\"", &["epochs = \"ten\"", "file f.toml", "invalid type"]),
        ("epochs = -1", &["epochs = -1", "file f.toml"]),
        ("schedule = \"cosin\"", &["schedule = \"cosin\"", "cosine", "file f.toml"]),
        ("mean = 0.5", &["mean = 0.5", "sequence"]),
        ("lr = [", &["file f.toml is no TOML", "line"]),
        ("dataset = \"cifar11\"", &["cifar11", "(from file f.toml)", "cifar10"]),
        ("dataset = \"shapes\"\nmodel = \"resnet9\"", &["resnet9", "(from file f.toml)"]),
        ("dataset = \"shapes\"\nmethod = \"s4\"", &["`s4` (from file f.toml)", "known methods"]),
        ("dataset = \"shapes\"\nbits = 7", &["7-bit", "(from file f.toml)"]),
        ("dataset = \"shapes\"\nlr = -1.0", &["--lr is -1 (from file f.toml)", "from 0"]),
        ("dataset = \"shapes\"\nlr = nan", &["--lr is NaN (from file f.toml)"]),
    ] {
        let said = usage(resolved(text).unwrap_err());
        assert!(words.iter().all(|w| said.contains(w)), "{text}: no {words:?} in\n{said}");
    }
    assert!(usage(set(&["lr"]).unwrap_err()).contains("--set lr has no `=`"));
    assert!(usage(set(&["epochs=x"]).unwrap_err()).contains("(from --set)"));
    // A flag's own message needs no place.
    let l = Layered::new(None, vec![flags("dataset = \"shapes\"\nlr = -1.0")]).unwrap();
    assert!(!usage(l.check().unwrap_err()).contains("(from"));
}

#[test]
fn a_recipe_has_keys_for_one_method_alone() {
    let recipe = || Layer::parse_recipe("lr = 0.2\n[twn]\nlr = 0.3\nepochs = 7", Origin::Recipe("r".into())).unwrap();
    let of = |flags_: &str| {
        let flags_ = flags(&format!("dataset = \"shapes\"\n{flags_}"));
        Layered::new(Some(recipe()), vec![flags_]).unwrap()
    };
    let (s3, twn) = (of("").config, of("method = \"twn\""));
    assert_eq!((s3.lr, s3.epochs), (0.2, 200));
    assert_eq!((twn.config.lr, twn.config.epochs, twn.origins["lr"].to_string()), (0.3, 7, "recipe r".into()));
    assert_eq!(of("method = \"twn\"\nlr = 0.4").config.lr, 0.4, "flags lie above");
    let e = Layer::parse_recipe("[twn]\nrate = 1", Origin::Recipe("r".into())).unwrap_err();
    assert!(usage(e).contains("rate"));
}

#[test]
fn the_built_in_recipes_suit_every_method() {
    let ps = |recipe: Option<&str>| {
        let recipe = recipe.map(|r| Layer::recipe(r).unwrap());
        Layered::new(recipe, vec![flags("dataset = \"cifar10\"\nmethod = \"deepshift-ps\"")]).unwrap().config
    };
    for c in [ps(None), ps(Some("published")), ps(Some("default"))] {
        assert_eq!((c.optimizer, c.lr, c.bits), (crate::kernels::optim::Optimizer::RAdam, 0.01, 5));
    }
    let inq = Layered::new(None, vec![flags("dataset = \"cifar10\"\nmethod = \"inq\"")]).unwrap();
    assert_eq!((inq.config.lr, inq.origins["lr"].to_string()), (0.01, "default".into()));
    let s3 =
        |flags_: &str| Layered::new(None, vec![flags(&format!("dataset = \"cifar10\"\n{flags_}"))]).unwrap().config;
    let chosen = flags("dataset = \"cifar10\"\noptimizer = \"adam\"");
    let chosen = Layered::new(Some(Layer::recipe("default").unwrap()), vec![chosen]).unwrap().config;
    assert_eq!(chosen.latent_lr, 1.0, "the default recipe by its name is the default");
    assert_eq!([s3("").latent_lr, s3("optimizer = \"adam\"").latent_lr], [30.0, 1.0]);
    assert_eq!(s3("optimizer = \"adam\"\nlatent-lr = 3").latent_lr, 3.0);
    for name in methods::names() {
        for (recipe, _) in RECIPES {
            let flags = flags(&format!("dataset = \"cifar10\"\nmethod = \"{name}\""));
            let layered = Layered::new(Some(Layer::recipe(recipe).unwrap()), vec![flags]).unwrap();
            layered.config.check().unwrap();
            assert_eq!(layered.config.method, name);
        }
    }
}

#[test]
fn bits_and_scale_stay_with_the_method_they_were_said_of() {
    let of = |layers: &[&str]| {
        let layers = layers.iter().map(|text| flags(text)).collect();
        Layered::new(None, layers).unwrap().config.method().unwrap().title()
    };
    // A sweep names the method last.
    assert_eq!(of(&["dataset = \"shapes\"\nscale = \"none\"", "method = \"bwn\""]), "bwn 1-bit unscaled");
    assert_eq!(of(&["dataset = \"shapes\"\nbits = 4", "method = \"denseshift\""]), "denseshift 4-bit");
    assert_eq!(of(&["dataset = \"shapes\"\nmethod = \"s3\"\nbits = 2", "method = \"fp32\""]), "fp32");
    assert_eq!(of(&["dataset = \"shapes\"\nmethod = \"twn\"\nscale = \"none\"", "method = \"s3\""]), "s3 3-bit");
}
