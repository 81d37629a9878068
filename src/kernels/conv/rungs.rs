//! The rungs: one static a shader.

use super::{ConvParams, Family, Rung};
use crate::kernels::Const;

fn vec4s(pixels: u32, channels4: u32) -> u64 {
    u64::from(pixels) * u64::from(channels4)
}

/// Readable: one output an invocation.
pub static FORWARD_NAIVE: Rung = Rung {
    family: Family::Forward,
    source: crate::wgsl!("conv/conv_forward_naive"; "grid"),
    consts: |_| Vec::new(),
    items: |p| 4 * vec4s(p.n * p.oh * p.ow, p.cout4),
    subgroups: false,
    packed: false,
    shape: |_| true,
};

/// Portable, register-blocked: 8 pixels times 8 output channels an invocation.
pub static FORWARD_DIRECT: Rung = Rung {
    family: Family::Forward,
    source: crate::wgsl!("conv/conv_forward_direct"; "grid", "conv_forward_direct"),
    consts: |_| Vec::new(),
    items: |p| vec4s(p.n * p.oh * p.ow.div_ceil(8), p.cout4.div_ceil(2)),
    subgroups: false,
    packed: false,
    shape: |_| true,
};

/// [`FORWARD_DIRECT`] with weights of a byte each: fewer loads.
pub static FORWARD_DIRECT_PACKED: Rung = Rung {
    source: crate::wgsl!("conv/conv_forward_direct_packed"; "grid", "packed", "conv_forward_direct"),
    packed: true,
    ..FORWARD_DIRECT
};

/// Readable: one input gradient an invocation.
pub static BACKWARD_INPUT_NAIVE: Rung = Rung {
    family: Family::BackwardInput,
    source: crate::wgsl!("conv/conv_backward_input_naive"; "grid", "epilogue"),
    consts: |p| vec![("EPILOGUE", p.epilogue)],
    items: |p| 4 * vec4s(p.n * p.h * p.w, p.cin4),
    subgroups: false,
    packed: false,
    shape: |_| true,
};

/// Portable, register-blocked: 8 pixels times 8 input channels an invocation.
pub static BACKWARD_INPUT_DIRECT: Rung = Rung {
    family: Family::BackwardInput,
    source: crate::wgsl!("conv/conv_backward_input_direct"; "grid", "epilogue", "conv_backward_input_direct"),
    consts: |p| vec![("EPILOGUE", p.epilogue)],
    items: |p| vec4s(p.n * p.h * p.stride * p.w.div_ceil(p.stride).div_ceil(8), p.cin4.div_ceil(2)),
    subgroups: false,
    packed: false,
    shape: |_| true,
};

/// [`BACKWARD_INPUT_DIRECT`] with weights of a byte each: fewer loads.
pub static BACKWARD_INPUT_DIRECT_PACKED: Rung = Rung {
    source: crate::wgsl!("conv/conv_backward_input_direct_packed"; "grid", "epilogue", "packed", "conv_backward_input_direct"),
    packed: true,
    ..BACKWARD_INPUT_DIRECT
};

/// Readable: one weight's partial sum an invocation.
pub static BACKWARD_WEIGHT_NAIVE: Rung = Rung {
    family: Family::BackwardWeight,
    source: crate::wgsl!("conv/conv_backward_weight_naive"; "grid"),
    consts: |_| Vec::new(),
    items: |p| u64::from(p.chunks()) * p.weights() as u64,
    subgroups: false,
    packed: false,
    shape: |_| true,
};

/// Portable, register-blocked: up to 3 kx times 4 input times 4 output channels an invocation.
pub static BACKWARD_WEIGHT_DIRECT: Rung = Rung {
    family: Family::BackwardWeight,
    source: crate::wgsl!("conv/conv_backward_weight_direct"; "grid"),
    consts: |p| {
        let block = p.k.min(3);
        vec![("STRIDE", p.stride), ("BLOCK", block), ("COLS", block + p.stride), ("ROWS", 4 * block)]
    },
    items: |p| vec4s(p.chunks() * p.k * p.k.div_ceil(3), p.cin4 * p.cout4),
    subgroups: false,
    packed: false,
    shape: |_| true,
};

/// Taps of a row that a subgroup rung computes at once, such that they share columns: all of a small kernel's that are `step` apart.
/// A loop where subgroups are narrow, since such adapters (SwiftShader) compile long blocks slowly.
fn taps_at_once(p: &ConvParams, step: u32) -> u32 {
    if step == 1 && p.k <= 3 && p.subgroup > 4 { p.k } else { 1 }
}

/// Lanes that fetch a tap's 16 weight vec4, and how many each of them fetches.
fn fetching(p: &ConvParams) -> [Const; 3] {
    let lanes = p.subgroup.min(16);
    [("SUBGROUP", p.subgroup), ("FETCH", lanes), ("LOADS", 16 / lanes)]
}

/// Whether neighbouring lanes have columns of a row in common that they can hand each other: where its tiles of 4 pixels never go on in
/// another subgroup, and the convolution is one of 3x3 that keeps the width.
fn shares_columns(p: &ConvParams) -> Const {
    let keeps = (p.k, p.stride, p.pad) == (3, 1, 1) && taps_at_once(p, 1) == 3;
    ("SHARE", (keeps && p.subgroup.is_multiple_of(p.w.div_ceil(4))).into())
}

/// 4 pixels times 16 output channels an invocation, weights handed round in a subgroup.
pub static FORWARD_SUBGROUP: Rung = Rung {
    family: Family::Forward,
    source: crate::wgsl!("conv/conv_forward_subgroup"; "grid", "conv_forward_subgroup"),
    consts: |p| {
        let block = taps_at_once(p, 1);
        let shape = [("STRIDE", p.stride), ("BLOCK", block), ("COLS", 3 * p.stride + block), shares_columns(p)];
        fetching(p).into_iter().chain(shape).collect()
    },
    items: |p| 64 * (vec4s(p.n * p.oh, p.ow.div_ceil(4)).div_ceil(64) * u64::from(p.cout4.div_ceil(4))),
    subgroups: true,
    packed: false,
    shape: |p| p.cout4 >= 3,
};

/// [`FORWARD_SUBGROUP`] with weights of a byte each: fewer loads.
pub static FORWARD_SUBGROUP_PACKED: Rung = Rung {
    source: crate::wgsl!("conv/conv_forward_subgroup_packed"; "grid", "packed", "conv_forward_subgroup"),
    packed: true,
    ..FORWARD_SUBGROUP
};

/// 4 pixels times 16 input channels an invocation, weights handed round in a subgroup.
pub static BACKWARD_INPUT_SUBGROUP: Rung = Rung {
    family: Family::BackwardInput,
    source: crate::wgsl!("conv/conv_backward_input_subgroup"; "grid", "epilogue", "conv_backward_input_subgroup"),
    consts: |p| {
        let block = taps_at_once(p, p.stride);
        let shape =
            [("STRIDE", p.stride), ("BLOCK", block), ("COLS", 3 + block), ("EPILOGUE", p.epilogue), shares_columns(p)];
        fetching(p).into_iter().chain(shape).collect()
    },
    items: |p| {
        let (rows, tiles) = (p.h.div_ceil(p.stride), p.w.div_ceil(p.stride).div_ceil(4));
        64 * (vec4s(p.n * rows, tiles).div_ceil(64) * u64::from(p.cin4.div_ceil(4) * p.stride * p.stride))
    },
    subgroups: true,
    packed: false,
    shape: |p| p.cin4 >= 3,
};

/// [`BACKWARD_INPUT_SUBGROUP`] with weights of a byte each: fewer loads.
pub static BACKWARD_INPUT_SUBGROUP_PACKED: Rung = Rung {
    source: crate::wgsl!("conv/conv_backward_input_subgroup_packed"; "grid", "epilogue", "packed", "conv_backward_input_subgroup"),
    packed: true,
    ..BACKWARD_INPUT_SUBGROUP
};

/// Lanes of a subgroup that differ in their output channels and share x.
fn lanes_of_co(p: &ConvParams) -> u32 {
    p.cout4.next_power_of_two().min(p.subgroup)
}

/// Up to 3 kx times 8 input times 4 output channels an invocation, x handed round in a subgroup.
pub static BACKWARD_WEIGHT_SUBGROUP: Rung = Rung {
    family: Family::BackwardWeight,
    source: crate::wgsl!("conv/conv_backward_weight_subgroup"; "grid"),
    consts: |p| {
        let (block, tile, lanes) = (p.k.min(3), p.subgroup.min(8), lanes_of_co(p));
        let cols = (tile - 1) * p.stride + block;
        let carry = (p.k, p.stride, p.pad) == (3, 1, 1);
        let fresh = if carry { tile } else { cols };
        vec![
            ("SUBGROUP", p.subgroup),
            ("LANES", lanes),
            ("STRIDE", p.stride),
            ("BLOCK", block),
            ("TILE", tile),
            ("COLS", cols),
            ("CARRY", carry.into()),
            ("FRESH", fresh),
            ("LOADS", fresh.div_ceil(lanes)),
            ("ROWS", 4 * block),
        ]
    },
    items: |p| {
        let lanes = lanes_of_co(p);
        let teams = p.cin4.div_ceil(2).div_ceil(p.subgroup / lanes);
        let subgroups =
            u64::from(p.chunks() * p.k * p.k.div_ceil(p.k.min(3))) * u64::from(teams * p.cout4.div_ceil(lanes));
        subgroups * u64::from(p.subgroup)
    },
    subgroups: true,
    packed: false,
    shape: |p| p.cin4 >= 2,
};

/// A workgroup's tile in the gemm rungs: `tm` times `tn` invocations, each with `rows` times 8 results.
pub(super) struct Tile {
    tm: u32,
    tn: u32,
    rows: u32,
}

impl Tile {
    /// For this many vec4 of columns, and rows to an image times blocks of columns: the width that pads columns least, the widest of
    /// equals; and where an image is small, shorter tiles, so that a real GPU gets enough workgroups.
    fn new(columns4: u32, rows: u32) -> Self {
        let padded = |tn: &u32| columns4.next_multiple_of(2 * tn);
        let tn = [8, 4, 2].into_iter().min_by_key(padded).unwrap_or(8);
        let short = rows * columns4.div_ceil(2 * tn) <= 128;
        Self { tm: 64 / tn, tn, rows: if short { 4 } else { 8 } }
    }
    pub(super) fn forward(p: &ConvParams) -> Self {
        Self::new(p.cout4, p.oh * p.ow)
    }
    pub(super) fn backward_input(p: &ConvParams) -> Self {
        Self::new(p.cin4, p.h * p.w)
    }
    /// Outer products of two vec4 always have 8 rows.
    fn backward_weight(p: &ConvParams) -> Self {
        Self { rows: 8, ..Self::new(p.cout4, 0) }
    }
    pub(super) fn consts(&self) -> Vec<Const> {
        let b_loads = (16 * self.tn).div_ceil(64);
        let a_loads = 2 * self.rows / self.tn;
        vec![("TM", self.tm), ("TN", self.tn), ("ROWS", self.rows), ("A_LOADS", a_loads), ("B_LOADS", b_loads)]
    }
    /// Rows of a tile.
    pub(super) fn height(&self) -> u32 {
        self.tm * self.rows
    }
    /// Invocations for a product of `rows` times `columns4` vec4.
    pub(super) fn items(&self, rows: u64, columns4: u32) -> u64 {
        64 * rows.div_ceil(self.height().into()) * u64::from(columns4.div_ceil(2 * self.tn))
    }
}

/// Implicit matrix product through workgroup memory: 8 (or 4) pixels times 8 output channels an invocation.
pub static FORWARD_GEMM: Rung = Rung {
    family: Family::Forward,
    source: crate::wgsl!("conv/conv_forward_gemm"; "grid", "tile", "conv_forward_tile"),
    consts: |p| Tile::forward(p).consts(),
    items: |p| Tile::forward(p).items((p.n * p.oh * p.ow).into(), p.cout4),
    subgroups: false,
    packed: false,
    shape: |_| true,
};

/// Implicit matrix product through workgroup memory: 8 (or 4) pixels of a phase times 8 input channels an invocation.
pub static BACKWARD_INPUT_GEMM: Rung = Rung {
    family: Family::BackwardInput,
    source: crate::wgsl!("conv/conv_backward_input_gemm"; "grid", "epilogue", "tile", "conv_backward_input_tile"),
    consts: |p| Tile::backward_input(p).consts().into_iter().chain([("EPILOGUE", p.epilogue)]).collect(),
    items: |p| {
        let phase = vec4s(p.n * p.h.div_ceil(p.stride), p.w.div_ceil(p.stride));
        u64::from(p.stride * p.stride) * Tile::backward_input(p).items(phase, p.cin4)
    },
    subgroups: false,
    packed: false,
    shape: |_| true,
};

/// Implicit matrix product through workgroup memory: 8 rows (ky, kx, ci) times 8 output channels an invocation.
pub static BACKWARD_WEIGHT_GEMM: Rung = Rung {
    family: Family::BackwardWeight,
    source: crate::wgsl!("conv/conv_backward_weight_gemm"; "grid", "tile"),
    consts: |p| Tile::backward_weight(p).consts(),
    items: |p| {
        let rows = u64::from(4 * p.k * p.k * p.cin4);
        u64::from(p.chunks()) * Tile::backward_weight(p).items(rows, p.cout4)
    },
    subgroups: false,
    packed: false,
    shape: |_| true,
};
