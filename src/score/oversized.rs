//! Decisions that are larger than their topic accepts, even without the headers of their events. Each is replaced by a
//! dead letter of its event, so that the event has one outcome.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use super::ScoreError;
use super::open_batch::Batch;
use crate::config::Topics;
use crate::dead_letter::{Outputs, Reason, dead_letter, without_value};
use crate::kafka::{CommitError, Connection, Consumed, Lookup, Produced, RecordPosition, SourceError};
use crate::ops::metrics::Counted;
use crate::ops::traces::Outcome;

/// The name of the reason of these dead letters.
pub const OUTPUT_TOO_LARGE: &str = "OutputTooLarge";
/// The time-out for the events of one request, if the brokers are near.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(5);
/// The number of events in one request. Each may cost a seek.
const LOOKUP_CHUNK: usize = 50;

/// Replaces oversized decisions by dead letters. The events are read again from their topic, because their values are not
/// kept until their decisions are committed.
pub struct OversizedReplacer {
    connection: Connection,
    events_topic: Arc<str>,
    dlq_topic: Arc<str>,
}

impl OversizedReplacer {
    /// Creates a replacer for events of the configured topic.
    #[must_use]
    pub fn new(connection: &Connection, topics: &Topics) -> Self {
        Self {
            connection: connection.clone(),
            events_topic: topics.events.as_str().into(),
            dlq_topic: topics.dlq.as_str().into(),
        }
    }

    /// The topic of dead letters.
    #[must_use]
    pub fn dlq_topic(&self) -> &Arc<str> {
        &self.dlq_topic
    }

    /// Replaces the outputs at the `unfit` indexes, or the outputs whose review requests have these indexes: the index of
    /// a review request is its index in the batch plus the number of outputs.
    ///
    /// # Errors
    /// Returns an error if the events cannot be read again.
    pub fn replace(
        &self,
        unfit: &[usize],
        outputs: &mut Outputs,
        batch: &mut Batch,
    ) -> Result<(), ScoreError> {
        let count = outputs.records().len();
        let mut oversized = BTreeMap::new();
        for index in unfit {
            let (decision, what) = match index.checked_sub(count) {
                None => (*index, "the decision"),
                Some(review) => match batch.reviews.get(review) {
                    Some((decision, _)) => (*decision, "the review request"),
                    None => return Err(missing(*index)),
                },
            };
            // If both are too large, the decision is named.
            oversized.entry(decision).or_insert(what);
        }
        let origin = |index: &usize| batch.origins.get(*index).copied().ok_or_else(|| missing(*index));
        let origins: Vec<RecordPosition> = oversized.keys().map(origin).collect::<Result<_, _>>()?;
        let events = self.read(&origins)?;
        for (((index, what), origin), event) in oversized.iter().zip(&origins).zip(events) {
            let reason = Reason {
                name: OUTPUT_TOO_LARGE,
                message: format!(
                    "{what} is larger than its topic accepts, even without the event's headers: raise the \
                     topic's max.message.bytes, or send a smaller key"
                ),
            };
            let decision = outputs.records().get(*index).cloned().ok_or_else(|| missing(*index))?;
            outputs.replace(*index, self.letter(event, *origin, decision, &reason));
            *batch.counted.get_mut(*index).ok_or_else(|| missing(*index))? =
                Counted::DeadLetter(OUTPUT_TOO_LARGE);
            batch.oversized += 1;
        }
        batch.reviews.retain(|(decision, _)| !oversized.contains_key(decision));
        for span in &mut batch.spans {
            if origins.contains(&(span.origin.partition, span.origin.offset)) {
                span.outcome = Outcome::Dead(OUTPUT_TOO_LARGE);
            }
        }
        Ok(())
    }

    /// Returns the dead letter of an event. If the event is no longer in its topic, the dead letter has the key and
    /// headers of its decision, and no value.
    fn letter(
        &self,
        event: Option<Consumed>,
        (partition, offset): RecordPosition,
        decision: Produced,
        reason: &Reason,
    ) -> Produced {
        if let Some(event) = event {
            return dead_letter(&self.dlq_topic, "score", event, reason);
        }
        let Produced { key, headers, .. } = decision;
        let topic = Arc::clone(&self.events_topic);
        let event = Consumed { topic, partition, offset, key, payload: None, headers, timestamp: None };
        let mut letter = dead_letter(&self.dlq_topic, "score", event, reason);
        without_value(&mut letter);
        letter
    }

    fn read(&self, positions: &[RecordPosition]) -> Result<Vec<Option<Consumed>>, ScoreError> {
        let timeout = self.connection.request_timeout(LOOKUP_TIMEOUT)
            + self.connection.round_trip.partitions(LOOKUP_CHUNK);
        let read = || {
            let mut lookup = Lookup::open(&self.connection, &self.events_topic, LOOKUP_TIMEOUT)?;
            let chunks: Result<Vec<_>, SourceError> =
                positions.chunks(LOOKUP_CHUNK).map(|chunk| lookup.fetch(chunk, timeout)).collect();
            Ok(chunks?.concat())
        };
        read().map_err(|error: SourceError| {
            if error.is_retryable() {
                let reason = error.to_string();
                CommitError::Aborted { stage: "reading an event whose decision is too large", reason }.into()
            } else {
                error.into()
            }
        })
    }
}

fn missing(index: usize) -> ScoreError {
    ScoreError::Invariant { what: format!("the oversized record {index} belongs to the batch") }
}
