//! A network whose stem is a shift convolution too: of the image, in three channels of int8.

use s3gpu::int::Model;
use s3gpu::int::model::{Op, Weight};
use s3gpu::int::packing::ShiftWeight;

/// The stem's int8 weights brought near 32 times S3's levels at 3 bits, and what follows by a shift of 5 less: nearly the same function.
pub fn with_shift_stem(mut model: Model) -> Model {
    let Op::Conv(conv) = &mut model.nodes[1].op else { panic!("no stem") };
    let Weight::Int8 { values } = &conv.weight else { panic!("a stem of shifts already") };
    let code = |v: &i8| {
        let index = (u32::from(v.unsigned_abs()) + 16) / 32;
        ShiftWeight { index: index.min(3) as u8, negative: *v < 0 && index > 0 }
    };
    let codes: Vec<_> = values.iter().map(code).collect();
    assert!((0..4).all(|level| codes.iter().any(|c| c.index == level)), "a level is missing");
    conv.weight = Weight::Shift { bits: 3, table: vec![None, Some(0), Some(1), Some(2)], exponent: 0, codes };
    conv.shift.iter_mut().for_each(|n| *n -= 5);
    conv.bias.iter_mut().for_each(|b| *b >>= 5);
    model.check().unwrap_or_else(|e| panic!("{e}"));
    model
}
