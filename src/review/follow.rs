//! Reads requests, labels and the edits of the ledger into the queue, in the order of their broker timestamps.
//!
//! The order keeps the bounds honest: a request and its label are read close to each other, so that a topic with a million
//! answered requests never looks like a million open ones.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::entry::{Place, Rules};
use super::reviews::Reviews;
use crate::codec::{self, Received, Schemas};
use crate::config::Policies;
use crate::core::ledger::Record;
use crate::kafka::{Consumed, Followed, Follower, From, SourceError, at_time};
use crate::ops::Shutdown;
use crate::panics;

/// The time-out for opening a topic, if the brokers are near.
const OPEN_TIMEOUT: Duration = Duration::from_secs(10);
/// The wait for a topic that has no record at the moment.
const IDLE_WAIT: Duration = Duration::from_millis(50);
/// The wait before the topics are opened again after an error.
const RETRY_WAIT: Duration = Duration::from_secs(1);
/// The interval at which metrics are set.
const REPORT_INTERVAL: Duration = Duration::from_secs(1);
/// The interval at which new partitions are looked for.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(10);
/// The beginning of the keys of edits in the ledger.
const EDIT_KEY: &[u8] = b"[\"edit\"";

/// The topics that are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topic {
    Ledger,
    Requests,
    Labels,
}

/// A topic with the record that is next.
struct Stream {
    topic: Topic,
    follower: Follower,
    next: Option<Consumed>,
    /// `true` once everything has been read that the topic had when it was opened.
    caught_up: bool,
}

impl Stream {
    /// Reads the next record if there is none, waiting at most `timeout`.
    fn fill(&mut self, timeout: Duration) -> Result<(), SourceError> {
        if self.next.is_none() {
            match self.follower.poll(timeout)? {
                Followed::Record(record) => self.next = Some(record),
                Followed::End => self.caught_up = true,
                // Requests that retention has deleted are not open, and their labels are not needed.
                Followed::Skipped { .. } | Followed::Idle => {}
            }
        }
        Ok(())
    }

    fn time(&self) -> Option<i64> {
        self.next.as_ref().map(|record| record.timestamp.unwrap_or_default())
    }
}

/// The positions to continue from after an error.
type Positions = BTreeMap<&'static str, BTreeMap<i32, i64>>;

/// Follows the topics until shutdown is requested.
pub(super) fn run(reviews: &Reviews, shutdown: &Shutdown) {
    let mut positions = Positions::new();
    while !shutdown.requested() {
        match follow(reviews, shutdown, &mut positions) {
            Ok(()) => return,
            Err(SourceError::Truncated { topic, .. }) => {
                tracing::warn!(topic, "the topic was created again: the review queue is read again");
                positions.clear();
                // Until everything is read again, an open request looks like one that was dropped.
                reviews.set_loading("a topic was created again");
                reviews.queue().reset();
            }
            Err(error) => {
                tracing::warn!(%error, "the review queue does not follow its topics; trying again");
                reviews.set_followed(Err(error.to_string()));
            }
        }
        let _ = shutdown.wait_for(RETRY_WAIT);
    }
}

fn follow(reviews: &Reviews, shutdown: &Shutdown, positions: &mut Positions) -> Result<(), SourceError> {
    let mut policies = reviews.policies.now();
    let mut streams = open(reviews, positions)?;
    let (mut upkeep, mut report) = (Instant::now(), Instant::now());
    while !shutdown.requested() {
        if reviews.policies.renew(&mut policies).is_some() {
            reviews.queue().set_rules(rules(&policies));
        }
        let read = step(reviews, shutdown, &mut streams);
        for stream in &streams {
            // A record that waits is read again.
            let mut next = stream.follower.positions();
            if let Some(record) = &stream.next {
                next.insert(record.partition, record.offset);
            }
            positions.insert(name(stream.topic), next);
        }
        read?;
        // Under load there is always a record that waits.
        if streams.iter().all(|stream| stream.caught_up) {
            reviews.set_followed(Ok(()));
        }
        if upkeep.elapsed() >= UPKEEP_INTERVAL {
            upkeep = Instant::now();
            for stream in &mut streams {
                match stream.follower.grow(OPEN_TIMEOUT) {
                    Err(error) if error.is_retryable() => {}
                    grown => drop(grown?),
                }
            }
        }
        if report.elapsed() >= REPORT_INTERVAL {
            report = Instant::now();
            reviews.report();
        }
    }
    Ok(())
}

/// Applies records, the oldest first, until none is waiting.
fn step(reviews: &Reviews, shutdown: &Shutdown, streams: &mut [Stream]) -> Result<(), SourceError> {
    const STEP: usize = 1_000;
    for _ in 0..STEP {
        for stream in streams.iter_mut() {
            // A topic that is behind is waited for: its next record may be the oldest.
            let wait = if stream.caught_up { Duration::ZERO } else { IDLE_WAIT };
            stream.fill(wait)?;
        }
        if streams.iter().all(|stream| stream.next.is_none()) {
            return streams.iter_mut().try_for_each(|stream| stream.fill(IDLE_WAIT));
        }
        if streams.iter().any(|stream| stream.next.is_none() && !stream.caught_up) {
            return Ok(());
        }
        let oldest =
            streams.iter_mut().filter(|stream| stream.next.is_some()).min_by_key(|stream| stream.time());
        if let Some(stream) = oldest
            && let Some(record) = stream.next.take()
        {
            let topic = stream.topic;
            if panics::survive(|| apply(reviews, shutdown, topic, &record)).is_err() {
                let (partition, offset) = (record.partition, record.offset);
                tracing::error!(topic = name(topic), partition, offset, "the review queue skips this record");
                reviews.unread(name(topic));
            }
        }
    }
    Ok(())
}

fn name(topic: Topic) -> &'static str {
    match topic {
        Topic::Ledger => "ledger",
        Topic::Requests => "requests",
        Topic::Labels => "labels",
    }
}

fn open(reviews: &Reviews, positions: &Positions) -> Result<Vec<Stream>, SourceError> {
    let (connection, topics) = (&reviews.connection, &reviews.config.topics);
    let timeout = connection.request_timeout(OPEN_TIMEOUT);
    let days = i64::from(reviews.config.console.queue_days);
    let all =
        [(Topic::Ledger, &topics.rounds), (Topic::Requests, &topics.review), (Topic::Labels, &topics.labels)];
    let open = |(topic, full): (Topic, &String)| {
        let from = match positions.get(name(topic)) {
            Some(known) => From::Offsets(known.clone()),
            None if days > 0 && topic != Topic::Ledger => {
                let since = (reviews.clock)().saturating_sub(days * 86_400_000);
                let found = at_time(connection, full, since, timeout)?;
                // A partition without a record of that age begins with its first one, all of which are older: they are
                // read and dropped by age.
                From::Offsets(found)
            }
            None => From::Beginning,
        };
        let follower = Follower::open(connection, full, &from, timeout)?;
        Ok(Stream { topic, follower, next: None, caught_up: false })
    };
    all.into_iter().map(open).collect()
}

/// The rules of all policies.
pub(super) fn rules(policies: &Policies) -> BTreeMap<String, Rules> {
    policies.policies.iter().map(|(name, policy)| (name.clone(), Rules::of(policy))).collect()
}

fn apply(reviews: &Reviews, shutdown: &Shutdown, topic: Topic, record: &Consumed) {
    let stop = || shutdown.requested();
    let waiting = reviews.registry.as_ref().map(|registry| registry.waiting(&stop));
    let schemas = waiting.as_ref().map(|waiting| waiting as &dyn Schemas);
    let received = || Received::new(record.payload.as_deref(), &record.headers, schemas);
    let time = record.timestamp.unwrap_or_default();
    let days = i64::from(reviews.config.console.queue_days);
    let too_old = days > 0 && time < (reviews.clock)().saturating_sub(days * 86_400_000);
    let known = match topic {
        Topic::Requests if too_old || record.payload.is_none() => return,
        Topic::Requests => match received().review() {
            Ok(request) => {
                let place = Place { time, partition: record.partition, offset: record.offset };
                reviews.queue().on_request(request, place)
            }
            Err(_) => false,
        },
        Topic::Labels if record.payload.is_none() => return,
        Topic::Labels => match received().labels(&reviews.defaults) {
            // A label of an unknown policy must not hide those that follow it in the record.
            Ok(labels) => labels.iter().filter(|label| !reviews.queue().on_label(label)).count() == 0,
            Err(_) => false,
        },
        Topic::Ledger => {
            let is_edit = record.key.as_deref().is_some_and(|key| key.starts_with(EDIT_KEY));
            let Some(payload) = record.payload.as_deref().filter(|_| is_edit) else { return };
            match codec::decode_record(payload) {
                Ok(Record::Edit(edit)) => {
                    reviews.queue().on_edit(&edit.action);
                    true
                }
                _ => false,
            }
        }
    };
    if !known {
        // learn writes a dead letter for such a label, and says why.
        reviews.unread(name(topic));
    }
}

/// Starts the thread that follows the topics.
pub(super) fn start(
    reviews: &Arc<Reviews>,
    shutdown: &Shutdown,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let (reviews, shutdown) = (Arc::clone(reviews), shutdown.clone());
    std::thread::Builder::new().name("review".into()).spawn(move || {
        // A console must not end the roles of its process. A panic is logged, and the topics are read again.
        while panics::survive(|| run(&reviews, &shutdown)).is_err() {
            reviews.set_loading("reading failed, and begins again");
            reviews.queue().reset();
            let _ = shutdown.wait_for(RETRY_WAIT);
        }
    })
}
