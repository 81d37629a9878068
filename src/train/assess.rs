//! An evaluation image by image: accuracy of each class, what is taken for what, and the worst mistakes.

use serde::Serialize;

use super::engine::{Engine, Figures};
use crate::data::Source;
use crate::error::Result;

/// How one image was judged.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Judged {
    /// Its place in the test set.
    pub image: usize,
    /// Its class.
    pub label: u32,
    /// The class that came first; of equal logits the earlier one.
    pub predicted: u32,
    /// Cross-entropy.
    pub loss: f64,
    /// Probability given to `predicted`.
    pub confidence: f64,
}

impl Judged {
    /// From an image's logits, one a class.
    fn new(image: usize, label: u32, logits: &[f32]) -> Self {
        // Strictly greater: the first of equals stays.
        let top = (1..logits.len()).fold(0, |best, k| if logits[k] > logits[best] { k } else { best });
        let at = |k: usize| f64::from(logits[k]);
        let total: f64 = (0..logits.len()).map(|k| (at(k) - at(top)).exp()).sum();
        let loss = total.ln() + at(top) - at(label as usize);
        Self { image, label, predicted: top as u32, loss, confidence: 1.0 / total }
    }
}

/// One class of the test set.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ClassFigures {
    /// Its name.
    pub name: String,
    /// Its images.
    pub count: u64,
    /// Those that were recognized.
    pub correct: u64,
    /// In percent; none where there is no image.
    pub top1: Option<f64>,
}

/// Images of one class taken for another.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Confusion {
    /// The class.
    pub label: usize,
    /// What its images were taken for.
    pub predicted: usize,
    /// How many.
    pub count: u64,
}

/// An evaluation image by image.
#[derive(Clone, Debug)]
pub struct Assessment {
    classes: Vec<String>,
    /// Images by class and by what they were taken for, a row a class.
    matrix: Vec<u64>,
    mistakes: Vec<Judged>,
    seen: usize,
    keep: usize,
}

impl Assessment {
    /// Nothing yet; of the mistakes, the `keep` worst will be kept.
    pub fn new(classes: &[String], keep: usize) -> Self {
        let matrix = vec![0; classes.len() * classes.len()];
        Self { classes: classes.to_vec(), matrix, mistakes: Vec::new(), seen: 0, keep }
    }

    /// Takes the next images: their labels, and logits [images, classes].
    pub fn add(&mut self, labels: &[u32], logits: &[f32]) {
        let classes = self.classes.len();
        for (label, logits) in labels.iter().zip(logits.chunks_exact(classes)) {
            let judged = Judged::new(self.seen, *label, logits);
            self.seen += 1;
            self.matrix[*label as usize * classes + judged.predicted as usize] += 1;
            if judged.predicted != *label {
                self.mistakes.push(judged);
            }
        }
        self.trim();
    }

    fn trim(&mut self) {
        self.mistakes.sort_by(|a, b| b.loss.total_cmp(&a.loss).then(a.image.cmp(&b.image)));
        self.mistakes.truncate(self.keep);
    }

    /// The class names.
    pub fn names(&self) -> &[String] {
        &self.classes
    }

    /// Images of class `label` that were taken for `predicted`.
    pub fn count(&self, label: usize, predicted: usize) -> u64 {
        self.matrix[label * self.classes.len() + predicted]
    }

    /// Images of class `label`.
    pub fn images(&self, label: usize) -> u64 {
        self.matrix[label * self.classes.len()..][..self.classes.len()].iter().sum()
    }

    /// Each class.
    pub fn classes(&self) -> Vec<ClassFigures> {
        let figures = |(k, name): (usize, &String)| {
            let (count, correct) = (self.images(k), self.count(k, k));
            let top1 = (count > 0).then(|| 100.0 * correct as f64 / count as f64);
            ClassFigures { name: name.clone(), count, correct, top1 }
        };
        self.classes.iter().enumerate().map(figures).collect()
    }

    /// What is taken for what, most often first; nothing that never happened.
    pub fn confusions(&self) -> Vec<Confusion> {
        let n = self.classes.len();
        let all = (0..n * n).map(|i| Confusion { label: i / n, predicted: i % n, count: self.matrix[i] });
        let mut found: Vec<_> = all.filter(|c| c.label != c.predicted && c.count > 0).collect();
        found.sort_by_key(|c| std::cmp::Reverse(c.count));
        found
    }

    /// The mistakes of highest loss, worst first.
    pub fn worst(&self) -> &[Judged] {
        &self.mistakes
    }

    /// All images right.
    pub fn correct(&self) -> u64 {
        (0..self.classes.len()).map(|k| self.count(k, k)).sum()
    }
}

/// Evaluates a network on all of `test`, whose classes are `names`; of the mistakes, the `keep` worst are kept.
///
/// # Errors
/// As [`Engine::evaluate_with`].
pub fn assess(engine: &mut Engine, test: &dyn Source, names: &[String], keep: usize) -> Result<(Figures, Assessment)> {
    let mut assessment = Assessment::new(names, keep);
    let mut seen = 0;
    let figures = engine.evaluate_with(test, |engine, n| {
        let labels: Vec<u32> = (seen..seen + n).map(|i| test.label(i)).collect();
        assessment.add(&labels, &engine.logits(n)?);
        seen += n;
        Ok(())
    })?;
    Ok((figures, assessment))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assessed() -> Assessment {
        let names = ["a", "b", "c"].map(String::from);
        let mut a = Assessment::new(&names, 2);
        a.add(&[0, 1], &[2.0, 1.0, 0.0, 5.0, 0.0, 0.0]);
        a.add(&[1, 1, 0], &[0.0, 3.0, 1.0, 9.0, 0.0, 0.0, 0.0, 1.0, 0.0]);
        a
    }

    #[test]
    fn counts_by_class_and_by_pair() {
        let a = assessed();
        let figures: Vec<_> = a.classes().into_iter().map(|c| (c.correct, c.count, c.top1)).collect();
        assert_eq!(figures, [(1, 2, Some(50.0)), (1, 3, Some(100.0 / 3.0)), (0, 0, None)]);
        assert_eq!(a.correct(), 2);
        let pair = |label, predicted, count| Confusion { label, predicted, count };
        assert_eq!(a.confusions(), [pair(1, 0, 2), pair(0, 1, 1)]);
    }

    #[test]
    fn the_worst_mistakes_come_first_and_no_more_than_wanted() {
        let a = assessed();
        let worst: Vec<_> = a.worst().iter().map(|j| (j.image, j.label, j.predicted)).collect();
        assert_eq!(worst, [(3, 1, 0), (1, 1, 0)]);
        let j = a.worst()[1];
        let total = 1.0 + 2.0 * (-5f64).exp();
        assert!((j.loss - (total.ln() + 5.0)).abs() < 1e-12 && (j.confidence - 1.0 / total).abs() < 1e-12);
    }

    #[test]
    fn of_equal_logits_the_earlier_class_counts() {
        assert_eq!(Judged::new(0, 2, &[0.0, 1.0, 1.0]).predicted, 1);
        assert_eq!(Judged::new(0, 0, &[-1.0; 3]).predicted, 0);
    }

    #[test]
    fn large_logits_stay_finite() {
        let j = Judged::new(0, 1, &[3e38, -3e38]);
        assert!(j.loss.is_finite() && j.confidence == 1.0, "{j:?}");
    }
}
