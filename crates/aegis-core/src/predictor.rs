//! The predictor: what learn publishes and score combines votes with.

use super::event::Millis;
use super::features::{EncoderId, Features};
use super::learners::{Learner, LearnerSpec, Mass, RoundInput, SpecError};
use super::ledger::TextFeatures;
use super::vote::Vote;

/// Version of the state's layout; part of the state hash.
pub const FORMAT: u32 = 2;

/// SHA-256 of a learner's state: see [`super::fold`].
pub type StateHash = [u8; 32];

/// What names a predictor in a decision.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PredictorRef {
    /// The learner's name.
    pub learner: String,
    /// Hash of the state behind it.
    pub state_hash: StateHash,
    /// Rounds folded into it.
    pub rounds: u64,
    /// The ledger's offset that it reflects; -1: nothing learned yet.
    pub ledger_offset: i64,
}

/// A learner's state as published, by policy.
#[derive(Debug, Clone, PartialEq)]
pub struct Published {
    /// The policy.
    pub policy: String,
    /// The state's layout.
    pub format: u32,
    /// The learner and its parameters.
    pub learner: LearnerSpec,
    /// The target mapping in its canonical line.
    pub mapping: String,
    /// The experts, by the UTF-8 bytes of their ids.
    pub experts: Vec<String>,
    /// The encoder whose features the learner reads.
    pub encoder: Option<EncoderId>,
    /// Rounds folded.
    pub rounds: u64,
    /// The last round folded: (round time, tenant, event id).
    pub last_key: Option<(Millis, String, String)>,
    /// The ledger's offset that the state reflects.
    pub ledger_offset: i64,
    /// The state's hash.
    pub state_hash: StateHash,
    /// The state.
    pub state: Vec<f64>,
    /// Each member's mass, for people to read.
    pub masses: Vec<Mass>,
}

/// An expert's part in a combination.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Share {
    /// The expert's share of the aggregation, in \[0,1\].
    pub weight: f64,
    /// p minus what p would be with this expert asleep; 0 for a sleeper.
    pub contribution: f64,
}

/// Votes combined.
#[derive(Debug, Clone, PartialEq)]
pub struct Combined {
    /// P(unsafe); `None` with all experts asleep.
    pub probability: Option<f64>,
    /// Each vote's part, in the votes' order.
    pub shares: Vec<Share>,
}

/// Combines votes as the published state says.
pub struct Predictor {
    experts: Vec<String>,
    encoder: Option<EncoderId>,
    learner: Box<dyn Learner>,
    weights: Vec<f64>,
    reference: PredictorRef,
}

/// Why a published state is no predictor.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PredictorError {
    /// Written by another version.
    #[error(
        "the predictor has format {found}, this program reads {FORMAT}: run one version of score and learn"
    )]
    Format {
        /// The format found.
        found: u32,
    },
    /// Its learner cannot be built.
    #[error(transparent)]
    Spec(#[from] SpecError),
    /// Its state does not fit its learner.
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
    /// The predictor before anything is learned, over the panel's own experts.
    ///
    /// # Errors
    /// Where the learner refuses these experts.
    pub fn prior(spec: &LearnerSpec, policy: &str, experts: &[String]) -> Result<Self, PredictorError> {
        let names: Vec<&str> = experts.iter().map(String::as_str).collect();
        let reference = PredictorRef {
            learner: spec.name.to_string(),
            state_hash: [0; 32],
            rounds: 0,
            ledger_offset: -1,
        };
        Ok(Self::new(experts.to_vec(), None, spec.build(&names, policy)?, reference))
    }

    /// The predictor of a published state.
    ///
    /// # Errors
    /// Where the state is another version's or does not fit its learner.
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
        };
        Ok(Self::new(published.experts.clone(), published.encoder, learner, reference))
    }

    fn new(
        experts: Vec<String>,
        encoder: Option<EncoderId>,
        learner: Box<dyn Learner>,
        reference: PredictorRef,
    ) -> Self {
        let masses = learner.masses();
        let mass =
            |expert: &String| masses.iter().find(|mass| mass.member == *expert).map_or(0.0, |mass| mass.mass);
        let weights = experts.iter().map(mass).collect();
        Self { experts, encoder, learner, weights, reference }
    }

    /// What names this predictor in a decision.
    #[must_use]
    pub fn reference(&self) -> &PredictorRef {
        &self.reference
    }

    /// P(unsafe) alone, as [`combine`](Self::combine) gives it; `None` with all experts asleep.
    pub fn probability(
        &mut self,
        event: &str,
        votes: &[Vote],
        reading: Option<&TextFeatures>,
    ) -> Option<f64> {
        let (row, _) = self.seat(votes);
        let features = self.features(reading);
        self.predict(&RoundInput { votes: &row, features, event })
    }

    /// Whether the members that read see these features: those of the state's own encoder.
    #[must_use]
    pub fn reads(&self, reading: &TextFeatures) -> bool {
        self.encoder == Some(reading.encoder)
    }

    fn features<'a>(&self, reading: Option<&'a TextFeatures>) -> Option<&'a Features> {
        reading.filter(|reading| self.reads(reading)).map(|reading| &*reading.features)
    }

    /// The votes in the experts' order, and each vote's place among them.
    fn seat(&self, votes: &[Vote]) -> (Vec<f64>, Vec<Option<usize>>) {
        let mut row = vec![f64::NAN; self.experts.len()];
        let place = |vote: &Vote| self.experts.iter().position(|expert| *expert == vote.expert);
        let places: Vec<Option<usize>> = votes.iter().map(place).collect();
        for (vote, place) in votes.iter().zip(&places) {
            if let (Some(score), Some(slot)) = (vote.awake(), place.and_then(|at| row.get_mut(at))) {
                *slot = score;
            }
        }
        (row, places)
    }

    /// Combines the votes of one event. Votes of experts that the state does not know yet weigh nothing.
    pub fn combine(&mut self, event: &str, votes: &[Vote], reading: Option<&TextFeatures>) -> Combined {
        let (mut row, places) = self.seat(votes);
        let features = self.features(reading);
        let probability = self.predict(&RoundInput { votes: &row, features, event });
        let mut shares = vec![Share::default(); votes.len()];
        let Some(p) = probability else { return Combined { probability, shares } };
        for ((share, vote), place) in shares.iter_mut().zip(votes).zip(&places) {
            // A shadow vote weighs nothing, whatever mass its expert has.
            let Some(at) = place.filter(|_| !vote.shadow) else { continue };
            share.weight = self.weights.get(at).copied().unwrap_or(0.0);
            let Some(vote) = row.get(at).copied().filter(|vote| !vote.is_nan()) else { continue };
            if let Some(slot) = row.get_mut(at) {
                *slot = f64::NAN;
            }
            // With the last awake expert asleep there is no p: its contribution is all of it.
            let without = self.predict(&RoundInput { votes: &row, features, event }).unwrap_or(0.0);
            share.contribution = p - without;
            if let Some(slot) = row.get_mut(at) {
                *slot = vote;
            }
        }
        Combined { probability, shares }
    }

    fn predict(&mut self, input: &RoundInput<'_>) -> Option<f64> {
        input.votes.iter().any(|vote| !vote.is_nan()).then(|| self.learner.predict(input))
    }
}
