//! The rungs: one static a shader.

use super::{Family, Rung};

fn vec4s(pixels: u32, channels4: u32) -> u64 {
    u64::from(pixels) * u64::from(channels4)
}

/// Readable: one output an invocation.
pub static FORWARD_NAIVE: Rung = Rung {
    family: Family::Forward,
    source: crate::wgsl!("conv/conv_forward_naive"; "grid"),
    consts: |_| Vec::new(),
    items: |p| 4 * vec4s(p.n * p.oh * p.ow, p.cout4),
    subgroup: None,
    fits: |_| true,
};

/// Portable, register-blocked: 8 pixels times 8 output channels an invocation.
pub static FORWARD_DIRECT: Rung = Rung {
    family: Family::Forward,
    source: crate::wgsl!("conv/conv_forward_direct"; "grid"),
    consts: |_| Vec::new(),
    items: |p| vec4s(p.n * p.oh * p.ow.div_ceil(8), p.cout4.div_ceil(2)),
    subgroup: None,
    fits: |_| true,
};

/// Readable: one input gradient an invocation.
pub static BACKWARD_INPUT_NAIVE: Rung = Rung {
    family: Family::BackwardInput,
    source: crate::wgsl!("conv/conv_backward_input_naive"; "grid"),
    consts: |_| Vec::new(),
    items: |p| 4 * vec4s(p.n * p.h * p.w, p.cin4),
    subgroup: None,
    fits: |_| true,
};

/// Portable, register-blocked: 8 pixels times 8 input channels an invocation.
pub static BACKWARD_INPUT_DIRECT: Rung = Rung {
    family: Family::BackwardInput,
    source: crate::wgsl!("conv/conv_backward_input_direct"; "grid"),
    consts: |_| Vec::new(),
    items: |p| vec4s(p.n * p.h * p.stride * p.w.div_ceil(p.stride).div_ceil(8), p.cin4.div_ceil(2)),
    subgroup: None,
    fits: |_| true,
};

/// Readable: one weight's partial sum an invocation.
pub static BACKWARD_WEIGHT_NAIVE: Rung = Rung {
    family: Family::BackwardWeight,
    source: crate::wgsl!("conv/conv_backward_weight_naive"; "grid"),
    consts: |_| Vec::new(),
    items: |p| u64::from(p.chunks()) * p.weights() as u64,
    subgroup: None,
    fits: |_| true,
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
    subgroup: None,
    fits: |_| true,
};

/// 4 pixels times 16 output channels an invocation, weights handed round in a subgroup.
pub static FORWARD_SUBGROUP: Rung = Rung {
    family: Family::Forward,
    source: crate::wgsl!("conv/conv_forward_subgroup"; "grid"),
    consts: |_| Vec::new(),
    items: |p| 64 * (vec4s(p.n * p.oh, p.ow.div_ceil(4)).div_ceil(64) * u64::from(p.cout4.div_ceil(4))),
    subgroup: Some(8),
    fits: |p| p.cout4 >= 3,
};

/// 4 pixels times 16 input channels an invocation, weights handed round in a subgroup.
pub static BACKWARD_INPUT_SUBGROUP: Rung = Rung {
    family: Family::BackwardInput,
    source: crate::wgsl!("conv/conv_backward_input_subgroup"; "grid"),
    consts: |_| Vec::new(),
    items: |p| {
        let tiles = p.w.div_ceil(p.stride).div_ceil(4);
        64 * (vec4s(p.n * p.h * p.stride, tiles).div_ceil(64) * u64::from(p.cin4.div_ceil(4)))
    },
    subgroup: Some(8),
    fits: |p| p.cin4 >= 3 && p.stride == 1,
};
