//! The alarms of one policy: block rate, mean p, disagreement of the panel, and each expert's error on audited events.

use std::collections::{BTreeMap, BTreeSet};

use crate::core::alarm;
use crate::core::decision::{Decision, ReviewReason};
use crate::core::policy::{Action, Policy};

/// The number of decisions that serve as reference.
const DECISIONS: u64 = 1_000;
/// The number of audited votes that serve as reference for the error of an expert.
const AUDITED: u64 = 100;
/// The greatest number of experts whose errors are watched.
const MAX_EXPERTS: usize = 64;
/// The greatest number of versions of a policy that are remembered.
const MAX_VERSIONS: usize = 64;

/// A watched value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Watched {
    BlockRate,
    MeanP,
    Disagreement,
    /// The error of an expert on audited events.
    ExpertError(String),
}

impl Watched {
    /// The name in metrics and logs.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::BlockRate => "block_rate",
            Self::MeanP => "mean_p",
            Self::Disagreement => "disagreement",
            Self::ExpertError(_) => "expert_error",
        }
    }

    /// The expert; empty for values of the ensemble.
    pub(super) fn expert(&self) -> &str {
        match self {
            Self::ExpertError(expert) => expert,
            _ => "",
        }
    }
}

/// An alarm that was raised.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Raised {
    pub(super) watched: Watched,
    pub(super) alarm: alarm::Alarm,
}

/// The votes on an audited event, until its label arrives.
#[derive(Debug, Clone)]
pub(super) struct Audited {
    /// The probability of the audit.
    probability: f64,
    threshold: f64,
    /// The experts and their scores.
    scores: Box<[(u16, f64)]>,
}

/// The watches of one policy. Each value begins with a new watch after its alarm, and all do with a version of the policy
/// that was not seen before, which may change them on purpose.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    watches: BTreeMap<Watched, alarm::Watch>,
    versions: BTreeSet<String>,
    experts: Vec<String>,
}

impl Alarms {
    /// Adds a decision. Returns the alarms that it raises.
    pub(super) fn add(&mut self, decision: &Decision) -> Vec<Raised> {
        if !self.versions.contains(&decision.policy_version) {
            if self.versions.len() >= MAX_VERSIONS {
                self.versions.clear();
            }
            self.versions.insert(decision.policy_version.clone());
            self.watches.clear();
        }
        if decision.nothing_to_judge {
            return Vec::new();
        }
        let of = |happened: bool| if happened { 1.0 } else { 0.0 };
        let scores = || decision.votes.iter().filter_map(|weighed| weighed.vote.awake());
        let disagrees = scores().any(|score| score >= 0.5) && scores().any(|score| score < 0.5);
        let mut values = vec![
            (Watched::BlockRate, of(decision.action == Action::Block)),
            (Watched::Disagreement, of(disagrees)),
        ];
        values.extend(decision.probability.map(|p| (Watched::MeanP, p)));
        values.into_iter().filter_map(|(watched, value)| self.observe(watched, value, 1.0)).collect()
    }

    /// The votes of an audited decision; `None` for another one.
    pub(super) fn audited(&mut self, decision: &Decision) -> Option<Audited> {
        let probability = decision.sampling.audit;
        if !decision.reasons.contains(&ReviewReason::Audit) || probability <= 0.0 {
            return None;
        }
        let mut scores = Vec::new();
        for weighed in &decision.votes {
            let vote = &weighed.vote;
            let counts = !vote.decisive || vote.explored;
            if let Some(score) = vote.score().filter(|_| counts)
                && let Some(expert) = self.number(&vote.expert)
            {
                scores.push((expert, score));
            }
        }
        Some(Audited { probability, threshold: decision.threshold, scores: scores.into() })
    }

    /// Adds the label of an audited decision. Returns the alarms that it raises.
    pub(super) fn answered(&mut self, audited: &Audited, target: f64, policy: &Policy) -> Vec<Raised> {
        let rates = Action::ALL.map(|action| policy.audit_rates.of(action));
        let least = rates.into_iter().filter(|rate| *rate > 0.0).fold(1.0, f64::min);
        // An audit with a lower probability than the policy's was drawn under an earlier version.
        let weight = (least / audited.probability).min(1.0);
        let mut raised = Vec::new();
        for (expert, score) in &audited.scores {
            let said = if *score >= audited.threshold { 1.0 } else { 0.0 };
            let watched = Watched::ExpertError(self.experts[usize::from(*expert)].clone());
            raised.extend(self.observe(watched, (said - target).abs(), weight));
        }
        raised
    }

    fn observe(&mut self, watched: Watched, value: f64, weight: f64) -> Option<Raised> {
        let reference = if matches!(watched, Watched::ExpertError(_)) { AUDITED } else { DECISIONS };
        let watch = self.watches.entry(watched.clone()).or_insert_with(|| alarm::Watch::new(reference));
        let alarm = watch.observe_weighted(value, weight)?;
        self.watches.remove(&watched);
        Some(Raised { watched, alarm })
    }

    fn number(&mut self, expert: &str) -> Option<u16> {
        let known = self.experts.iter().position(|known| known == expert);
        if known.is_none() && self.experts.len() < MAX_EXPERTS {
            self.experts.push(expert.to_owned());
            return u16::try_from(self.experts.len() - 1).ok();
        }
        known.and_then(|number| u16::try_from(number).ok())
    }
}
