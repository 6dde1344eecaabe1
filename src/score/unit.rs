//! The unit under way: what has been decided and not committed yet.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::asking::RoundRecord;
use super::committing::{Closed, Committing, Ended, Told};
use super::intake::Accepted;
use super::seats::PanelHandle;
use super::traced;
use super::unfit::UNFIT;
use super::waits::Waits;
use super::{ScoreError, now};
use crate::codec::{self, EncodeError, Encoding};
use crate::config::{Config, Policies};
use crate::core::decision::{Asked, decide};
use crate::core::event::Millis;
use crate::core::label::DecisionRef;
use crate::core::predictor::Predictor;
use crate::core::review::ReviewRequest;
use crate::core::watermark::{Ready, Ticket, Watermark};
use crate::dead_letter::{DeadLetterRate, Reason, dead_letter};
use crate::kafka::{Ages, Connection, Consumed, Offsets, Produced, RoundTrip, Source, TopicPartition};
use crate::ops::metrics::{Counted, Decided};
use crate::ops::traces::Moderation;
use crate::ops::{Traces, metrics};

/// How long the brokers may take to say what is committed, before they are asked again.
const REWIND: Duration = Duration::from_secs(2);
/// How long one wait for a commit takes; there is another after it, unless units are given up.
const WAIT: Duration = Duration::from_millis(200);
/// Who is behind gains nothing from many small commits, and they cost the brokers: then a unit stays open for so many
/// intervals,
const TIMES: u32 = 5;
/// or for a quarter of what its events have waited for the panel, where that is longer,
const PART: u32 = 4;
/// but not for longer than this.
const LONGEST: Duration = Duration::from_secs(1);

/// The outcome of one record.
struct Outcome {
    /// The record's partition and offset.
    at: (i32, i64),
    output: Produced,
    /// The review request, where the decision asks for one. Its decision has no place before it is sent.
    asks: Option<Box<ReviewRequest>>,
    /// The record's broker timestamp.
    came: Millis,
    /// How it is counted.
    counted: Counted,
    /// What its span says, where it is traced.
    span: Option<Box<Moderation>>,
}

/// Whether a record has an output.
enum Settled {
    Written(Box<Outcome>),
    /// The record is a tombstone that is passed over.
    Skipped,
}

/// What is open, and how far the offsets may be committed.
pub struct Unit {
    policies: Arc<Policies>,
    /// Experts whose votes weigh nothing.
    shadow: BTreeSet<String>,
    events: Arc<str>,
    decisions: Arc<str>,
    dlq: Arc<str>,
    encoding: Encoding,
    traces: Traces,
    round_trip: RoundTrip,
    /// Records of a unit, as configured, and as many as the round trip asks for.
    least: usize,
    most: usize,
    interval: Duration,
    /// Every record read, with its output once it has one.
    watermark: Watermark<i32, Settled>,
    /// When every record came that the watermark holds.
    ages: Ages,
    /// Since when the records of each partition wait for a commit.
    waits: Waits,
    /// Since when something is ready, and how long the first of it had waited for the panel.
    open: Option<(Instant, Duration)>,
    /// Whether a unit was given up and its records are not read again yet.
    given_up: bool,
    decided: Decided,
    surge: DeadLetterRate,
    /// The dead letters within a minute at which a surge begins.
    limit: u64,
    /// The reason of the dead letter at which a surge began.
    surged: Option<&'static str>,
}

impl Unit {
    /// An empty unit whose decisions are written in `encoding`, and whose events are traced by `traces`. Its size follows
    /// the round trip of `connection`.
    #[must_use]
    pub fn new(
        config: &Config,
        policies: Arc<Policies>,
        encoding: Encoding,
        traces: Traces,
        connection: &Connection,
    ) -> Self {
        Self {
            policies,
            shadow: BTreeSet::new(),
            events: config.topics.events.as_str().into(),
            decisions: config.topics.decisions.as_str().into(),
            dlq: config.topics.dlq.as_str().into(),
            encoding,
            traces,
            round_trip: connection.round_trip.clone(),
            least: config.score.commit_records.max(1),
            most: config.score.commit_records.max(1),
            interval: config.score.commit_interval(),
            watermark: Watermark::new(),
            ages: Ages::default(),
            waits: Waits::default(),
            open: None,
            given_up: false,
            decided: Decided::default(),
            surge: DeadLetterRate::new(
                config.score.max_dead_letters_per_minute,
                config.score.max_dead_letter_share,
            ),
            limit: config.score.max_dead_letters_per_minute,
            surged: None,
        }
    }

    /// What is decided from now on is decided under these policies.
    pub fn adopt(&mut self, policies: &Arc<Policies>) {
        self.policies = Arc::clone(policies);
    }

    /// What is decided from now on weighs nothing that these have in shadow.
    pub fn seat(&mut self, seats: &PanelHandle) {
        self.shadow.clone_from(&seats.shadow);
    }

    /// These partitions are this member's from now on.
    pub fn assigned(&mut self, partitions: &[TopicPartition]) {
        for (_, partition) in partitions {
            self.watermark.begin(*partition);
            self.ages.forget(*partition);
        }
    }

    /// These partitions are gone: what is not committed of them is their next owner's.
    pub fn revoked(&mut self, partitions: &[TopicPartition]) {
        for (_, partition) in partitions {
            self.watermark.end(partition);
            self.ages.forget(*partition);
            self.waits.forget(*partition);
        }
    }

    /// Notes a record as read; its outcome comes with the ticket.
    pub fn read(&mut self, record: &Consumed) -> Option<Ticket<i32>> {
        let ticket = self.watermark.consume(&record.partition, record.offset)?;
        self.ages.read(record.partition, record.offset, record.timestamp.unwrap_or_else(now));
        self.surge.add_records(1, Instant::now());
        self.waits.read(record.partition, Instant::now());
        Some(ticket)
    }

    /// Returns [`ScoreError::Surge`] if there are too many dead letters: nothing more is to be read.
    #[must_use]
    pub fn surge(&self) -> Option<ScoreError> {
        self.surged.map(|reason| ScoreError::Surge { limit: self.limit, reason })
    }

    /// Counts dead letters, the last of them for this reason. Returns `false` if they are too many.
    fn count_letters(&mut self, letters: u64, reason: &'static str) -> bool {
        let admitted = self.surge.add_dead_letters(letters, Instant::now());
        if !admitted {
            self.surged = Some(reason);
        }
        admitted
    }

    /// Passes over a record that has a null value: it is committed without an output.
    pub fn skip(&mut self, ticket: &Ticket<i32>) {
        self.settle(ticket, Settled::Skipped, Duration::ZERO);
    }

    /// Broker timestamp of the oldest record of a partition whose outcome no commit has covered.
    #[must_use]
    pub fn oldest(&self, partition: i32) -> Option<Millis> {
        self.ages.oldest(partition)
    }

    /// The time since which the partition waits for a commit that has waited longest, given what is left to read of
    /// each; `None`: nothing waits.
    #[must_use]
    pub fn waits(&mut self, lag: &[(TopicPartition, i64)]) -> Option<Instant> {
        let now = Instant::now();
        for ((_, partition), messages) in lag {
            let quiet = !self.given_up && *messages == 0 && self.ages.oldest(*partition).is_none();
            self.waits.observe(*partition, quiet, now);
        }
        self.waits.since()
    }

    /// Whether reading has to wait for a commit.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.watermark.held() >= 2 * (self.least + self.most)
    }

    /// Records read whose outcome no commit has covered.
    #[must_use]
    pub fn held(&self) -> usize {
        self.watermark.held()
    }

    /// Whether it is time to commit; `behind`: more records lie there than could be read.
    #[must_use]
    pub fn is_due(&self, behind: bool) -> bool {
        self.due_in(behind).is_some_and(|left| left.is_zero())
    }

    /// How long until it is time to commit, where there is anything to commit.
    #[must_use]
    pub fn due_in(&self, behind: bool) -> Option<Duration> {
        let (since, waited) = self.open?;
        let left = open_for(self.interval, waited, behind).saturating_sub(since.elapsed());
        let full = self.watermark.held() >= self.most && self.watermark.ready() >= self.most;
        Some(if full { Duration::ZERO } else { left })
    }

    /// The outcome of a record that cannot be used. The one with which a [surge](Self::surge) begins gets none: the next
    /// start reads it again.
    pub fn dead_letter(&mut self, ticket: &Ticket<i32>, record: Consumed, reason: &Reason) {
        if !self.count_letters(1, reason.name) {
            return;
        }
        let came = record.timestamp.unwrap_or_else(now);
        let span = traced::dead(&self.traces, &record, came, reason);
        let output = dead_letter(&self.dlq, "score", record, reason);
        let at = (ticket.partition, ticket.offset);
        let counted = Counted::DeadLetter(reason.name);
        let outcome = Outcome { at, output, asks: None, came, counted, span };
        self.settle(ticket, Settled::Written(Box::new(outcome)), Duration::ZERO);
    }

    /// The outcome of an event that has been asked about. One that a rebalance has taken away is passed over.
    ///
    /// # Errors
    /// Where a decision cannot be written: a fault of this program.
    pub fn decide(&mut self, judged: RoundRecord, predictor: &mut Predictor) -> Result<(), EncodeError> {
        let RoundRecord { accepted, mut votes, reading, times } = judged;
        for vote in &mut votes {
            vote.shadow = self.shadow.contains(&vote.expert);
        }
        let trace = accepted.trace();
        let Accepted { event, origin, key, mut headers, round_time, came, read_at, ticket } = accepted;
        let combined = predictor.combine(&event.id, &votes, reading.as_ref());
        let Some(policy) = self.policies.get(&event.policy) else { return Ok(()) };
        let asked = Asked { event, origin, round_time, votes, reading, trace };
        let waited = read_at.elapsed();
        let latency = i64::try_from(waited.as_micros()).unwrap_or(i64::MAX);
        let decision = decide(asked, policy, predictor.reference().clone(), &combined, latency);
        self.decided.note(&decision);
        // The decision and its request go on in the trace under this event's span.
        let trace = traced::trace(&self.traces, &headers, &decision.origin, came);
        let span = trace.map(|trace| {
            trace.mark(&mut headers);
            traced::decided(trace, &decision, times)
        });
        let output = Produced {
            topic: Arc::clone(&self.decisions),
            partition: Some(ticket.partition),
            key,
            payload: Some(codec::encode_decision(&decision, self.encoding)?),
            headers,
            timestamp: None,
        };
        // Made now: by the time of the commit other policies may be in force.
        let nowhere = DecisionRef { partition: ticket.partition, offset: -1 };
        let asks = ReviewRequest::of(&decision, policy, nowhere).map(Box::new);
        let counted = Counted::decision(&decision);
        let at = (ticket.partition, ticket.offset);
        let outcome = Outcome { at, output, asks, came, counted, span };
        self.settle(&ticket, Settled::Written(Box::new(outcome)), waited);
        Ok(())
    }

    /// The outcome of a record that has waited so long since it was read.
    fn settle(&mut self, ticket: &Ticket<i32>, outcome: Settled, waited: Duration) {
        if self.watermark.settle(ticket, outcome) {
            self.open.get_or_insert_with(|| (Instant::now(), waited));
        }
    }

    /// Hands the outcomes that have none missing before them over to be committed, as many as a unit holds. Nothing
    /// happens while a unit is under way.
    pub fn hand_over(&mut self, committing: &mut Committing) {
        if committing.is_busy() || self.given_up {
            return;
        }
        let Ready { outcomes, offsets } = self.watermark.take(self.most);
        // What is left over is no younger than the unit was.
        if self.watermark.ready() == 0 {
            self.open = None;
        }
        if outcomes.is_empty() {
            return;
        }
        let place = |(partition, next)| ((Arc::clone(&self.events), partition), next);
        let offsets: Offsets = offsets.into_iter().map(place).collect();
        let mut told = Told { offsets, ..Told::default() };
        let (mut records, mut origins, mut asks) = (Vec::new(), Vec::new(), Vec::new());
        for settled in outcomes {
            let Settled::Written(outcome) = settled else {
                told.skipped += 1;
                continue;
            };
            let outcome = *outcome;
            asks.extend(outcome.asks.map(|request| (records.len(), request)));
            records.push(outcome.output);
            origins.push(outcome.at);
            told.came.push(outcome.came);
            told.counted.push(outcome.counted);
            told.spans.extend(outcome.span.map(|span| *span));
        }
        committing.begin(Closed { records, origins, asks, told });
    }

    /// A unit's commit is over. Where it was given up, its records and all that follow them are read again from the
    /// committed offsets.
    ///
    /// # Errors
    /// Where doing it again would help nobody.
    pub fn ended(&mut self, ended: Ended, source: &mut Source) -> Result<(), ScoreError> {
        match ended.result {
            Ok(records) => {
                metrics::commit("score", records, ended.took);
                self.most = self.round_trip.grown(self.least, ended.took);
                self.traces.committed(&ended.told.spans, ended.started, records);
                metrics::outcomes(&ended.told.counted);
                metrics::skipped("event", ended.told.skipped);
                metrics::end_to_end(now(), &ended.told.came);
                for ((_, partition), next) in &ended.told.offsets.0 {
                    self.ages.committed(*partition, *next);
                    let more = self.ages.oldest(*partition).is_some();
                    self.waits.committed(*partition, more, Instant::now());
                }
                if ended.told.unfit > 0 {
                    self.count_letters(ended.told.unfit, UNFIT);
                }
                Ok(())
            }
            Err(ScoreError::Commit(error)) if error.is_retryable() => {
                tracing::warn!(name = error.name(), %error, "a unit is done again");
                metrics::aborted("score", error.name());
                self.given_up = true;
                // A unit that was too large for its time is not done again as large.
                self.most = self.least;
                self.resumed(source).map(drop)
            }
            Err(error) => Err(error),
        }
    }

    /// Waits for the unit under way, and commits all that can be, unless a unit is given up, or all are.
    ///
    /// # Errors
    /// As [`ended`](Self::ended).
    pub fn finish(&mut self, committing: &mut Committing, source: &mut Source) -> Result<(), ScoreError> {
        self.await_ended(committing, source)?;
        while !self.given_up && !committing.gives_up() && self.watermark.ready() > 0 {
            self.hand_over(committing);
            self.await_ended(committing, source)?;
        }
        Ok(())
    }

    /// Waits for the unit under way, as long as units are not given up.
    ///
    /// # Errors
    /// As [`ended`](Self::ended).
    pub fn await_ended(
        &mut self,
        committing: &mut Committing,
        source: &mut Source,
    ) -> Result<(), ScoreError> {
        while committing.is_busy() && !committing.gives_up() {
            if let Some(ended) = committing.ended(WAIT) {
                self.ended(ended, source)?;
            }
        }
        Ok(())
    }

    /// Whether reading may go on. After a unit that was given up all that is not committed is forgotten, and
    /// read again once the brokers say where: brokers that are away are asked again with the next call.
    ///
    /// # Errors
    /// Where asking again would help nobody.
    pub fn resumed(&mut self, source: &mut Source) -> Result<bool, ScoreError> {
        if !self.given_up {
            return Ok(true);
        }
        self.assigned(&source.assigned());
        self.open = None;
        match source.rewind(REWIND) {
            Ok(()) => self.given_up = false,
            Err(error) if error.is_retryable() => {
                tracing::warn!(name = error.name(), %error, "what is committed is asked again");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(!self.given_up)
    }
}

/// How long a unit stays open whose first event has `waited` for its answers. Only who is `behind` gains from fewer
/// commits; for anybody else events would wait for nothing.
fn open_for(interval: Duration, waited: Duration, behind: bool) -> Duration {
    if behind { interval.max((interval * TIMES).max(waited / PART).min(LONGEST)) } else { interval }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_behind_commits_more_seldom_up_to_a_second() {
        let after = |interval, waited, behind| {
            open_for(Duration::from_millis(interval), Duration::from_millis(waited), behind).as_millis()
        };
        assert_eq!(after(20, 60_000, false), 20);
        assert_eq!(after(20, 0, true), 100);
        assert_eq!(after(20, 400, true), 100);
        assert_eq!(after(20, 1_800, true), 450);
        assert_eq!(after(20, 60_000, true), 1_000);
        assert_eq!(after(500, 0, true), 1_000);
        assert_eq!(after(5_000, 60_000, true), 5_000);
    }
}
