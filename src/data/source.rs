//! What hands images to training and evaluation, whether they lie in memory or are decoded on the way.

use super::Records;
use crate::error::Result;

/// How an image is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum View {
    /// To train on: with the random crop and colours of this epoch, where the source draws any.
    Train {
        /// Epoch, from 0.
        epoch: u32,
    },
    /// To be measured on: always the same.
    Test,
}

/// Images with labels, of which any batch can be asked for.
///
/// What an image looks like depends on its index, the view and the source's seed alone: not on the batch that it is in,
/// nor on the thread that decodes it.
pub trait Source: std::fmt::Debug + Send + Sync {
    /// The number of images.
    fn len(&self) -> usize;

    /// Whether there is no image.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The class index of image `i`, which must be below [`Source::len`].
    fn label(&self, i: usize) -> u32;

    /// C · H · W, the bytes of one image.
    fn image_len(&self) -> usize;

    /// Writes images one after the other, each C × H × W bytes; `pixels` has the length of them all.
    ///
    /// # Errors
    /// [`crate::Error::Data`] for an image that cannot be read or decoded, where it is not replaced.
    fn fill(&self, indices: &[u32], view: View, pixels: &mut [u8]) -> Result<()>;

    /// Threads that [`Source::fill`] is worth running ahead on; 0 where it only copies.
    fn threads(&self) -> usize {
        0
    }

    /// What a user should know about the images so far, a line each: files left out or damaged.
    fn remarks(&self) -> Vec<String> {
        Vec::new()
    }
}

impl Records {
    /// A copy of images `range` of a source, as they are measured.
    ///
    /// # Errors
    /// As [`Source::fill`].
    pub fn of(source: &dyn Source, range: std::ops::Range<usize>) -> Result<Self> {
        let indices: Vec<u32> = range.map(|i| i as u32).collect();
        let image_len = source.image_len();
        let mut pixels = vec![0; indices.len() * image_len];
        source.fill(&indices, View::Test, &mut pixels)?;
        let labels = indices.iter().map(|i| source.label(*i as usize)).collect();
        Ok(Self { pixels, labels, image_len })
    }
}

impl Source for Records {
    fn len(&self) -> usize {
        self.labels.len()
    }

    fn label(&self, i: usize) -> u32 {
        self.labels[i]
    }

    fn image_len(&self) -> usize {
        self.image_len
    }

    fn fill(&self, indices: &[u32], _: View, pixels: &mut [u8]) -> Result<()> {
        for (to, index) in pixels.chunks_exact_mut(self.image_len).zip(indices) {
            to.copy_from_slice(self.image(*index as usize));
        }
        Ok(())
    }
}

impl<S: Source + ?Sized> Source for Box<S> {
    fn len(&self) -> usize {
        (**self).len()
    }

    fn label(&self, i: usize) -> u32 {
        (**self).label(i)
    }

    fn image_len(&self) -> usize {
        (**self).image_len()
    }

    fn fill(&self, indices: &[u32], view: View, pixels: &mut [u8]) -> Result<()> {
        (**self).fill(indices, view, pixels)
    }

    fn threads(&self) -> usize {
        (**self).threads()
    }

    fn remarks(&self) -> Vec<String> {
        (**self).remarks()
    }
}
