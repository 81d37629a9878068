//! How long the rest of a sweep will take.

use std::collections::BTreeMap;

/// Epochs that were trained and the seconds that they took, by network.
#[derive(Clone, Debug, Default)]
pub struct Pace(BTreeMap<String, (f64, f64)>);

impl Pace {
    /// Adds `epochs` of a network that took `seconds`, evaluations and all.
    pub fn add(&mut self, model: &str, epochs: f64, seconds: f64) {
        let known = self.0.entry(model.into()).or_default();
        (known.0, known.1) = (known.0 + epochs, known.1 + seconds);
    }

    /// Seconds that so many epochs of each network will take; none before anything is known. A network of which nothing is known counts
    /// like the others together.
    pub fn seconds<'a>(&self, rest: impl IntoIterator<Item = (&'a str, f64)>) -> Option<f64> {
        let all = self.0.values().fold((0.0, 0.0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
        if all.0 <= 0.0 {
            return None;
        }
        let of = |model| self.0.get(model).copied().filter(|(epochs, _)| *epochs > 0.0).unwrap_or(all);
        Some(rest.into_iter().map(|(model, epochs)| epochs * of(model).1 / of(model).0).sum())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_network_counts_by_its_own_time_where_that_is_known() {
        let mut pace = Pace::default();
        assert_eq!(pace.seconds([("a", 1.0)]), None);
        pace.add("a", 2.0, 20.0);
        pace.add("a", 1.0, 10.0);
        assert_eq!(pace.seconds([("a", 3.0), ("b", 1.0)]), Some(40.0));
        pace.add("b", 1.0, 50.0);
        assert_eq!(pace.seconds([("a", 1.0), ("b", 2.0), ("c", 1.0)]), Some(10.0 + 100.0 + 20.0));
    }
}
