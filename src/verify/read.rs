//! Feeds the books from the brokers.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::outcomes::OutcomeAudit;
use super::reader::{Read, Reader};
use super::refold::{PendingCheck, PredictorCheck, Refold};
use super::report::Report;
use super::requests::RequestAudit;
use super::violations::{Place, ViolationKind, Violations};
use crate::codec::{self, Received, Schemas};
use crate::config::{Config, Policies};
use crate::core::event::Millis;
use crate::dead_letter::Headers;
use crate::kafka::{Connection, Consumed, SourceError, at_time, committed};
use crate::registry::RegistryError;

/// How long the brokers may take to answer.
pub(super) const ANSWER: Duration = Duration::from_secs(30);
/// A committed offset can be visible moments before the outcomes committed with it.
const VISIBLE: Duration = Duration::from_secs(5);
/// By how much the clocks of brokers and scorers may differ.
const SKEW: Millis = 600_000;
/// Predictors that are published during the reading are taken this often.
const ATTEMPTS: usize = 3;

/// Why nothing could be verified.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A topic cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// Schemas of decisions or review requests cannot be had.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A topic says nothing although it holds more.
    #[error("{topic} has been silent for half a minute before its end: are its brokers up?")]
    Silent {
        /// Its name.
        topic: String,
    },
}

/// What to verify.
pub struct Verify<'a> {
    /// The configuration: names of topics and groups.
    pub config: &'a Config,
    /// The policies, as the running learner has them.
    pub policies: &'a Policies,
    /// The brokers.
    pub connection: &'a Connection,
    /// Where schemas of decisions and review requests come from; waits for them.
    pub schemas: Option<&'a dyn Schemas>,
    /// Looks only at records from then on; the ledger is always read whole.
    pub from: Option<Millis>,
    /// Is told what is being read, and how many records have been.
    pub progress: &'a mut dyn FnMut(&'static str, usize),
}

impl Verify<'_> {
    /// Reads everything and reports.
    ///
    /// # Errors
    /// Where a topic cannot be read to its end.
    pub fn run(mut self) -> Result<Report, VerifyError> {
        let ((counts, mut faults), (review, more)) = {
            let mut opened = self.open()?;
            self.outcomes(&mut opened)?;
            (opened.books.close(&self.config.score.group, self.from.is_none()), opened.requests.close())
        };
        faults.merge(more);
        let (predictors, ledger_records, more) = self.ledger()?;
        faults.merge(more);
        let holds = faults.is_empty();
        Ok(Report { holds, from: self.from, counts, review, ledger_records, predictors, violations: faults })
    }

    /// Opens the topics, in an order that makes a system at work consistent: the committed offsets first, so
    /// that their outcomes are there; then the review requests, so that their decisions are; the events last,
    /// so that all events of the outcomes are there. Then reads the events.
    fn open(&mut self) -> Result<Opened, VerifyError> {
        let topics = &self.config.topics;
        let done = committed(self.connection, &self.config.score.group, &topics.events, ANSWER)?;
        let earlier = self.from.map(|from| from.saturating_sub(SKEW));
        // A request is written after its decision, by another broker's clock.
        let before = earlier.map(|from| from.saturating_sub(SKEW));
        let reviews = self.reader("review requests", &topics.review, before)?;
        let decisions = self.reader("decisions", &topics.decisions, earlier)?;
        // A dead letter has its original's timestamp: by that it is not found again.
        let letters = self.reader("dead letters", &topics.dlq, None)?;
        let labels = self.reader("labels", &topics.labels, None)?;
        let mut events = self.reader("events", &topics.events, self.from)?;

        let mut requests = RequestAudit::new(&decisions.topic);
        for (partition, start) in &decisions.starts {
            requests.begins(*partition, *start);
        }
        let mut books = OutcomeAudit::new(&events.topic, &labels.topic);
        for (partition, end) in &labels.ends {
            let start = labels.starts.get(partition).copied().unwrap_or(0);
            books.label_partition(*partition, start..*end);
        }
        for (partition, end) in &events.ends {
            let start = events.starts.get(partition).copied().unwrap_or(0);
            books.partition(*partition, start..*end, done.get(partition).copied());
        }
        while let Some(read) = events.next(self.progress)? {
            match read {
                Read::Record(record, _) if record.payload.is_none() => {
                    books.tombstone(record.partition, record.offset);
                }
                Read::Record(record, _) => books.event(record.partition, record.offset),
                Read::Begins(partition, offset) => books.begins(partition, offset),
            }
        }
        Ok(Opened { books, requests, decisions, letters, reviews })
    }

    fn outcomes(&mut self, opened: &mut Opened) -> Result<(), VerifyError> {
        let Opened { books, requests, decisions, letters, reviews } = opened;
        let mut first: BTreeMap<i32, i64> = BTreeMap::new();
        while let Some(read) = decisions.next(self.progress)? {
            match read {
                Read::Record(record, late) => {
                    if let Some(origin) =
                        self.decision(books, requests, &decisions.topic, &record, When::of(late))?
                    {
                        first.entry(record.partition).or_insert(origin);
                    }
                }
                Read::Begins(partition, offset) => {
                    decisions.starts.insert(partition, offset);
                    requests.begins(partition, offset);
                    first.remove(&partition);
                }
            }
        }
        let mut oldest: BTreeMap<i32, Millis> = BTreeMap::new();
        while let Some(read) = letters.next(self.progress)? {
            match read {
                Read::Record(record, late) => {
                    oldest.entry(record.partition).or_insert(record.timestamp.unwrap_or(Millis::MAX));
                    letter(books, &letters.topic, &record, late);
                }
                Read::Begins(partition, offset) => {
                    letters.starts.insert(partition, offset);
                    oldest.remove(&partition);
                }
            }
        }
        let mut asked: BTreeMap<i32, i64> = BTreeMap::new();
        while let Some(read) = reviews.next(self.progress)? {
            match read {
                Read::Record(record, late) => {
                    if let Some(decision) = self.request(requests, &reviews.topic, &record, late)? {
                        asked.entry(record.partition).or_insert(decision);
                    }
                }
                Read::Begins(partition, offset) => {
                    reviews.starts.insert(partition, offset);
                    asked.remove(&partition);
                }
            }
        }
        // Whoever names a time knows that its outcomes are kept.
        if self.from.is_none() {
            self.forget(books, decisions, &first, letters, &oldest)?;
            for partition in reviews.lost() {
                requests.kept_from(partition, asked.get(&partition).copied().unwrap_or(i64::MAX));
            }
        }
        let until = Instant::now() + VISIBLE;
        while (books.has_gaps() || requests.has_gaps()) && Instant::now() < until {
            if let Some(record) = decisions.more()? {
                self.decision(books, requests, &decisions.topic, &record, When::Closing)?;
            }
            if let Some(record) = letters.more()? {
                letter(books, &letters.topic, &record, true);
            }
            if let Some(record) = reviews.more()? {
                self.request(requests, &reviews.topic, &record, true)?;
            }
        }
        Ok(())
    }

    /// Takes a decision; the offset of its event. Past the end only one that is missed; whether one of those
    /// has its request is looked at too, because the request may lie before the end of its own topic.
    fn decision(
        &self,
        books: &mut OutcomeAudit,
        requests: &mut RequestAudit,
        topic: &Arc<str>,
        record: &Consumed,
        when: When,
    ) -> Result<Option<i64>, VerifyError> {
        let at = Place::new(topic, record.partition, record.offset);
        let received = Received::new(record.payload.as_deref(), &record.headers, self.schemas);
        match received.decision().map_err(RegistryError::of) {
            Ok(decision) => {
                let origin = &decision.origin;
                let missed = books.misses(origin.partition, origin.offset);
                if when != When::Closing || missed || requests.awaits(at.partition, at.offset) {
                    requests.decision(at.partition, at.offset, &decision);
                }
                if when == When::Within || missed {
                    books.decision(at, &origin.topic, origin.partition, origin.offset);
                }
                Ok(Some(origin.offset))
            }
            // That the registry is away says nothing of the record.
            Err(Ok(error)) => Err(error.into()),
            Err(Err(error)) => {
                if when == When::Within {
                    books.unreadable(at, &error.to_string());
                }
                Ok(None)
            }
        }
    }

    /// Takes a review request; the offset of its decision. With `late` only one that is missed.
    fn request(
        &self,
        requests: &mut RequestAudit,
        topic: &Arc<str>,
        record: &Consumed,
        late: bool,
    ) -> Result<Option<i64>, VerifyError> {
        let at = Place::new(topic, record.partition, record.offset);
        let received = Received::new(record.payload.as_deref(), &record.headers, self.schemas);
        match received.review().map_err(RegistryError::of) {
            Ok(request) => {
                let decision = request.decision;
                if !late || requests.misses(decision.partition, decision.offset) {
                    requests.request(at, &request);
                }
                Ok((decision.partition == record.partition).then_some(decision.offset))
            }
            Err(Ok(error)) => Err(error.into()),
            Err(Err(error)) => {
                if !late {
                    requests.unreadable(at, &error.to_string());
                }
                Ok(None)
            }
        }
    }

    /// Events whose outcomes may have been deleted by their topics' retention are not missed: those before
    /// the first decision kept of their partition, and those from before the oldest dead letter.
    fn forget(
        &self,
        books: &mut OutcomeAudit,
        decisions: &Reader,
        first: &BTreeMap<i32, i64>,
        letters: &Reader,
        oldest: &BTreeMap<i32, Millis>,
    ) -> Result<(), VerifyError> {
        for partition in decisions.lost() {
            books.kept_from(partition, first.get(&partition).copied().unwrap_or(i64::MAX));
        }
        let since =
            letters.lost().map(|partition| oldest.get(&partition).copied().unwrap_or(Millis::MAX)).max();
        if let Some(since) = since {
            let events = &self.config.topics.events;
            let begins = at_time(self.connection, events, since, ANSWER)?;
            for partition in decisions.ends.keys() {
                books.kept_from(*partition, begins.get(partition).copied().unwrap_or(i64::MAX));
            }
        }
        Ok(())
    }

    /// Folds the ledger as far as the newest predictors name it. A learner at work may publish meanwhile, and
    /// compaction take what an older predictor was made of: then the newer one is checked.
    fn ledger(&mut self) -> Result<(Vec<PredictorCheck>, u64, Violations), VerifyError> {
        let mut due = self.predictors()?;
        for _ in 1..ATTEMPTS {
            let checked = self.refold(&due)?;
            let newer =
                if checked.0.iter().all(|checked| checked.holds) { None } else { Some(self.predictors()?) };
            match newer {
                Some(newer) if !same(&newer, &due) => due = newer,
                _ => return Ok(checked),
            }
        }
        self.refold(&due)
    }

    fn refold(
        &mut self,
        (due, broken): &(Vec<PendingCheck>, Violations),
    ) -> Result<(Vec<PredictorCheck>, u64, Violations), VerifyError> {
        let mut ledger = self.reader("ledger", &self.config.topics.rounds, None)?;
        let end = ledger.ends.values().copied().max().unwrap_or(0);
        let mut refold = Refold::new(&ledger.topic, due.clone());
        while let Some(read) = ledger.next(self.progress)? {
            let Read::Record(Consumed { offset, payload: Some(payload), .. }, false) = read else { continue };
            match codec::decode_record(&payload) {
                Ok(record) => refold.record(offset, &record),
                Err(error) => refold.unreadable(offset, &error.to_string()),
            }
        }
        let (checked, records, mut faults) = refold.finish(end);
        faults.merge(broken.clone());
        Ok((checked, records, faults))
    }

    /// The newest predictor of each policy.
    fn predictors(&mut self) -> Result<(Vec<PendingCheck>, Violations), VerifyError> {
        let mut weights = self.reader("predictors", &self.config.topics.weights, None)?;
        let mut newest: BTreeMap<Vec<u8>, (i64, Option<Vec<u8>>)> = BTreeMap::new();
        while let Some(read) = weights.next(self.progress)? {
            if let Read::Record(Consumed { offset, key: Some(key), payload, .. }, _) = read {
                newest.insert(key, (offset, payload));
            }
        }
        let (mut due, mut faults) = (Vec::new(), Violations::default());
        for (offset, payload) in newest.into_values() {
            let at = Place::new(&weights.topic, 0, offset);
            match payload.as_deref().map(codec::decode_published) {
                Some(Ok(published)) => {
                    let policy = self.policies.get(&published.policy).cloned();
                    due.push(PendingCheck { published, at, policy });
                }
                Some(Err(error)) => faults.add(ViolationKind::Unreadable, at, || error.to_string()),
                // A tombstone: the policy is no more.
                None => {}
            }
        }
        Ok((due, faults))
    }

    fn reader(&self, what: &'static str, topic: &str, from: Option<Millis>) -> Result<Reader, VerifyError> {
        Reader::open(self.connection, what, topic, from)
    }
}

/// When a decision was met.
#[derive(Clone, Copy, PartialEq, Eq)]
enum When {
    /// Before the end that its topic had at the start.
    Within,
    /// After it.
    Past,
    /// While missing records are waited for.
    Closing,
}

impl When {
    fn of(late: bool) -> Self {
        if late { Self::Past } else { Self::Within }
    }
}

/// The topics that are read side by side, and the books that are fed from them.
struct Opened {
    books: OutcomeAudit,
    requests: RequestAudit,
    decisions: Reader,
    letters: Reader,
    reviews: Reader,
}

fn same(one: &(Vec<PendingCheck>, Violations), other: &(Vec<PendingCheck>, Violations)) -> bool {
    let places = |due: &[PendingCheck]| due.iter().map(|due| due.at.offset).collect::<Vec<_>>();
    places(&one.0) == places(&other.0)
}

fn letter(books: &mut OutcomeAudit, topic: &Arc<str>, record: &Consumed, late: bool) {
    let at = Place::new(topic, record.partition, record.offset);
    match Headers::of(&record.headers) {
        Some(of) if !late || (of.topic == books.events() && books.misses(of.partition, of.offset)) => {
            books.dead_letter(at, &of.topic, of.partition, of.offset);
        }
        None if !late => books.unreadable(at, "has no headers that name its original"),
        _ => {}
    }
}
