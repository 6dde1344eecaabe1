//! The index of decisions: follows their topic and notes the offset of each decision.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use super::{LearnError, REQUEST_TIMEOUT};
use crate::codec::{self, Received, Schemas};
use crate::core::label::DecisionRef;
use crate::core::ledger::RoundRecord;
use crate::kafka::{Connection, Consumed, Followed, Follower, From};
use crate::ops::metrics;
use crate::registry::RegistryError;
use crate::store::{IndexEntry, Store, WriteBatch};

/// The follower of the decisions topic.
pub(super) struct Index {
    follower: Follower,
    /// The entries read and not yet in the store.
    entries: Vec<IndexEntry>,
    /// The next offset of each partition.
    positions: BTreeMap<i32, i64>,
    /// The (partition, offset) of decisions that cannot be decoded, since the last call of
    /// [`take_positions`](Self::take_positions).
    skipped: Vec<(i32, i64)>,
    moved: bool,
    /// The time of the last check for new partitions.
    last_growth_check: Instant,
    /// The time that the brokers have to answer such a check.
    growth_timeout: Duration,
    /// The reasons that were logged. Further decisions of the same reason are only counted.
    reported: BTreeSet<&'static str>,
    /// The former position of each partition that is read again, because another version could not decode its decisions.
    reread: BTreeMap<i32, i64>,
}

/// The reason of decisions that retention deleted before they were read.
const DELETED: &str = "Deleted";
/// The time between two checks for new partitions.
const GROWTH_INTERVAL: Duration = Duration::from_secs(5);
/// The time that nearby brokers have to answer such a check.
const GROWTH_TIMEOUT: Duration = Duration::from_secs(2);

impl Index {
    /// Continues where the store's index ends. An empty index starts at the oldest decision kept. Decisions that
    /// another version could not decode are read again. `waits` says that labels wait for decisions.
    ///
    /// # Errors
    /// Returns an error if the topic cannot be read, or if the store fails.
    pub(super) fn follow(
        connection: &Connection,
        topic: &str,
        store: &mut Store,
        waits: bool,
    ) -> Result<Self, LearnError> {
        let reread: BTreeMap<_, _> = store.set_reader(codec::decisions_read(), waits)?.into_iter().collect();
        for (partition, before) in &reread {
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
        let start = From::Offsets(positions.clone());
        Ok(Self {
            follower: Follower::open(connection, topic, &start, REQUEST_TIMEOUT)?,
            entries: Vec::new(),
            positions,
            skipped: Vec::new(),
            moved: false,
            last_growth_check: Instant::now(),
            growth_timeout: connection.request_timeout(GROWTH_TIMEOUT),
            reported: BTreeSet::new(),
            reread,
        })
    }

    /// Returns `true` if everything that the topic had at the start is indexed.
    pub(super) fn is_ready(&self) -> bool {
        self.follower.at_end()
    }

    /// The share of the topic that has been read, in words.
    pub(super) fn progress(&self) -> String {
        self.follower.progress()
    }

    /// Returns `true` if records have been read since the last call of [`take_positions`](Self::take_positions), even if
    /// none of them could be decoded.
    pub(super) fn has_moved(&self) -> bool {
        self.moved
    }

    /// Reads at most `limit` records and returns the decisions among them. The limit also holds for records that cannot
    /// be decoded, so that the other stages and a request to stop get their turn.
    ///
    /// # Errors
    /// Returns an error if the topic cannot be read, or if the registry does not provide a decision's schema.
    pub(super) fn read(
        &mut self,
        limit: usize,
        schemas: Option<&dyn Schemas>,
    ) -> Result<Vec<RoundRecord>, LearnError> {
        self.follow_growth()?;
        let mut decisions = Vec::new();
        for _ in 0..limit {
            match self.follower.poll(Duration::ZERO)? {
                Followed::Record(record) => decisions.extend(self.add(&record, schemas)?),
                Followed::Skipped { partition, asked, from } => {
                    // Most of the decisions that are read again are in the index already.
                    let first = self.reread.get(&partition).map_or(asked, |before| asked.max(*before));
                    if first < from {
                        self.count_skipped(DELETED, partition, first, from - first);
                    }
                    self.positions.insert(partition, from);
                    self.moved = true;
                }
                Followed::End | Followed::Idle => break,
            }
        }
        Ok(decisions)
    }

    /// Indexes a record; `None` if it is a tombstone or cannot be decoded.
    fn add(
        &mut self,
        record: &Consumed,
        schemas: Option<&dyn Schemas>,
    ) -> Result<Option<RoundRecord>, LearnError> {
        let decoded = Received::new(record.payload.as_deref(), &record.headers, schemas).decision();
        let decoded = match decoded.map_err(RegistryError::of) {
            // The position stays before this record, which is read again.
            Err(Ok(error)) => return Err(error.into()),
            Err(Err(error)) => Err(error),
            Ok(decision) => Ok(decision),
        };
        self.positions.insert(record.partition, record.offset + 1);
        self.moved = true;
        if record.payload.is_none() {
            return Ok(None);
        }
        match decoded {
            Ok(decision) => {
                let at = DecisionRef { partition: record.partition, offset: record.offset };
                let written = record.timestamp.unwrap_or(decision.round_time);
                self.entries.push(IndexEntry::new(&decision.id, decision.round_time, at, written));
                Ok(Some(decision.into_round_record(at)))
            }
            Err(error) => {
                self.count_skipped(error.name(), record.partition, record.offset, 1);
                self.skipped.push((record.partition, record.offset));
                Ok(None)
            }
        }
    }

    /// Counts decisions from `offset` on that cannot be indexed.
    fn count_skipped(&mut self, reason: &'static str, partition: i32, offset: i64, decisions: i64) {
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

    /// Follows partitions that were added to the topic: labels of decisions in them would wait otherwise.
    fn follow_growth(&mut self) -> Result<(), LearnError> {
        if self.last_growth_check.elapsed() < GROWTH_INTERVAL {
            return Ok(());
        }
        self.last_growth_check = Instant::now();
        match self.follower.grow(self.growth_timeout) {
            Ok(0) => {}
            Ok(more) => tracing::info!(more, "the topic of decisions has grown"),
            Err(error) if error.is_retryable() => {
                tracing::debug!(%error, "the check for new partitions is repeated in {GROWTH_INTERVAL:?}");
            }
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Writes the entries to the store, without the positions: the ledger records of these decisions are not committed
    /// yet, and an entry that is written twice counts once.
    ///
    /// # Errors
    /// Returns an error if the store fails.
    pub(super) fn write_entries(&mut self, store: &mut Store) -> Result<(), LearnError> {
        if !self.entries.is_empty() {
            let indexed = std::mem::take(&mut self.entries);
            store.commit(WriteBatch { indexed, ..WriteBatch::default() })?;
        }
        Ok(())
    }

    /// Takes the positions up to which decisions have been read, to be written to the store once their batch is committed.
    /// Returns an empty batch if nothing was read since the last call.
    pub(super) fn take_positions(&mut self) -> WriteBatch {
        if !std::mem::take(&mut self.moved) {
            return WriteBatch::default();
        }
        let decisions = self.positions.iter().map(|(partition, next)| (*partition, *next)).collect();
        WriteBatch { decisions, skipped: std::mem::take(&mut self.skipped), ..WriteBatch::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kafka::embedded::Embedded;
    use crate::kafka::{Delivery, Outbox, Produced};

    /// A request to stop is only seen between two reads, so that a read must end after a number of records, even if none
    /// of them can be decoded.
    #[test]
    fn a_read_of_undecodable_records_is_bounded() {
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
            index.take_positions();
        }
    }
}
