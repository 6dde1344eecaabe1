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
