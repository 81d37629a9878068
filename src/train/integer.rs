//! The network under training as integers: what `s3gpu export` would make of it now.

use super::engine::Figures;
use super::setup::Setup;
use crate::data::{Records, Source};
use crate::error::Result;
use crate::graph::Layout;
use crate::int::calibrate::IMAGES;
use crate::int::digits::TERMS;
use crate::int::evaluate;
use crate::int::float::FloatNet;
use crate::int::freeze::freeze;
use crate::int::model::Info;
use crate::model::Values;

/// Freezes a copy of the network on the first training images, as they are, and runs it over all test images on the CPU.
///
/// # Errors
/// [`crate::Error::Shape`] where it cannot be frozen; as [`Source::fill`].
pub(super) fn evaluate(
    setup: &Setup,
    layout: &Layout,
    values: &Values,
    [train, test]: [&dyn Source; 2],
) -> Result<Figures> {
    let c = &setup.config;
    let net = FloatNet::new(&setup.graph, layout, values, &c.mean, &c.std)?;
    let info = Info {
        class_names: setup.manifest.classes.clone(),
        mean: c.mean.clone(),
        std: c.std.clone(),
        terms: TERMS,
        calibration: IMAGES,
        ..Info::default()
    };
    let images = Records::of(train, 0..train.len().min(IMAGES as usize))?;
    let model = freeze(&net, &images, info)?.model;
    let (logits, labels) = evaluate::run(&model, test)?;
    Ok(evaluate::figures(&model, &logits, &labels))
}
