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
        let scores = self.scores.get(judge).into_iter().flatten();
        let pairs = self.set.texts.iter().zip(scores).filter(|(text, p)| keep(text) && p.is_finite());
        let scores: Vec<Scored> =
            pairs.map(|(text, p)| Scored { p: *p, is_unsafe: text.is_unsafe }).collect();
        Measures::of(&scores)
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

fn round_input<'a>(votes: &'a Votes, event: &'a str) -> RoundInput<'a> {
    RoundInput { votes: &votes.votes, features: votes.features.as_deref(), event }
}

fn awake(votes: &Votes) -> bool {
    votes.votes.iter().any(|vote| vote.is_finite())
}

fn target(text: &Text) -> f64 {
    f64::from(u8::from(text.is_unsafe))
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
            if let Some(votes) = self.answers.get(text).filter(|votes| awake(votes)) {
                learner.step(&round_input(votes, &text.text), target(text));
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
        let votes: Vec<&Votes> = set.texts.iter().map(|text| answers.get(text).unwrap_or(&silent)).collect();
        let mut scores: Vec<Vec<f64>> = (0..experts.len())
            .map(|expert| {
                votes.iter().map(|votes| votes.votes.get(expert).copied().unwrap_or(f64::NAN)).collect()
            })
            .collect();
        let awake_or = |votes: &Votes, p: &mut dyn FnMut() -> f64| if awake(votes) { p() } else { f64::NAN };
        scores.push(votes.iter().map(|votes| awake_or(votes, &mut || majority(&votes.votes))).collect());
        let texts = || set.texts.iter().zip(&votes);
        let before = texts()
            .map(|(text, votes)| awake_or(votes, &mut || learner.predict(&round_input(votes, &text.text))));
        scores.push(before.collect());
        // The texts are in the order of their hashes. Each is scored before its label is learned.
        let online = texts().map(|(text, votes)| {
            awake_or(votes, &mut || learner.step(&round_input(votes, &text.text), target(text)))
        });
        scores.push(online.collect());
        judged.push(JudgedSet { set, scores });
    }
    Ok(judged)
}
