//! Reads a topic whole, as it is now.

use std::time::{Duration, Instant};

use anyhow::anyhow;

use super::Failure;
use crate::kafka::{Connection, Consumed, Followed, Follower, From};
use crate::ops::{Exit, Progress};

/// How long the brokers may take to answer, or be silent before the topic's end.
pub const ANSWER: Duration = Duration::from_secs(30);
/// What is read within this is not worth a progress bar.
const AT_ONCE: Duration = Duration::from_secs(1);

/// Shows `take` every committed record that `topic` holds now; partitions come in any order, each one's records
/// in theirs.
pub fn scan(
    connection: &Connection,
    topic: &str,
    take: &mut dyn FnMut(Consumed) -> Result<(), Failure>,
) -> Result<(), Failure> {
    scan_from(connection, topic, &From::Beginning, take)
}

/// As [`scan`], from these positions.
pub fn scan_from(
    connection: &Connection,
    topic: &str,
    from: &From,
    take: &mut dyn FnMut(Consumed) -> Result<(), Failure>,
) -> Result<(), Failure> {
    let unavailable = |error| Failure::of(connection, error);
    let mut follower = Follower::open(connection, topic, from, ANSWER).map_err(unavailable)?;
    let ends = follower.ends();
    // Marks of transactions are offsets too: of a topic that transactions write fewer records come.
    let left = ends.values().sum::<i64>() - follower.positions().values().sum::<i64>();
    let total = usize::try_from(left).unwrap_or(0);
    let started = Instant::now();
    let (mut heard, mut read) = (started, 0);
    let mut bar: Option<Progress> = None;
    loop {
        match follower.poll(Duration::from_millis(100)).map_err(unavailable)? {
            Followed::Record(record) => {
                heard = Instant::now();
                // What came since the start is for the next time.
                if ends.get(&record.partition).is_some_and(|end| record.offset < *end) {
                    take(record)?;
                }
                read += 1;
                if bar.is_some() || started.elapsed() > AT_ONCE {
                    let begin = || Progress::start(&format!("reading {topic}"), Some(total));
                    bar.get_or_insert_with(begin).set(total.min(read));
                }
            }
            Followed::End => break,
            _ if heard.elapsed() < ANSWER => {}
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
