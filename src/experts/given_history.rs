//! The score of a turn given the turns before it.
//!
//! An expert that reads a conversation is asked about three texts: the judged turn alone, the history before it, and the
//! whole of both. A bad old turn makes the whole look bad for as long as it is in view, and is not the judged turn's
//! fault. Let H be P(unsafe) of the history, W that of the whole, and q the probability that the judged turn makes a
//! conversation unsafe that was not so before: W = H + (1 - H) q. The score is the greater of q and the judged turn's own
//! score: a turn is never less harmful because of what came before it.

use super::scores::ExpertScore;
use crate::core::vote::CategoryScore;

/// The probability that the judged turn makes the conversation unsafe, if it was not so before.
fn added(whole: f64, history: f64) -> f64 {
    if whole > history { (whole - history) / (1.0 - history) } else { 0.0 }
}

/// The score of the judged turn, given its history: the total, and each category for itself.
pub(super) fn given_history(turn: ExpertScore, whole: ExpertScore, history: &ExpertScore) -> ExpertScore {
    let ((score, mut categories), (whole, of_whole), (history, of_history)) = (turn, whole, history);
    let score = score.max(added(whole, *history));
    for CategoryScore { category, score: whole } in of_whole {
        let find = |known: &CategoryScore| known.category.cmp(&category);
        let history = of_history.binary_search_by(find).map_or(0.0, |at| of_history[at].score);
        let score = added(whole, history);
        match categories.binary_search_by(find) {
            Ok(at) => categories[at].score = categories[at].score.max(score),
            Err(at) => categories.insert(at, CategoryScore { category, score }),
        }
    }
    (score, categories)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn scores(score: f64, categories: &[(&str, f64)]) -> ExpertScore {
        let one = |&(category, score): &(&str, f64)| CategoryScore { category: category.to_owned(), score };
        (score, categories.iter().map(one).collect())
    }

    #[test]
    fn a_turn_counts_for_what_it_adds() {
        let given = |turn, whole, history| {
            given_history(scores(turn, &[]), scores(whole, &[]), &scores(history, &[])).0
        };
        // The history is as bad as the whole.
        assert_eq!((given(0.1, 0.9, 0.9), given(0.1, 0.7, 0.9), given(0.1, 1.0, 1.0)), (0.1, 0.1, 0.1));
        // The whole is bad, and neither part is.
        assert_eq!((given(0.1, 0.8, 0.0), given(0.1, 1.0, 0.5), given(0.1, 0.75, 0.5)), (0.8, 1.0, 0.5));
        // The turn is bad by itself.
        assert_eq!((given(0.9, 0.2, 0.1), given(0.9, 0.95, 0.9)), (0.9, 0.9));
        // A history that is almost as bad as the whole explains most of it.
        assert!(given(0.1, 0.951, 0.95) < 0.11);
    }

    #[test]
    fn each_category_counts_for_itself() {
        let whole = scores(0.9, &[("hate", 0.9), ("threat", 0.8), ("violence", 0.5)]);
        let history = scores(0.9, &[("hate", 0.9), ("violence", 0.0)]);
        let (_, found) = given_history(scores(0.3, &[("hate", 0.1), ("sexual", 0.3)]), whole, &history);
        assert_eq!(
            found,
            scores(0.0, &[("hate", 0.1), ("sexual", 0.3), ("threat", 0.8), ("violence", 0.5)]).1
        );
    }

    proptest! {
        #[test]
        fn the_score_is_between_the_turns_own_and_the_greater_of_both(
            turn in 0.0..=1.0, whole in 0.0..=1.0, history in 0.0..=1.0
        ) {
            let (score, _) = given_history(scores(turn, &[]), scores(whole, &[]), &scores(history, &[]));
            prop_assert!((turn..=turn.max(whole)).contains(&score), "{score}");
        }
    }
}
