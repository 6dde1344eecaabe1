//! One active time of a learner, from restoring to its end.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::commit::Committed;
use super::join::{Join, Joined};
use super::publish::{Publisher, Publishing};
use super::{ANSWER, End, Learn, LearnError, now};
use crate::codec::Schemas;
use crate::config::Policies;
use crate::core::ledger_state::LedgerState;
use crate::crash;
use crate::dead_letter::Surge;
use crate::kafka::{Lookup, Outbox, Polled, Source, Start};
use crate::ops::traces::Unpublished;
use crate::ops::{Traces, metrics};
use crate::registry::{Registry, RegistryError};
use crate::schemas;
use crate::store::Store;

/// How often the state of things is told to health and metrics.
const TELL: Duration = Duration::from_millis(500);
/// How often labels that have waited too long are looked for, and days of the index past the horizon.
const EXPIRY: Duration = Duration::from_secs(60);

impl Learn {
    /// One active time, from restoring to its end.
    pub(super) fn learn(
        &self,
        election: &mut Source,
        registry: Option<&Registry>,
        traces: &Traces,
    ) -> Result<End, LearnError> {
        let (topics, settings) = (&self.config.topics, &self.config.learn);
        let (stop, given_up) = (|| self.shutdown.requested(), || self.shutdown.aborted());
        let patient = registry.map(|registry| registry.waiting(&stop));
        let patient = patient.as_ref().map(|patient| patient as &dyn Schemas);
        // Taking the transactional id over fences a learner that does not know yet that it lost.
        let mut outbox = Outbox::open(&self.connection, self.delivery.clone())?;
        let mut policies = self.policies.now();
        let restored = self.restore(&policies)?;
        let Some((mut store, mut ledger, mut index)) = restored else { return Ok(End::Stopped) };
        self.health.set("ledger restored", true);
        let mut lookup = Lookup::open(&self.connection, &topics.decisions, ANSWER)?;
        crash::point("learn.restored");
        let mut publisher = Publisher::new(&topics.weights, settings.publish_interval_ms);
        let mut labels =
            Source::subscribe(&self.connection, &settings.group, &[&topics.labels], Start::Earliest)?;
        let defaults = schemas::defaults(&self.config);
        let mut surge = Surge::new(settings.max_dead_letters_per_minute, settings.max_dead_letter_share);
        let (mut expired, mut told) = (Instant::now(), Instant::now());
        let mut searched = false;
        let mut lag = metrics::Lag::new(&settings.group);
        // How old the oldest label of the last unit was, by partition.
        let mut ages = BTreeMap::new();
        let mut unpublished = Unpublished::default();
        // Records of a unit: more where the brokers are far away.
        let mut most = settings.commit_records;

        let end = loop {
            if self.shutdown.requested() {
                break End::Stopped;
            }
            if matches!(election.poll(Duration::ZERO)?, Polled::Revoked { .. }) {
                break End::Superseded;
            }
            if let Some(before) = self.policies.renew(&mut policies)
                && learns_otherwise(&before, &policies)
            {
                tracing::info!("a policy learns otherwise from now on: the ledger is folded anew");
                break End::Again;
            }
            let mut joined = Joined::default();

            // 1. Decisions: where each one lies; those of labelled rounds are compared.
            let decisions = match index.read(most * 4, patient) {
                Err(LearnError::Registry(RegistryError::Interrupted)) => break End::Stopped,
                other => other?,
            };
            let done = index.is_ready();
            let note = if done { String::new() } else { index.progress() };
            self.health.note("decisions indexed", done, &note);

            // 2. Labels, until the unit is full or its interval is over. Nobody waits for them while rounds wait.
            let idle = !index.has_moved() && ledger.is_current();
            let gathered = match self.gather(&mut labels, &defaults, &policies, registry, idle, most) {
                Err(LearnError::Registry(RegistryError::Interrupted)) => break End::Stopped,
                other => other?,
            };

            let reads = !gathered.is_empty();
            if reads {
                self.waits(true);
            }
            ages = if gathered.is_empty() { ages } else { gathered.ages(now()) };

            let (mut spans, read) = (gathered.traced(traces), gathered.since());
            let (count, skipped) = (gathered.count(), gathered.skipped());

            // 3. Joining: each label becomes a ledger record or a dead letter.
            index.keep(&mut store)?;
            let mut join = Join {
                book: ledger.book(),
                store: &store,
                lookup: &mut lookup,
                schemas: patient,
                horizon: settings.horizon(),
                joined: &mut joined,
            };
            let indexed = decisions.len();
            for judged in decisions {
                join.decision(judged);
            }
            if !searched {
                match join.search(ledger.foreign()) {
                    Err(LearnError::Registry(RegistryError::Interrupted)) => break End::Stopped,
                    other => other?,
                }
                searched = true;
            }
            match join.labels(gathered.labels) {
                Err(LearnError::Registry(RegistryError::Interrupted)) => break End::Stopped,
                other => other?,
            }
            let sweep = expired.elapsed() > EXPIRY;
            if sweep {
                join.expire(now());
                expired = Instant::now();
            }

            // 4. Committing: ledger records, dead letters and label offsets together.
            joined.refused.extend(gathered.refused);
            surge.read(count, Instant::now());
            let committed =
                match self.commit(&mut outbox, &labels, &mut joined, &gathered.offsets, &mut spans) {
                    Err(LearnError::Commit(error)) if error.is_retryable() => break End::after(&error),
                    other => other?,
                };
            let refused = committed.as_ref().map_or(&[][..], |committed| &committed.refused);
            refused.iter().for_each(|reason| metrics::dead_letter("label", reason));
            metrics::skipped("label", skipped);
            let last = refused.last().copied().unwrap_or_default();
            let surges = !surge.count(refused.len() as u64, Instant::now());
            if let (Some(Committed { began, records, .. }), Some(read)) = (&committed, read) {
                traces.learned(&spans, read, *began, *records, &mut unpublished);
            }
            let began = committed.as_ref().map(|committed| committed.began);
            if let Some(next) = committed.and_then(|committed| committed.next) {
                crash::point("learn.committed");
                if !ledger.read_until(next, given_up)? {
                    break End::Stopped;
                }
                crash::point("learn.read-back");
            }
            // Labels that waited for a unit that was given up may have been deleted meanwhile.
            if reads || (self.health.waits_since().is_some() && has_read_all(&labels)) {
                self.waits(false);
            }
            if let Some(began) = began {
                most = self.connection.round_trip.grown(settings.commit_records, began.elapsed());
            }

            // 5. The ledger as committed: memory, folds, sled.
            ledger.joined();
            ledger.read_new()?;
            if !ledger.foreign().is_empty() {
                tracing::warn!(
                    "another learner writes to the ledger: beginning again from what is committed"
                );
                break End::Again;
            }
            ledger.keep(&mut store, index.covered())?;
            crash::point("learn.kept");
            self.progress.note_decisions(indexed);
            if sweep {
                store.forget_before(now().saturating_sub(settings.horizon()))?;
                if self.topics_differ(&store) {
                    tracing::warn!(
                        "a topic was deleted and made again: beginning again from what is committed"
                    );
                    break End::Again;
                }
            }

            // 6. Folding and publishing, outside of any unit.
            let published = match publisher.advance(&mut ledger, &mut outbox) {
                Err(LearnError::Commit(error)) if error.is_retryable() => break End::after(&error),
                other => other?,
            };
            if let Some(Publishing(began)) = published {
                traces.published(began, &mut unpublished);
            }
            // The dead letters are committed: the next start goes on behind them.
            if surges {
                let limit = settings.max_dead_letters_per_minute;
                return Err(LearnError::Surge { limit, reason: last });
            }
            if told.elapsed() > TELL {
                told = Instant::now();
                self.tell(&labels, &store, ledger.book(), &mut lag, &ages);
            }
        };
        if matches!(end, End::Stopped) {
            let Publishing(began) = publisher.finish(&mut ledger, &mut outbox, given_up)?;
            traces.published(began, &mut unpublished);
        }
        labels.close(self.leave());
        Ok(end)
    }

    fn tell(
        &self,
        labels: &Source,
        store: &Store,
        book: &LedgerState,
        lag: &mut metrics::Lag,
        ages: &BTreeMap<i32, Duration>,
    ) {
        let seen = self.seen(labels);
        metrics::partitions("learn", labels.assigned().len());
        lag.report(seen.lag.iter().map(|((topic, partition), messages)| {
            let age = if *messages == 0 { Some(Duration::ZERO) } else { ages.get(partition).copied() };
            (&**topic, *partition, *messages, age)
        }));
        let sizes = store.sizes();
        metrics::store(sizes.ledger_records, sizes.index_entries, sizes.index_runs, sizes.disk_bytes);
        for rounds in book.policies() {
            metrics::waiting(rounds.policy(), rounds.counts().waiting);
        }
    }
}

/// Returns `true` if nothing of this member's partitions is left to read.
fn has_read_all(source: &Source) -> bool {
    let lag = source.health().lag;
    !lag.is_empty() && lag.iter().all(|(_, left)| *left == 0)
}

/// Whether any policy is new, or has another learner or target mapping: that is a new learner. Thresholds and
/// costs never touch it.
fn learns_otherwise(before: &Policies, after: &Policies) -> bool {
    after.policies.iter().any(|(name, policy)| {
        before
            .get(name)
            .is_none_or(|before| before.learner != policy.learner || before.mapping != policy.mapping)
    })
}
