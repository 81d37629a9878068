//! What a report has from the weights themselves and from the data: an evaluation, and the network as integers.

use std::path::Path;

use super::read::RunFiles;
use crate::data::{self, Dataset, Format, Manifest, Reading, Records, Splits};
use crate::error::{Error, Result};
use crate::gpu::{Gpu, describe};
use crate::graph::{Graph, Layout};
use crate::int::calibrate::IMAGES;
use crate::int::counts::{self, Count};
use crate::int::digits::TERMS;
use crate::int::float::{FloatNet, FloatOp};
use crate::int::freeze::freeze;
use crate::int::model::Info;
use crate::model::Values;
use crate::train::assess::{Assessment, assess};
use crate::train::folder::BEST;
use crate::train::metrics::EvalRecord;
use crate::train::{Config, Trained};

/// Images at a time.
const BATCH: usize = 250;

/// What a run's best weights do on its test set, and cost.
#[derive(Clone, Debug)]
pub struct Judgement {
    /// The figures.
    pub record: EvalRecord,
    /// The same image by image.
    pub assessment: Assessment,
    /// Where it was measured.
    pub adapter: String,
    /// The network as `s3gpu export` would write it, or why there is none.
    pub integers: Result<Integers, String>,
}

/// An integer network's size and arithmetic.
#[derive(Clone, Debug)]
pub struct Integers {
    /// Costs of each layer for one image.
    pub costs: Vec<Count>,
    /// Weights that were given up for it.
    pub notes: Vec<String>,
}

/// Evaluates runs one after the other; those of one data set share its images.
pub struct Judge<'a> {
    open: &'a dyn Fn() -> Result<Gpu>,
    data_dir: Option<&'a Path>,
    data: Option<(Manifest, Reading, Dataset)>,
}

impl<'a> Judge<'a> {
    /// On the adapter that `open` gives. `data_dir` is where data sets are looked for instead of the runs' own folders.
    pub fn new(open: &'a dyn Fn() -> Result<Gpu>, data_dir: Option<&'a Path>) -> Self {
        Self { open, data_dir, data: None }
    }

    /// Evaluates the best weights of the run in folder `path`, and freezes a copy of them.
    ///
    /// # Errors
    /// [`Error::Checkpoint`] where there are none, or none that fit; as [`data::open`] and [`Trained::engine`].
    pub fn judge(&mut self, path: &Path, run: &RunFiles) -> Result<Judgement> {
        if !path.join(BEST).exists() {
            let hint = "it has them from its first evaluation on";
            return Err(Error::checkpoint(path, "this run has no best weights yet", hint));
        }
        let trained = Trained::read(path)?;
        let mut config = run.config.clone();
        let drawn = Manifest::find(&config.dataset)?.format == Format::Shapes;
        if let Some(dir) = self.data_dir.filter(|_| !drawn) {
            config.data_dir = Some(dir.into());
        }
        let manifest = config.manifest()?;
        let graph = trained.graph(&manifest)?;
        let net = float_net(&trained, &graph, &manifest)?;
        let shifts = net.nodes.iter().any(|n| matches!(&n.op, FloatOp::Conv { levels: Some(_), .. }));
        let open = self.open;
        let data = self.data(&config, manifest, shifts)?;
        let test = data.test.as_deref().expect("the test set was asked for");
        let gpu = open()?;
        let adapter = describe(&gpu.info);
        let mut engine = trained.engine(&data.manifest, gpu, BATCH.min(test.len()) as u32, &[])?;
        let (figures, assessment) = assess(&mut engine, test, &data.manifest.classes, 0)?;
        let record = trained.record(&figures, &data.manifest)?;
        let integers = match (shifts, data.train.as_deref()) {
            (true, Some(train)) => Records::of(train, 0..train.len().min(IMAGES as usize))
                .and_then(|images| freeze_copy(&net, &images, &data.manifest.classes)),
            _ => {
                let (method, hint) =
                    (trained.identity.method.title(), "`s3gpu export` makes integers of shift networks");
                Err(Error::usage(format!("{method} weights are floats, which no shifts stand for"), hint))
            }
        };
        Ok(Judgement { record, assessment, adapter, integers: integers.map_err(|e| e.to_string()) })
    }

    /// A run's images; those of the run before where they are the same.
    fn data(&mut self, config: &Config, manifest: Manifest, train: bool) -> Result<&Dataset> {
        // Whatever differs from seed to seed is drawn in training alone, but for a split.
        let own = config.reading();
        let seed = if own.val_split.is_some() { own.seed } else { 0 };
        let reading = Reading { seed, augment: false, ..own };
        let kept =
            self.data.take_if(|(m, r, data)| *m == manifest && *r == reading && (data.train.is_some() || !train));
        let new = match kept {
            Some(kept) => kept,
            None => {
                let data = data::open(&manifest, config.data_dir.as_deref(), Splits { train, test: true }, &reading)?;
                (manifest, reading, data)
            }
        };
        Ok(&self.data.insert(new).2)
    }
}

fn float_net(trained: &Trained, graph: &Graph, manifest: &Manifest) -> Result<FloatNet> {
    let layout = Layout::new(graph, u64::from(u32::MAX));
    let values = Values::from_file(graph, &layout, &trained.file, &trained.path)?;
    let [mean, std] = trained.normalization(manifest);
    FloatNet::new(graph, &layout, &values, &mean, &std)
}

/// The network as integers, with everything that `s3gpu export` chooses where nothing is asked for.
fn freeze_copy(net: &FloatNet, images: &Records, classes: &[String]) -> Result<Integers> {
    let (mean, std, class_names) = (net.mean.clone(), net.std.clone(), classes.to_vec());
    let info = Info { mean, std, class_names, terms: TERMS, calibration: IMAGES, ..Info::default() };
    let frozen = freeze(net, images, info)?;
    Ok(Integers { costs: counts::count(&frozen.model), notes: frozen.notes })
}
