//! Reads events, decisions, dead letters and review requests, and feeds their audits.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::outcomes::OutcomeAudit;
use super::requests::RequestAudit;
use super::topic_reader::{Item, TopicReader};
use super::violations::Place;
use super::{REQUEST_TIMEOUT, VerifyError};
use crate::codec::{Received, Schemas};
use crate::config::Config;
use crate::core::event::Millis;
use crate::dead_letter::Headers;
use crate::kafka::{Connection, Consumed, at_time, committed};
use crate::registry::RegistryError;

/// The time to wait for missing outcomes: a committed offset can be visible before the outcomes committed with it.
const VISIBILITY_TIMEOUT: Duration = Duration::from_secs(5);
/// The greatest difference between the clocks of brokers and scorers, in milliseconds.
const MAX_CLOCK_SKEW: Millis = 600_000;

/// Receives the kind of the records that are being read, and their number so far.
pub(super) type Progress<'a> = &'a mut dyn FnMut(&'static str, usize);

/// The part of a topic in which a decision was read.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Before the end that the topic had at the start.
    BeforeEnd,
    /// After that end.
    AfterEnd,
    /// After that end, while the reader waits for missing records.
    Waiting,
}

/// The topics that are read side by side, and the audits that are fed from them.
pub(super) struct OutcomeReader<'a> {
    schemas: Option<&'a dyn Schemas>,
    pub(super) outcomes: OutcomeAudit,
    pub(super) requests: RequestAudit,
    decisions: TopicReader,
    letters: TopicReader,
    reviews: TopicReader,
    /// The event offset of the first decision of each partition of decisions.
    first_events: BTreeMap<i32, i64>,
    /// The timestamp of the first dead letter of each partition of dead letters.
    first_letters: BTreeMap<i32, Millis>,
    /// The decision offset of the first request of each partition of review requests.
    first_requested: BTreeMap<i32, i64>,
}

impl<'a> OutcomeReader<'a> {
    /// Opens the topics and reads the events.
    ///
    /// The order of opening makes the audit of a running system consistent: the committed offsets are read first, so
    /// that their outcomes exist; then the review requests are opened, so that their decisions exist; and the events
    /// last, so that all events of the outcomes exist.
    pub(super) fn open(
        config: &Config,
        connection: &Connection,
        schemas: Option<&'a dyn Schemas>,
        from: Option<Millis>,
        progress: Progress<'_>,
    ) -> Result<Self, VerifyError> {
        let topics = &config.topics;
        let done = committed(connection, &config.score.group, &topics.events, REQUEST_TIMEOUT)?;
        let earlier = from.map(|from| from.saturating_sub(MAX_CLOCK_SKEW));
        // A request is written after its decision, with the clock of another broker.
        let before = earlier.map(|from| from.saturating_sub(MAX_CLOCK_SKEW));
        let open = |kind, topic: &str, from| TopicReader::open(connection, kind, topic, from);
        let reviews = open("review requests", &topics.review, before)?;
        let decisions = open("decisions", &topics.decisions, earlier)?;
        // A dead letter has the timestamp of its original, so that it cannot be found by the time of its writing.
        let letters = open("dead letters", &topics.dlq, None)?;
        let labels = open("labels", &topics.labels, None)?;
        let mut events = open("events", &topics.events, from)?;

        let mut requests = RequestAudit::new(&decisions.topic);
        for (partition, start) in &decisions.starts {
            requests.begins(*partition, *start);
        }
        let mut outcomes = OutcomeAudit::new(&events.topic, &labels.topic);
        for (partition, end) in &labels.ends {
            let start = labels.starts.get(partition).copied().unwrap_or(0);
            outcomes.label_partition(*partition, start..*end);
        }
        for (partition, end) in &events.ends {
            let start = events.starts.get(partition).copied().unwrap_or(0);
            outcomes.partition(*partition, start..*end, done.get(partition).copied());
        }
        while let Some(item) = events.next(progress)? {
            match item {
                Item::Record { record, .. } if record.payload.is_none() => {
                    outcomes.tombstone(record.partition, record.offset);
                }
                Item::Record { record, .. } => outcomes.event(record.partition, record.offset),
                Item::Begins { partition, offset } => outcomes.begins(partition, offset),
            }
        }
        Ok(Self {
            schemas,
            outcomes,
            requests,
            decisions,
            letters,
            reviews,
            first_events: BTreeMap::new(),
            first_letters: BTreeMap::new(),
            first_requested: BTreeMap::new(),
        })
    }

    /// Reads decisions, dead letters and review requests to their ends.
    pub(super) fn read(&mut self, progress: Progress<'_>) -> Result<(), VerifyError> {
        while let Some(item) = self.decisions.next(progress)? {
            match item {
                Item::Record { record, late } => {
                    let part = if late { Part::AfterEnd } else { Part::BeforeEnd };
                    if let Some(event) = self.on_decision(&record, part)? {
                        self.first_events.entry(record.partition).or_insert(event);
                    }
                }
                Item::Begins { partition, offset } => {
                    self.decisions.starts.insert(partition, offset);
                    self.requests.begins(partition, offset);
                    self.first_events.remove(&partition);
                }
            }
        }
        while let Some(item) = self.letters.next(progress)? {
            match item {
                Item::Record { record, late } => {
                    let time = record.timestamp.unwrap_or(Millis::MAX);
                    self.first_letters.entry(record.partition).or_insert(time);
                    self.on_dead_letter(&record, late);
                }
                Item::Begins { partition, offset } => {
                    self.letters.starts.insert(partition, offset);
                    self.first_letters.remove(&partition);
                }
            }
        }
        while let Some(item) = self.reviews.next(progress)? {
            match item {
                Item::Record { record, late } => {
                    if let Some(decision) = self.on_request(&record, late)? {
                        self.first_requested.entry(record.partition).or_insert(decision);
                    }
                }
                Item::Begins { partition, offset } => {
                    self.reviews.starts.insert(partition, offset);
                    self.first_requested.remove(&partition);
                }
            }
        }
        Ok(())
    }

    /// Excludes events and decisions whose outcomes or requests retention may have deleted: events before the first
    /// decision kept of their partition, events older than the oldest dead letter, and decisions before the first one
    /// with a request.
    pub(super) fn exclude_deleted(
        &mut self,
        config: &Config,
        connection: &Connection,
    ) -> Result<(), VerifyError> {
        for partition in self.decisions.lost() {
            let first = self.first_events.get(&partition).copied().unwrap_or(i64::MAX);
            self.outcomes.kept_from(partition, first);
        }
        let oldest = |partition| self.first_letters.get(&partition).copied().unwrap_or(Millis::MAX);
        if let Some(since) = self.letters.lost().map(oldest).max() {
            let begins = at_time(connection, &config.topics.events, since, REQUEST_TIMEOUT)?;
            for partition in self.decisions.ends.keys() {
                let first = begins.get(partition).copied().unwrap_or(i64::MAX);
                self.outcomes.kept_from(*partition, first);
            }
        }
        for partition in self.reviews.lost() {
            let first = self.first_requested.get(&partition).copied().unwrap_or(i64::MAX);
            self.requests.kept_from(partition, first);
        }
        Ok(())
    }

    /// Reads on past the ends until no outcome and no request is missing, for at most [`VISIBILITY_TIMEOUT`].
    pub(super) fn await_missing(&mut self) -> Result<(), VerifyError> {
        let deadline = Instant::now() + VISIBILITY_TIMEOUT;
        while (self.outcomes.has_gaps() || self.requests.has_gaps()) && Instant::now() < deadline {
            if let Some(record) = self.decisions.next_late()? {
                self.on_decision(&record, Part::Waiting)?;
            }
            if let Some(record) = self.letters.next_late()? {
                self.on_dead_letter(&record, true);
            }
            if let Some(record) = self.reviews.next_late()? {
                self.on_request(&record, true)?;
            }
        }
        Ok(())
    }

    /// Adds a decision to the audits. Returns the offset of its event.
    ///
    /// Past the end of the topic a decision only counts if its event lacks an outcome. Its request is audited as well,
    /// because the request may lie before the end of its own topic.
    fn on_decision(&mut self, record: &Consumed, part: Part) -> Result<Option<i64>, VerifyError> {
        let at = Place::new(&self.decisions.topic, record.partition, record.offset);
        let received = Received::new(record.payload.as_deref(), &record.headers, self.schemas);
        match received.decision().map_err(RegistryError::of) {
            Ok(decision) => {
                let origin = &decision.origin;
                let missed = self.outcomes.misses(origin.partition, origin.offset);
                if part != Part::Waiting || missed || self.requests.awaits(at.partition, at.offset) {
                    self.requests.decision(at.partition, at.offset, &decision);
                }
                if part == Part::BeforeEnd || missed {
                    self.outcomes.decision(at, &origin.topic, origin.partition, origin.offset);
                }
                Ok(Some(origin.offset))
            }
            // An unavailable registry is no property of the record.
            Err(Ok(error)) => Err(error.into()),
            Err(Err(error)) => {
                if part == Part::BeforeEnd {
                    self.outcomes.unreadable(at, &error.to_string());
                }
                Ok(None)
            }
        }
    }

    /// Adds a dead letter. With `late` it only counts if its event lacks an outcome.
    fn on_dead_letter(&mut self, record: &Consumed, late: bool) {
        let at = Place::new(&self.letters.topic, record.partition, record.offset);
        let audit = &mut self.outcomes;
        match Headers::of(&record.headers) {
            Some(of) if !late || (of.topic == audit.events() && audit.misses(of.partition, of.offset)) => {
                audit.dead_letter(at, &of.topic, of.partition, of.offset);
            }
            None if !late => audit.unreadable(at, "has no headers that name its original"),
            _ => {}
        }
    }

    /// Adds a review request. With `late` it only counts if its decision lacks one. Returns the offset of its decision,
    /// unless that lies in another partition.
    fn on_request(&mut self, record: &Consumed, late: bool) -> Result<Option<i64>, VerifyError> {
        let at = Place::new(&self.reviews.topic, record.partition, record.offset);
        let received = Received::new(record.payload.as_deref(), &record.headers, self.schemas);
        match received.review().map_err(RegistryError::of) {
            Ok(request) => {
                let decision = request.decision;
                if !late || self.requests.misses(decision.partition, decision.offset) {
                    self.requests.request(at, &request);
                }
                Ok((decision.partition == record.partition).then_some(decision.offset))
            }
            Err(Ok(error)) => Err(error.into()),
            Err(Err(error)) => {
                if !late {
                    self.requests.unreadable(at, &error.to_string());
                }
                Ok(None)
            }
        }
    }
}
