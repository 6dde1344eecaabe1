//! The judges: each expert, plain majority, and the default learner, before it sees a set and going through it.

use std::collections::BTreeMap;

use super::EvaluateError;
use super::ask::{Answers, Votes};
use super::measures::{Measures, Said};
use super::sets::{Set, Text};
use crate::core::learners::majority::majority;
use crate::core::learners::{Learner, LearnerSpec, Name, RoundInput};

/// The judges after the experts.
pub(super) const TOGETHER: [&str; 3] = ["majority", "default, before", "default, online"];

/// What each judge says of a set's texts.
#[derive(Debug)]
pub(super) struct Judged<'a> {
    pub(super) set: &'a Set,
    /// By judge, then by text; NaN: abstained.
    pub(super) said: Vec<Vec<f64>>,
}

impl Judged<'_> {
    /// A judge's figures over the texts that are kept.
    pub(super) fn measures(&self, judge: usize, keep: impl Fn(&Text) -> bool) -> Measures {
        let said = self.said.get(judge).into_iter().flatten();
        let pairs = self.set.texts.iter().zip(said).filter(|(text, p)| keep(text) && p.is_finite());
        let said: Vec<Said> = pairs.map(|(text, p)| Said { p: *p, is_unsafe: text.is_unsafe }).collect();
        Measures::of(&said)
    }

    /// Share of the texts kept that a judge is right about at .5, and how many they are; an abstention is wrong.
    pub(super) fn accuracy(&self, judge: usize, keep: impl Fn(&Text) -> bool) -> (f64, usize) {
        let said = self.said.get(judge).into_iter().flatten();
        let kept = self.set.texts.iter().zip(said).filter(|(text, _)| keep(text));
        let right: Vec<bool> = kept.map(|(text, p)| p.is_finite() && (*p >= 0.5) == text.is_unsafe).collect();
        (right.iter().filter(|right| **right).count() as f64 / right.len() as f64, right.len())
    }
}

fn sight<'a>(votes: &'a Votes, event: &'a str) -> RoundInput<'a> {
    RoundInput { votes: &votes.votes, features: votes.features.as_deref(), event }
}

fn awake(votes: &Votes) -> bool {
    votes.votes.iter().any(|vote| vote.is_finite())
}

fn target(text: &Text) -> f64 {
    f64::from(u8::from(text.is_unsafe))
}

/// The default learner, taught with texts of other sources.
struct School<'a> {
    experts: &'a [&'a str],
    teaching: &'a [Text],
    answers: &'a Answers,
    /// The state after all teaching texts but those of some sources.
    taught: BTreeMap<Vec<&'static str>, Vec<f64>>,
}

impl School<'_> {
    fn build(&self) -> Result<Box<dyn Learner>, EvaluateError> {
        let spec = LearnerSpec::new(Name::Default);
        spec.build(self.experts, "evaluate").map_err(|error| EvaluateError::Data(error.to_string()))
    }

    /// A learner that has gone through every teaching text but those of the `without` sources.
    fn learner(&mut self, without: &'static [&'static str]) -> Result<Box<dyn Learner>, EvaluateError> {
        let mut learner = self.build()?;
        let left_out = |source: &&&str| self.teaching.iter().any(|text| text.source == **source);
        let key: Vec<&'static str> = without.iter().filter(left_out).copied().collect();
        if let Some(state) = self.taught.get(&key) {
            learner.load(state).map_err(|error| EvaluateError::Data(error.to_string()))?;
            return Ok(learner);
        }
        for text in self.teaching.iter().filter(|text| !without.contains(&text.source)) {
            if let Some(votes) = self.answers.get(text).filter(|votes| awake(votes)) {
                learner.step(&sight(votes, &text.text), target(text));
            }
        }
        let mut state = Vec::new();
        learner.save(&mut state);
        self.taught.insert(key, state);
        Ok(learner)
    }
}

/// Lets every judge judge every set.
///
/// # Errors
/// Where there are no experts, or too many for the learner.
pub(super) fn judge<'a>(
    experts: &[&str],
    held_out: &'a [Set],
    teaching: &[Text],
    answers: &Answers,
) -> Result<Vec<Judged<'a>>, EvaluateError> {
    let mut school = School { experts, teaching, answers, taught: BTreeMap::new() };
    let silent = Votes { votes: vec![f64::NAN; experts.len()], features: None };
    let mut judged = Vec::new();
    for set in held_out {
        let mut learner = school.learner(set.sources)?;
        let votes: Vec<&Votes> = set.texts.iter().map(|text| answers.get(text).unwrap_or(&silent)).collect();
        let mut said: Vec<Vec<f64>> = (0..experts.len())
            .map(|expert| {
                votes.iter().map(|votes| votes.votes.get(expert).copied().unwrap_or(f64::NAN)).collect()
            })
            .collect();
        let awake_or = |votes: &Votes, p: &mut dyn FnMut() -> f64| if awake(votes) { p() } else { f64::NAN };
        said.push(votes.iter().map(|votes| awake_or(votes, &mut || majority(&votes.votes))).collect());
        let texts = || set.texts.iter().zip(&votes);
        let before =
            texts().map(|(text, votes)| awake_or(votes, &mut || learner.predict(&sight(votes, &text.text))));
        said.push(before.collect());
        // In the order of the texts' hashes: each is judged before its label is learned.
        let online = texts().map(|(text, votes)| {
            awake_or(votes, &mut || learner.step(&sight(votes, &text.text), target(text)))
        });
        said.push(online.collect());
        judged.push(Judged { set, said });
    }
    Ok(judged)
}
