//! The ledger of this process: read back from its topic, and kept in memory, in the store and in the folds.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::{LearnError, REQUEST_TIMEOUT};
use crate::codec::{self, RecordPool};
use crate::config::Policies;
use crate::core::fold::{Fold, Settings};
use crate::core::ledger::{Record, RoundId};
use crate::core::ledger_state::{Change, LedgerState};
use crate::core::policy::Policy;
use crate::crash;
use crate::kafka::{Connection, Followed, Follower, From};
use crate::ops::metrics;
use crate::store::{Store, WriteBatch};

/// The number of records per transaction of the store while the ledger is restored.
const RESTORE_BATCH: usize = 10_000;
/// The number of records read between two checks of the request to stop.
const STOP_CHECK_RECORDS: usize = 256;
/// The time that a poll waits for a record that is known to exist.
const POLL_TIMEOUT: Duration = Duration::from_millis(100);
/// The time that a topic may deliver nothing while it is known to have more.
pub(super) const SILENCE_TIMEOUT: Duration = Duration::from_secs(60);

/// The ledger. State and folds reflect exactly the records that were read back.
pub(super) struct Ledger {
    follower: Follower,
    state: LedgerState,
    folds: BTreeMap<String, Fold>,
    /// The memory for the checkpoints of a fold, in bytes.
    memory: usize,
    /// The offset of the next record to read.
    next: i64,
    changes: Vec<Change>,
    /// The records read and not yet written to the store.
    unwritten: Vec<(Vec<u8>, Option<Vec<u8>>)>,
    /// The rounds of the records that were read since [`clear_foreign`](Self::clear_foreign). The caller calls it after
    /// reading its own commits, so that these are records of another learner.
    foreign: BTreeSet<RoundId>,
}

impl Ledger {
    /// Loads the ledger from the store, and opens its topic where the store ends. An empty store starts at the
    /// beginning of the topic.
    ///
    /// # Errors
    /// Returns an error if the store is corrupt (the caller rebuilds it) or the topic cannot be read.
    pub(super) fn restore(
        connection: &Connection,
        topic: &str,
        store: &Store,
        policies: &Policies,
        memory: usize,
    ) -> Result<Self, LearnError> {
        let next = store.ledger_offset().unwrap_or(0);
        let start = BTreeMap::from([(0, next)]);
        let mut ledger = Self {
            state: load_ledger(store)?,
            follower: Follower::open(connection, topic, &From::Offsets(start), REQUEST_TIMEOUT)?,
            folds: BTreeMap::new(),
            memory,
            next,
            changes: Vec::new(),
            unwritten: Vec::new(),
            foreign: BTreeSet::new(),
        };
        ledger.set_policies(policies);
        Ok(ledger)
    }

    /// Builds the folds of policies that are new or have another learner or mapping. The other folds stay as they are:
    /// thresholds and costs do not affect them. Returns the policies whose folds were built.
    pub(super) fn set_policies(&mut self, policies: &Policies) -> Vec<String> {
        let is_same = |fold: &Fold, policy: &Policy| {
            fold.settings().learner == policy.learner && fold.settings().mapping == policy.mapping
        };
        let mut built = Vec::new();
        for policy in policies.policies.values() {
            if self.folds.get(&policy.name).is_some_and(|fold| is_same(fold, policy)) {
                continue;
            }
            let settings = Settings::new(&policy.name, policy.learner.clone(), policy.mapping.clone());
            let mut fold = Fold::new(Settings { memory: self.memory, ..settings });
            fold.mark_all_changed(&self.state);
            self.folds.insert(policy.name.clone(), fold);
            built.push(policy.name.clone());
        }
        built
    }

    /// The state as read back.
    pub(super) fn state(&self) -> &LedgerState {
        &self.state
    }

    /// The state, and the folds by policy.
    pub(super) fn folds(&mut self) -> (&LedgerState, &mut BTreeMap<String, Fold>) {
        (&self.state, &mut self.folds)
    }

    /// Returns `true` if everything that was read is folded.
    pub(super) fn is_current(&self) -> bool {
        self.folds.values().all(Fold::is_current)
    }

    /// The offset of the next record to read. Once the folds are current they reflect the ledger up to there.
    pub(super) fn offset(&self) -> i64 {
        self.next
    }

    /// The rounds of records that another learner wrote, or that this one wrote before its active time.
    pub(super) fn foreign(&self) -> &BTreeSet<RoundId> {
        &self.foreign
    }

    /// Notes that all records read so far have been joined, so that none of them is foreign.
    pub(super) fn clear_foreign(&mut self) {
        self.foreign.clear();
    }

    /// Reads to the end that the topic had when it was opened. `stop` receives the progress in words and returns `true`
    /// to stop early. Returns `false` if it was stopped.
    ///
    /// # Errors
    /// Returns an error if the topic delivers nothing before its end, or if the store fails.
    pub(super) fn read_to_end(
        &mut self,
        store: &mut Store,
        stop: impl Fn(&str) -> bool,
    ) -> Result<bool, LearnError> {
        let mut last_read = Instant::now();
        let mut read = 0_usize;
        // If the index has passed decisions already, the records are not written yet: their rounds must be looked up
        // first, and after a crash a record in the store would not be looked up again.
        let write = store.decision_positions().is_empty();
        while !self.follower.at_end() {
            if read.is_multiple_of(STOP_CHECK_RECORDS) && stop(&self.follower.progress()) {
                return Ok(false);
            }
            read += 1;
            if self.read(POLL_TIMEOUT)? {
                crash::point("learn.restoring");
                last_read = Instant::now();
            } else if last_read.elapsed() > SILENCE_TIMEOUT {
                return Err(LearnError::Silent { next: self.next });
            } else {
                read = 0; // `stop` is called after each poll without a record
            }
            if write && self.unwritten.len() >= RESTORE_BATCH {
                self.clear_foreign();
                self.write(store, WriteBatch::default())?;
                tracing::info!(offset = self.next, "restoring the ledger");
            }
        }
        if write {
            self.clear_foreign();
            self.write(store, WriteBatch::default())?;
        }
        Ok(true)
    }

    /// Reads back what this process has committed: the records before `offset`. Returns `false` if `stop` returned
    /// `true` first.
    ///
    /// # Errors
    /// Returns an error if the records are not delivered.
    pub(super) fn read_until(&mut self, offset: i64, stop: impl Fn() -> bool) -> Result<bool, LearnError> {
        let started = Instant::now();
        while self.next < offset {
            if stop() {
                return Ok(false);
            }
            if !self.read(POLL_TIMEOUT)? && started.elapsed() > SILENCE_TIMEOUT {
                return Err(LearnError::Silent { next: self.next });
            }
        }
        Ok(true)
    }

    /// Reads the records that are available: edits that an operator wrote. Records of other kinds are foreign.
    ///
    /// # Errors
    /// Returns an error if the topic cannot be read.
    pub(super) fn read_new(&mut self) -> Result<(), LearnError> {
        while self.read(Duration::ZERO)? {}
        Ok(())
    }

    fn read(&mut self, timeout: Duration) -> Result<bool, LearnError> {
        match self.follower.poll(timeout)? {
            Followed::Record(record) => {
                self.next = record.offset + 1;
                if let (Some(key), value) = (record.key, record.payload) {
                    // A tombstone removes a record from the store. It stays in memory until the next start.
                    if let Some(value) = &value {
                        self.apply(value)?;
                    }
                    self.unwritten.push((key, value));
                }
                Ok(true)
            }
            Followed::Skipped { asked, from, .. } => Err(LearnError::Lost { asked, from }),
            Followed::End | Followed::Idle => Ok(false),
        }
    }

    /// Applies a record to the state and passes the changes on to the folds.
    fn apply(&mut self, value: &[u8]) -> Result<(), LearnError> {
        let record = codec::decode_record(value)?;
        self.state.apply(&record, &mut self.changes)?;
        for change in self.changes.drain(..) {
            let policy = self.state.rounds(change.policy).map(|rounds| rounds.policy());
            if let Some(fold) = policy.and_then(|policy| self.folds.get_mut(policy)) {
                fold.mark_changed(&change);
            }
        }
        match record {
            Record::Round(round) => self.foreign.extend([round.id]),
            Record::Label(label) => self.foreign.extend([label.label.round()]),
            Record::Edit(_) => {}
        }
        Ok(())
    }

    /// Writes the records read since the last write to the store, together with the index's positions in `index`, in
    /// one transaction.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub(super) fn write(&mut self, store: &mut Store, index: WriteBatch) -> Result<(), LearnError> {
        let ledger = std::mem::take(&mut self.unwritten);
        if ledger.is_empty() && index.decisions.is_empty() && store.ledger_offset() == Some(self.next) {
            return Ok(());
        }
        let started = Instant::now();
        store.commit(WriteBatch { ledger, ledger_offset: Some(self.next), ..index })?;
        metrics::STORE_SECONDS.with([]).record(started.elapsed().as_secs_f64());
        Ok(())
    }
}

/// The state of the ledger records in the store. Several threads read and decode, since a million rounds take seconds
/// of each, and apply the records in any order: the state is a function of the set.
///
/// # Errors
/// Returns an error if the store is corrupt, or has a record that is no ledger record.
pub fn load_ledger(store: &Store) -> Result<LedgerState, LearnError> {
    let state = Mutex::new(LedgerState::new());
    store.read_ledger(|| {
        let (state, mut records, mut spare, mut changes) =
            (&state, Vec::new(), RecordPool::default(), Vec::new());
        move |stored: &[(&[u8], &[u8])]| {
            for (_, value) in stored {
                records.push(codec::decode_record_into_pool(value, &mut spare)?);
            }
            let mut state = state.lock().unwrap_or_else(PoisonError::into_inner);
            for record in records.drain(..) {
                state.apply(&record, &mut changes)?;
                changes.clear();
                spare.recycle(record);
            }
            Ok::<_, LearnError>(())
        }
    })?;
    Ok(state.into_inner().unwrap_or_else(PoisonError::into_inner))
}
