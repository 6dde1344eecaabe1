//! The scoring pipeline: the stages of [`score`](super), run one after the other by one thread.

mod report;
mod startup;

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::committer::{Committer, FinishedBatch};
use super::in_flight::{AnsweredEvent, InFlightEvents};
use super::load_shedder::LoadShedder;
use super::open_batch::OpenBatch;
use super::outcome::{Decider, Outcome};
use super::oversized::OUTPUT_TOO_LARGE;
use super::predictors::Predictors;
use super::reader::{Decoded, EventReader, InputEvent, Record};
use super::{PanelHandle, ROLE, Score, ScoreError, now};
use crate::config::Policies;
use crate::crash;
use crate::dead_letter::{DeadLetterRate, Reason};
use crate::kafka::{Polled, TopicPartition};
use crate::ops::{Health, metrics};

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
/// The time-out for the committed offsets. Reading them is repeated after it.
const REWIND_TIMEOUT: Duration = Duration::from_secs(2);
/// The interval at which a wait for a commit checks whether batches are aborted.
const COMMIT_CHECK_INTERVAL: Duration = Duration::from_millis(200);
/// The readiness condition that records which were read are committed.
const COMMITTING: &str = "committing";

/// Owns the state of all stages.
pub struct ScorePipeline<'a> {
    // Fields are dropped in this order: the batch being committed ends before the consumer leaves its group.
    committer: Committer,
    reader: EventReader<'a>,
    batch: OpenBatch,
    decider: Decider,
    in_flight: InFlightEvents,
    predictors: Predictors,
    policies: Arc<Policies>,
    panel: Arc<PanelHandle>,
    /// `true` if more records may be available than could be read last time.
    behind: bool,
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
            if stopping && self.in_flight.is_empty() {
                break;
            }
            self.reload()?;
            let events = if stopping { self.stop_reading()? } else { self.read()? };
            self.submit(events)?;
            self.decide()?;
            self.commit()?;
            self.report();
        }
        self.close()
    }

    /// Takes changed policies and a changed panel. Policies may name experts of a newer panel, so policies are read before
    /// the panel and applied after it.
    fn reload(&mut self) -> Result<(), ScoreError> {
        let policies_changed = self.score.policies.renew(&mut self.policies).is_some();
        let panel_changed = self.score.panel.renew(&mut self.panel).is_some();
        if panel_changed {
            self.in_flight.on_panel(&self.panel.panel)?;
        }
        if policies_changed || panel_changed {
            self.decider.on_reload(&self.policies, &self.panel);
            self.predictors.on_reload(&self.policies, self.panel.identity())?;
            self.in_flight.on_policies(&self.policies)?;
        }
        Ok(())
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
        let room = self.in_flight.room().min(READ_STEP);
        let blocked = room == 0 || self.batch.is_full();
        self.behind = true;
        if !blocked {
            self.reader.resume()?;
        }
        let mut waiting = self.reader.take_waiting().into_iter();
        while events.len() < room && self.surge_reason.is_none() {
            let record = match waiting.next() {
                Some(record) => record,
                None if self.batch.is_full() => break,
                None => match self.poll(self.in_flight.is_empty() && events.is_empty())? {
                    Next::Record(record) => record,
                    Next::Other => continue,
                    Next::Idle => {
                        self.behind = false;
                        break;
                    }
                },
            };
            match self.reader.decode(record, &self.policies)? {
                Decoded::Event(event) => events.push(*event),
                Decoded::Tombstone(ticket) => self.batch.settle(&ticket, Outcome::Skipped, Duration::ZERO),
                Decoded::Unusable(record, reason) => self.on_unusable(*record, &reason),
                Decoded::SchemaPending(record) => self.reader.keep_waiting(*record),
            }
        }
        waiting.for_each(|record| self.reader.keep_waiting(record));
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

    /// Begins a tenure of partitions that the group assigned to this member. Their records follow.
    ///
    /// # Errors
    /// Returns [`ScoreError::Partitions`] if a topic of outputs lacks one of them.
    pub fn on_assigned(&mut self, partitions: &[TopicPartition]) -> Result<(), ScoreError> {
        tracing::info!(partitions = partitions.len(), "partitions assigned");
        self.reader.check_output_partitions(partitions)?;
        self.batch.on_assigned(partitions);
        self.reader.count_partitions();
        self.share_budgets();
        self.health.set("partitions assigned", true);
        Ok(())
    }

    /// Uses the part of the review budgets that the assigned partitions have in the topic of events.
    fn share_budgets(&mut self) {
        let (assigned, partitions) = self.reader.partitions();
        if let Some(budgets) = self.decider.budgets() {
            budgets.set_share(assigned, partitions, Instant::now());
        }
    }

    /// Ends the tenure of partitions that go to another member at the next poll.
    ///
    /// Outcomes that are ready are committed first, while the partitions still belong to this member. If the partitions
    /// are `lost`, the session has ended and nothing of them can be committed. The batch being committed ends first in
    /// both cases: it may contain these partitions, and must not be committed in a later tenure of them.
    ///
    /// Events of these partitions that are still in flight stay with the panel. Their outcomes are discarded when they are
    /// answered, because their tickets belong to the ended tenure, and the next owner of the partitions reads their
    /// records again from the committed offsets. Records that wait for their schemas are discarded at once.
    ///
    /// # Errors
    /// Returns the errors of [`on_commit`](Self::on_commit).
    pub fn on_revoked(&mut self, partitions: &[TopicPartition], lost: bool) -> Result<(), ScoreError> {
        tracing::info!(partitions = partitions.len(), lost, "partitions revoked");
        if lost {
            self.await_commit()?;
        } else {
            self.commit_all()?;
        }
        self.batch.on_revoked(partitions);
        self.reader.on_revoked(partitions);
        Ok(())
    }

    /// Makes a dead letter of a record that cannot be decoded. The record at which a surge begins gets none. Its offset
    /// is not committed, the role ends, and the next start reads it again.
    fn on_unusable(&mut self, record: Record, reason: &Reason) {
        if self.count_dead_letters(1, reason.name) {
            let ticket = record.ticket.clone();
            let outcome = self.decider.dead_letter(record, reason);
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
        for event in events {
            let Some(policy) = self.policies.get(&event.event.policy) else {
                let what = format!("policy {} of an accepted event is in force", event.event.policy);
                return Err(ScoreError::Invariant { what });
            };
            self.in_flight.submit(event, policy)?;
        }
        Ok(())
    }

    /// Stage 3: decides the events that the panel has answered, with the newest predictors or those that are pinned.
    fn decide(&mut self) -> Result<(), ScoreError> {
        self.predictors.follow(Duration::ZERO)?;
        let mut wait = match (self.in_flight.is_empty(), self.in_flight.room()) {
            (true, _) => Duration::ZERO,
            (false, 0) => self.batch.due_in(self.behind).unwrap_or(BLOCKED_WAIT).min(BLOCKED_WAIT),
            (false, _) => ANSWER_WAIT,
        };
        // Only the first answer is waited for.
        while let Some(answered) = self.in_flight.next_answer(std::mem::take(&mut wait))? {
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
    pub fn on_answer(&mut self, mut answered: AnsweredEvent) -> Result<(), ScoreError> {
        let (ticket, waited) = (answered.event.ticket.clone(), answered.event.read_at.elapsed());
        self.decider.mark_shadow(&mut answered.votes);
        let predictor = self.predictors.get_mut(&answered.event.event.policy)?;
        if let Some(policy) = self.policies.get(&answered.event.event.policy)
            && let Some(expert) = self.in_flight.next_expert(&answered, &self.panel.shadow, policy, predictor)
        {
            return self.in_flight.ask_again(answered, expert);
        }
        let outcome = self.decider.decide(answered, predictor)?;
        self.batch.settle(&ticket, outcome, waited);
        Ok(())
    }

    /// Stage 4: takes the result of the batch being committed, and begins to commit the open batch if it is due. It waits
    /// only if there is nothing to decide before that result.
    fn commit(&mut self) -> Result<(), ScoreError> {
        let blocked = self.in_flight.is_empty() && self.batch.is_due(self.behind);
        if let Some(finished) = self.committer.finished(if blocked { BLOCKED_WAIT } else { Duration::ZERO }) {
            self.on_commit(finished)?;
        }
        if self.batch.is_due(self.behind) {
            self.begin_commit();
        }
        Ok(())
    }

    /// Hands the outcomes that are ready to the committer, unless it is busy.
    fn begin_commit(&mut self) {
        if !self.committer.is_busy()
            && let Some(batch) = self.batch.take()
        {
            self.committer.begin(batch);
        }
    }

    /// Reports a batch that was committed. If its commit failed, its records and all records after them are void, and are
    /// read again from the committed offsets.
    ///
    /// # Errors
    /// Returns the batch's error if committing again cannot succeed.
    pub fn on_commit(&mut self, finished: FinishedBatch) -> Result<(), ScoreError> {
        let FinishedBatch { result, batch, started, took } = finished;
        match result {
            Ok(records) => {
                metrics::commit(ROLE, records, took);
                self.decider.traces().committed(&batch.spans, started, records);
                metrics::outcomes(&batch.counted);
                metrics::skipped("event", batch.skipped);
                metrics::end_to_end(now(), &batch.timestamps);
                self.batch.on_committed(&batch.offsets, took);
                if batch.oversized > 0 {
                    self.count_dead_letters(batch.oversized, OUTPUT_TOO_LARGE);
                }
                Ok(())
            }
            Err(ScoreError::Commit(error)) if error.is_retryable() => {
                tracing::warn!(name = error.name(), %error, "a batch is repeated");
                metrics::aborted(ROLE, error.name());
                self.batch.on_failed();
                self.rewind_if_failed().map(drop)
            }
            Err(error) => Err(error),
        }
    }

    /// After a failed batch, discards everything uncommitted and seeks to the committed offsets. Returns `false` if the
    /// brokers did not answer: the next call repeats it, and nothing may be read before.
    fn rewind_if_failed(&mut self) -> Result<bool, ScoreError> {
        if !self.batch.has_failed() {
            return Ok(true);
        }
        self.batch.restart(&self.reader.source().assigned());
        match self.reader.rewind(REWIND_TIMEOUT) {
            Ok(()) => self.batch.on_rewound(),
            Err(error) if error.is_retryable() => {
                tracing::warn!(name = error.name(), %error, "the committed offsets are requested again");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(!self.batch.has_failed())
    }

    /// Waits for the batch being committed, unless batches are aborted.
    fn await_commit(&mut self) -> Result<(), ScoreError> {
        while self.committer.is_busy() && !self.committer.is_aborting() {
            if let Some(finished) = self.committer.finished(COMMIT_CHECK_INTERVAL) {
                self.on_commit(finished)?;
            }
        }
        Ok(())
    }

    /// Commits all outcomes that are ready, unless a batch fails or batches are aborted.
    fn commit_all(&mut self) -> Result<(), ScoreError> {
        self.await_commit()?;
        while !self.batch.has_failed() && !self.committer.is_aborting() && self.batch.is_ready() {
            self.begin_commit();
            self.await_commit()?;
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
