//! Reads all records that a topic holds now.

use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::Failure;
use crate::kafka::{Connection, Consumed, Followed, Follower, From};
use crate::ops::{Exit, Progress};

/// The time that brokers have to answer, and that a topic may be silent before its end.
pub const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// The time after which a progress bar is shown.
const PROGRESS_DELAY: Duration = Duration::from_secs(1);

/// Passes every committed record that `topic` holds now to `take`. Partitions come in any order, the records of each in the
/// order of their offsets.
///
/// # Errors
/// Returns `Unavailable` if the brokers do not answer, and the errors of `take`.
pub fn scan(
    connection: &Connection,
    topic: &str,
    take: &mut dyn FnMut(Consumed) -> Result<(), Failure>,
) -> Result<(), Failure> {
    scan_from(connection, topic, &From::Beginning, take)
}

/// As [`scan`], from these positions.
///
/// # Errors
/// As [`scan`].
pub fn scan_from(
    connection: &Connection,
    topic: &str,
    from: &From,
    take: &mut dyn FnMut(Consumed) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let unavailable = |error| Failure::of(connection, error);
    let mut follower = Follower::open(connection, topic, from, ANSWER_TIMEOUT).map_err(unavailable)?;
    let ends = follower.ends();
    // Transaction markers take offsets too, so a topic may hold fewer records than this.
    let left = ends.values().sum::<i64>() - follower.positions().values().sum::<i64>();
    let total = usize::try_from(left).unwrap_or(0);
    let started = Instant::now();
    let (mut last_record, mut read) = (started, 0);
    let mut bar: Option<Progress> = None;
    loop {
        match follower.poll(Duration::from_millis(100)).map_err(unavailable)? {
            Followed::Record(record) => {
                last_record = Instant::now();
                // Records that were written since the start are not read.
                if ends.get(&record.partition).is_some_and(|end| record.offset < *end) {
                    take(record)?;
                }
                read += 1;
                if bar.is_some() || started.elapsed() > PROGRESS_DELAY {
                    let begin = || Progress::start(&format!("reading {topic}"), Some(total));
                    bar.get_or_insert_with(begin).set(total.min(read));
                }
            }
            Followed::End => break,
            _ if last_record.elapsed() < ANSWER_TIMEOUT => {}
            _ => {
                let silent = anyhow!("{topic} has been silent for half a minute before its end");
                return Err(Failure { exit: Exit::Unavailable, error: silent });
            }
        }
    }
    if let Some(bar) = bar {
        bar.finish();
    }
    Ok(())
}
