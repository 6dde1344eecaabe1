//! Reads a topic from a position to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{REQUEST_TIMEOUT, VerifyError};
use crate::core::event::Millis;
use crate::kafka::{Connection, Consumed, Followed, Follower, From, at_time};

/// The time that the brokers may deliver nothing before a topic's end.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(30);

/// An item of a topic.
pub(super) enum Item {
    /// A record. `late` is `true` if it lies past the end.
    Record { record: Consumed, late: bool },
    /// The partition now begins at this offset, because retention has deleted records meanwhile.
    Begins { partition: i32, offset: i64 },
}

/// A topic from a position to the end that it had when it was opened.
pub(super) struct TopicReader {
    /// The kind of its records, for the progress.
    kind: &'static str,
    pub(super) topic: Arc<str>,
    follower: Follower,
    /// The first offset of each partition.
    pub(super) starts: BTreeMap<i32, i64>,
    /// The end of each partition.
    pub(super) ends: BTreeMap<i32, i64>,
    read: usize,
}

impl TopicReader {
    /// Opens a topic at its beginning, or at the first records with a timestamp of at least `from`.
    pub(super) fn open(
        connection: &Connection,
        kind: &'static str,
        topic: &str,
        from: Option<Millis>,
    ) -> Result<Self, VerifyError> {
        let start = match from {
            None => From::Beginning,
            Some(from) => {
                let mut begins = at_time(connection, topic, from, REQUEST_TIMEOUT)?;
                // Partitions without such a record are read from their end.
                let all = Follower::open(connection, topic, &From::Beginning, REQUEST_TIMEOUT)?;
                for (partition, end) in all.ends() {
                    begins.entry(partition).or_insert(end);
                }
                From::Offsets(begins)
            }
        };
        let follower = Follower::open(connection, topic, &start, REQUEST_TIMEOUT)?;
        let (starts, ends) = (follower.positions(), follower.ends());
        Ok(Self { kind, topic: topic.into(), follower, starts, ends, read: 0 })
    }

    /// The partitions that have lost their beginning.
    pub(super) fn lost(&self) -> impl Iterator<Item = i32> + '_ {
        self.starts.iter().filter(|(_, start)| **start > 0).map(|(partition, _)| *partition)
    }

    /// The next item; `None` once all partitions have been read to their ends.
    pub(super) fn next(
        &mut self,
        progress: &mut dyn FnMut(&'static str, usize),
    ) -> Result<Option<Item>, VerifyError> {
        let began = Instant::now();
        loop {
            match self.follower.poll(Duration::from_millis(100))? {
                Followed::Record(record) => {
                    self.read += 1;
                    progress(self.kind, self.read);
                    let late = self.ends.get(&record.partition).is_none_or(|end| record.offset >= *end);
                    return Ok(Some(Item::Record { record, late }));
                }
                Followed::Skipped { partition, from, .. } => {
                    return Ok(Some(Item::Begins { partition, offset: from }));
                }
                Followed::End => return Ok(None),
                Followed::Idle if began.elapsed() < SILENCE_TIMEOUT => {}
                Followed::Idle => return Err(VerifyError::Silent { topic: self.topic.to_string() }),
            }
        }
    }

    /// A record past the end; `None` if none is available.
    pub(super) fn next_late(&mut self) -> Result<Option<Consumed>, VerifyError> {
        match self.follower.poll(Duration::from_millis(20))? {
            Followed::Record(record) => Ok(Some(record)),
            _ => Ok(None),
        }
    }
}
