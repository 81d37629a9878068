//! The order in which an epoch shows the images.

use rand::RngExt;

use super::keyed_rng;

/// The order of one epoch: `len` record indices, a permutation drawn from `(seed, epoch)`, or 0, 1, 2 … when not
/// shuffled. Epochs do not depend on each other, so a resumed run needs no generator state.
///
/// The same on every platform: ChaCha is defined on bytes, and the ranges are `u32`, since sampling a `usize` takes
/// another path on 32 and 64 bits. Fisher and Yates' shuffle is spelled out so that the order depends on no library's
/// choice of one.
///
/// # Panics
/// If `len` does not fit u32: data sets are far smaller, being held in memory.
pub fn epoch_order(seed: u64, epoch: u64, len: usize, shuffle: bool) -> Vec<u32> {
    let len = u32::try_from(len).expect("a data set has fewer than 2^32 records");
    let mut order: Vec<u32> = (0..len).collect();
    if shuffle {
        let mut rng = keyed_rng(b"s3gpu epochorder", seed, epoch);
        for i in (1..len).rev() {
            order.swap(i as usize, rng.random_range(0..=i) as usize);
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_order_is_a_permutation() {
        for len in [0, 1, 2, 3, 257, 5000] {
            let mut order = epoch_order(3, 4, len, true);
            order.sort_unstable();
            assert!(order.iter().copied().eq(0..len as u32), "length {len}");
        }
    }

    #[test]
    fn the_order_depends_on_seed_and_epoch_alone() {
        let order = epoch_order(1, 2, 1000, true);
        assert_eq!(order, epoch_order(1, 2, 1000, true));
        assert_ne!(order, epoch_order(2, 2, 1000, true));
        assert_ne!(order, epoch_order(1, 3, 1000, true));
        // Seed and epoch are not simply added or swapped.
        assert_ne!(order, epoch_order(2, 1, 1000, true));
        assert_ne!(order, epoch_order(0, 3, 1000, true));
    }

    #[test]
    fn not_shuffled_is_the_identity() {
        assert!(epoch_order(1, 2, 1000, false).into_iter().eq(0..1000));
    }

    #[test]
    fn every_place_is_as_likely() {
        // 6 orders of 3 records, 6,000 epochs: 1,000 each on average, standard deviation 29.
        let mut counts = std::collections::BTreeMap::new();
        for epoch in 0..6000 {
            *counts.entry(epoch_order(9, epoch, 3, true)).or_insert(0u32) += 1;
        }
        assert_eq!(counts.len(), 6);
        assert!(counts.values().all(|n| (850..1150).contains(n)), "{counts:?}");
    }

    #[test]
    fn the_order_is_kept_across_versions() {
        // A resumed run of an older version would otherwise see other batches.
        assert_eq!(epoch_order(1, 0, 10, true), [6, 2, 4, 9, 7, 1, 8, 5, 0, 3]);
    }
}
