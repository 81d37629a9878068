//! Numbers from an independent float64 program (PyTorch): S3's composition kernel by kernel, and whole training steps of ResNet-8
//! through the command line.
//!
//! The files are in tests/fixtures/golden. `S3GPU_GOLDEN=DIR cargo test --release --test golden` also runs every fp32 and S3 case of
//! another folder of the same layout: `compose/s3-*.safetensors`, `train/CASE/` and `cifar10-512/cifar-10-batches-bin/`.

use std::path::{Path, PathBuf};
use std::process::Command;

use s3gpu::data::{Manifest, Splits, load};
use s3gpu::files::tensors::{TensorFile, read};
use s3gpu::gpu::{self, Gpu, Pipelines, Single, download};
use s3gpu::graph::Options;
use s3gpu::kernels::AnyKernel;
use s3gpu::kernels::check::UNTOUCHED;
use s3gpu::kernels::compose::s3::{S3Backward, S3Compose, S3Params};
use s3gpu::kernels::compose::{Segment, table};
use s3gpu::kernels::conv::{Family, Rung, rungs};
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

/// One dispatch: the words of all its buffers afterwards.
fn dispatch(gpu: &Gpu, kernel: &dyn AnyKernel, params: S3Params, buffers: &[Vec<u32>]) -> Vec<Vec<u32>> {
    let single = Single::new(gpu, &mut Pipelines::default(), kernel, bytemuck::bytes_of(&params), buffers);
    let single = single.unwrap_or_else(|e| panic!("{e}"));
    single.submit(gpu, 1);
    let back = single.buffers.iter().zip(buffers).map(|(b, words)| download(gpu, b, words.len()));
    back.collect::<Result<_, _>>().unwrap_or_else(|e| panic!("{e}"))
}

/// [Cout, Cin, kh, kw] to [kh, kw, Cin, Cout], as bits.
fn to_slab([cout, cin, taps]: [usize; 3], values: &[f32]) -> Vec<u32> {
    let mut slab = Vec::new();
    for (tap, i, o) in (0..taps).flat_map(|t| (0..cin).flat_map(move |i| (0..cout).map(move |o| (t, i, o)))) {
        slab.push(values[(o * cin + i) * taps + tap].to_bits());
    }
    slab
}

#[test]
fn composition_and_its_backward_agree() {
    let gpu = open();
    for path in roots().iter().flat_map(|r| entries(r, "compose", &["s3-"])) {
        let file = tensors(&path);
        let bits: u32 = file.meta["bits"].parse().expect("bits");
        let alpha: f32 = file.meta["alpha"].parse().expect("alpha");
        let shifts = (1 << (bits - 1)) - 2;
        let names: Vec<String> =
            ["sign".into(), "sparse".into()].into_iter().chain((1..=shifts).map(|t| format!("shift{t}"))).collect();
        let shape = &file.tensors["composed"].shape;
        let dims = [shape[0], shape[1], shape[2] * shape[3]];
        let [cout, cin, taps] = dims.map(|d| d as u32);
        // Multiples of 4, so that the padded weight is the weight.
        assert!(cout % 4 == 0 && cin % 4 == 0);
        let slab = |name: &str| to_slab(dims, &file.tensors[name].data);

        let count = dims.iter().product::<usize>();
        let (segments, groups) =
            table(&[Segment { base: 0, stride: count as u32, cin, cout, taps, w: 0, plain: false }]);
        let params = S3Params { groups, shifts, alpha };
        let latents: Vec<u32> = names.iter().flat_map(|n| slab(&format!("latent.{n}"))).collect();
        let out = || vec![UNTOUCHED; count];

        let after = dispatch(&gpu, &S3Compose, params, &[segments.clone(), latents.clone(), out(), out()]);
        let want: Vec<f32> = slab("composed").into_iter().map(f32::from_bits).collect();
        for (i, want) in want.iter().enumerate() {
            let (tap, ci, co) = (i / dims[0] / dims[1], i / dims[0] % dims[1], i % dims[0]);
            let transposed = (tap * dims[0] + co) * dims[1] + ci;
            let got = [after[2][i], after[3][transposed]].map(f32::from_bits);
            assert_eq!(got, [*want; 2], "{}: W[{i}] and W transposed", path.display());
        }

        let grads = vec![UNTOUCHED; latents.len()];
        let after = dispatch(&gpu, &S3Backward, params, &[segments, latents, slab("upstream"), grads]);
        for (name, got) in names.iter().zip(after[3].chunks_exact(count)) {
            for (i, (got, want)) in got.iter().zip(slab(&format!("grad.{name}"))).enumerate() {
                let (got, want) = (f64::from(f32::from_bits(*got)), f64::from(f32::from_bits(want)));
                // Three roundings of 6e-8 each; a zero leaves no room at all.
                assert!(
                    (got - want).abs() <= 1e-6 * want.abs(),
                    "{} {name}[{i}]: {got:e}, not {want:e}",
                    path.display()
                );
            }
        }
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
        entries(root, "train", &["fp32-", "s3-"]).into_iter().map(case)
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
    if !fast && roots().len() == 1 {
        cases.truncate(1);
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
