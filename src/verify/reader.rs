//! A topic read from a position to its end.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::read::{ANSWER, VerifyError};
use crate::core::event::Millis;
use crate::kafka::{Connection, Consumed, Followed, Follower, From, at_time};

/// How long the brokers may be silent before a topic's end.
const SILENCE: Duration = Duration::from_secs(30);

/// What a reader met.
pub(super) enum Read {
    /// A record, and whether it lies past the end.
    Record(Consumed, bool),
    /// A partition now begins at this offset: retention has moved on.
    Begins(i32, i64),
}

/// A topic from a position to the end that it had when it was opened.
pub(super) struct Reader {
    what: &'static str,
    pub(super) topic: Arc<str>,
    follower: Follower,
    pub(super) starts: BTreeMap<i32, i64>,
    pub(super) ends: BTreeMap<i32, i64>,
    read: usize,
    heard: Instant,
}

impl Reader {
    pub(super) fn open(
        connection: &Connection,
        what: &'static str,
        topic: &str,
        from: Option<Millis>,
    ) -> Result<Self, VerifyError> {
        let start = match from {
            None => From::Beginning,
            Some(from) => {
                let mut begins = at_time(connection, topic, from, ANSWER)?;
                // Partitions without such a record are read from their end on.
                for (partition, end) in Follower::open(connection, topic, &From::Beginning, ANSWER)?.ends() {
                    begins.entry(partition).or_insert(end);
                }
                From::Offsets(begins)
            }
        };
        let follower = Follower::open(connection, topic, &start, ANSWER)?;
        let (starts, ends) = (follower.positions(), follower.ends());
        Ok(Self { what, topic: topic.into(), follower, starts, ends, read: 0, heard: Instant::now() })
    }

    /// Partitions that have lost their beginning.
    pub(super) fn lost(&self) -> impl Iterator<Item = i32> + '_ {
        self.starts.iter().filter(|(_, start)| **start > 0).map(|(partition, _)| *partition)
    }

    /// The next thing; none once the end has been reached in all partitions.
    pub(super) fn next(
        &mut self,
        progress: &mut dyn FnMut(&'static str, usize),
    ) -> Result<Option<Read>, VerifyError> {
        self.heard = Instant::now();
        loop {
            match self.follower.poll(Duration::from_millis(100))? {
                Followed::Record(record) => {
                    self.read += 1;
                    progress(self.what, self.read);
                    let late = self.ends.get(&record.partition).is_none_or(|end| record.offset >= *end);
                    return Ok(Some(Read::Record(record, late)));
                }
                Followed::Skipped { partition, from, .. } => return Ok(Some(Read::Begins(partition, from))),
                Followed::End => return Ok(None),
                Followed::Idle if self.heard.elapsed() < SILENCE => {}
                Followed::Idle => return Err(VerifyError::Silent { topic: self.topic.to_string() }),
            }
        }
    }

    /// A record past the end.
    pub(super) fn more(&mut self) -> Result<Option<Consumed>, VerifyError> {
        match self.follower.poll(Duration::from_millis(20))? {
            Followed::Record(record) => Ok(Some(record)),
            _ => Ok(None),
        }
    }
}
