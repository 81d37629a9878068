//! Test pictures for the page, with the logits that the native reference gives for them.

use std::path::Path;

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;

use crate::data::{self, Manifest, Reading, Records, Source, Splits};
use crate::error::{Error, Result};
use crate::int::evaluate::logits_hash;
use crate::int::{Fast, Model};
use crate::train::setup::input_shape;

/// Pictures on the page.
pub const COUNT: usize = 32;

/// Images for the page, the first of them shown at once.
#[derive(Clone, Debug)]
pub struct Samples {
    /// The data set's name.
    pub set: String,
    /// u8 images [C, H, W], one behind the other.
    pub pixels: Vec<u8>,
    /// Their classes; none for noise, which is for the self-check alone.
    pub labels: Option<Vec<u32>>,
}

impl Samples {
    /// [`COUNT`] pictures from all over a data set.
    ///
    /// # Errors
    /// As [`Records::of`]; [`Error::Usage`] where the network takes other images.
    pub fn of(model: &Model, set: &str, test: &dyn Source) -> Result<Self> {
        let count = COUNT.min(test.len());
        let (mut pixels, mut labels) = (Vec::new(), Vec::new());
        for i in 0..count {
            // A step more each time: data sets often repeat their classes in order.
            let at = (i * test.len() / count + i) % test.len();
            let one = Records::of(test, at..at + 1)?;
            pixels.extend(one.pixels);
            labels.extend(one.labels);
        }
        let fits = pixels.len() == count * crate::int::model::len(model.input());
        if !fits || labels.iter().any(|l| *l as usize >= model.classes()) {
            let what = format!("the network takes other images or classes than those of {set}");
            return Err(Error::usage(what, "name the data set that it was trained on with --dataset"));
        }
        Ok(Self { set: set.into(), pixels, labels: Some(labels) })
    }

    /// From the test images of a data set that is found by name or path.
    ///
    /// # Errors
    /// As [`Manifest::find`], [`data::open`] and [`Samples::of`].
    pub fn find(model: &Model, dataset: &str, data_dir: Option<&Path>) -> Result<Self> {
        let mut manifest = Manifest::find(dataset)?;
        if manifest.format == data::Format::Folder {
            manifest = manifest.with(Some(model.input().h as usize), None)?;
        }
        let manifest = data::complete(manifest, data_dir)?;
        if input_shape(&manifest) != model.input() {
            let what = format!("the network takes images of {}, not {}'s", model.input(), manifest.name);
            return Err(Error::usage(what, "name the data set that it was trained on with --dataset"));
        }
        let data = data::open(&manifest, data_dir, Splits::TEST, &Reading::default())?;
        Self::of(model, &manifest.name, data.test.as_deref().expect("the test set was asked for"))
    }

    /// Noise, always the same: something to check the page's arithmetic on where there are no pictures.
    pub fn noise(model: &Model) -> Self {
        let mut pixels = vec![0; COUNT * crate::int::model::len(model.input())];
        ChaCha8Rng::seed_from_u64(0).fill_bytes(&mut pixels);
        Self { set: "noise".into(), pixels, labels: None }
    }

    /// What the page reads, with the native logits and their hash.
    pub(super) fn json(&self, model: &Model) -> Vec<u8> {
        let image_len = crate::int::model::len(model.input());
        let images = self.pixels.len() / image_len;
        let labels = self.labels.clone().unwrap_or_else(|| vec![0; images]);
        let logits = Fast::new(model).logits(&Records { pixels: self.pixels.clone(), labels, image_len });
        let json = serde_json::json!({
            "set": self.set,
            "images": images,
            "labels": self.labels,
            "logits": logits,
            "logits_hash": format!("{:016x}", logits_hash(&logits)),
        });
        json.to_string().into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::int::plain;

    #[test]
    fn the_page_holds_itself_against_the_reference() {
        let path = "tests/fixtures/int/shapes-resnet8-s3-3bit.safetensors";
        let model = Model::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_else(|e| panic!("{e}"));
        let shapes = Samples::find(&model, "shapes", None).unwrap_or_else(|e| panic!("{e}"));
        let labels = shapes.labels.as_deref().expect("pictures have labels");
        assert!((0..10).filter(|class| labels.contains(class)).count() > 5, "one class after the other: {labels:?}");
        for samples in [&shapes, &Samples::noise(&model)] {
            let images = samples.pixels.chunks_exact(3 * 32 * 32);
            assert_eq!(images.len(), COUNT);
            let logits: Vec<i32> = images.flat_map(|image| plain::forward(&model, image, |_, _| ())).collect();
            let json: serde_json::Value = serde_json::from_slice(&samples.json(&model)).expect("JSON");
            assert_eq!(json["logits"], serde_json::json!(logits));
            assert_eq!(json["logits_hash"], format!("{:016x}", logits_hash(&logits)));
        }
        assert!(Samples::find(&model, "mnist", None).is_err());
    }
}
