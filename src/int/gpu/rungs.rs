//! Which rung computes a convolution: what the user wants, else what was measured, else the order below.

use std::collections::BTreeMap;

use super::code;
use crate::error::{Error, Result};
use crate::gpu::Gpu;
use crate::int::model::{Conv, Kind, Node, Weight};
use crate::kernels::AnyKernel;
use crate::kernels::int::conv::Prepared;
use crate::kernels::int::pack::{Weights, terms};
use crate::kernels::int::{
    CONV_DIGITS, CONV_DOT, CONV_PAIRS, CONV_PAIRS_SHIFT, CONV_SUBGROUP, CONV_SUBGROUP_SHIFT, IntConvParams, IntRung,
    RUNGS,
};

/// What may be chosen.
#[derive(Clone, Debug, Default)]
pub struct Choice {
    /// Rungs by name that come first where they fit.
    pub forced: Vec<String>,
    /// Only rungs that do not multiply.
    pub shift_only: bool,
    /// Rungs by the key of a layer's shape, the fastest first, as [`super::measure()`] finds them.
    pub measured: BTreeMap<String, Vec<&'static str>>,
    /// Seconds that `int_conv_code` may compile for, by its own estimate; [`COMPILE_BUDGET`] where there is none.
    pub compile_budget: Option<f64>,
}

/// Seconds that layers as code compile for, at most.
pub const COMPILE_BUDGET: f64 = 10.0;

/// What of an adapter the rungs ask for.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Adapter {
    /// Whether it is the processor.
    pub software: bool,
    /// Its subgroup size, where it is fixed; none for a plan that must run everywhere.
    pub subgroup: Option<u32>,
}

impl Adapter {
    pub fn of(gpu: &Gpu) -> Self {
        Self { software: gpu.is_software(), subgroup: gpu.subgroup }
    }
}

/// Every name that a rung may be asked for by.
pub(super) fn names() -> impl Iterator<Item = &'static str> {
    RUNGS.map(AnyKernel::name).into_iter().chain([code::NAME])
}

/// The rungs in the order in which they are taken where nothing was measured; the last fits all.
pub(super) fn builtin(software: bool) -> impl Iterator<Item = &'static IntRung> {
    // On a CPU the products of four are taken apart again; a GPU has an instruction for them.
    let first =
        if software { [&CONV_SUBGROUP, &CONV_PAIRS, &CONV_DOT] } else { [&CONV_DOT, &CONV_SUBGROUP, &CONV_PAIRS] };
    first.into_iter().chain([&CONV_SUBGROUP_SHIFT, &CONV_PAIRS_SHIFT, &CONV_DIGITS])
}

/// The rung of this name.
pub(super) fn named(name: &str) -> Option<&'static IntRung> {
    RUNGS.into_iter().find(|rung| AnyKernel::name(*rung) == name)
}

/// Whether the rung of this name multiplies.
pub fn multiplies(name: &str) -> bool {
    named(name).is_some_and(|rung| rung.multiplies)
}

impl Choice {
    /// Refuses names that are no rung's, and rungs that multiply where none may.
    ///
    /// # Errors
    /// [`Error::Usage`] with the names that there are.
    pub fn check(&self) -> Result<()> {
        for name in self.forced.iter().filter(|name| *name != code::NAME) {
            let Some(rung) = named(name) else {
                return Err(Error::usage(
                    format!("no integer convolution is called `{name}`"),
                    format!("there are: {}", names().collect::<Vec<_>>().join(", ")),
                ));
            };
            if self.shift_only && rung.multiplies {
                let what = format!("--rung {name} with --shift-only: it multiplies");
                return Err(Error::usage(what, "leave one of the two out"));
            }
        }
        Ok(())
    }

    /// The names of all rungs that may be taken, the wanted first.
    fn order(&self, key: &str, software: bool) -> impl Iterator<Item = &'static str> {
        let measured = self.measured.get(key).into_iter().flatten().copied();
        let wanted = self.forced.iter().filter_map(|name| names().find(|known| known == name)).chain(measured);
        let all = wanted.chain(builtin(software).map(AnyKernel::name));
        all.filter(move |name| !self.shift_only || !multiplies(name))
    }
}

/// What computes a layer.
pub(super) enum Pick {
    /// Code that takes about so many seconds to compile.
    Code(f64),
    /// A rung with its parameters and weights.
    Rung(&'static IntRung, IntConvParams, Prepared),
}

/// A convolution of a network, ready for any rung.
pub(super) struct Layer {
    pub weights: Weights,
    pub signed_x: bool,
    pub params: IntConvParams,
}

impl Layer {
    pub fn new(conv: &Conv, node: &Node, from: &Node, batch: u32, adapter: Adapter) -> Self {
        let values = match &conv.weight {
            Weight::Int8 { values } => values.iter().map(|v| i32::from(*v)).collect(),
            Weight::Shift { table, codes, .. } => {
                let size = |index: u8| table[usize::from(index)].map_or(0, |shift| 1 << shift);
                codes.iter().map(|c| if c.negative { -size(c.index) } else { size(c.index) }).collect()
            }
        };
        let taps = (conv.kernel * conv.kernel) as usize;
        let weights = Weights { values, cout: node.shape.c as usize, taps, cin: from.shape.c as usize };
        let signed_x = from.kind == Kind::I8;
        let params = IntConvParams {
            preshift: conv.preshift,
            terms: terms(&conv.multiplier),
            signed_x: signed_x.into(),
            signed_y: (node.kind == Kind::I8).into(),
            subgroup: adapter.subgroup.unwrap_or(0),
            ..IntConvParams::new(
                batch,
                [from.shape.h, from.shape.w, from.shape.c],
                node.shape.c,
                [conv.kernel, conv.stride, conv.pad],
            )
        };
        Self { weights, signed_x, params }
    }

    /// What its speed depends on beside the batch: shape, kinds and the weights' range.
    pub fn key(&self) -> String {
        let p = &self.params;
        let kind = |signed| if signed == 1 { "i8" } else { "u8" };
        let largest = self.weights.values.iter().map(|v| v.unsigned_abs()).max().unwrap_or(0);
        let (cin, cout) = (self.weights.cin, self.weights.cout);
        format!(
            "{}x{}x{cin} to {cout}, {}x{} stride {} pad {}, {} to {}, weights to {largest}",
            p.h,
            p.w,
            p.k,
            p.k,
            p.stride,
            p.pad,
            kind(p.signed_x),
            kind(p.signed_y)
        )
    }

    /// Parameters and weights for a rung; none where it cannot hold them.
    pub fn on(&self, rung: &IntRung) -> Option<(IntConvParams, Prepared)> {
        let prepared = rung.prepare(&self.weights, &self.params)?;
        Some((IntConvParams { planes: prepared.planes, flush: prepared.flush, ..self.params }, prepared))
    }

    /// Its kernels as code and what their sums start from.
    pub fn code(&self, name: &str) -> (Vec<&'static code::Code>, Vec<i32>) {
        let start = self.weights.sums().iter().map(|s| if self.signed_x { s.wrapping_mul(-128) } else { 0 }).collect();
        (code::kernels(&self.weights, &self.params, name), start)
    }

    /// The first of the choice that fits, code within `budget` seconds; the last of every order fits all.
    pub fn pick(&self, choice: &Choice, software: bool, budget: f64) -> Option<Pick> {
        choice.order(&self.key(), software).find_map(|name| {
            if name == code::NAME {
                let seconds = code::compile_seconds(&self.weights);
                return (seconds <= budget).then_some(Pick::Code(seconds));
            }
            let rung = named(name)?;
            self.on(rung).map(|(p, prepared)| Pick::Rung(rung, p, prepared))
        })
    }
}
