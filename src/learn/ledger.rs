//! The ledger as this process has it: read back from its topic, kept in memory, in sled and in the folds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::LearnError;
use super::load::load_ledger;
use crate::codec;
use crate::config::Policies;
use crate::core::fold::{Fold, Settings};
use crate::core::ledger::{Record, RoundId};
use crate::core::ledger_state::{Change, LedgerState};
use crate::crash;
use crate::kafka::{Connection, Followed, Follower, From};
use crate::ops::metrics;
use crate::store::{Store, WriteBatch};

/// Records per sled transaction while restoring.
const CHUNK: usize = 10_000;
/// Records read between two looks at whether to stop.
const STEP: usize = 256;
/// How long the ledger topic may stay silent while it is known to hold more.
pub(super) const SILENCE: Duration = Duration::from_secs(60);

/// The ledger: book and folds are what has been read back, nothing else.
pub struct Ledger {
    follower: Follower,
    book: LedgerState,
    folds: BTreeMap<String, Fold>,
    /// Offset of the next record to read.
    next: i64,
    changes: Vec<Change>,
    batch: WriteBatch,
    /// The rounds of records read that no unit of this process has seen.
    foreign: BTreeSet<RoundId>,
}

impl Ledger {
    /// What sled holds of the ledger, and the rest from its topic. With an empty store all of it.
    ///
    /// # Errors
    /// Where sled is corrupt (the caller rebuilds it) or the topic cannot be read.
    pub fn restore(
        connection: &Connection,
        topic: &str,
        store: &mut Store,
        policies: &Policies,
        memory: usize,
    ) -> Result<Self, LearnError> {
        let next = store.ledger_offset().unwrap_or(0);
        let book = load_ledger(store)?;
        let folds = policies
            .policies
            .values()
            .map(|policy| {
                let mut settings =
                    Settings::new(&policy.name, policy.learner.clone(), policy.mapping.clone());
                settings.memory = memory;
                let mut fold = Fold::new(settings);
                fold.all(&book);
                (policy.name.clone(), fold)
            })
            .collect();
        let start = BTreeMap::from([(0, next)]);
        let follower = Follower::open(connection, topic, &From::Offsets(start), super::ANSWER)?;
        Ok(Self {
            follower,
            book,
            folds,
            next,
            changes: Vec::new(),
            batch: WriteBatch::default(),
            foreign: BTreeSet::new(),
        })
    }

    /// The ledger as read back.
    #[must_use]
    pub fn book(&self) -> &LedgerState {
        &self.book
    }

    /// The folds by policy.
    pub fn folds(&mut self) -> (&LedgerState, &mut BTreeMap<String, Fold>) {
        (&self.book, &mut self.folds)
    }

    /// Whether all that has been read is folded.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.folds.values().all(Fold::is_current)
    }

    /// Offset of the next record to read: what the folds reflect once they are current.
    #[must_use]
    pub fn offset(&self) -> i64 {
        self.next
    }

    /// The rounds of records that another learner wrote, or this one before it was restored.
    #[must_use]
    pub fn foreign(&self) -> &BTreeSet<RoundId> {
        &self.foreign
    }

    /// What has been read is joined: nothing of it is foreign any more.
    pub fn joined(&mut self) {
        self.foreign.clear();
    }

    /// Reads to the end that the topic had at the start. Where the index has passed decisions already, what
    /// is read is not kept yet: its rounds must be looked up first, and a crash between would hide that. `stop`
    /// hears how far it is; false: it was to stop before that.
    ///
    /// # Errors
    /// Where the topic falls silent before its end, or sled fails.
    pub fn read_to_end(
        &mut self,
        store: &mut Store,
        stop: impl Fn(&str) -> bool,
    ) -> Result<bool, LearnError> {
        let mut heard = Instant::now();
        let mut read = 0_usize;
        let passed = !store.decision_positions().is_empty();
        while !self.follower.at_end() {
            if read.is_multiple_of(STEP) && stop(&self.follower.progress()) {
                return Ok(false);
            }
            read += 1;
            if self.read(Duration::from_millis(100))? {
                crash::point("learn.restoring");
                heard = Instant::now();
            } else if heard.elapsed() > SILENCE {
                return Err(LearnError::Silent { next: self.next });
            } else {
                read = 0; // told, and asked, at once
            }
            if !passed && self.batch.ledger.len() >= CHUNK {
                self.joined();
                self.keep(store, WriteBatch::default())?;
                tracing::info!(offset = self.next, "restoring the ledger");
            }
        }
        if !passed {
            self.joined();
            self.keep(store, WriteBatch::default())?;
        }
        Ok(true)
    }

    /// Reads until everything before `offset` has been read: what this process has committed. False: it was to stop
    /// before that.
    ///
    /// # Errors
    /// Where it does not come back.
    pub fn read_until(&mut self, offset: i64, stop: impl Fn() -> bool) -> Result<bool, LearnError> {
        let started = Instant::now();
        while self.next < offset {
            if stop() {
                return Ok(false);
            }
            if !self.read(Duration::from_millis(100))? && started.elapsed() > SILENCE {
                return Err(LearnError::Silent { next: self.next });
            }
        }
        Ok(true)
    }

    /// Reads what is there: edits that an operator wrote. Anything else is foreign.
    ///
    /// # Errors
    /// Where the topic cannot be read.
    pub fn read_new(&mut self) -> Result<(), LearnError> {
        while self.read(Duration::ZERO)? {}
        Ok(())
    }

    fn read(&mut self, patience: Duration) -> Result<bool, LearnError> {
        match self.follower.poll(patience)? {
            Followed::Record(record) => {
                self.next = record.offset + 1;
                if let (Some(key), value) = (record.key, record.payload) {
                    // A tombstone takes a record out of sled; memory forgets it at the next start.
                    if let Some(value) = &value {
                        self.foreign.extend(apply(&mut self.book, value, &mut self.changes)?);
                    }
                    self.batch.ledger.push((key, value));
                }
                for change in self.changes.drain(..) {
                    let policy = self.book.rounds(change.policy).map(|rounds| rounds.policy().to_owned());
                    if let Some(fold) = policy.and_then(|policy| self.folds.get_mut(&policy)) {
                        fold.changed(&change);
                    }
                }
                Ok(true)
            }
            Followed::Skipped { asked, from, .. } => Err(LearnError::Lost { asked, from }),
            Followed::End | Followed::Idle => Ok(false),
        }
    }

    /// Writes what was read since the last time to sled, with what the index has learned; one transaction.
    ///
    /// # Errors
    /// Where sled fails.
    pub fn keep(&mut self, store: &mut Store, index: WriteBatch) -> Result<(), LearnError> {
        let ledger = std::mem::take(&mut self.batch.ledger);
        if ledger.is_empty() && index.decisions.is_empty() && store.ledger_offset() == Some(self.next) {
            return Ok(());
        }
        let started = Instant::now();
        store.commit(WriteBatch { ledger, ledger_offset: Some(self.next), ..index })?;
        metrics::STORE_SECONDS.with([]).record(started.elapsed().as_secs_f64());
        Ok(())
    }
}

/// Applies a record; the round that it speaks of.
fn apply(
    book: &mut LedgerState,
    value: &[u8],
    changes: &mut Vec<Change>,
) -> Result<Option<RoundId>, LearnError> {
    let record = codec::decode_record(value)?;
    book.apply(&record, changes)?;
    Ok(match record {
        Record::Round(judged) => Some(judged.id),
        Record::Label(filed) => Some(filed.label.round()),
        Record::Edit(_) => None,
    })
}
