mod common;
use common::*;
use s3gpu::graph::*;
use s3gpu::model::{Arch, Shortcut, resnet::ModelOptions};
use s3gpu::train::Engine;
#[test]
fn debug() {
    let input = Shape { h: 32, w: 32, c: 3 };
    let graph = Arch::find("resnet8").unwrap().build(&ModelOptions { input, classes: 10, method: FP32, shortcut: Shortcut::Pad, width: 1 }).unwrap();
    let on = Options { smoothing: 0.1, decay: 0.01, alpha: 0.01, nesterov: true, latent_rate: 3.0, pad: 4, flip: true, ..options(4) };
    let mut e = Engine::new(s3gpu::gpu::open(None).unwrap(), &graph, &on).unwrap();
    let fresh = lower(&graph, &on).unwrap();
    e.load(&lively(&graph, &fresh, 21));
    let r = records(input, 10, 7);
    // rate irrelevant: inputs of the step
    e.step(&r, &[0, 1, 2, 3], 0, 0.1).unwrap();
    e.figures().unwrap();
    // rerun step by step up to 51
    e.load(&lively(&graph, &fresh, 21));
    let vars = Vars { n: 4, rate: 0.1, ..Vars::default() };
    for i in 0..51 { e.exec.submit_step(TRAIN, i, 1, &vars); }
    let args = e.exec.plan.sections[TRAIN][51].args.clone();
    println!("{} {}", e.exec.plan.sections[TRAIN][51].kernel.name(), e.exec.plan.sections[TRAIN][51].label);
    let f = |a: usize| e.exec.read(a).unwrap().iter().map(|w| f32::from_bits(*w)).collect::<Vec<_>>();
    let (x, dy, st) = (f(args[0]), f(args[1]), f(args[2]));
    let idx = 169; let tile = idx / 128; let k = idx % 128 - 64; let c = 64;
    println!("tile {tile} k {k} mean {} inv {}", st[k], st[c + k]);
    let (mut d32, mut d64, mut m, mut nofma) = (0f32, 0f64, 0f64, 0f32);
    for p in tile * 128..(tile + 1) * 128 {
        let (g, v) = (dy[p * c + k], x[p * c + k]);
        d32 = g.mul_add(v - st[k], d32);
        nofma += g * (v - st[k]);
        let t = g as f64 * (v as f64 - st[k] as f64);
        d64 += t; m += t.abs();
        if p % 8 == 0 { println!("{p} x {v:e} dy {g:e} sum {d64:e} d32 {:e}", f64::from(d32) - d64); }
    }
    println!("{:e} {:e} {:e} mag {:e}", d32 * st[c + k], nofma * st[c + k], d64 * f64::from(st[c + k]), m * f64::from(st[c + k]));
}
