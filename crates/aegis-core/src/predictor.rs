//! The predictor, which learn publishes and with which score combines votes.

use super::event::Millis;
use super::features::{EncoderId, Features};
use super::learners::{Interval, Learner, LearnerSpec, Mass, RoundInput, SpecError};
use super::ledger::TextFeatures;
use super::vote::Vote;

/// The version of the state's layout, which is part of the state hash.
pub const FORMAT: u32 = 2;

/// SHA-256 of a learner's state, see [`state_hash`](crate::hash::state_hash).
pub type StateHash = [u8; 32];

/// The reference to a predictor in a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredictorRef {
    /// The name of the learner.
    pub learner: String,
    /// The hash of the learner's state.
    pub state_hash: StateHash,
    /// The number of rounds folded into the state.
    pub rounds: u64,
    /// The ledger's offset that the state reflects; -1 if nothing was learned.
    pub ledger_offset: i64,
    /// `true` if a person chose this predictor, and newer ones are not in use.
    pub pinned: bool,
}

impl PredictorRef {
    /// The reference to the predictor of a learner that has learned nothing.
    #[must_use]
    pub fn prior(learner: impl Into<String>) -> Self {
        Self { learner: learner.into(), state_hash: [0; 32], rounds: 0, ledger_offset: -1, pinned: false }
    }
}

/// The state of a policy's learner, as published.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// The name of the policy.
    pub policy: String,
    /// The version of the state's layout.
    pub format: u32,
    /// The learner and its parameters.
    pub learner: LearnerSpec,
    /// The canonical line of the target mapping.
    pub mapping: String,
    /// The ids of the experts, in the order of their UTF-8 bytes.
    pub experts: Vec<String>,
    /// The encoder whose features the learner reads, if there is one.
    pub encoder: Option<EncoderId>,
    /// The number of rounds folded.
    pub rounds: u64,
    /// The last round folded: (round time, tenant, event id).
    pub last_key: Option<(Millis, String, String)>,
    /// The ledger's offset that the state reflects.
    pub ledger_offset: i64,
    /// The hash of the state.
    pub state_hash: StateHash,
    /// The state.
    pub state: Vec<f64>,
    /// The mass of each member, for display.
    pub masses: Vec<Mass>,
}

#[cfg(any(test, feature = "examples"))]
impl Published {
    /// A state of Hedge after one round, without experts, for tests.
    #[must_use]
    pub fn example(policy: &str) -> Self {
        Self {
            policy: policy.into(),
            format: FORMAT,
            learner: LearnerSpec::new(super::learners::Name::Hedge),
            mapping: String::new(),
            experts: Vec::new(),
            encoder: None,
            rounds: 1,
            last_key: None,
            ledger_offset: 1,
            state_hash: [0; 32],
            state: Vec::new(),
            masses: Vec::new(),
        }
    }
}

/// The greatest length of the reason for a pin, in bytes.
pub const MAX_PIN_REASON: usize = 1000;

/// A predictor that a person has chosen for a policy. It stays in use while newer ones are published.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pin {
    /// The name of the policy.
    pub policy: String,
    /// The record of the predictor as it was published, byte for byte.
    pub predictor: Vec<u8>,
    /// The offset of that record on the topic of predictors.
    pub offset: i64,
    /// The time of that record.
    pub published: Option<Millis>,
    /// The person who chose it.
    pub by: String,
    /// The reason that the person gave.
    pub reason: String,
    /// The time of the choice.
    pub time: Millis,
}

/// The part of one vote in a combination.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Share {
    /// The expert's share of the aggregation, in \[0,1\].
    pub weight: f64,
    /// The change of p by this expert: p minus the p with it asleep; 0 for a sleeper.
    pub contribution: f64,
}

/// The result of combining votes.
#[derive(Debug, Clone, PartialEq)]
pub struct Combined {
    /// P(unsafe); `None` if all experts are asleep.
    pub probability: Option<f64>,
    /// The part of each vote, in the order of the votes.
    pub shares: Vec<Share>,
}

/// A learner's state with which votes are combined.
pub struct Predictor {
    experts: Vec<String>,
    encoder: Option<EncoderId>,
    learner: Box<dyn Learner>,
    weights: Vec<f64>,
    reference: PredictorRef,
}

/// The reason for which a published state cannot be used.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PredictorError {
    /// The state has the layout of another version.
    #[error(
        "the predictor has format {found}, this program reads {FORMAT}: run one version of score and learn"
    )]
    Format {
        /// The format found.
        found: u32,
    },
    /// The learner cannot be built.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// The state does not fit the learner.
    #[error("the predictor's state does not fit its learner: {0:?}")]
    State(super::learners::BadState),
}

impl PredictorError {
    /// The name of the reason, for metrics.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Format { .. } => "Format",
            Self::Spec(_) => "Learner",
            Self::State(_) => "State",
        }
    }
}

impl Predictor {
    /// The predictor before anything is learned, over the experts of a panel.
    ///
    /// # Errors
    /// Returns an error if the learner cannot be built from these experts.
    pub fn prior(spec: &LearnerSpec, policy: &str, experts: &[String]) -> Result<Self, PredictorError> {
        let names: Vec<&str> = experts.iter().map(String::as_str).collect();
        let reference = PredictorRef::prior(spec.name.to_string());
        Ok(Self::new(experts.to_vec(), None, spec.build(&names, policy)?, reference))
    }

    /// The predictor of a published state.
    ///
    /// # Errors
    /// Returns an error if the state has another layout, or does not fit its learner.
    pub fn published(published: &Published) -> Result<Self, PredictorError> {
        if published.format != FORMAT {
            return Err(PredictorError::Format { found: published.format });
        }
        let names: Vec<&str> = published.experts.iter().map(String::as_str).collect();
        let mut learner = published.learner.build(&names, &published.policy)?;
        learner.load(&published.state).map_err(PredictorError::State)?;
        let reference = PredictorRef {
            learner: published.learner.name.to_string(),
            state_hash: published.state_hash,
            rounds: published.rounds,
            ledger_offset: published.ledger_offset,
            pinned: false,
        };
        Ok(Self::new(published.experts.clone(), published.encoder, learner, reference))
    }

    /// The same predictor, as one that a person has pinned.
    #[must_use]
    pub fn pinned(mut self) -> Self {
        self.reference.pinned = true;
        self
    }

    /// The experts of the state, in the order of their UTF-8 bytes.
    #[must_use]
    pub fn experts(&self) -> &[String] {
        &self.experts
    }

    /// The encoder whose features the state reads, if there is one.
    #[must_use]
    pub fn encoder(&self) -> Option<EncoderId> {
        self.encoder
    }

    fn new(
        experts: Vec<String>,
        encoder: Option<EncoderId>,
        learner: Box<dyn Learner>,
        reference: PredictorRef,
    ) -> Self {
        let masses = learner.masses();
        // A learner without members that are experts, as stacking, gives them no mass.
        let mass =
            |expert: &String| masses.iter().find(|mass| mass.member == *expert).map_or(0.0, |mass| mass.mass);
        let weights = experts.iter().map(mass).collect();
        Self { experts, encoder, learner, weights, reference }
    }

    /// The reference to this predictor.
    #[must_use]
    pub fn reference(&self) -> &PredictorRef {
        &self.reference
    }

    /// The probability that [`combine`](Self::combine) returns, without the shares; `None` if all experts are
    /// asleep.
    pub fn probability(
        &mut self,
        event: &str,
        votes: &[Vote],
        features: Option<&TextFeatures>,
    ) -> Option<f64> {
        let (row, _) = self.arrange(votes);
        let features = self.readable(features);
        self.predict(&RoundInput { votes: &row, features, event })
    }

    /// Returns `true` if the features are those of the state's encoder. Others are not read.
    #[must_use]
    pub fn reads(&self, features: &TextFeatures) -> bool {
        self.encoder == Some(features.encoder)
    }

    /// The index of an expert in the state.
    pub(crate) fn index(&self, expert: &str) -> Option<usize> {
        self.experts.iter().position(|known| known == expert)
    }

    /// The votes that are awake, in the order of the state's experts; NaN for all others.
    pub(crate) fn row(&self, votes: &[Vote]) -> Vec<f64> {
        self.arrange(votes).0
    }

    /// The probability of a row of votes; `None` if all experts are asleep.
    pub(crate) fn probability_of(
        &mut self,
        event: &str,
        row: &[f64],
        features: Option<&TextFeatures>,
    ) -> Option<f64> {
        let features = self.readable(features);
        self.predict(&RoundInput { votes: row, features, event })
    }

    /// The interval of the probability over all rows between two; `None` if all experts are asleep.
    pub(crate) fn range(
        &mut self,
        event: &str,
        least: &[f64],
        greatest: &[f64],
        features: Option<&TextFeatures>,
    ) -> Option<Interval> {
        let round = RoundInput { votes: least, features: self.readable(features), event };
        least.iter().any(|vote| !vote.is_nan()).then(|| self.learner.range(&round, greatest))
    }

    fn readable<'a>(&self, features: Option<&'a TextFeatures>) -> Option<&'a Features> {
        features.filter(|features| self.reads(features)).map(|features| &*features.features)
    }

    /// The votes in the order of the state's experts, and the index of each vote's expert among them.
    fn arrange(&self, votes: &[Vote]) -> (Vec<f64>, Vec<Option<usize>>) {
        let mut row = vec![f64::NAN; self.experts.len()];
        let place = |vote: &Vote| self.experts.iter().position(|expert| *expert == vote.expert);
        let places: Vec<Option<usize>> = votes.iter().map(place).collect();
        for (vote, place) in votes.iter().zip(&places) {
            if let (Some(score), Some(at)) = (vote.awake(), *place) {
                row[at] = score;
            }
        }
        (row, places)
    }

    /// Combines the votes of one event. Votes of experts that are not in the state have no weight.
    pub fn combine(&mut self, event: &str, votes: &[Vote], features: Option<&TextFeatures>) -> Combined {
        let (mut row, places) = self.arrange(votes);
        let features = self.readable(features);
        let probability = self.predict(&RoundInput { votes: &row, features, event });
        let mut shares = vec![Share::default(); votes.len()];
        let Some(p) = probability else { return Combined { probability, shares } };
        for ((share, vote), place) in shares.iter_mut().zip(votes).zip(&places) {
            // A shadow vote has no weight, whatever the mass of its expert.
            let Some(at) = place.filter(|_| !vote.shadow) else { continue };
            share.weight = self.weights[at];
            let vote = std::mem::replace(&mut row[at], f64::NAN);
            if vote.is_nan() {
                continue;
            }
            // Without the only awake expert there is no p, so its contribution is the whole p.
            let without = self.predict(&RoundInput { votes: &row, features, event }).unwrap_or(0.0);
            share.contribution = p - without;
            row[at] = vote;
        }
        Combined { probability, shares }
    }

    fn predict(&mut self, input: &RoundInput<'_>) -> Option<f64> {
        input.votes.iter().any(|vote| !vote.is_nan()).then(|| self.learner.predict(input))
    }
}
