//! The figures of a replay, and their JSON.

use std::collections::BTreeMap;

use serde::Serialize;
use serde_json::Value;

use super::write::json;
use crate::core::learners::tally::Costs;
use crate::core::learners::{Learner, LearnerSpec, Tally};
use crate::core::ledger_state::Reliability;

/// A learner's name and parameters.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct LearnerName {
    /// Its name.
    pub name: &'static str,
    /// Its parameters, those left to their default included.
    pub parameters: BTreeMap<&'static str, Value>,
}

/// One expert's figures.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ExpertFigures {
    /// Rounds in which it was awake.
    pub awake: u64,
    /// Its mistakes in them.
    pub mistakes: u64,
    /// Sum of |v - y| over them.
    pub loss: f64,
    /// Its share of the aggregation at the end. `None` if the learner gives experts no mass.
    pub weight: Option<f64>,
}

/// The figures of one learner.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Figures {
    /// Rounds folded.
    pub rounds: u64,
    /// Rounds of which all labels are above the cap `max_annotator_share`. They teach nothing, and all other figures leave
    /// them out.
    #[serde(skip_serializing_if = "is_zero")]
    pub capped: u64,
    /// The learner.
    pub learner: LearnerName,
    /// Sum over rounds of the sum of `w_i |v_i - y|`, or of |p - y| where the learner outputs p.
    pub loss: f64,
    /// Mean of (p - y)².
    pub brier: f64,
    /// Rounds in which p >= .5 and y >= .5 differ.
    pub mistakes: u64,
    /// The same of plain majority, a tie counting as unsafe.
    pub majority_mistakes: u64,
    /// Expected calibration error over ten equal bins.
    pub calibration_error: f64,
    /// The expert with the fewest mistakes alone.
    pub best_expert: Option<String>,
    /// The greatest regret against an expert, over the rounds in which that one was awake.
    pub regret: Option<f64>,
    /// The proven bound of the regret. `None` if there is none.
    pub regret_bound: Option<f64>,
    /// The expert that it is against.
    pub regret_against: Option<String>,
    /// The loss in which regret is measured.
    pub regret_loss: &'static str,
    /// With costs, the threshold of p from which a round is flagged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threshold: Option<f64>,
    /// With costs, the mean cost of a round at that threshold.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost_weighted_error: Option<f64>,
    /// By expert.
    pub experts: BTreeMap<String, ExpertFigures>,
    /// Each annotator's agreement with the others and with gold labels, if annotators are named. It does not influence
    /// the learner.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotators: BTreeMap<String, AnnotatorFigures>,
    /// The labels that `--labels` left. `None` without the flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub labels: Option<SelectionFigures>,
    /// The state's hash, in hexadecimal.
    pub state_hash: String,
}

/// The labels that a sampling would have asked for. All other figures are of all rounds, and the learner's state is that
/// of a ledger without the hidden labels.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
pub struct SelectionFigures {
    /// Rounds from which the learner learned.
    pub used: u64,
    /// The share of these rounds among all rounds.
    pub share: f64,
    /// Rounds for which the audit draw came up.
    pub audit: u64,
    /// Rounds for which the flat draw `random` came up.
    pub random: u64,
    /// Rounds for which the draw near the threshold came up, which is certain within the margin.
    pub margin: u64,
    /// Mistakes of the p with which rounds were selected. It was computed from the labels that had come by then, so it
    /// differs from `mistakes` if labels are late.
    pub mistakes_when_decided: u64,
}

/// One annotator's agreement. Two labels agree when both say unsafe (.5 or more) or both safe.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct AnnotatorFigures {
    /// Rounds with a live label of this annotator.
    pub labels: u64,
    /// Pairs of this annotator's label and another's on the same round.
    pub compared: u64,
    /// Share of these that agree. `None` if there are no such pairs.
    pub agreement: Option<f64>,
    /// Pairs with a gold label of another.
    pub gold: u64,
    /// Share of these that agree.
    pub gold_agreement: Option<f64>,
}

impl From<&Reliability> for AnnotatorFigures {
    #[expect(clippy::cast_precision_loss, reason = "counts of labels")]
    fn from(found: &Reliability) -> Self {
        let share = |part: u64, of: u64| (of > 0).then(|| part as f64 / of as f64);
        Self {
            labels: found.labels,
            compared: found.compared,
            agreement: share(found.agreed, found.compared),
            gold: found.gold,
            gold_agreement: share(found.gold_agreed, found.gold),
        }
    }
}

/// The figures of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Summary {
    /// By policy.
    pub policies: BTreeMap<String, Figures>,
    /// With `--learner all`, the figures of every learner by policy.
    pub learners: BTreeMap<String, Vec<Figures>>,
    /// Lines read.
    pub lines: u64,
    /// Malformed lines.
    pub malformed: u64,
    /// The wall-clock time in seconds.
    pub seconds: f64,
}

fn is_zero(count: &u64) -> bool {
    *count == 0
}

pub(super) fn named(spec: &LearnerSpec) -> LearnerName {
    let parameters = spec.parameters();
    LearnerName {
        name: spec.name.as_str(),
        parameters: parameters.iter().map(|(name, value)| (*name, json(value))).collect(),
    }
}

impl Figures {
    /// Returns the figures of a learner. `played` is the learner after its rounds and their tally; `None` without rounds.
    pub(super) fn new(
        spec: &LearnerSpec,
        experts: &[String],
        costs: Option<Costs>,
        played: Option<(&dyn Learner, &Tally)>,
        state_hash: String,
    ) -> Self {
        let mut figures = Self {
            rounds: 0,
            capped: 0,
            learner: named(spec),
            loss: 0.0,
            brier: 0.0,
            mistakes: 0,
            majority_mistakes: 0,
            calibration_error: 0.0,
            best_expert: None,
            regret: None,
            regret_bound: None,
            regret_against: None,
            regret_loss: "absolute",
            threshold: costs.map(Costs::threshold),
            cost_weighted_error: costs.map(|_| 0.0),
            experts: BTreeMap::new(),
            annotators: BTreeMap::new(),
            labels: None,
            state_hash,
        };
        let Some((learner, tally)) = played else { return figures };
        let certificate = tally.certificate(learner);
        let name = |at: usize| experts.get(at).cloned();
        let masses = learner.masses();
        let expert = |(name, record): (&String, &crate::core::learners::tally::ExpertTally)| {
            let mass = masses.iter().find(|mass| mass.member == *name).map(|mass| mass.mass);
            let figures = ExpertFigures {
                awake: record.awake,
                mistakes: record.mistakes,
                loss: record.loss,
                weight: mass,
            };
            (name.clone(), figures)
        };
        figures.rounds = tally.rounds;
        figures.loss = tally.loss;
        figures.brier = tally.brier();
        figures.mistakes = tally.mistakes;
        figures.majority_mistakes = tally.majority_mistakes;
        figures.calibration_error = tally.calibration_error();
        figures.best_expert = tally.best_expert().and_then(name);
        figures.regret = certificate.map(|found| found.regret);
        figures.regret_bound = certificate.and_then(|found| found.bound);
        figures.regret_against = certificate.and_then(|found| name(found.expert));
        figures.regret_loss = learner.loss_kind().as_str();
        figures.cost_weighted_error = costs.map(|_| tally.cost / tally.rounds.max(1) as f64);
        figures.experts = experts.iter().zip(&tally.experts).map(expert).collect();
        figures
    }
}

impl Summary {
    /// Returns the number of rounds of all policies.
    #[must_use]
    pub fn rounds(&self) -> u64 {
        self.policies.values().map(|figures| figures.rounds).sum()
    }

    /// Returns the JSON of `--json`: the figures of the only policy, or those of several policies under `policies`.
    #[must_use]
    pub fn json(&self) -> Value {
        let figures = |figures: &Figures| serde_json::to_value(figures).expect("figures are JSON");
        let mut all = match self.policies.iter().next() {
            Some((_, only)) if self.policies.len() == 1 => figures(only),
            _ => {
                let policies: serde_json::Map<_, _> =
                    self.policies.iter().map(|(name, of)| (name.clone(), figures(of))).collect();
                serde_json::json!({ "policies": policies, "rounds": self.rounds() })
            }
        };
        if let Value::Object(object) = &mut all {
            let rate = if self.seconds > 0.0 { self.rounds() as f64 / self.seconds } else { 0.0 };
            object.insert("lines".to_owned(), self.lines.into());
            object.insert("malformed".to_owned(), self.malformed.into());
            object.insert("seconds".to_owned(), self.seconds.into());
            object.insert("rounds_per_second".to_owned(), rate.into());
            let of = |of: &Vec<Figures>| -> serde_json::Map<String, Value> {
                of.iter().map(|one| (one.learner.name.to_owned(), figures(one))).collect()
            };
            let learners = match self.learners.iter().next() {
                None => return all,
                Some((_, only)) if self.learners.len() == 1 => Value::Object(of(only)),
                _ => self.learners.iter().map(|(name, all)| (name.clone(), Value::Object(of(all)))).collect(),
            };
            object.insert("learners".to_owned(), learners);
        }
        all
    }
}
