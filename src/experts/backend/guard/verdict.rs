//! P(unsafe) from the scores of the next token.

use crate::core::vote::Abstention;

/// The tokens with which an answer begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct VerdictIds {
    /// The first tokens of the words that mean unsafe.
    pub(crate) harmful: Vec<u32>,
    /// The first tokens of the words that mean safe.
    pub(crate) safe: Vec<u32>,
}

/// The verdict in the scores of the next token.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Verdict {
    /// The probability of the unsafe words, divided by that of the unsafe and the safe ones.
    pub(super) p: f64,
    /// The probability of all other tokens.
    pub(super) outside: f64,
}

impl Verdict {
    /// Reads the verdict from the logits of the whole vocabulary.
    ///
    /// # Errors
    /// Returns `NotFinite` if a logit is NaN or infinite, and `WrongShape` if the vocabulary lacks a token.
    pub(super) fn of(logits: &[f32], ids: &VerdictIds) -> Result<Self, Abstention> {
        if logits.iter().any(|logit| !logit.is_finite()) {
            return Err(Abstention::NotFinite);
        }
        let greatest = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        // The greatest logit has the weight 1, so that no weight overflows.
        let weight = |logit: f32| (f64::from(logit) - f64::from(greatest)).exp();
        let all: f64 = logits.iter().map(|&logit| weight(logit)).sum();
        let harmful = log_mass(logits, &ids.harmful)?;
        let safe = log_mass(logits, &ids.safe)?;
        let inside = (harmful - f64::from(greatest)).exp() + (safe - f64::from(greatest)).exp();
        Ok(Self { p: 1.0 / (1.0 + (safe - harmful).exp()), outside: (1.0 - inside / all).clamp(0.0, 1.0) })
    }
}

/// The logarithm of the sum of the weights of these tokens.
fn log_mass(logits: &[f32], ids: &[u32]) -> Result<f64, Abstention> {
    let logit = |id: &u32| logits.get(*id as usize).copied().map(f64::from);
    let found: Option<Vec<f64>> = ids.iter().map(logit).collect();
    let found = found.filter(|found| !found.is_empty()).ok_or(Abstention::WrongShape)?;
    let greatest = found.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    Ok(greatest + found.iter().map(|logit| (logit - greatest).exp()).sum::<f64>().ln())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(logits: &[f32]) -> Result<Verdict, Abstention> {
        Verdict::of(logits, &VerdictIds { harmful: vec![1], safe: vec![2] })
    }

    #[test]
    fn with_one_token_each_it_is_a_sigmoid_of_the_difference() {
        let found = verdict(&[-1e4, 2.0, 0.5, -1e4]).unwrap();
        assert!(
            (found.p - 1.0 / (1.0 + (-1.5_f64).exp())).abs() < 1e-12 && found.outside < 1e-12,
            "{found:?}"
        );
    }

    #[test]
    fn several_words_add_up() {
        let ids = VerdictIds { harmful: vec![0, 1], safe: vec![2, 3] };
        let logits = [0.3_f32, 0.6, 0.05, 0.05].map(f32::ln);
        let found = Verdict::of(&logits, &ids).unwrap();
        assert!((found.p - 0.9).abs() < 1e-6 && found.outside < 1e-6, "{found:?}");
    }

    #[test]
    fn the_rest_of_the_vocabulary_is_outside() {
        let logits = [0.5_f32, 0.1, 0.3, 0.1].map(f32::ln);
        let found = verdict(&logits).unwrap();
        assert!((found.p - 0.25).abs() < 1e-6 && (found.outside - 0.6).abs() < 1e-6, "{found:?}");
    }

    #[test]
    fn great_logits_do_not_overflow() {
        let found = verdict(&[0.0, 3e38, 3e38, 0.0]).unwrap();
        assert_eq!((found.p, found.outside), (0.5, 0.0));
        let found = verdict(&[3e38, -3e38, 3e38, 0.0]).unwrap();
        assert_eq!((found.p, found.outside), (0.0, 0.5));
    }

    #[test]
    fn numbers_that_are_not_finite_and_missing_tokens_are_abstentions() {
        assert_eq!(verdict(&[f32::NAN, 1.0, 1.0]), Err(Abstention::NotFinite));
        assert_eq!(verdict(&[0.0, f32::INFINITY, 1.0]), Err(Abstention::NotFinite));
        assert_eq!(verdict(&[0.0, 1.0]), Err(Abstention::WrongShape));
    }
}
