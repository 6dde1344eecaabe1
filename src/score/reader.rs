//! The first stage: reads records and decodes them into events.

use std::time::{Duration, Instant};

use super::attached::{Attached, RecordKey, attached, detach};
use super::{IDLE_WAIT, ScoreError, now};
use crate::codec::{self, DecodeError, Received, SCHEMA_ID_HEADER};
use crate::config::{Config, Policies, Tombstones};
use crate::core::decision::{Decision, Origin};
use crate::core::event::{Event, Millis, round_time};
use crate::core::watermark::Ticket;
use crate::dead_letter::Reason;
use crate::kafka::{Consumed, Lost, Polled, Source, SourceError, TopicPartition};
use crate::ops::metrics;
use crate::registry::{Registry, RegistryError, as_schemas};

/// The time without room after which the partitions are paused and polled. A consumer that does not poll loses its
/// membership, and a shorter time would only discard what was prefetched.
const PAUSE_AFTER: Duration = Duration::from_secs(1);
/// The wait for records while a record waits for its schema, which may arrive at any time.
const SCHEMA_WAIT: Duration = Duration::from_millis(2);
/// The time-out for the number of partitions of a topic.
const METADATA_TIMEOUT: Duration = Duration::from_secs(5);

/// A record that was read, and the ticket under which its outcome is recorded.
pub struct Record {
    /// The ticket of the record in the watermark.
    pub ticket: Ticket<i32>,
    /// The record as it was consumed.
    pub consumed: Consumed,
}

/// An event, decoded from a record, that will be decided.
pub struct InputEvent {
    /// The event.
    pub event: Event,
    /// The topic, partition and offset of the record.
    pub origin: Origin,
    /// The record's key. The decision has the same key.
    pub key: Option<Vec<u8>>,
    /// The record's headers, which the decision passes on.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The time that orders rounds, in milliseconds since the Unix epoch.
    pub round_time: Millis,
    /// The record's broker timestamp, in milliseconds since the Unix epoch.
    pub timestamp: Millis,
    /// The time at which the record was decoded, from which the decision's latency is measured.
    pub read_at: Instant,
    /// The ticket under which the outcome is recorded.
    pub ticket: Ticket<i32>,
}

impl InputEvent {
    /// Returns the `traceparent` header of the record, if it has a valid one.
    #[must_use]
    pub fn trace(&self) -> Option<String> {
        let (_, value) = self.headers.iter().find(|(name, _)| name == "traceparent")?;
        let text = std::str::from_utf8(value.as_deref()?).ok()?;
        // The longest traceparent of version 00 has 55 characters; later versions may add to it.
        (text.len() <= 128 && text.is_ascii()).then(|| text.to_owned())
    }
}

/// The result of decoding a record.
pub enum Decoded {
    /// The record is an event.
    Event(Box<InputEvent>),
    /// The record is an event that was decided for a request, and this is the decision that was answered.
    Answered(Box<InputEvent>, Box<Decision>),
    /// The record is a tombstone, and the configuration says to skip those.
    Tombstone(Ticket<i32>),
    /// The record cannot be used, and becomes a dead letter for this reason.
    Unusable(Box<Record>, Reason),
    /// The record's schema has been requested and has not arrived. The record must be decoded again.
    SchemaPending(Box<Record>),
}

/// The consumer of events, and the records that wait for their schemas.
pub struct EventReader<'a> {
    source: Source,
    /// Records whose schemas have not arrived. Each holds back the later outcomes of its own partition only.
    waiting: Vec<Record>,
    /// The time at which the pipeline last had room for records.
    last_room: Instant,
    decoder: EventDecoder<'a>,
    /// The number of partitions of the topic of events, as far as it is known.
    partitions: usize,
    config: &'a Config,
}

/// Decodes records into events.
pub struct EventDecoder<'a> {
    defaults: codec::Defaults,
    tombstones: Tombstones,
    registry: Option<&'a Registry>,
    /// The key by which decisions are known that were made for requests.
    record_key: Option<RecordKey>,
}

impl<'a> EventReader<'a> {
    /// Creates a reader over a subscribed consumer.
    #[must_use]
    pub fn new(source: Source, registry: Option<&'a Registry>, config: &'a Config) -> Self {
        // Registered at the start, so that the first increment is visible as one.
        let _ = metrics::ESCAPES_REPLACED.with([]);
        let mut decoder = EventDecoder::new(config.record_defaults(), config.score.tombstones, registry);
        decoder.record_key = RecordKey::new(config.http.moderation.record_key.expose());
        Self { source, waiting: Vec::new(), last_room: Instant::now(), decoder, partitions: 0, config }
    }

    /// The consumer.
    #[must_use]
    pub fn source(&self) -> &Source {
        &self.source
    }

    /// Polls the consumer once, waiting at most `timeout`, and counts records that were deleted unread.
    ///
    /// # Errors
    /// Returns an error if polling again does not help.
    pub fn poll(&mut self, timeout: Duration) -> Result<Polled, ScoreError> {
        let polled = self.source.poll(timeout)?;
        for Lost { partition: (topic, partition), offsets } in self.source.take_lost() {
            metrics::lost(&topic, partition, offsets.end - offsets.start);
        }
        Ok(polled)
    }

    /// Returns how long a poll may wait if there is nothing else to do before `due_in`, when the open batch should be
    /// committed.
    #[must_use]
    pub fn idle_wait(&self, due_in: Option<Duration>) -> Duration {
        if self.waiting.is_empty() { due_in.map_or(IDLE_WAIT, |due| due.min(IDLE_WAIT)) } else { SCHEMA_WAIT }
    }

    /// Notes that there is room for records, and resumes the partitions if they were paused.
    ///
    /// # Errors
    /// Returns an error if the client is broken.
    pub fn resume(&mut self) -> Result<(), ScoreError> {
        self.last_room = Instant::now();
        Ok(self.source.resume()?)
    }

    /// Pauses the partitions if there has been no room for a while. Returns `true` if they are paused: the consumer must
    /// be polled then.
    ///
    /// # Errors
    /// Returns an error if the client is broken.
    pub fn pause_if_blocked(&mut self) -> Result<bool, ScoreError> {
        if self.last_room.elapsed() < PAUSE_AFTER {
            return Ok(false);
        }
        self.source.pause()?;
        Ok(true)
    }

    /// Takes the records that wait for their schemas, in order, to decode them again.
    #[must_use]
    pub fn take_waiting(&mut self) -> Vec<Record> {
        std::mem::take(&mut self.waiting)
    }

    /// Keeps a record to be decoded later.
    pub fn keep_waiting(&mut self, record: Record) {
        self.waiting.push(record);
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// Returns an error if the schema registry is not available: the record can then not be judged.
    pub fn decode(&self, record: Record, policies: &Policies) -> Result<Decoded, ScoreError> {
        self.decoder.decode(record, policies)
    }

    /// Checks that the topics of decisions and review requests have the partitions that were assigned. If the brokers do
    /// not answer, the check is skipped: the first output for a missing partition fails then.
    ///
    /// # Errors
    /// Returns [`ScoreError::Partitions`] if a topic of outputs has fewer partitions.
    pub fn check_output_partitions(&self, assigned: &[TopicPartition]) -> Result<(), ScoreError> {
        let topics = &self.config.topics;
        let Some(partition) = assigned.iter().map(|(_, partition)| *partition).max() else { return Ok(()) };
        for topic in [&topics.decisions, &topics.review] {
            match self.source.partitions_of(topic, METADATA_TIMEOUT) {
                Ok(count) if partition < count => {}
                Ok(count) => {
                    let (events, topic) = (topics.events.clone(), topic.clone());
                    return Err(ScoreError::Partitions { events, partition, topic, count });
                }
                Err(error) if error.is_retryable() => {
                    tracing::warn!(topic, %error, "the number of partitions is not known");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Asks for the number of partitions of the topic of events. If the brokers do not answer, the number that was known
    /// before remains.
    pub fn count_partitions(&mut self) {
        let topic = &self.config.topics.events;
        match self.source.partitions_of(topic, METADATA_TIMEOUT) {
            Ok(count) => self.partitions = usize::try_from(count).unwrap_or(self.partitions),
            Err(error) => tracing::warn!(topic, %error, "the number of partitions is not known"),
        }
    }

    /// Returns the numbers of assigned partitions and of all partitions. The second is 0 until it is known.
    #[must_use]
    pub fn partitions(&self) -> (usize, usize) {
        (self.source.assigned().len(), self.partitions)
    }

    /// Discards the waiting records of partitions that were revoked: their next owner reads them.
    pub fn on_revoked(&mut self, partitions: &[TopicPartition]) {
        self.waiting
            .retain(|record| partitions.iter().all(|(_, revoked)| *revoked != record.ticket.partition));
    }

    /// Seeks every partition to its committed offset.
    ///
    /// # Errors
    /// Returns an error if the brokers do not answer within `timeout`; the call can be repeated.
    pub fn rewind(&mut self, timeout: Duration) -> Result<(), SourceError> {
        self.source.rewind(timeout)
    }

    /// Leaves the consumer group, waiting at most `timeout`.
    pub fn close(self, timeout: Duration) {
        self.source.close(timeout);
    }
}

impl<'a> EventDecoder<'a> {
    /// Creates a decoder of records with these defaults. Without a registry, framed records cannot be decoded.
    #[must_use]
    pub fn new(defaults: codec::Defaults, tombstones: Tombstones, registry: Option<&'a Registry>) -> Self {
        Self { defaults, tombstones, registry, record_key: None }
    }

    /// Decodes a record.
    ///
    /// # Errors
    /// Returns an error if the schema registry is not available: the record can then not be judged.
    pub fn decode(&self, record: Record, policies: &Policies) -> Result<Decoded, ScoreError> {
        let Record { ticket, mut consumed } = record;
        if consumed.payload.is_none() && self.tombstones == Tombstones::Skip {
            return Ok(Decoded::Tombstone(ticket));
        }
        let received =
            Received::new(consumed.payload.as_deref(), &consumed.headers, as_schemas(self.registry));
        let received = received.at(&consumed.topic, consumed.partition, consumed.offset);
        let event = match received.event_and_replaced(&self.defaults) {
            Ok((event, replaced)) => {
                if replaced > 0 {
                    metrics::ESCAPES_REPLACED.with([]).increment(replaced as u64);
                }
                event
            }
            Err(DecodeError::SchemaPending { .. }) => {
                return Ok(Decoded::SchemaPending(Box::new(Record { ticket, consumed })));
            }
            Err(DecodeError::RegistryUnavailable { reason, .. }) => {
                return Err(RegistryError::Unavailable { reason }.into());
            }
            Err(error) => {
                let reason = Reason { name: error.name(), message: error.to_string() };
                return Ok(Decoded::Unusable(Box::new(Record { ticket, consumed }), reason));
            }
        };
        if policies.get(&event.policy).is_none() {
            let message = "the event names a policy that the policies file does not have: add it there, or \
                           correct the producer"
                .to_owned();
            let reason = Reason { name: "UnknownPolicy", message };
            return Ok(Decoded::Unusable(Box::new(Record { ticket, consumed }), reason));
        }
        match attached(self.record_key.as_ref(), &consumed, &event) {
            Attached::None => {}
            Attached::Decision(decision) => {
                metrics::HTTP_RECORDS.with(["taken"]).increment(1);
                detach(&mut consumed);
                return Ok(Decoded::Answered(Box::new(input_event(event, ticket, consumed)), decision));
            }
            // The header stays, so that the answer that was given can be compared with the decision.
            Attached::Refused(reason) => metrics::HTTP_RECORDS.with([reason]).increment(1),
        }
        Ok(Decoded::Event(Box::new(input_event(event, ticket, consumed))))
    }
}

/// Combines an event with what its record says of it. The record's timestamp counts as at most this machine's clock: if
/// producers set the timestamps of a topic, they cannot date an event later than that.
fn input_event(event: Event, ticket: Ticket<i32>, consumed: Consumed) -> InputEvent {
    let now = now();
    let timestamp = consumed.timestamp.unwrap_or(now).min(now);
    let round_time = round_time(event.time, timestamp);
    let Consumed { topic, partition, offset, key, mut headers, .. } = consumed;
    let origin = Origin { topic: topic.to_string(), partition, offset };
    // This header names the event's schema; the decision has its own.
    headers.retain(|(name, _)| name != SCHEMA_ID_HEADER);
    codec::remove_cloud_event_headers(&mut headers);
    InputEvent { event, origin, key, headers, round_time, timestamp, read_at: Instant::now(), ticket }
}
