use super::*;

const HEAD: &str = "models = [\"resnet8\"]\nseeds = [1, 2]\n[settings]\ndataset = \"shapes\"\nepochs = 2\n";

fn parse(text: &str) -> Result<Sweep> {
    Sweep::parse(text, Path::new("some/mine.toml"), &[])
}

fn methods(text: &str) -> Result<Sweep> {
    parse(&format!("{HEAD}{text}"))
}

/// The text is refused as wrong usage, with all these words.
fn refused(outcome: Result<Sweep>, words: &[&str]) {
    let e = outcome.unwrap_err();
    let message = e.to_string();
    assert_eq!(e.exit_code(), 2, "{message}");
    assert!(words.iter().all(|w| message.contains(w)) && message.contains('\n'), "no {words:?} in {message}");
}

#[test]
fn cells_are_rows_times_seeds() {
    let sweep = methods(
        "batch-size = 64\n[[methods]]\nmethod = \"fp32\"\n[[methods]]\nmethod = \"s3\"\nbits = [2, 3]\n\
         latent-inits = [\"dense\", \"normal\"]\nsettings = { latent-lr = 30 }\n\
         [[methods]]\nmethod = \"s3\"\nlabel = \"As published\"\nsettings = { latent-lr = 1 }",
    )
    .unwrap();
    assert_eq!(sweep.out, Path::new("runs/mine"));
    let rows: Vec<_> = sweep.rows.iter().map(|r| (&*r.title, &*r.name)).collect();
    assert_eq!(
        rows,
        [
            ("fp32", "fp32-resnet8"),
            ("s3 2-bit", "s3-2bit-resnet8"),
            ("s3 2-bit, normal", "s3-2bit-normal-resnet8"),
            ("s3 3-bit", "s3-3bit-resnet8"),
            ("s3 3-bit, normal", "s3-3bit-normal-resnet8"),
            ("As published, 3-bit", "as-published-3bit-resnet8"),
        ]
    );
    assert_eq!(sweep.cells.len(), 12);
    // Every row has its first seed before any has its second.
    let cells: Vec<_> = sweep.cells.iter().map(|c| (c.row, c.config.seed)).collect();
    assert_eq!(cells[..3], [(0, 1), (1, 1), (2, 1)]);
    assert_eq!(cells[6..8], [(0, 2), (1, 2)]);
    assert_eq!(sweep.cells[7].name, "s3-2bit-resnet8-seed2");
    let c = &sweep.cells[2].config;
    assert_eq!((c.bits, c.latent_init, c.latent_lr, c.epochs, c.batch_size), (2, LatentInit::Normal, 30.0, 2, 64));
    assert_eq!((sweep.cells[0].config.bits, sweep.cells[5].config.latent_lr), (0, 1.0));

    let (common, own) = sweep.settings();
    assert_eq!((common["epochs"].as_integer(), common["lr"].as_float()), (Some(2), Some(0.1)));
    assert!(AXES.iter().all(|(key, _)| !common.contains_key(*key)));
    assert!(own[0].is_empty(), "fp32 has no latents whose rate could differ");
    assert_eq!(common["latent-lr"].as_float(), Some(30.0), "four rows of five");
    assert!(own[1].is_empty());
    assert_eq!(own[5].to_string().trim(), "latent-lr = 1.0");
}

#[test]
fn a_name_stays_when_an_axis_grows() {
    let few = methods("[[methods]]\nmethod = \"s3\"").unwrap();
    let more = "[[methods]]\nmethod = \"fp32\"\n[[methods]]\nmethod = \"s3\"\nbits = [2, 3]\nlatent-inits = [\"normal\", \"dense\"]";
    let more = methods(more).unwrap();
    assert!(few.cells.iter().all(|cell| more.cells.iter().any(|m| m.name == cell.name && m.config == cell.config)));
}

#[test]
fn layers_above_the_file_win() {
    let text = format!("{HEAD}[[methods]]\nmethod = \"s3\"\nsettings = {{ lr = 0.2 }}");
    let set = |words: &[&str]| Layer::set(&words.iter().map(|w| w.to_string()).collect::<Vec<_>>()).unwrap();
    let sweep = Sweep::parse(&text, Path::new("m.toml"), &[set(&["lr=0.3", "epochs=1"])]).unwrap();
    assert_eq!((sweep.cells[0].config.lr, sweep.cells[0].config.epochs), (0.3, 1));
    let seed = Sweep::parse(&text, Path::new("m.toml"), &[set(&["seed=3"])]);
    refused(seed, &["`seed` is varied", "--set", "seeds = ["]);
}

#[test]
fn what_is_no_sweep_is_refused() {
    let file = "from file some/mine.toml";
    let s3 = "[[methods]]\nmethod = \"s3\"\n";
    refused(parse("models = ["), &["file some/mine.toml is no TOML", "--help"]);
    refused(parse(&format!("sedes = [1]\n{HEAD}")), &["unknown key `sedes`", file, "did you mean `seeds`?"]);
    refused(methods("[[methods]]\nmethod = \"s3\"\nbit = [2]"), &["unknown key `bit`", "did you mean `bits`?"]);
    refused(methods(&format!("epoch = 2\n{s3}")), &["unknown key `epoch`", "did you mean `epochs`?"]);
    refused(methods(&format!("{s3}settings = {{ latent-rl = 3 }}")), &["unknown key `latent-rl`", "latent-lr"]);
    refused(methods(&format!("{s3}bits = 3")), &["no sweep", "bits = 3", "sequence"]);
    refused(methods("[[methods]]\nbits = [3]"), &["no sweep", "missing field `method`"]);
    for (missing, rest) in [("models", "seeds = [1]\n"), ("seeds", "models = [\"resnet8\"]\n")] {
        refused(parse(&format!("{rest}{s3}")), &[&format!("`{missing}` names nothing"), file]);
        refused(parse(&format!("{missing} = []\n{rest}{s3}")), &[&format!("`{missing}` names nothing"), file]);
    }
    refused(methods(""), &["`methods` names nothing", "[[methods]]"]);
    refused(methods(&format!("{s3}bits = []")), &["`bits` names nothing"]);
    refused(methods(&format!("{s3}latent-inits = []")), &["`latent-inits` names nothing"]);
    refused(methods(&format!("{s3}latent-inits = [\"sparse\"]")), &["no sweep", "sparse", "dense"]);
    refused(methods(&format!("{s3}label = \"…\"")), &["label", "letters or digits"]);
    for key in ["seed = 1", "model = \"resnet8\"", "bits = 3", "method = \"s3\"", "latent-init = \"dense\""] {
        let name = key.split(' ').next().unwrap();
        refused(methods(&format!("{key}\n{s3}")), &[&format!("`{name}` is varied by the sweep"), file]);
        refused(methods(&format!("{s3}settings = {{ {key} }}")), &[&format!("`{name}` is varied by the sweep"), file]);
    }
}

#[test]
fn cells_that_cannot_be_are_named() {
    let file = "from file some/mine.toml";
    refused(methods("[[methods]]\nmethod = \"s9\""), &["s9, resnet8: unknown method `s9`", file, "known methods"]);
    refused(methods("[[methods]]\nmethod = \"s3\"\nbits = [3, 7]"), &["s3, resnet8: s3 has no 7-bit form", file]);
    refused(methods("[[methods]]\nmethod = \"fp32\"\nbits = [3]"), &["fp32", "no bit width"]);
    refused(methods("[[methods]]\nmethod = \"s3\"\nsettings = { lr = -1 }"), &["--lr is -1", file]);
    refused(methods("[[methods]]\nmethod = \"inq\""), &["inq, resnet8: --method inq quantizes", "--init"]);
    let lost = "[[methods]]\nmethod = \"inq\"\nsettings = { init = \"gone/{seed}.safetensors\", epochs = 4 }";
    let e = methods(lost).unwrap_err();
    assert!(["gone/1.safetensors", "for inq, resnet8"].iter().all(|w| e.to_string().contains(w)), "{e}");
    let text = format!("{HEAD}[[methods]]\nmethod = \"s3\"").replace("resnet8", "resnet9");
    refused(parse(&text), &["unknown model `resnet9`", file]);
    let text = format!("{HEAD}[[methods]]\nmethod = \"s3\"").replace("shapes", "shape");
    refused(parse(&text), &["unknown data set `shape`", "did you mean `shapes`?"]);
    let text = format!("recipe = \"publishd\"\n{HEAD}[[methods]]\nmethod = \"s3\"");
    refused(parse(&text), &["publishd", "did you mean `published`?"]);
}

#[test]
fn cells_that_are_the_same_are_refused() {
    let s3 = "[[methods]]\nmethod = \"s3\"\n";
    refused(methods(&format!("{s3}{s3}")), &["`s3-3bit-resnet8` is twice in the sweep", "leave one"]);
    refused(methods(&format!("{s3}bits = [3, 3]")), &["`s3-3bit-resnet8` is twice in the sweep"]);
    let labelled = format!("{s3}{s3}label = \"other\"");
    refused(methods(&labelled), &["`s3-3bit-resnet8` and `other-3bit-resnet8` are the same configuration"]);
    refused(methods(&format!("{s3}{s3}settings = {{ lr = 1 }}")), &["two different", "`s3-3bit-resnet8`", "label"]);
    let seeds = format!("{HEAD}{s3}").replace("[1, 2]", "[1, 2, 1]");
    refused(parse(&seeds), &["`seeds` has 1 twice"]);
}
