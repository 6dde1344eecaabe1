//! The judges on the samples of files, as they are and under attack.

use std::collections::BTreeSet;

use super::EvaluateError;
use super::ask::{Answers, Votes};
use super::attacks::Attack;
use super::figures::{AttackFigures, Figures, Judge, groups};
use super::judge::{Round, attacked_scores, scores, votes_and_majority};
use super::layout::{Dimension, Sample};
use crate::core::event::Conversation;
use crate::core::learners::{Learner, LearnerSpec, SpecError};
use crate::experts::Panel;

/// The policy under whose name keyed draws of the learner are made.
const POLICY: &str = "evaluate";

/// The panel's experts.
pub(super) struct Experts<'a> {
    /// All ids.
    pub(super) all: Vec<&'a str>,
    /// Those that are not in shadow mode, by their index.
    awake: Vec<usize>,
}

impl<'a> Experts<'a> {
    pub(super) fn new(panel: &'a Panel, shadow: &BTreeSet<String>) -> Self {
        let awake = panel.experts().iter().enumerate().filter(|(_, expert)| !shadow.contains(&expert.id));
        Self {
            awake: awake.map(|(at, _)| at).collect(),
            all: panel.experts().iter().map(|expert| expert.id.as_str()).collect(),
        }
    }

    /// Returns the ids of the experts that majority and the learner use.
    fn awake(&self) -> Vec<&'a str> {
        self.awake.iter().filter_map(|at| self.all.get(*at)).copied().collect()
    }

    /// Returns the votes that majority and the learner use.
    fn votes(&self, votes: &Votes) -> Votes {
        let cast = self.awake.iter().map(|at| votes.votes.get(*at).copied().unwrap_or(f64::NAN));
        Votes { votes: cast.collect(), features: votes.features.clone() }
    }
}

/// The votes on a conversation: of all experts, and of those that majority and the learner use.
pub(super) struct Asked<'a> {
    pub(super) all: &'a Votes,
    awake: Votes,
}

/// An attack with the attacked conversations by sample; `None` for a safe sample.
pub(super) struct Attacked {
    pub(super) attack: Attack,
    pub(super) conversations: Vec<Option<Conversation>>,
}

impl Attacked {
    /// Attacks the unsafe samples.
    pub(super) fn new(attack: Attack, seed: u64, samples: &[Sample]) -> Self {
        let attacked = |one: &Sample| one.is_unsafe().then(|| attack.apply(&one.conversation, seed));
        Self { attack, conversations: samples.iter().map(attacked).collect() }
    }
}

/// The samples with the votes on them.
pub(super) struct Evaluation<'a> {
    learner: &'a LearnerSpec,
    experts: &'a Experts<'a>,
    samples: &'a [Sample],
    answers: &'a Answers,
    pub(super) asked: Vec<Asked<'a>>,
}

fn votes<'a>(
    experts: &Experts<'_>,
    answers: &'a Answers,
    conversation: &Conversation,
) -> Result<Asked<'a>, EvaluateError> {
    let missing = || EvaluateError::Data("the panel did not answer about a text".to_owned());
    let all = answers.get(conversation).ok_or_else(missing)?;
    Ok(Asked { all, awake: experts.votes(all) })
}

impl<'a> Evaluation<'a> {
    /// Takes the votes on the samples from the answers.
    ///
    /// # Errors
    /// Returns an error if the panel was not asked about a sample.
    pub(super) fn new(
        learner: &'a LearnerSpec,
        experts: &'a Experts<'a>,
        samples: &'a [Sample],
        answers: &'a Answers,
    ) -> Result<Self, EvaluateError> {
        let asked = samples.iter().map(|sample| votes(experts, answers, &sample.conversation));
        Ok(Self { learner, experts, samples, answers, asked: asked.collect::<Result<_, _>>()? })
    }

    fn learner(&self) -> Result<Box<dyn Learner>, EvaluateError> {
        let failed = |error: SpecError| EvaluateError::Usage(format!("--learner: {error}"));
        self.learner.build(&self.experts.awake(), POLICY).map_err(failed)
    }

    fn rounds(&self) -> Vec<Round<'_>> {
        let mut rounds = Vec::with_capacity(self.samples.len());
        for (sample, asked) in self.samples.iter().zip(&self.asked) {
            rounds.push(Round { votes: &asked.awake, event: &sample.id, target: sample.target });
        }
        rounds
    }

    /// Returns the scores of all experts, and of the majority of those that are not in shadow mode.
    fn cast(&self, asked: &[&Asked<'_>]) -> Vec<Vec<f64>> {
        let all = self.experts.all.len();
        let mut scores = votes_and_majority(all, asked.iter().map(|asked| asked.all));
        scores.truncate(all);
        scores.extend(votes_and_majority(0, asked.iter().map(|asked| &asked.awake)));
        scores
    }

    /// Returns the figures without attacks.
    ///
    /// # Errors
    /// Returns an error if the learner does not accept the experts.
    pub(super) fn figures(&self) -> Result<Figures, EvaluateError> {
        let mut learner = self.learner()?;
        let mut all = self.cast(&self.asked.iter().collect::<Vec<_>>());
        let learned = scores(learner.as_mut(), self.experts.awake.len(), &self.rounds());
        // Experts and majority are among these scores, too.
        all.extend(learned.into_iter().skip(self.experts.awake.len() + 1));
        let name = self.learner.name.as_str();
        let combined = ["majority".to_owned(), format!("{name}, before"), format!("{name}, online")];
        let names = self.experts.all.iter().map(|id| (*id).to_owned()).chain(combined);
        let judges: Vec<Judge> =
            names.zip(all).map(|(name, scores)| Judge::new(name, scores, self.samples)).collect();
        let groups = Dimension::ALL.into_iter().flat_map(|of| groups(self.samples, &judges, of)).collect();
        let harmful = self.samples.iter().filter(|sample| sample.is_unsafe()).count();
        let safe = self.samples.len() - harmful;
        let experts = self.experts.all.len();
        Ok(Figures { experts, judges, harmful, safe, groups, attacks: Vec::new() })
    }

    /// Returns the recall of all judges under each attack, at the false positive rate `alarms`.
    ///
    /// # Errors
    /// Returns an error if the panel was not asked about an attacked text, or if the learner does not accept the experts.
    pub(super) fn attacks(
        &self,
        attacks: &[Attacked],
        alarms: f64,
        judges: &[Judge],
    ) -> Result<Vec<AttackFigures>, EvaluateError> {
        let mut asked = Vec::new();
        for Attacked { conversations, .. } in attacks {
            let votes = |one: &Option<Conversation>| {
                one.as_ref().map(|one| votes(self.experts, self.answers, one)).transpose()
            };
            asked.push(conversations.iter().map(votes).collect::<Result<Vec<_>, _>>()?);
        }
        let awake: Vec<Vec<Option<&Votes>>> = asked
            .iter()
            .map(|asked| asked.iter().map(|one| one.as_ref().map(|one| &one.awake)).collect())
            .collect();
        let mut learner = self.learner()?;
        let learned = attacked_scores(learner.as_mut(), &self.rounds(), &awake);
        let mut figures = Vec::new();
        let learned = learned.before.into_iter().zip(learned.online);
        for ((Attacked { attack, .. }, asked), (before, online)) in attacks.iter().zip(&asked).zip(learned) {
            let mut scores = self.cast(&asked.iter().flatten().collect::<Vec<_>>());
            scores.extend([before, online]);
            let recall =
                judges.iter().zip(&scores).map(|(judge, scores)| judge.recall(self.samples, scores, alarms));
            figures.push(AttackFigures { attack: *attack, recall: recall.collect() });
        }
        Ok(figures)
    }
}
