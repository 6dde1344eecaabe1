//! The scoring pipeline: the stages of [`score`](super), run one after the other by one thread.

mod commits;
mod partitions;
mod report;
mod startup;

use std::time::{Duration, Instant};

use super::backlog::Backlog;
use super::committer::Committer;
use super::event_scorer::EventScorer;
use super::in_flight::AnsweredEvent;
use super::load_shedder::LoadShedder;
use super::open_batch::OpenBatch;
use super::outcome::{Decider, Outcome};
use super::reader::{Decoded, EventReader, InputEvent, Record};
use super::{Score, ScoreError};
use crate::crash;
use crate::dead_letter::{DeadLetterRate, Reason};
use crate::kafka::Polled;
use crate::ops::{Health, metrics};
pub use startup::open_predictors;

/// The longest wait for an answer while more records can be read.
const ANSWER_WAIT: Duration = Duration::from_millis(2);
/// The longest wait for an answer or a commit while nothing can be read before it.
const BLOCKED_WAIT: Duration = Duration::from_millis(20);
/// The number of events that are read before the panel gets them, so that it begins early.
const READ_STEP: usize = 32;
/// The time-out for leaving the consumer group.
const LEAVE_TIMEOUT: Duration = Duration::from_secs(5);
/// The time-out for leaving the consumer group after the second signal.
const ABORT_TIMEOUT: Duration = Duration::from_millis(500);
/// The readiness condition that records which were read are committed.
const COMMITTING: &str = "committing";

/// Owns the state of all stages.
pub struct ScorePipeline<'a> {
    // Fields are dropped in this order: the batch being committed ends before the consumer leaves its group.
    committer: Committer,
    reader: EventReader<'a>,
    batch: OpenBatch,
    scorer: EventScorer,
    backlog: Backlog,
    /// The rate of dead letters. If there are too many, a surge has begun.
    surge: DeadLetterRate,
    /// The reason of the dead letter at which a surge began. Nothing is read after it.
    surge_reason: Option<&'static str>,
    load_shedder: LoadShedder,
    lag: metrics::Lag,
    events_read: ::metrics::Counter,
    /// The time without a commit after which the role is not ready.
    stalled_after: Duration,
    reported_at: Instant,
    score: &'a Score,
    health: &'a Health,
}

/// The result of one poll.
enum Next {
    Record(Record),
    /// A rebalance, or a record that was read already.
    Other,
    /// No record is available.
    Idle,
}

impl ScorePipeline<'_> {
    /// Runs the stages until shutdown is requested and the events in flight are decided, or until the second signal.
    ///
    /// After a surge of dead letters, too, everything read before it is decided and committed.
    ///
    /// # Errors
    /// Returns an error if continuing would lose data, or if retrying cannot succeed.
    pub fn run(mut self) -> Result<(), ScoreError> {
        while !self.score.shutdown.aborted() {
            let stopping = self.score.shutdown.requested() || self.surge_reason.is_some();
            if stopping && self.scorer.in_flight.is_empty() {
                break;
            }
            self.scorer.reload(self.score)?;
            let events = if stopping { self.stop_reading()? } else { self.read()? };
            self.submit(events)?;
            self.decide()?;
            self.commit()?;
            self.report();
        }
        self.close()
    }

    /// Stage 1: reads records and decodes them, up to [`READ_STEP`] and up to the room that the panel has.
    ///
    /// If the panel or the open batch is full, nothing is read. After a second the consumer is paused, and polled so that
    /// it keeps its membership.
    fn read(&mut self) -> Result<Vec<InputEvent>, ScoreError> {
        let mut events = Vec::new();
        if !self.rewind_if_failed()? {
            // Rebalances are handled meanwhile. A record is ignored: it is read again after the rewind.
            self.poll(true)?;
            return Ok(events);
        }
        let free = self.scorer.in_flight.room();
        let room = free.min(READ_STEP);
        let blocked = room == 0 || self.batch.is_full();
        let mut at_end = false;
        if !blocked {
            self.reader.resume()?;
        }
        let mut waiting = self.reader.take_waiting().into_iter();
        while events.len() < room && self.surge_reason.is_none() {
            let record = match waiting.next() {
                Some(record) => record,
                None if self.batch.is_full() => break,
                None => match self.poll(self.scorer.in_flight.is_empty() && events.is_empty())? {
                    Next::Record(record) => record,
                    Next::Other => continue,
                    Next::Idle => {
                        at_end = true;
                        break;
                    }
                },
            };
            match self.reader.decode(record, &self.scorer.policies)? {
                Decoded::Event(event) => events.push(*event),
                Decoded::Answered(event, decision) => {
                    let ticket = event.ticket.clone();
                    let outcome = self.scorer.decider.answered(*event, *decision)?;
                    self.batch.settle(&ticket, outcome, Duration::ZERO);
                }
                Decoded::Tombstone(ticket) => self.batch.settle(&ticket, Outcome::Skipped, Duration::ZERO),
                Decoded::Unusable(record, reason) => self.on_unusable(*record, &reason),
                Decoded::SchemaPending(record) => self.reader.keep_waiting(*record),
            }
        }
        waiting.for_each(|record| self.reader.keep_waiting(record));
        self.backlog.on_read(at_end, self.scorer.in_flight.len() + events.len(), free - events.len());
        if blocked {
            self.stop_reading()?;
        }
        Ok(events)
    }

    /// Reads nothing. After a second the consumer is paused and polled, which handles rebalances.
    fn stop_reading(&mut self) -> Result<Vec<InputEvent>, ScoreError> {
        // A record may already have been on its way when the partitions were paused.
        if self.reader.pause_if_blocked()?
            && let Next::Record(record) = self.poll(false)?
        {
            self.reader.keep_waiting(record);
        }
        Ok(Vec::new())
    }

    /// Polls the consumer once. With `may_wait`, waits for a record, at most until the open batch is due: the caller then
    /// has nothing else to do.
    fn poll(&mut self, may_wait: bool) -> Result<Next, ScoreError> {
        let timeout = if may_wait { self.reader.idle_wait(self.batch.due_in(false)) } else { Duration::ZERO };
        match self.reader.poll(timeout)? {
            Polled::Record(consumed) => {
                let Some(ticket) = self.batch.on_record(&consumed) else { return Ok(Next::Other) };
                self.surge.add_records(1, Instant::now());
                self.events_read.increment(1);
                return Ok(Next::Record(Record { ticket, consumed }));
            }
            Polled::Assigned(partitions) => self.on_assigned(&partitions)?,
            Polled::Revoked { partitions, lost } => self.on_revoked(&partitions, lost)?,
            Polled::Idle => return Ok(Next::Idle),
        }
        Ok(Next::Other)
    }

    /// Makes a dead letter of a record that cannot be decoded. The record at which a surge begins gets none. Its offset
    /// is not committed, the role ends, and the next start reads it again.
    fn on_unusable(&mut self, record: Record, reason: &Reason) {
        if self.count_dead_letters(1, reason.name) {
            let ticket = record.ticket.clone();
            let outcome = self.scorer.decider.dead_letter(record, reason);
            self.batch.settle(&ticket, outcome, Duration::ZERO);
        }
    }

    /// Counts dead letters. `reason` is that of the last of them. Returns `false` if there are too many: a surge begins.
    fn count_dead_letters(&mut self, letters: u64, reason: &'static str) -> bool {
        let allowed = self.surge.add_dead_letters(letters, Instant::now());
        if !allowed {
            self.surge_reason = Some(reason);
        }
        allowed
    }

    /// Stage 2: submits events to the panel. There is room for all of them, because [`read`](Self::read) returns no more
    /// than that.
    fn submit(&mut self, events: Vec<InputEvent>) -> Result<(), ScoreError> {
        events.into_iter().try_for_each(|event| self.scorer.submit(event))
    }

    /// Stage 3: decides the events that the panel has answered, with the newest predictors or those that are pinned.
    fn decide(&mut self) -> Result<(), ScoreError> {
        self.scorer.predictors.follow(Duration::ZERO)?;
        let mut wait = match (self.scorer.in_flight.is_empty(), self.scorer.in_flight.room()) {
            (true, _) => Duration::ZERO,
            (false, 0) => {
                self.batch.due_in(self.backlog.is_behind()).unwrap_or(BLOCKED_WAIT).min(BLOCKED_WAIT)
            }
            (false, _) => ANSWER_WAIT,
        };
        // Only the first answer is waited for.
        while let Some(answered) = self.scorer.in_flight.next_answer(std::mem::take(&mut wait))? {
            self.on_answer(answered)?;
            crash::point("score.decided");
        }
        Ok(())
    }

    /// Decides one answered event and adds the outcome to the open batch. If an expert that was not asked could change the
    /// decision, that expert is asked, and the event is answered again.
    ///
    /// # Errors
    /// Returns an error if the decision cannot be encoded, or if the event's policy is not in force any more.
    pub fn on_answer(&mut self, answered: AnsweredEvent) -> Result<(), ScoreError> {
        let (ticket, waited) = (answered.event.ticket.clone(), answered.event.read_at.elapsed());
        if let Some(outcome) = self.scorer.on_answer(answered, Decider::decide)? {
            self.batch.settle(&ticket, outcome, waited);
        }
        Ok(())
    }

    /// Stage 4: takes the result of the batch being committed, and begins to commit the open batch if it is due. It waits
    /// only if there is nothing to decide before that result.
    fn commit(&mut self) -> Result<(), ScoreError> {
        let blocked = self.scorer.in_flight.is_empty() && self.batch.is_due(self.backlog.is_behind());
        if let Some(finished) = self.committer.finished(if blocked { BLOCKED_WAIT } else { Duration::ZERO }) {
            self.on_commit(finished)?;
        }
        if self.batch.is_due(self.backlog.is_behind()) {
            self.begin_commit();
        }
        Ok(())
    }

    /// Commits what is decided and leaves the group, at the second signal without waiting for either.
    fn close(mut self) -> Result<(), ScoreError> {
        let aborted = || self.score.shutdown.aborted();
        if !aborted() {
            self.commit_all()?;
        }
        // The consumer leaves the group when the last owner of its membership is dropped.
        drop(self.committer);
        self.reader.close(if self.score.shutdown.aborted() { ABORT_TIMEOUT } else { LEAVE_TIMEOUT });
        let limit = self.score.config.score.max_dead_letters_per_minute;
        self.surge_reason.map_or(Ok(()), |reason| Err(ScoreError::Surge { limit, reason }))
    }
}
