//! Decisions that do not fit their topic, even without the headers of their events: each becomes a dead letter of its
//! event, so that the event has one outcome.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::ScoreError;
use super::committing::Told;
use crate::config::Topics;
use crate::core::review::ReviewRequest;
use crate::dead_letter::{Outputs, Reason, dead_letter, without_value};
use crate::kafka::{CommitError, Connection, Consumed, Lookup, Produced, SourceError};
use crate::ops::metrics::Counted;
use crate::ops::traces::Outcome;

/// The name of the reason of these dead letters.
pub const UNFIT: &str = "OutputTooLarge";
/// How long brokers that are near may take to return the events of one request.
const ANSWER: Duration = Duration::from_secs(5);
/// Events that are requested together. Each may cost a seek.
const TOGETHER: usize = 50;

/// What is known of a unit beside its outputs.
pub struct Open {
    /// By output, partition and offset of its event.
    pub origins: Vec<(i32, i64)>,
    /// Review requests, each with its decision's index among the outputs.
    pub asks: Vec<(usize, Box<ReviewRequest>)>,
    /// What is told of it in the end.
    pub told: Told,
}

/// Reads events again: their values are not kept until their decisions are committed.
pub struct Originals {
    connection: Connection,
    events: Arc<str>,
    dlq: Arc<str>,
}

impl Originals {
    /// Events of these topics.
    #[must_use]
    pub fn new(connection: &Connection, topics: &Topics) -> Self {
        let (events, dlq) = (topics.events.as_str().into(), topics.dlq.as_str().into());
        Self { connection: connection.clone(), events, dlq }
    }

    /// The topic of dead letters.
    #[must_use]
    pub fn dlq(&self) -> &Arc<str> {
        &self.dlq
    }

    /// Puts dead letters in the place of decisions that do not fit, or whose review requests do not.
    ///
    /// # Errors
    /// Returns an error if the events cannot be read again.
    pub fn replace(
        &mut self,
        unfit: &[usize],
        outputs: &mut Outputs,
        open: &mut Open,
    ) -> Result<(), ScoreError> {
        let count = outputs.records().len();
        let decision = |index: &usize| match index.checked_sub(count) {
            None => Some((*index, "the decision")),
            Some(request) => Some((open.asks.get(request)?.0, "the review request")),
        };
        let refused: BTreeSet<_> = unfit.iter().filter_map(decision).collect();
        let places: Vec<_> =
            refused.iter().filter_map(|(index, _)| open.origins.get(*index).copied()).collect();
        let events = self.read(&places)?;
        let (mut gone, mut lost) = (BTreeSet::new(), BTreeSet::new());
        for (((index, what), at), event) in refused.into_iter().zip(places).zip(events) {
            let reason = Reason {
                name: UNFIT,
                message: format!(
                    "{what} is larger than its topic accepts, even without the event's headers: raise the \
                     topic's max.message.bytes, or send a smaller key"
                ),
            };
            let Some(decided) = outputs.records().get(index).cloned() else { continue };
            outputs.replace(index, self.letter(event, at, decided, &reason));
            gone.insert(index);
            lost.insert(at);
            if let Some(counted) = open.told.counted.get_mut(index) {
                *counted = Counted::DeadLetter(UNFIT);
            }
            open.told.unfit += 1;
        }
        open.asks.retain(|(decision, _)| !gone.contains(decision));
        let spans = open.told.spans.iter_mut();
        spans
            .filter(|span| lost.contains(&(span.origin.partition, span.origin.offset)))
            .for_each(|span| span.outcome = Outcome::Dead(UNFIT));
        Ok(())
    }

    /// The dead letter of an event. One that has left its topic has its decision's key and headers, and no value.
    fn letter(
        &self,
        event: Option<Consumed>,
        at: (i32, i64),
        decided: Produced,
        reason: &Reason,
    ) -> Produced {
        if let Some(event) = event {
            return dead_letter(&self.dlq, "score", event, reason);
        }
        let Produced { key, headers, .. } = decided;
        let (topic, (partition, offset)) = (Arc::clone(&self.events), at);
        let left = Consumed { topic, partition, offset, key, payload: None, headers, timestamp: None };
        let mut letter = dead_letter(&self.dlq, "score", left, reason);
        without_value(&mut letter);
        letter
    }

    fn read(&self, places: &[(i32, i64)]) -> Result<Vec<Option<Consumed>>, ScoreError> {
        let timeout =
            self.connection.request_timeout(ANSWER) + self.connection.round_trip.partitions(TOGETHER);
        let read = || {
            let mut lookup = Lookup::open(&self.connection, &self.events, ANSWER)?;
            let events: Result<Vec<_>, _> =
                places.chunks(TOGETHER).map(|some| lookup.fetch(some, timeout)).collect();
            Ok(events?.concat())
        };
        read().map_err(|error: SourceError| {
            if error.is_retryable() {
                let reason = error.to_string();
                CommitError::Aborted { stage: "the reading of an event that was decided", reason }.into()
            } else {
                error.into()
            }
        })
    }
}
