//! Kernels that do nothing but reach an adapter's ceilings, which the benches hold all others against.

use super::act::ElementwiseParams;
use super::{Case, Fill, Tolerance, groups_for, read, write};

/// Chains of multiply-adds on vec4 in an invocation: enough to hide their latency, few enough for registers.
const CHAINS: u32 = 3;
/// Steps of each chain in a round.
const STEPS: u32 = 8;

crate::params! {
    /// Work of [`MultiplyAdd`].
    pub struct MultiplyAddParams {
        /// Invocations, with a vec4 each.
        len4: u32,
        /// Rounds of 8 steps.
        rounds: u32,
        /// Factor.
        a: f32,
        /// Summand.
        b: f32,
    }
}

crate::kernel! {
    /// y = x. Four vec4 an invocation, 64 apart, were half as fast on lavapipe.
    pub Copy(p: ElementwiseParams) {
        source: crate::wgsl!("bench/copy"; "grid"),
        bindings: [read("x"), write("y")],
        consts: [],
        groups: groups_for(p.len4.into()),
        lens: [4 * p.len4, 4 * p.len4],
        tolerance: Tolerance::Exact,
        cost: (0, 8 * u64::from(p.len4)),
        cases: [0, 1, 63, 64, 65, 1000].map(|len4| {
            Case::new(format!("{len4} vec4"), ElementwiseParams { len4 }, vec![Fill::Normal(1.0), Fill::Out])
        }).to_vec(),
        twin(args): {
            let (x, mut y) = (args.f(0), args.out(1));
            for i in 0..4 * p.len4 as usize {
                y.exact(i, x[i]);
            }
        }
    }
}

crate::kernel! {
    /// y = Σ over chains k of c ← a c + b, 8 · rounds times over from x + k.
    pub MultiplyAdd(p: MultiplyAddParams) {
        source: crate::wgsl!("bench/multiply_add"; "grid"),
        bindings: [read("x"), write("y")],
        consts: [("CHAINS", CHAINS)],
        groups: groups_for(p.len4.into()),
        lens: [4 * p.len4, 4 * p.len4],
        // An adapter may round product and sum apart; a |a| < 1 keeps each step's error from growing.
        tolerance: Tolerance::Budget { c: 2.0, terms: u64::from(STEPS * p.rounds) },
        cost: (2.0 * 4.0 * f64::from(CHAINS * STEPS) * f64::from(p.len4) * f64::from(p.rounds), 8 * u64::from(p.len4)),
        cases: [(0, 1, 0.5), (1, 0, 0.5), (63, 1, -0.75), (64, 2, 0.9), (65, 5, 0.5), (1000, 3, 0.25)].map(|(len4, rounds, a)| {
            let params = MultiplyAddParams { len4, rounds, a, b: 1.0 };
            Case::new(format!("{len4} vec4, {rounds} rounds, a {a}"), params, vec![Fill::Normal(1.0), Fill::Out])
        }).to_vec(),
        twin(args): {
            let (x, mut y) = (args.f(0), args.out(1));
            let (a, b) = (f64::from(p.a), f64::from(p.b));
            for i in 0..4 * p.len4 as usize {
                let (mut sum, mut mag) = (0.0, 0.0);
                for k in 0..CHAINS {
                    let (mut c, mut m) = (x[i] + f64::from(k), x[i].abs() + f64::from(k));
                    for _ in 0..STEPS * p.rounds {
                        (c, m) = (a * c + b, a.abs() * m + b.abs());
                    }
                    (sum, mag) = (sum + c, mag + m);
                }
                y.set(i, sum, mag);
            }
        }
    }
}
