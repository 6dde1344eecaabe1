//! The explanation of a decision: the effect of the features, and the least change that would flip it.

use super::decision::Decision;
use super::predictor::Predictor;
use super::vote::{Outcome, Vote};

/// The search moves a vote in steps of 1/STEPS and then narrows a crossing down to [`TOLERANCE`].
const STEPS: u32 = 256;
/// The tolerance of a crossing, in score.
const TOLERANCE: f64 = 1e-6;

/// A change of one expert's vote that moves p to the other side of the threshold.
#[derive(Debug, Clone, PartialEq)]
pub struct Flip {
    /// The expert.
    pub expert: String,
    /// The vote of the expert, in \[0,1\].
    pub from: f64,
    /// The nearest vote that flips the verdict, in \[0,1\].
    pub to: f64,
    /// The p with that vote, in \[0,1\].
    pub probability: f64,
}

/// The explanation of a decision.
#[derive(Debug, Clone, PartialEq)]
pub struct Explanation {
    /// P(unsafe) from the decision's own votes and features. It equals the decision's to the bit if the predictor
    /// is the one that the decision names and the features were stored.
    pub probability: Option<f64>,
    /// P(unsafe) without the features; `None` if there are none, or the predictor does not read them.
    pub without_features: Option<f64>,
    /// The least change of one vote that flips the verdict; `None` if no single vote can.
    pub flip: Option<Flip>,
}

/// Computes a decision again with the predictor that it names.
#[must_use]
pub fn explain(decision: &Decision, predictor: &mut Predictor) -> Explanation {
    let mut votes: Vec<Vote> = decision.votes.iter().map(|weighed| weighed.vote.clone()).collect();
    let (event, features) = (decision.id.event.as_str(), decision.features.as_ref());
    let probability = predictor.probability(event, &votes, features);
    let reads = features.is_some_and(|features| predictor.reads(features));
    let without_features = if reads { predictor.probability(event, &votes, None) } else { None };
    let mut p_of = |votes: &[Vote]| predictor.probability(event, votes, features);
    let flip = probability
        .and_then(|p| least_flip(&mut votes, p >= decision.threshold, decision.threshold, &mut p_of));
    Explanation { probability, without_features, flip }
}

/// The least flip of all experts; of equal ones, the first in the order of the experts. A crossing that is narrower
/// than a step can be missed. The result is then a wider change, but still a true one.
fn least_flip(
    votes: &mut [Vote],
    flagged: bool,
    threshold: f64,
    p_of: &mut dyn FnMut(&[Vote]) -> Option<f64>,
) -> Option<Flip> {
    let mut best: Option<Flip> = None;
    for at in 0..votes.len() {
        let Some(from) = votes[at].awake() else { continue };
        let mut crosses = |score: f64| {
            set_score(&mut votes[at], score);
            p_of(votes).filter(|p| (*p >= threshold) != flagged)
        };
        let found = nearest(from, &mut crosses);
        set_score(&mut votes[at], from);
        let Some((to, probability)) = found else { continue };
        if best.as_ref().is_none_or(|best| (to - from).abs() < (best.to - best.from).abs()) {
            best = Some(Flip { expert: votes[at].expert.clone(), from, to, probability });
        }
    }
    best
}

fn set_score(vote: &mut Vote, to: f64) {
    let Outcome::Voted { score, .. } = &mut vote.outcome else { unreachable!("the expert is awake") };
    *score = to;
}

/// The nearest score to `from` that crosses, and its p. The search proceeds in both directions at once.
fn nearest(from: f64, crosses: &mut dyn FnMut(f64) -> Option<f64>) -> Option<(f64, f64)> {
    let mut inner = 0.0;
    for step in 1..=STEPS {
        let distance = f64::from(step) / f64::from(STEPS);
        let found = [-1.0, 1.0].map(|way| {
            let (near, far) = ((from + way * inner).clamp(0.0, 1.0), (from + way * distance).clamp(0.0, 1.0));
            // Beyond an end of the range there is no new score.
            if near.to_bits() == far.to_bits() { None } else { Some((near, far, crosses(far)?)) }
        });
        let narrowed = found.into_iter().flatten().map(|found| narrow(found, crosses));
        let best = narrowed.min_by(|(a, _), (b, _)| (a - from).abs().total_cmp(&(b - from).abs()));
        if best.is_some() {
            return best;
        }
        inner = distance;
    }
    None
}

/// Narrows the interval between a score that does not cross and one that does to [`TOLERANCE`], by bisection.
fn narrow(
    (mut near, mut far, mut p): (f64, f64, f64),
    crosses: &mut dyn FnMut(f64) -> Option<f64>,
) -> (f64, f64) {
    while (far - near).abs() > TOLERANCE {
        let middle = f64::midpoint(near, far);
        match crosses(middle) {
            Some(found) => (far, p) = (middle, found),
            None => near = middle,
        }
    }
    (far, p)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decision::{DecisionInput, decide};
    use crate::event::Event;
    use crate::features::DIMENSIONS;
    use crate::fold::{Fold, Settings};
    use crate::label::Finding;
    use crate::learners::{LearnerSpec, Name};
    use crate::ledger::{Record, RoundId, TextFeatures};
    use crate::ledger_state::LedgerState;
    use crate::policy::Policy;
    use crate::vote::Abstention;

    fn policy(learner: Name) -> Policy {
        Policy { learner: LearnerSpec::new(learner), ..Policy::example("default") }
    }

    fn decision(
        votes: Vec<Vote>,
        features: Option<TextFeatures>,
        predictor: &mut Predictor,
        policy: &Policy,
    ) -> Decision {
        let combined = predictor.combine("e", &votes, features.as_ref());
        let input = DecisionInput { features, ..DecisionInput::example(Event::example("e", "x"), votes) };
        decide(input, policy, predictor.reference().clone(), &combined, 1)
    }

    fn vote(expert: &str, score: f64) -> Vote {
        Vote::scored(expert, [0; 32], score, Vec::new())
    }

    fn prior(names: &[&str], learner: Name) -> Predictor {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        Predictor::prior(&LearnerSpec::new(learner), "default", &names).unwrap()
    }

    #[test]
    fn the_least_change_is_the_smallest_that_crosses() {
        // Before its first round Hedge averages: .9 and .3 give .6, and either must fall by .2.
        let policy = policy(Name::Hedge);
        let mut predictor = prior(&["a", "b"], Name::Hedge);
        let made = decision(vec![vote("a", 0.9), vote("b", 0.3)], None, &mut predictor, &policy);
        let found = explain(&made, &mut predictor);
        assert_eq!((found.probability, found.without_features), (made.probability, None));
        let flip = found.flip.unwrap();
        assert!((flip.from - flip.to - 0.2).abs() < 2e-6 && flip.probability < 0.5, "{flip:?}");
        // A slightly smaller change does not flip.
        let short = [vote("a", 0.9 - 0.2 + 3e-6), vote("b", 0.3)];
        let short = if flip.expert == "a" { short } else { [vote("a", 0.9), vote("b", 0.1 + 3e-6)] };
        assert!(predictor.probability("e", &short, None).unwrap() >= 0.5);
    }

    #[test]
    fn a_vote_cannot_leave_its_range_and_sleepers_are_skipped() {
        let policy = policy(Name::Hedge);
        let mut predictor = prior(&["a", "b", "c"], Name::Hedge);
        // Hedge averages the three votes: with one at 0, the others still keep p above the threshold.
        let all = vec![vote("a", 1.0), vote("b", 1.0), vote("c", 1.0)];
        let made = decision(all, None, &mut predictor, &policy);
        assert_eq!(explain(&made, &mut predictor).flip, None);
        let shadow = Vote { shadow: true, ..vote("b", 0.4) };
        let votes = vec![vote("a", 0.8), shadow, Vote::abstained("c", None, Abstention::Failed)];
        let made = decision(votes, None, &mut predictor, &policy);
        let flip = explain(&made, &mut predictor).flip.unwrap();
        assert!(flip.expert == "a" && (flip.to - 0.5).abs() < 2e-6, "{flip:?}");
        let none = vec![Vote::abstained("a", None, Abstention::Failed)];
        let made = decision(none, None, &mut predictor, &policy);
        assert_eq!(
            explain(&made, &mut predictor),
            Explanation { probability: None, without_features: None, flip: None }
        );
    }

    #[test]
    fn the_effect_of_features_is_p_with_and_without_them() {
        let policy = policy(Name::Default);
        let features =
            |sign: i8| TextFeatures { encoder: [7; 32], features: Box::new([sign * 100; DIMENSIONS]) };
        let mut ledger = LedgerState::new();
        for number in 0..40_i64 {
            let is_unsafe = number % 2 == 0;
            let id = RoundId { tenant: "t".into(), policy: "default".into(), event: format!("e{number}") };
            let finding = if is_unsafe { Finding::Unsafe } else { Finding::Safe };
            for mut record in Record::examples(id, number, &[("a", 0.5)], finding) {
                if let Record::Round(round) = &mut record {
                    round.features = Some(features(if is_unsafe { 1 } else { -1 }));
                }
                ledger.apply(&record, &mut Vec::new()).unwrap();
            }
        }
        let mut fold = Fold::new(Settings::new(&policy.name, policy.learner.clone(), policy.mapping.clone()));
        fold.mark_all_changed(&ledger);
        fold.catch_up(&ledger).unwrap();
        let published = fold.published(&ledger, 80).unwrap();
        let mut predictor = Predictor::published(&published).unwrap();
        let made = decision(vec![vote("a", 0.5)], Some(features(1)), &mut predictor, &policy);
        let found = explain(&made, &mut predictor);
        assert_eq!(found.probability, made.probability);
        assert!(found.probability.unwrap() > found.without_features.unwrap() + 0.1, "{found:?}");
        // The features of another encoder are not read, so there is no comparison.
        let other = TextFeatures { encoder: [8; 32], ..features(1) };
        let made = decision(vec![vote("a", 0.5)], Some(other), &mut predictor, &policy);
        assert_eq!(explain(&made, &mut predictor).without_features, None);
    }
}
