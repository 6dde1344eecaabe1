//! The judges: each expert, plain majority, the default learner before it sees a set, and the same learner while it learns
//! the set's labels one by one.

use std::collections::BTreeMap;

use super::EvaluateError;
use super::ask::{Answers, Votes};
use super::measures::{Measures, Scored};
use super::sets::{Set, Text};
use crate::core::learners::majority::majority;
use crate::core::learners::{Learner, LearnerSpec, Name, RoundInput};

/// The judges that combine the experts' votes. They follow the experts in every list of judges.
pub(super) const COMBINED: [&str; 3] = ["majority", "default, before", "default, online"];

/// The scores of all judges on the texts of a set.
#[derive(Debug)]
pub(super) struct JudgedSet<'a> {
    pub(super) set: &'a Set,
    /// P(unsafe) by judge, then by text; NaN for an abstention.
    pub(super) scores: Vec<Vec<f64>>,
}

impl JudgedSet<'_> {
    /// Returns a judge's measures over the texts for which `keep` returns `true`.
    pub(super) fn measures(&self, judge: usize, keep: impl Fn(&Text) -> bool) -> Measures {
        Measures::of(&self.scored(judge, keep))
    }

    /// Returns a judge's scores of the texts for which `keep` returns `true`, without abstentions.
    pub(super) fn scored(&self, judge: usize, keep: impl Fn(&Text) -> bool) -> Vec<Scored> {
        let scores = self.scores.get(judge).into_iter().flatten();
        let pairs = self.set.texts.iter().zip(scores).filter(|(text, p)| keep(text) && p.is_finite());
        pairs.map(|(text, p)| Scored { p: *p, is_unsafe: text.is_unsafe }).collect()
    }

    /// Returns a judge's accuracy at .5 over the texts for which `keep` returns `true`, and their number. An abstention
    /// counts as wrong.
    pub(super) fn accuracy(&self, judge: usize, keep: impl Fn(&Text) -> bool) -> (f64, usize) {
        let scores = self.scores.get(judge).into_iter().flatten();
        let kept = self.set.texts.iter().zip(scores).filter(|(text, _)| keep(text));
        let right: Vec<bool> = kept.map(|(text, p)| p.is_finite() && (*p >= 0.5) == text.is_unsafe).collect();
        (right.iter().filter(|right| **right).count() as f64 / right.len() as f64, right.len())
    }
}

/// A labelled round: the votes on a text, the id that keyed draws read, and the target.
pub(super) struct Round<'a> {
    pub(super) votes: &'a Votes,
    pub(super) event: &'a str,
    pub(super) target: f64,
}

impl Round<'_> {
    fn input<'a>(&'a self, votes: &'a Votes) -> RoundInput<'a> {
        RoundInput { votes: &votes.votes, features: votes.features.as_deref(), event: self.event }
    }
}

fn awake(votes: &Votes) -> bool {
    votes.votes.iter().any(|vote| vote.is_finite())
}

fn target(text: &Text) -> f64 {
    f64::from(u8::from(text.is_unsafe))
}

/// Returns the scores of all judges, by judge and then by round: of the experts, of plain majority, of the learner as it
/// is, and of the learner while it learns round by round. Each round is scored before its target is learned. NaN is an
/// abstention.
pub(super) fn scores(learner: &mut dyn Learner, experts: usize, rounds: &[Round<'_>]) -> Vec<Vec<f64>> {
    let mut scores = votes_and_majority(experts, rounds.iter().map(|round| round.votes));
    let awake_or = |votes: &Votes, p: &mut dyn FnMut() -> f64| if awake(votes) { p() } else { f64::NAN };
    let before = rounds
        .iter()
        .map(|round| awake_or(round.votes, &mut || learner.predict(&round.input(round.votes))))
        .collect();
    scores.push(before);
    let online = rounds
        .iter()
        .map(|round| awake_or(round.votes, &mut || learner.step(&round.input(round.votes), round.target)));
    scores.push(online.collect());
    scores
}

/// Returns the scores of the experts and of plain majority.
pub(super) fn votes_and_majority<'a>(
    experts: usize,
    votes: impl Iterator<Item = &'a Votes> + Clone,
) -> Vec<Vec<f64>> {
    let of = |expert: usize| {
        votes.clone().map(|votes| votes.votes.get(expert).copied().unwrap_or(f64::NAN)).collect()
    };
    let mut scores: Vec<Vec<f64>> = (0..experts).map(of).collect();
    let all = votes.clone();
    scores.push(all.map(|votes| if awake(votes) { majority(&votes.votes) } else { f64::NAN }).collect());
    scores
}

/// The learner's scores of attacked texts.
pub(super) struct AttackedScores {
    /// By attack, then by round that was attacked: the learner as it is.
    pub(super) before: Vec<Vec<f64>>,
    /// The same of the learner while it learns, at the round of the text.
    pub(super) online: Vec<Vec<f64>>,
}

/// Returns the learner's scores of attacked texts. `attacked` has the votes on them by attack and round; `None` for a round
/// that is not attacked. The learner learns from the texts as they were.
pub(super) fn attacked_scores(
    learner: &mut dyn Learner,
    rounds: &[Round<'_>],
    attacked: &[Vec<Option<&Votes>>],
) -> AttackedScores {
    fn score(learner: &mut dyn Learner, round: &Round<'_>, votes: &Votes) -> f64 {
        if awake(votes) { learner.predict(&round.input(votes)) } else { f64::NAN }
    }
    let mut all =
        AttackedScores { before: vec![Vec::new(); attacked.len()], online: vec![Vec::new(); attacked.len()] };
    let add = |learner: &mut dyn Learner, round: &Round<'_>, at: usize, to: &mut [Vec<f64>]| {
        for (votes, scores) in attacked.iter().zip(to) {
            if let Some(Some(votes)) = votes.get(at) {
                scores.push(score(learner, round, votes));
            }
        }
    };
    for (at, round) in rounds.iter().enumerate() {
        add(learner, round, at, &mut all.before);
    }
    for (at, round) in rounds.iter().enumerate() {
        add(learner, round, at, &mut all.online);
        if awake(round.votes) {
            learner.step(&round.input(round.votes), round.target);
        }
    }
    all
}

/// Trains default learners on texts of other sources than a set's.
struct Trainer<'a> {
    experts: &'a [&'a str],
    teaching: &'a [Text],
    answers: &'a Answers,
    /// The learner's state after all training texts except those of the sources in the key.
    states: BTreeMap<Vec<&'static str>, Vec<f64>>,
}

impl Trainer<'_> {
    fn build(&self) -> Result<Box<dyn Learner>, EvaluateError> {
        let spec = LearnerSpec::new(Name::Default);
        spec.build(self.experts, "evaluate").map_err(|error| EvaluateError::Data(error.to_string()))
    }

    /// Returns a learner trained on all training texts except those of the `without` sources.
    fn learner(&mut self, without: &'static [&'static str]) -> Result<Box<dyn Learner>, EvaluateError> {
        let mut learner = self.build()?;
        let left_out = |source: &&&str| self.teaching.iter().any(|text| text.source == **source);
        let key: Vec<&'static str> = without.iter().filter(left_out).copied().collect();
        if let Some(state) = self.states.get(&key) {
            learner.load(state).map_err(|error| EvaluateError::Data(error.to_string()))?;
            return Ok(learner);
        }
        for text in self.teaching.iter().filter(|text| !without.contains(&text.source)) {
            if let Some(votes) = self.answers.get(&text.text).filter(|votes| awake(votes)) {
                let round = Round { votes, event: &text.text, target: target(text) };
                learner.step(&round.input(votes), round.target);
            }
        }
        let mut state = Vec::new();
        learner.save(&mut state);
        self.states.insert(key, state);
        Ok(learner)
    }
}

/// Returns the scores of every judge on every set.
///
/// # Errors
/// Returns an error if there are no experts, or too many for the learner.
pub(super) fn judge<'a>(
    experts: &[&str],
    held_out: &'a [Set],
    teaching: &[Text],
    answers: &Answers,
) -> Result<Vec<JudgedSet<'a>>, EvaluateError> {
    let mut trainer = Trainer { experts, teaching, answers, states: BTreeMap::new() };
    let silent = Votes { votes: vec![f64::NAN; experts.len()], features: None };
    let mut judged = Vec::new();
    for set in held_out {
        let mut learner = trainer.learner(set.sources)?;
        // The texts are in the order of their hashes.
        let round = |text: &'a Text| {
            let votes = answers.get(&text.text).unwrap_or(&silent);
            Round { votes, event: &text.text, target: target(text) }
        };
        let rounds: Vec<Round<'_>> = set.texts.iter().map(round).collect();
        let scores = scores(learner.as_mut(), experts.len(), &rounds);
        judged.push(JudgedSet { set, scores });
    }
    Ok(judged)
}
