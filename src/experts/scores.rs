//! Turns the output of a graph into scores.

use super::manifest::{Activation, Calibration, Scores};
use crate::core::vote::{Abstention, CategoryScore};

/// The distance from \[0,1\] up to which a number counts as a probability that was rounded.
const ROUNDING_TOLERANCE: f32 = 1e-3;
/// The least distance from 0 and 1 of a probability that is calibrated. Nearer ones are moved there.
const MIN_DISTANCE: f64 = 1e-9;

/// P(unsafe), and the score of each category.
pub(super) type ExpertScore = (f64, Vec<CategoryScore>);

fn calibrated(p: f64, calibration: Option<Calibration>) -> f64 {
    let Some(Calibration { a, b }) = calibration else {
        return p;
    };
    let p = p.clamp(MIN_DISTANCE, 1.0 - MIN_DISTANCE);
    1.0 / (1.0 + (-(a * (p / (1.0 - p)).ln() + b)).exp())
}

fn activated(row: &[f32], activation: Option<Activation>) -> Vec<f32> {
    match activation {
        None => row.to_vec(),
        Some(Activation::Sigmoid) => row.iter().map(|x| 1.0 / (1.0 + (-x).exp())).collect(),
        Some(Activation::Softmax) => {
            let greatest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            let weights: Vec<f32> = row.iter().map(|x| (x - greatest).exp()).collect();
            let sum: f32 = weights.iter().sum();
            weights.into_iter().map(|weight| weight / sum).collect()
        }
    }
}

impl Scores {
    /// Scores one text by its row of the graph's output. P(unsafe) is the greatest probability of the labels with
    /// `unsafe = true`, calibrated. The score of a category is the greatest probability of its labels.
    ///
    /// # Errors
    /// Returns `WrongShape` or `NotFinite`, or `Failed` if a number is no probability.
    pub(super) fn score_row(&self, row: &[f32]) -> Result<ExpertScore, Abstention> {
        if row.len() != self.labels.len() {
            return Err(Abstention::WrongShape);
        }
        if row.iter().any(|p| !p.is_finite()) {
            return Err(Abstention::NotFinite);
        }
        let row = activated(row, self.activation);
        if row.iter().any(|p| !(-ROUNDING_TOLERANCE..=1.0 + ROUNDING_TOLERANCE).contains(p)) {
            // A clipped number would be a meaningless vote.
            return Err(Abstention::Failed);
        }
        let mut greatest = 0.0_f64;
        let mut categories: Vec<CategoryScore> = Vec::new();
        for (label, &raw) in self.labels.iter().zip(&row) {
            let raw = f64::from(raw.clamp(0.0, 1.0));
            // The calibration is fitted to P(unsafe).
            let p = if label.harmful { calibrated(raw, self.calibration) } else { raw };
            if label.harmful {
                greatest = greatest.max(p);
            }
            let Some(category) = &label.category else {
                continue;
            };
            match categories.iter_mut().find(|known| known.category == *category) {
                Some(known) => known.score = known.score.max(p),
                None => categories.push(CategoryScore { category: category.clone(), score: p }),
            }
        }
        categories.sort_by(|a, b| a.category.cmp(&b.category));
        Ok((greatest, categories))
    }
}

#[cfg(test)]
mod tests {
    use super::super::manifest::Label;
    use super::*;

    fn scores(calibration: Option<Calibration>) -> Scores {
        let label = |name: &str, category: Option<&str>, harmful| Label {
            name: name.to_owned(),
            category: category.map(str::to_owned),
            harmful,
        };
        Scores {
            output: "scores".to_owned(),
            activation: None,
            read: None,
            labels: vec![
                label("neither", None, false),
                label("threat", Some("threat"), true),
                label("insult", Some("harassment"), true),
                label("toxic", Some("harassment"), true),
            ],
            calibration,
        }
    }

    #[test]
    fn the_greatest_harmful_label_counts() {
        let (p, categories) = scores(None).score_row(&[1.0, 0.25, 0.5, 0.125]).unwrap();
        assert_eq!(p, 0.5);
        let found: Vec<_> = categories.iter().map(|c| (c.category.as_str(), c.score)).collect();
        assert_eq!(found, [("harassment", 0.5), ("threat", 0.25)]);
    }

    #[test]
    fn calibration_applies_to_harmful_labels() {
        let (p, categories) =
            scores(Some(Calibration { a: 2.0, b: 0.0 })).score_row(&[1.0, 0.2, 0.2, 0.2]).unwrap();
        assert!((p - 1.0 / 17.0).abs() < 1e-6 && categories[0].score == p, "{p}");
        let (p, _) = scores(Some(Calibration { a: 1.0, b: 0.0 })).score_row(&[0.0, 1.0, 0.0, 0.0]).unwrap();
        assert!(p > 0.999_999 && p <= 1.0);
    }

    #[test]
    fn an_activation_turns_logits_into_probabilities() {
        let score = |activation, row: &[f32]| Scores { activation, ..scores(None) }.score_row(row).unwrap().0;
        assert!((score(Some(Activation::Sigmoid), &[9.0, -2.0, 0.0, -1.0]) - 0.5).abs() < 1e-6);
        assert!((score(Some(Activation::Softmax), &[1000.0; 4]) - 0.25).abs() < 1e-6);
    }

    #[test]
    fn invalid_numbers_are_an_abstention() {
        let score = |row: &[f32]| scores(None).score_row(row).unwrap_err();
        assert_eq!(score(&[0.0, f32::NAN, 0.0, 0.0]), Abstention::NotFinite);
        assert_eq!(score(&[0.0, 0.0, f32::INFINITY, 0.0]), Abstention::NotFinite);
        assert_eq!(score(&[0.0; 3]), Abstention::WrongShape);
        assert_eq!(score(&[0.0, 3.0, 0.0, 0.0]), Abstention::Failed);
        assert_eq!(scores(None).score_row(&[0.0, 1.0005, -0.0005, 0.0]).unwrap().0, 1.0);
    }
}
