//! Scores events of a file, without Kafka: the stages of the pipeline without its topics.
//!
//! Rows are decoded as records of a topic are, the panel is asked in the same way, and the same [`Decider`] decides. What
//! depends on the clock is left out, so that a file has the same decisions at any time: an event without a time has the
//! round time 0, a decision states no latency, and no review budget applies: a file has no hour.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::in_flight::{AnsweredEvent, InFlightEvents};
use super::outcome::{Decider, Outcome};
use super::reader::{Decoded, EventDecoder, Record};
use super::{PanelHandle, ScoreError};
use crate::codec::Encoding;
use crate::config::{Config, Policies, Tombstones};
use crate::core::predictor::{Predictor, Published};
use crate::core::watermark::Ticket;
use crate::dead_letter::Reason;
use crate::kafka::Consumed;
use crate::ops::{Traces, traces};

/// The longest wait for an answer before the next is asked for.
const ANSWER_WAIT: Duration = Duration::from_millis(100);

/// The outcome of a row.
#[derive(Debug)]
pub enum FileOutcome {
    /// A decision, as JSON.
    Decision(Vec<u8>),
    /// The row cannot be used, for this reason.
    DeadLetter(Reason),
}

/// The stages of scoring, without topics.
pub struct FileScorer {
    decoder: EventDecoder<'static>,
    in_flight: InFlightEvents,
    decider: Decider,
    predictors: BTreeMap<String, Predictor>,
    policies: Arc<Policies>,
    panel: PanelHandle,
    /// The name of the file, which decisions name as the topic of their events.
    file: Arc<str>,
}

impl FileScorer {
    /// Opens the stages for the rows of `file`, with `window` events in flight. A policy without a published predictor
    /// decides with its prior.
    ///
    /// # Errors
    /// Returns an error if a predictor cannot be used or if the panel's threads cannot be started.
    pub fn open(
        config: &Config,
        policies: &Arc<Policies>,
        panel: PanelHandle,
        published: Vec<Published>,
        file: &str,
        window: usize,
    ) -> Result<Self, ScoreError> {
        let experts = panel.experts();
        let mut predictors = BTreeMap::new();
        for policy in policies.policies.values() {
            let prior = Predictor::prior(&policy.learner, &policy.name, &experts)?;
            predictors.insert(policy.name.clone(), prior);
        }
        for mut published in published {
            let Some(policy) = policies.get(&published.policy) else {
                let what = format!("policy {} of a predictor is in force", published.policy);
                return Err(ScoreError::Invariant { what });
            };
            // The secret of keyed draws is never published.
            published.learner.seed.clone_from(&policy.learner.seed);
            predictors.insert(published.policy.clone(), Predictor::published(&published)?);
        }
        let delay = config.experts.batch_delay();
        let in_flight = InFlightEvents::open(&panel.panel, policies, window, delay, config.experts.explore)?;
        let decider = Decider::new(
            config,
            policies,
            &panel,
            Encoding::Json,
            Traces::open(&traces::Settings::default())?,
        );
        Ok(Self {
            decoder: EventDecoder::new(config.record_defaults(), Tombstones::DeadLetter, None),
            in_flight,
            decider: decider.without_clock(),
            predictors,
            policies: Arc::clone(policies),
            panel,
            file: file.into(),
        })
    }

    /// Scores rows, each with its number from 1. Returns their outcomes in the same order.
    ///
    /// # Errors
    /// Returns an error if the panel or a decision fails in a way that no row explains.
    pub fn score(&mut self, rows: Vec<(u64, Vec<u8>)>) -> Result<Vec<FileOutcome>, ScoreError> {
        let mut outcomes: Vec<Option<FileOutcome>> = rows.iter().map(|_| None).collect();
        let mut waiting = rows.into_iter().enumerate();
        let mut left = outcomes.len();
        while left > 0 {
            while self.in_flight.room() > 0
                && let Some((place, (number, json))) = waiting.next()
            {
                if let Some(reason) = self.submit(place, number, json)? {
                    set(&mut outcomes, place, FileOutcome::DeadLetter(reason))?;
                    left -= 1;
                }
            }
            // Only the first answer is waited for: there is room for more rows after it.
            let mut wait = if self.in_flight.is_empty() { Duration::ZERO } else { ANSWER_WAIT };
            while let Some(answered) = self.in_flight.next_answer(std::mem::take(&mut wait))? {
                if let Some((place, decision)) = self.on_answer(answered)? {
                    set(&mut outcomes, place, FileOutcome::Decision(decision))?;
                    left -= 1;
                }
            }
        }
        self.in_flight.drop_costs();
        let missing = || ScoreError::Invariant { what: "every row has an outcome".to_owned() };
        outcomes.into_iter().map(|outcome| outcome.ok_or_else(missing)).collect()
    }

    /// Decodes a row and submits its event. Returns the reason if the row cannot be used.
    fn submit(&mut self, place: usize, number: u64, json: Vec<u8>) -> Result<Option<Reason>, ScoreError> {
        let offset = i64::try_from(number).unwrap_or(i64::MAX);
        // The tenure has the place of the row's outcome.
        let ticket = Ticket { partition: 0, tenure: place as u64, offset };
        let consumed = Consumed {
            topic: Arc::clone(&self.file),
            partition: 0,
            offset,
            key: None,
            payload: Some(json),
            headers: Vec::new(),
            timestamp: None,
        };
        let mut event = match self.decoder.decode(Record { ticket, consumed }, &self.policies)? {
            Decoded::Event(event) => *event,
            Decoded::Unusable(_, reason) => return Ok(Some(reason)),
            Decoded::Answered(..) | Decoded::Tombstone(_) | Decoded::SchemaPending(_) => {
                let what = "a row of a file has a value, no headers, and needs no schema".to_owned();
                return Err(ScoreError::Invariant { what });
            }
        };
        let time = event.event.time.unwrap_or(0);
        (event.round_time, event.timestamp) = (time, time);
        let policy = self.policies.get(&event.event.policy).ok_or_else(|| no_policy(&event.event.policy))?;
        self.in_flight.submit(event, policy)?;
        Ok(None)
    }

    /// Decides an answered event, unless another expert has to be asked first. Returns the decision and its place.
    fn on_answer(&mut self, mut answered: AnsweredEvent) -> Result<Option<(usize, Vec<u8>)>, ScoreError> {
        self.decider.mark_shadow(&mut answered.votes);
        let name = answered.event.event.policy.clone();
        let policy = self.policies.get(&name).ok_or_else(|| no_policy(&name))?;
        let predictor = self.predictors.get_mut(&name).ok_or_else(|| no_policy(&name))?;
        let next = self.in_flight.next_expert(&answered, &self.panel.shadow, policy, predictor);
        if let Some(expert) = next {
            self.in_flight.ask_again(answered, expert)?;
            return Ok(None);
        }
        let place = usize::try_from(answered.event.ticket.tenure).unwrap_or(usize::MAX);
        let invariant = || ScoreError::Invariant { what: "an event has a decision".to_owned() };
        match self.decider.decide(answered, predictor)? {
            Outcome::Output(output) => {
                let decision = output.produced.payload.ok_or_else(invariant)?;
                Ok(Some((place, decision)))
            }
            Outcome::Skipped => Err(invariant()),
        }
    }
}

fn no_policy(policy: &str) -> ScoreError {
    ScoreError::Invariant { what: format!("policy {policy} of an accepted event is in force") }
}

fn set(outcomes: &mut [Option<FileOutcome>], place: usize, outcome: FileOutcome) -> Result<(), ScoreError> {
    match outcomes.get_mut(place) {
        Some(slot @ None) => {
            *slot = Some(outcome);
            Ok(())
        }
        _ => Err(ScoreError::Invariant { what: "a row has one outcome".to_owned() }),
    }
}
