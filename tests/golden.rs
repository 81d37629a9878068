//! Numbers from an independent float64 program (PyTorch): every method's composition and its backward, and whole training steps of
//! ResNet-8 through the command line.
//!
//! The files are in tests/fixtures/golden. `S3GPU_GOLDEN=DIR cargo test --release --test golden` also runs every case of another folder of
//! the same layout: `compose/*.safetensors`, `train/CASE/` and `cifar10-512/cifar-10-batches-bin/`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

use s3gpu::data::{Manifest, Splits, load};
use s3gpu::files::tensors::{Tensor, TensorFile, read};
use s3gpu::gpu::{self, Gpu};
use s3gpu::graph::{Executor, Graph, Lowered, Options, Role, Shape, Step, Vars, lower};
use s3gpu::kernels::AnyKernel;
use s3gpu::kernels::conv::{Family, Rung, rungs};
use s3gpu::methods::{LatentInit, MethodSpec};
use s3gpu::model::{Shortcut, Values};
use s3gpu::train::Config;
use s3gpu::train::engine::Engine;
use s3gpu::train::setup::Setup;

/// The repository's own files, and the folder that `S3GPU_GOLDEN` names.
fn roots() -> Vec<PathBuf> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/golden");
    [Some(own), std::env::var_os("S3GPU_GOLDEN").map(PathBuf::from)].into_iter().flatten().collect()
}

/// The entries of a root's folder that start with one of `prefixes`, in order; none is an error.
fn entries(root: &Path, folder: &str, prefixes: &[&str]) -> Vec<PathBuf> {
    let folder = root.join(folder);
    let listed = std::fs::read_dir(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
    let mut found: Vec<_> = listed.map(|e| e.expect("an entry").path()).collect();
    found.retain(|p| prefixes.iter().any(|f| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(f))));
    assert!(!found.is_empty(), "{} holds no case", folder.display());
    found.sort();
    found
}

fn open() -> Gpu {
    gpu::open(None).expect("the tests need an adapter: run `make setup`")
}

fn tensors(path: &Path) -> TensorFile {
    read(path).unwrap_or_else(|e| panic!("{e}"))
}

/// [Cout, Cin, kh, kw] to [kh, kw, Cin, Cout], as bits.
fn to_slab([cout, cin, taps]: [usize; 3], values: &[f32]) -> Vec<u32> {
    let mut slab = Vec::new();
    for (tap, i, o) in (0..taps).flat_map(|t| (0..cin).flat_map(move |i| (0..cout).map(move |o| (t, i, o)))) {
        slab.push(values[(o * cin + i) * taps + tap].to_bits());
    }
    slab
}

/// One convolution of a method on a device, with what a step needs around it.
struct OneLayer {
    graph: Graph,
    lowered: Lowered,
    exec: Executor,
}

/// Sections of a plan.
const TRAIN: usize = 0;
const COMPOSE: usize = 1;

impl OneLayer {
    fn new(gpu: Gpu, method: MethodSpec, [cout, cin, k]: [u32; 3], alpha: f32) -> s3gpu::Result<Self> {
        let mut graph = Graph::new(Shape { h: 4, w: 4, c: cin });
        let x = graph.conv("conv", 0, cout, [k, 1, k / 2], method)?;
        let x = graph.batch_norm("bn", x)?;
        let x = graph.global_avg_pool("pool", x);
        graph.linear("fc", x, 2)?;
        let one = vec![1.0; cin as usize];
        let options =
            Options { batch: 1, mean: one.clone(), std: one, alpha, keep_gradients: true, ..Options::default() };
        let mut lowered = lower(&graph, &options.on(&gpu))?;
        let exec = Executor::new(gpu, lowered.plan(), 1)?;
        Ok(Self { graph, lowered, exec })
    }

    /// Writes latents and flags, and composes.
    fn compose(&mut self, latents: BTreeMap<String, Tensor>, freeze: bool) -> s3gpu::Result<()> {
        let layout = &self.lowered.layout;
        let mut values = Values::init(&self.graph, layout, LatentInit::Normal, 0);
        values.0.extend(latents);
        if freeze {
            values.freeze(&self.graph, layout, 1.0);
        }
        let params = layout.groups[0].params as usize;
        self.exec.write(self.lowered.groups[0].params, &values.slab(layout, Role::Param, 0, params));
        self.exec.write(self.lowered.state, &values.slab(layout, Role::State, 0, layout.state as usize));
        self.exec.submit(COMPOSE, &Vars { n: 1, ..Vars::default() });
        Ok(())
    }

    /// Latent gradients from dL/dW.
    fn backward(&mut self, upstream: &[u32]) -> s3gpu::Result<Values> {
        let group = self.lowered.groups[0];
        self.exec.write(group.dweight, upstream);
        let latents = |s: &Step| s.label == "latents" && s.kernel.name().ends_with("_backward");
        let step = self.exec.plan.sections[TRAIN].iter().position(latents).expect("a method's backward");
        self.exec.submit_step(TRAIN, step, 1, &Vars { n: 1, ..Vars::default() });
        self.params(group.grads)
    }

    /// A slab laid out as the parameters.
    fn params(&self, slab: usize) -> s3gpu::Result<Values> {
        let mut values = Values::default();
        values.take(&self.lowered.layout, Role::Param, 0, &self.exec.read(slab)?, "");
        Ok(values)
    }
}

fn composition(gpu: Gpu, path: &Path) -> s3gpu::Result<()> {
    let file = tensors(path);
    let name = |what: &str| format!("{}: {what}", path.display());
    let bits: u32 = file.meta["bits"].parse().expect("bits");
    let alpha: f32 = file.meta["alpha"].parse().expect("alpha");
    let method = MethodSpec::find(&file.meta["method"], Some(bits))?;
    let shape = &file.tensors["composed"].shape;
    let dims = [shape[0], shape[1], shape[2] * shape[3]];
    // Multiples of 4, so that the padded weight is the weight.
    assert!(shape[0].is_multiple_of(4) && shape[1].is_multiple_of(4));
    let slab = |name: &str| to_slab(dims, &file.tensors[name].data);
    let mut layer = OneLayer::new(gpu, method, [shape[0], shape[1], shape[2]].map(|d| d as u32), alpha)?;

    let of = |prefix: &str| {
        let own = file.tensors.iter().filter_map(|(k, v)| Some((k.strip_prefix(prefix)?.to_string(), v.clone())));
        own.map(|(k, v)| (format!("conv.{k}"), v)).collect::<BTreeMap<_, _>>()
    };
    let frozen = !method.method.portions().is_empty();
    layer.compose(of("latent."), frozen)?;
    let group = layer.lowered.groups[0];
    let (weight, weight_t) = (layer.exec.read(group.weight)?, layer.exec.read(group.weight_t)?);
    // Powers of two are exact; what has a mean in it is not.
    let exact = method.method.scale().is_none();
    for (i, want) in slab("composed").into_iter().map(f32::from_bits).enumerate() {
        let (tap, ci, co) = (i / dims[0] / dims[1], i / dims[0] % dims[1], i % dims[0]);
        let transposed = (tap * dims[0] + co) * dims[1] + ci;
        let most = if exact { 0.0 } else { 1e-6 * want.abs() };
        for got in [weight[i], weight_t[transposed]].map(f32::from_bits) {
            assert!((got - want).abs() <= most, "{}", name(&format!("W[{i}] is {got:e}, not {want:e}")));
        }
    }
    let after = layer.params(group.params)?;
    for (latent, want) in of("latent_after.").iter().filter(|_| !frozen) {
        assert_eq!(after.0[latent].data, want.data, "{}", name(latent));
    }
    if frozen {
        return Ok(()); // all of its weights are, and none has a gradient
    }
    let got = layer.backward(&slab("upstream"))?;
    for (latent, want) in of("grad.") {
        for (i, (got, want)) in got.0[&latent].data.iter().zip(&want.data).enumerate() {
            let (got, want) = (f64::from(*got), f64::from(*want));
            // A few roundings of 6e-8 each; a zero leaves no room at all.
            assert!(
                (got - want).abs() <= 1e-6 * want.abs(),
                "{}",
                name(&format!("{latent}[{i}]: {got:e}, not {want:e}"))
            );
        }
    }
    Ok(())
}

#[test]
fn composition_and_its_backward_agree() {
    let paths: Vec<_> = roots().iter().flat_map(|r| entries(r, "compose", &[""])).collect();
    assert!(paths.len() >= 9, "nine methods and widths");
    for path in paths {
        composition(open(), &path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    }
}

/// A case's trajectory.json.
#[derive(serde::Deserialize)]
struct Trajectory {
    model: String,
    method: String,
    bits: u32,
    shortcut: Shortcut,
    batch: u32,
    steps: usize,
    lr: f32,
    momentum: f32,
    weight_decay: f32,
    dense_reg: f32,
    mean: Vec<f32>,
    std: Vec<f32>,
    log: Vec<Expected>,
}

/// One step of it; `tolerance` is relative and comes with the reference: what plain float32 loses, and then some.
#[derive(serde::Deserialize)]
struct Expected {
    loss: f64,
    regularizer: f64,
    correct: u64,
    tolerance: f64,
}

struct Case {
    folder: PathBuf,
    data: PathBuf,
    t: Trajectory,
}

fn cases() -> Vec<Case> {
    let of = |root: &PathBuf| {
        let data = root.join("cifar10-512/cifar-10-batches-bin");
        let case = move |folder: PathBuf| {
            let text = std::fs::read_to_string(folder.join("trajectory.json")).expect("trajectory.json");
            let t = serde_json::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
            Case { folder, data: data.clone(), t }
        };
        entries(root, "train", &[""]).into_iter().map(case)
    };
    roots().iter().flat_map(of).collect()
}

impl Case {
    fn name(&self) -> String {
        self.folder.display().to_string()
    }

    fn tensors(&self, name: &str) -> TensorFile {
        tensors(&self.folder.join(name))
    }

    /// Runs `s3gpu train` for some steps, these rungs first, and hands over the run's folder.
    fn train(&self, steps: usize, rungs: &[&str]) -> tempfile::TempDir {
        let out = tempfile::tempdir().expect("a temporary folder");
        let t = &self.t;
        let mut command = Command::new(env!("CARGO_BIN_EXE_s3gpu"));
        command.args([
            "train",
            "--recipe",
            "published",
            "--optimizer",
            "sgd",
            "--dataset",
            "cifar10",
            "--no-augment",
            "--no-shuffle",
            "--schedule",
            "constant",
            "--log-every",
            "1",
        ]);
        command.arg("--data-dir").arg(&self.data).arg("--init").arg(self.folder.join("init.safetensors"));
        command.arg("--out").arg(out.path());
        let settings = [
            ("--model", t.model.clone()),
            ("--method", t.method.clone()),
            ("--shortcut", t.shortcut.name().into()),
            ("--batch-size", t.batch.to_string()),
            ("--steps", steps.to_string()),
            ("--lr", t.lr.to_string()),
            ("--momentum", t.momentum.to_string()),
            ("--weight-decay", t.weight_decay.to_string()),
            ("--dense-reg", t.dense_reg.to_string()),
        ];
        command.args(settings.iter().flat_map(|(flag, value)| [*flag, value.as_str()]));
        command.args(rungs.iter().flat_map(|r| ["--rung", r]));
        if t.bits != 0 {
            command.args(["--bits", &t.bits.to_string()]);
        }
        let done = command.output().expect("s3gpu starts");
        assert!(done.status.success(), "{}: {}", self.name(), String::from_utf8_lossy(&done.stderr));
        out
    }
}

/// A run's records of its steps.
fn train_records(out: &tempfile::TempDir) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(out.path().join("metrics.jsonl")).expect("metrics.jsonl");
    let records = text.lines().map(|l| serde_json::from_str::<serde_json::Value>(l).expect("a line of JSON"));
    records.filter(|r| r["kind"] == "train").collect()
}

#[test]
fn losses_agree_at_every_step() {
    for case in cases() {
        let out = case.train(case.t.steps, &[]);
        let steps = train_records(&out);
        assert_eq!((steps.len(), case.t.log.len()), (case.t.steps, case.t.steps), "{}: steps", case.name());
        for (i, (got, want)) in steps.iter().zip(&case.t.log).enumerate() {
            for (key, want, tolerance) in
                [("loss", want.loss, want.tolerance), ("regularizer", want.regularizer, want.tolerance)]
            {
                let value = got[key].as_f64().expect("a number");
                let off = (value - want).abs();
                assert!(
                    off <= tolerance * want,
                    "{}, step {i}: {key} {value}, not {want}, off by {off:e}",
                    case.name()
                );
            }
            assert_eq!(
                (got["step"].as_u64(), got["count"].as_u64()),
                (Some(i as u64), Some(case.t.batch.into())),
                "{}",
                case.name()
            );
            // Later an image on the edge may fall to either side.
            if i == 0 {
                assert_eq!(got["correct"].as_u64(), Some(want.correct), "{}: right answers at step 0", case.name());
            }
        }
    }
}

/// A single ReLU on the other side of zero moves a tensor by some 1e-3 of its norm, as plain float32 PyTorch shows.
const PER_TENSOR: f64 = 1e-2;
/// Running statistics come from the forward pass, which such a ReLU does not move: float32 leaves some 1e-6. The biased variance in
/// place of the unbiased one would move those of 4,096 values by 2.4e-4.
const RUNNING: f64 = 3e-5;

/// Holds every tensor of `want` against `got`, both counted from `base`: ‖got − want‖ ≤ tolerance · ‖want − base‖, so that what
/// must not move may not move at all. Returns the largest shares: of parameters, of running statistics.
fn hold(name: &str, want: &TensorFile, got: &Values, base: Option<&TensorFile>) -> [f64; 2] {
    assert!(!want.tensors.is_empty(), "{name}: nothing to hold");
    let mut worst = [0.0f64; 2];
    for (tensor, want) in &want.tensors {
        let got = got.0.get(tensor).unwrap_or_else(|| panic!("{name}: no {tensor}"));
        assert_eq!(got.shape, want.shape, "{name}: shape of {tensor}");
        let base = base.map_or(vec![0.0; want.data.len()], |b| b.tensors[tensor].data.clone());
        let distance = |a: &[f32], b: &[f32]| {
            a.iter().zip(b).map(|(a, b)| (f64::from(*a) - f64::from(*b)).powi(2)).sum::<f64>().sqrt()
        };
        let (off, scale) = (distance(&got.data, &want.data), distance(&want.data, &base));
        let running = tensor.contains(".running_");
        let tolerance = if running { RUNNING } else { PER_TENSOR };
        assert!(off <= tolerance * scale, "{name}: {tensor} is off by {off:e}, its norm is {scale:e}");
        let worst = &mut worst[usize::from(running)];
        *worst = worst.max(if scale > 0.0 { off / scale } else { 0.0 });
    }
    worst
}

#[test]
fn one_step_moves_every_tensor_as_it_should() {
    for case in cases() {
        let out = case.train(1, &[]);
        let (init, want) = (case.tensors("init.safetensors"), case.tensors("after_step0.safetensors"));
        let running = want.tensors.keys().filter(|k| k.ends_with("running_var")).count();
        assert!(running > 0, "{}: the reference holds running statistics", case.name());
        let got = Values(tensors(&out.path().join("last.safetensors")).tensors);
        let [parameters, running] = hold(&case.name(), &want, &got, Some(&init));
        println!("{}: updates within {parameters:.1e}, running statistics within {running:.1e}", case.name());
    }
}

/// Every case with every rung forced in turn, the other families at their defaults. Slow adapters do the first case, and all with
/// `S3GPU_GOLDEN`.
#[test]
fn every_rung_takes_the_same_steps() {
    let gpu = open();
    let (subgroups, fast) = (gpu.subgroup.is_some(), !gpu.info.name.contains("SwiftShader"));
    let all = Family::ALL.into_iter().flat_map(rungs).filter(|r| subgroups || !r.subgroups);
    let all: Vec<_> = all.collect();
    let mut cases = cases();
    if roots().len() == 1 {
        // The others differ in their composition alone.
        cases.retain(|c| ["fp32", "s3"].contains(&&*c.t.method));
        cases.truncate(if fast { 2 } else { 1 });
    }
    // Plain weights have no byte form.
    let takes = |case: &Case, r: &Rung| !r.packed || case.t.method != "fp32";
    let pairs = cases.iter().flat_map(|case| all.iter().filter(move |r| takes(case, r)).map(move |r| (case, r)));
    for (case, rung) in pairs.map(|(case, r)| (case, AnyKernel::name(**r))) {
        // A step of a naive one takes as long as all of the others', and one on SwiftShader as several on lavapipe.
        let steps = if fast && !rung.ends_with("_naive") { case.t.steps.min(3) } else { 1 };
        let name = format!("{}, {rung}", case.name());
        let out = case.train(steps, &[rung]);
        let last = tensors(&out.path().join("last.safetensors"));
        assert!(last.meta["progress"].contains(rung), "{name}: no layer took it: {}", last.meta["progress"]);
        let records = train_records(&out);
        assert_eq!(records.len(), steps, "{name}: steps");
        for (step, (got, want)) in records.iter().zip(&case.t.log).enumerate() {
            let got = got["loss"].as_f64().expect("a number");
            let off = (got - want.loss).abs();
            assert!(off <= want.tolerance * want.loss, "{name}, step {step}: {got}, not {}, off by {off:e}", want.loss);
        }
        if steps == 1 {
            let [init, want] = ["init.safetensors", "after_step0.safetensors"].map(|f| case.tensors(f));
            hold(&name, &want, &Values(last.tensors), Some(&init));
        }
    }
}

#[test]
fn gradients_agree_at_step_0() {
    let cases: Vec<_> = cases().into_iter().filter(|c| c.folder.join("grads_step0.safetensors").exists()).collect();
    assert!(!cases.is_empty(), "no case has gradients");
    for case in cases {
        let t = &case.t;
        let setup = Setup::new(Config {
            dataset: "cifar10".into(),
            model: t.model.clone(),
            method: t.method.clone(),
            bits: t.bits,
            shortcut: t.shortcut,
            batch_size: t.batch,
            dense_reg: t.dense_reg,
            weight_decay: t.weight_decay,
            augment: false,
            mean: t.mean.clone(),
            std: t.std.clone(),
            ..Config::default()
        });
        let setup = setup.unwrap_or_else(|e| panic!("{e}"));
        let manifest = Manifest::find("cifar10").expect("built in");
        let data =
            load(&manifest, Some(&case.data), Splits { train: true, test: false }).unwrap_or_else(|e| panic!("{e}"));
        let train = data.train.expect("asked for");
        let options = Options { keep_gradients: true, ..setup.options(Default::default()) };
        let mut engine = Engine::new(open(), &setup.graph, &options).unwrap_or_else(|e| panic!("{e}"));
        let init = case.folder.join("init.safetensors");
        let values = Values::from_file(&setup.graph, &engine.layout, &tensors(&init), &init);
        engine.load(&values.unwrap_or_else(|e| panic!("{e}")));
        let indices: Vec<u32> = (0..t.batch).collect();
        engine.step(&train, &indices, 0, t.lr).unwrap_or_else(|e| panic!("{e}"));
        let got = engine.gradients().unwrap_or_else(|e| panic!("{e}"));
        let want = case.tensors("grads_step0.safetensors");
        assert_eq!(want.tensors.len(), got.0.len(), "{}: gradients", case.name());
        println!("{}: gradients within {:.1e}", case.name(), hold(&case.name(), &want, &got, None)[0]);
    }
}
