//! Flags about images, the same for every command that reads them.

use std::path::PathBuf;

use bytesize::ByteSize;
use clap::Args;

use crate::data::{self, Dataset, Format, Manifest, Reading, Source};
use crate::error::Result;
use crate::files::tensors::TensorFile;

/// Which images: keys of a configuration too, for commands that have one.
#[derive(Args, Clone, Debug)]
pub(super) struct ImageArgs {
    /// Height and width of an image folder's images [default: the data set's own, 224 for most]
    #[arg(long, value_name = "N")]
    pub image_size: Option<usize>,
    /// Crop from so many black pixels around the image; for an image folder, 0 means random resized crops instead
    /// [default: the data set's own]
    #[arg(long, value_name = "N")]
    pub pad: Option<usize>,
    /// Share of each class kept to measure on, for an image folder without val/ or test/
    #[arg(long, value_name = "SHARE")]
    pub val_split: Option<f64>,
}

/// How they are read.
#[derive(Args, Clone, Debug)]
pub(super) struct ReadArgs {
    /// Threads that decode images [default: one a core]; any number gives the same bits
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: Option<u16>,
    /// Keep decoded images for the next epoch in so much memory, like 2GiB; the bits are the same
    #[arg(long, value_name = "SIZE", default_value = "0")]
    pub cache: ByteSize,
    /// End at the first damaged image file instead of leaving it out
    #[arg(long)]
    pub strict: bool,
}

impl ReadArgs {
    /// `reading` with what these flags say of threads, memory and damage.
    pub fn how(&self, reading: Reading) -> Reading {
        Reading {
            threads: self.threads.map_or(0, usize::from),
            cache: self.cache.as_u64(),
            strict: self.strict,
            ..reading
        }
    }
}

/// Which test set a checkpoint is measured on, beside its name.
#[derive(Args, Clone, Debug)]
pub(super) struct TestArgs {
    /// Folder with the data set's files, or its parent [default: S3GPU_DATA, then the user's data folder]
    #[arg(long)]
    pub data_dir: Option<PathBuf>,
    #[command(flatten)]
    pub images: ImageArgs,
    #[command(flatten)]
    pub read: ReadArgs,
}

impl TestArgs {
    /// The data set of that name, at the size, crop and split that the weights were trained with where the flags do not say.
    pub fn data_set(&self, name: &str, file: &TensorFile, classes: u32) -> Result<(Manifest, Reading)> {
        fn kept<T: std::str::FromStr>(file: &TensorFile, key: &str) -> Option<T> {
            file.meta.get(key)?.parse().ok()
        }
        let (images, data_dir) = (&self.images, self.data_dir.as_deref());
        let mut manifest = Manifest::find(name)?;
        let mut reading = self.read.how(Reading { val_split: images.val_split, ..Reading::default() });
        if manifest.format != Format::Folder {
            return Ok((manifest.with(images.image_size, images.pad)?, reading));
        }
        manifest = manifest.with(images.image_size.or(kept(file, "image_size")), images.pad.or(kept(file, "pad")))?;
        if manifest.classes.is_empty() {
            let names: Vec<String> =
                file.meta.get("class_names").map(|n| n.split(',').map(str::to_string).collect()).unwrap_or_default();
            manifest.classes = if names.len() == classes as usize { names } else { manifest.classes };
            manifest = data::complete(manifest, data_dir)?;
        }
        reading.seed = kept(file, "seed").unwrap_or_default();
        let whole = data::lacks_split(&manifest, data_dir)?;
        reading.val_split =
            images.val_split.or_else(|| kept(file, "val_split").filter(|_| whole)).filter(|s| *s != 0.0);
        if let (Some(share), None) = (reading.val_split, images.val_split) {
            note!("note: on the share {share} that training kept to measure on; --val-split 0 takes all images");
        }
        Ok((manifest, reading))
    }
}

/// Tells what is to be said about a data set's images and was not said before.
pub(super) fn remark(data: &Dataset, said: &mut Vec<String>) {
    let sources = [&data.train, &data.test].into_iter().flatten();
    for line in sources.flat_map(|source| source.remarks()) {
        if !said.contains(&line) {
            note!("note: {line}");
            said.push(line);
        }
    }
}
