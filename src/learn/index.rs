//! The index of decisions: follows their topic and notes where each one lies.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::LearnError;
use crate::codec::{self, Received, Schemas};
use crate::core::label::DecisionRef;
use crate::core::ledger::RoundRecord;
use crate::kafka::{Connection, Followed, Follower, From};
use crate::ops::metrics;
use crate::registry::RegistryError;
use crate::store::{Batch, IndexEntry, Store};

/// Follows the decisions topic.
pub struct Index {
    follower: Follower,
    /// Entries read and not in the store yet.
    entries: Vec<IndexEntry>,
    /// Next offset by partition, of what has been read.
    positions: BTreeMap<i32, i64>,
    /// Where decisions lie that cannot be read and were read since positions were last covered.
    skipped: Vec<(i32, i64)>,
    moved: bool,
    /// When the number of partitions was last asked for.
    looked: Instant,
    /// The reasons for which decisions were skipped so far: each is logged once.
    reported: BTreeSet<&'static str>,
    /// How long the answer may take.
    patience: Duration,
    /// By partition, the position before decisions are read again that another version could not read.
    again: BTreeMap<i32, i64>,
}

/// The reason of decisions that retention deleted before they were read.
const DELETED: &str = "Deleted";

/// How often it is asked whether the topic has grown, and how long the answer may take where the brokers are near.
const GROWTH: Duration = Duration::from_secs(5);
const ANSWER: Duration = Duration::from_secs(2);

impl Index {
    /// Goes on where the store's index ends; from the oldest decision kept where there is none. Decisions that another
    /// version has passed because it could not read them are read again; `waits`: labels wait for decisions.
    ///
    /// # Errors
    /// Where the topic cannot be read, or sled fails.
    pub fn follow(
        connection: &Connection,
        topic: &str,
        store: &mut Store,
        waits: bool,
    ) -> Result<Self, LearnError> {
        let again: BTreeMap<_, _> = store.read_by(codec::decisions_read(), waits)?.into_iter().collect();
        for (partition, before) in &again {
            let from = store.decision_positions().get(partition).copied();
            tracing::info!(
                topic,
                partition,
                from,
                before,
                "decisions that another version could not read are read again"
            );
        }
        let positions = store.decision_positions().clone();
        let follower = Follower::open(connection, topic, &From::Offsets(positions.clone()), super::ANSWER)?;
        let (looked, patience) = (Instant::now(), connection.answer(ANSWER));
        let (entries, skipped, reported) = (Vec::new(), Vec::new(), BTreeSet::new());
        Ok(Self { follower, entries, positions, skipped, moved: false, looked, reported, patience, again })
    }

    /// Whether everything that was there at the start is indexed.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.follower.at_end()
    }

    /// How much of that it has read, in words.
    #[must_use]
    pub fn progress(&self) -> String {
        self.follower.progress()
    }

    /// Whether records have been read since positions were last [covered](Self::covered), be they readable or not.
    #[must_use]
    pub fn has_moved(&self) -> bool {
        self.moved
    }

    /// The decisions among the records that have come, of which it looks at no more than `most`: whoever reads must get
    /// round to all else, and to being told to stop, also where nothing can be read.
    ///
    /// # Errors
    /// Where the topic cannot be read, or a decision's schema cannot be had.
    pub fn read(
        &mut self,
        most: usize,
        schemas: Option<&dyn Schemas>,
    ) -> Result<Vec<RoundRecord>, LearnError> {
        self.grow()?;
        let mut read = Vec::new();
        for _ in 0..most {
            let record = match self.follower.poll(Duration::ZERO)? {
                Followed::Record(record) => record,
                Followed::Skipped { partition, asked, from } => {
                    // Most of what is read again is in the index already.
                    let first = self.again.get(&partition).map_or(asked, |before| asked.max(*before));
                    if first < from {
                        self.skip(DELETED, partition, first, from - first);
                    }
                    self.positions.insert(partition, from);
                    self.moved = true;
                    continue;
                }
                Followed::End | Followed::Idle => break,
            };
            let decoded = Received::new(record.payload.as_deref(), &record.headers, schemas).decision();
            let decoded = match decoded.map_err(RegistryError::of) {
                // Not indexed: its position is not passed.
                Err(Ok(error)) => return Err(error.into()),
                Err(Err(error)) => Err(error),
                Ok(decision) => Ok(decision),
            };
            self.positions.insert(record.partition, record.offset + 1);
            self.moved = true;
            if record.payload.is_none() {
                continue;
            }
            let decision = match decoded {
                Ok(decision) => decision,
                Err(error) => {
                    self.skip(error.name(), record.partition, record.offset, 1);
                    self.skipped.push((record.partition, record.offset));
                    continue;
                }
            };
            let at = DecisionRef { partition: record.partition, offset: record.offset };
            let written = record.timestamp.unwrap_or(decision.round_time);
            self.entries.push(IndexEntry::new(&decision.id, decision.round_time, at, written));
            read.push(decision.judged(at));
        }
        Ok(read)
    }

    /// Counts decisions from `offset` on that cannot be indexed.
    fn skip(&mut self, reason: &'static str, partition: i32, offset: i64, decisions: i64) {
        metrics::decisions_skipped(reason, decisions);
        if self.reported.insert(reason) {
            tracing::error!(
                reason,
                partition,
                offset,
                decisions,
                "decisions cannot be indexed, and labels for them wait; further ones of this reason are only counted, in \
                 aegis_decisions_skipped_total"
            );
        }
    }

    /// Takes partitions that the topic has got meanwhile: labels for what is decided there would wait.
    fn grow(&mut self) -> Result<(), LearnError> {
        if self.looked.elapsed() < GROWTH {
            return Ok(());
        }
        self.looked = Instant::now();
        match self.follower.grow(self.patience) {
            Ok(0) => {}
            Ok(more) => tracing::info!(more, "the topic of decisions has grown"),
            Err(error) if error.is_retryable() => tracing::debug!(%error, "asked again in {GROWTH:?}"),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Puts the entries into the store, without the positions: what came of these decisions is not
    /// committed yet, and an entry that is put twice is one.
    ///
    /// # Errors
    /// Where sled fails.
    pub fn keep(&mut self, store: &mut Store) -> Result<(), LearnError> {
        if !self.entries.is_empty() {
            let indexed = std::mem::take(&mut self.entries);
            store.commit(Batch { indexed, ..Batch::default() })?;
        }
        Ok(())
    }

    /// The positions that a finished unit covers.
    pub fn covered(&mut self) -> Batch {
        if !std::mem::take(&mut self.moved) {
            return Batch::default();
        }
        let decisions = self.positions.iter().map(|(partition, next)| (*partition, *next)).collect();
        Batch { decisions, skipped: std::mem::take(&mut self.skipped), ..Batch::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::embedded::Embedded;
    use crate::kafka::{Delivery, Outbox, Produced};

    /// Nobody can be told to stop in the midst of a read: it is over after so many records, readable or not.
    #[test]
    fn a_read_is_bounded_where_nothing_can_be_read() {
        const RECORDS: i64 = 25;
        const MOST: i64 = 10;
        let broker = Embedded::start(&[("decisions", 1)]).unwrap();
        let connection = Connection::new(broker.bootstrap());
        let junk = |number: i64| Produced {
            topic: "decisions".into(),
            partition: Some(0),
            key: None,
            // Every fifth is a tombstone.
            payload: (number % 5 > 0).then(|| b"no decision".to_vec()),
            headers: Vec::new(),
            timestamp: None,
        };
        let all: Vec<_> = (0..RECORDS).map(junk).collect();
        Outbox::open(&connection, Delivery::AtLeastOnce).unwrap().commit(&all, None).unwrap();
        let folder = tempfile::tempdir().unwrap();
        let (mut store, _) = Store::open(&folder.path().join("store")).unwrap();
        let mut index = Index::follow(&connection, "decisions", &mut store, false).unwrap();
        let (mut next, until) = (0, Instant::now() + Duration::from_secs(30));
        while next < RECORDS {
            assert!(Instant::now() < until, "{next} of {RECORDS}");
            assert_eq!(index.read(MOST as usize, None).unwrap(), []);
            let (before, moved) = (next, index.has_moved());
            next = index.positions.get(&0).copied().unwrap_or(0);
            assert!(next - before <= MOST, "{before} to {next}");
            assert_eq!(moved, next > before);
            index.covered();
        }
    }
}
