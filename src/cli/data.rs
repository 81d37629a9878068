//! Flags about images, the same for every command that reads them.

use bytesize::ByteSize;
use clap::Args;

use crate::data::{Dataset, Reading, Source};

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
