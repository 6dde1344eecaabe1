//! From a consumed record to an event that can be judged, or to a dead letter.

use std::time::Instant;

use crate::codec::{self, DecodeError, Received, SCHEMA_ID_HEADER, Schemas};
use crate::config::Policies;
use crate::core::decision::Origin;
use crate::core::event::{Event, Millis, round_time};
use crate::core::watermark::Ticket;
use crate::dead_letter::Reason;
use crate::kafka::Consumed;
use crate::ops::metrics;

/// An event that will be decided.
pub struct Accepted {
    /// The event.
    pub event: Event,
    /// Where it was consumed.
    pub origin: Origin,
    /// The record's key; its decision carries the same.
    pub key: Option<Vec<u8>>,
    /// The record's headers; its decision passes them on.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The time that orders rounds.
    pub round_time: Millis,
    /// The record's broker timestamp.
    pub came: Millis,
    /// When the record was read, for the latency.
    pub read_at: Instant,
    /// Its outcome goes under this.
    pub ticket: Ticket<i32>,
}

impl Accepted {
    /// The trace that the event belongs to.
    #[must_use]
    pub fn trace(&self) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(name, _)| name == "traceparent")?;
        let text = std::str::from_utf8(value.as_deref()?).ok()?;
        // The longest traceparent of version 00 has 55 characters; later versions may add to it.
        (text.len() <= 128 && text.is_ascii()).then(|| text.to_owned())
    }
}

/// A record and its ticket.
pub type Waiting = (Ticket<i32>, Consumed);

/// Why there is no event.
pub enum Refused {
    /// The record cannot be used: its dead letter has the reason.
    Dead(Box<(Ticket<i32>, Consumed, Reason)>),
    /// Its schema is being asked for: to be accepted again.
    Waiting(Box<Waiting>),
    /// Its schema cannot be had, so nothing can be said about it.
    Unavailable(String),
}

/// Reads a record. `now` is this machine's clock: a topic whose producers set the time cannot date
/// an event later than that.
///
/// # Errors
/// What becomes of the record instead.
pub fn accept(
    record: Consumed,
    ticket: Ticket<i32>,
    defaults: &codec::Defaults,
    policies: &Policies,
    schemas: Option<&dyn Schemas>,
    now: Millis,
) -> Result<Accepted, Refused> {
    let received = Received::new(record.payload.as_deref(), &record.headers, schemas);
    let received = received.at(&record.topic, record.partition, record.offset);
    let event = match received.event_and_replaced(defaults) {
        Ok((event, replaced)) => {
            if replaced > 0 {
                metrics::ESCAPES_REPLACED.with([]).increment(replaced as u64);
            }
            event
        }
        Err(DecodeError::SchemaPending { .. }) => return Err(Refused::Waiting(Box::new((ticket, record)))),
        Err(DecodeError::RegistryUnavailable { reason, .. }) => return Err(Refused::Unavailable(reason)),
        Err(error) => {
            let reason = Reason { name: error.name(), message: error.to_string() };
            return Err(Refused::Dead(Box::new((ticket, record, reason))));
        }
    };
    if policies.get(&event.policy).is_none() {
        let message = "the event names a policy that the policies file does not have: add it there, or \
                       correct the producer"
            .to_owned();
        let reason = Reason { name: "UnknownPolicy", message };
        return Err(Refused::Dead(Box::new((ticket, record, reason))));
    }
    let broker = record.timestamp.unwrap_or(now).min(now);
    let round_time = round_time(event.time, broker);
    let origin =
        Origin { topic: record.topic.to_string(), partition: record.partition, offset: record.offset };
    let Consumed { key, mut headers, .. } = record;
    // It names the event's schema; the decision has its own.
    headers.retain(|(name, _)| name != SCHEMA_ID_HEADER);
    Ok(Accepted { event, origin, key, headers, round_time, came: broker, read_at: Instant::now(), ticket })
}
