//! `aegis demo --drive`: one side of the demo's stream, for brokers on which the roles run already. The producer sends
//! laps of events at a steady rate; the labeller follows them and sends each label after its planned delay.
//!
//! An event's id names its lap, so the labeller plans the same lap again and shares nothing with the producer
//! but the topic. Both may be stopped and started at any time: a new producer begins a lap with new ids, and
//! labels that are sent again change nothing.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use clap::ValueEnum;

use super::drive::Records;
use super::plan::{self, AuditDraws, Plan, Sent, TENANT};
use super::texts::Texts;
use super::{BROKER_TIMEOUT, DemoError};
use crate::codec::{self, Defaults};
use crate::config::Topics;
use crate::core::event::Millis;
use crate::core::policy::Policy;
use crate::kafka::{Connection, Delivery, Followed, Follower, From, Outbox, Produced};
use crate::ops::stdout::errln;
use crate::ops::{Progress, Shutdown};

/// The greatest number of records sent at once.
const CHUNK: usize = 256;
/// The greatest size of a record; larger ones are left out, because topics accept one megabyte by default.
const MAX_RECORD_BYTES: usize = 900_000;
/// The time between two attempts to send.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);
/// The greatest time between two checks for shutdown.
const SHUTDOWN_INTERVAL: Duration = Duration::from_millis(50);
/// The latest time of a lap, in the year 2096, so that arithmetic on times does not overflow.
const LATEST: Millis = 4_000_000_000_000;

/// A side of the stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Side {
    /// The producer: conversations, and now and then a record that is none
    Events,
    /// The labeller: what people say of the events that it sees, late
    Labels,
}

/// The data that both sides need.
pub struct Stream<'a> {
    /// The brokers.
    pub connection: &'a Connection,
    /// The topics' names there.
    pub topics: &'a Topics,
    /// The policy whose audits the labeller answers; `None` if there is none for the demo's events.
    pub policy: Option<&'a Policy>,
    /// The texts.
    pub texts: &'a Texts,
    /// Good events of a lap.
    pub events: u32,
    /// Seed of the first lap; each further lap has the next one.
    pub seed: u64,
    /// Good events a second.
    pub rate: f64,
}

/// A lap. Its fields are the prefix of its events' ids and determine its plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Lap {
    /// The time of its start, in milliseconds since 1970.
    start: Millis,
    seed: u64,
    events: u32,
}

impl Lap {
    fn prefix(self) -> String {
        let Self { start, seed, events } = self;
        format!("demo-{start}-{seed}-{events}-")
    }

    /// Returns the lap of an event and the event's number in it. `None` if the id is not from this stream.
    fn of(event: &str) -> Option<(Self, usize)> {
        let mut parts = event.strip_prefix("demo-")?.split('-');
        let start = parts.next()?.parse().ok().filter(|start| (0..LATEST).contains(start))?;
        let seed = parts.next()?.parse().ok()?;
        let events = parts.next()?.parse().ok()?;
        let number = parts.next()?.strip_prefix('e')?.parse().ok()?;
        parts.next().is_none().then_some((Self { start, seed, events }, number))
    }

    /// Returns the plan of the lap, with its prefix on all ids.
    fn plan(self, texts: &Texts, policy: Option<&Policy>) -> Plan {
        let prefix = self.prefix();
        let audits = AuditDraws::new(policy, &prefix);
        let mut plan = plan::plan(texts, self.events as usize, self.seed, self.start, &audits);
        for sent in &mut plan.sent {
            match sent {
                Sent::Event(event) => {
                    event.id.insert_str(0, &prefix);
                    event.conversation.insert_str(0, &prefix);
                }
                Sent::Label(label) => {
                    for id in [Some(&mut label.id), Some(&mut label.event)]
                        .into_iter()
                        .chain([label.corrects.as_mut(), label.retracts.as_mut()])
                        .flatten()
                    {
                        id.insert_str(0, &prefix);
                    }
                }
                Sent::Malformed(_) | Sent::BadLabel(_) => {}
            }
        }
        plan
    }
}

impl Stream<'_> {
    /// Drives one side until shutdown is requested. If the brokers are away, it continues when they are back.
    ///
    /// # Errors
    /// Returns an error if the brokers cannot be reached at the start, or a topic is missing.
    pub fn drive(&self, side: Side, shutdown: &Shutdown) -> Result<(), DemoError> {
        match side {
            Side::Events => self.produce(shutdown),
            Side::Labels => self.label(shutdown),
        }
    }

    fn produce(&self, shutdown: &Shutdown) -> Result<(), DemoError> {
        let mut outbox = Outbox::open(self.connection, Delivery::AtLeastOnce)?;
        let records = Records::new(self.topics);
        let mut progress = Sending::new("events sent");
        for turn in 0.. {
            let start = SystemTime::now().duration_since(UNIX_EPOCH);
            let start = start.expect("the clock is after 1970").as_millis();
            let start = Millis::try_from(start).unwrap_or(LATEST);
            let lap = Lap { start, seed: self.seed.wrapping_add(turn), events: self.events };
            let plan = lap.plan(self.texts, self.policy);
            let due = plan.sent.iter().filter(|sent| match sent {
                Sent::Event(_) => true,
                Sent::Malformed(payload) => payload.len() <= MAX_RECORD_BYTES,
                Sent::Label(_) | Sent::BadLabel(_) => false,
            });
            let mut due = due.peekable();
            let mut pace = Pace::new(self.rate);
            while due.peek().is_some() {
                let count = pace.due().min(CHUNK);
                if count == 0 {
                    if shutdown.wait_for(pace.next().min(SHUTDOWN_INTERVAL)) {
                        return Ok(());
                    }
                    continue;
                }
                let chunk = due.by_ref().take(count).map(|sent| records.of(sent));
                let chunk = chunk.collect::<Result<Vec<_>, _>>()?;
                if !send(&mut outbox, &chunk, shutdown) {
                    return Ok(());
                }
                pace.on_sent(chunk.len());
                progress.add(chunk.len());
            }
        }
        Ok(())
    }

    /// Labels the events that come after its start. Earlier ones are not labelled.
    fn label(&self, shutdown: &Shutdown) -> Result<(), DemoError> {
        let events = &self.topics.events;
        let ends = Follower::open(self.connection, events, &From::Beginning, BROKER_TIMEOUT)?.ends();
        let mut follower = Follower::open(self.connection, events, &From::Offsets(ends), BROKER_TIMEOUT)?;
        let mut outbox = Outbox::open(self.connection, Delivery::AtLeastOnce)?;
        let records = Records::new(self.topics);
        let defaults = Defaults::default();
        let mut progress = Sending::new("labels sent");
        let mut review: Option<Review> = None;
        while !shutdown.requested() {
            let Followed::Record(record) = follower.poll(SHUTDOWN_INTERVAL)? else { continue };
            // Malformed records, and events of other producers, get no label.
            let Ok(event) = codec::decode_event(record.payload.as_deref().unwrap_or_default(), &defaults)
            else {
                continue;
            };
            let Some((lap, number)) = Lap::of(&event.id).filter(|_| event.tenant == TENANT) else { continue };
            // Only laps of the same length: an id must not determine how much memory a plan takes.
            if lap.events != self.events || number >= lap.events as usize {
                continue;
            }
            let mut labels = Vec::new();
            match &mut review {
                Some(open) if open.lap == lap => {}
                // An older lap ended when this one began.
                Some(open) if open.lap.start > lap.start => continue,
                _ => {
                    let last = review.replace(Review::new(lap, self.texts, self.policy));
                    labels.extend(last.into_iter().flat_map(Review::rest));
                }
            }
            labels.extend(review.iter_mut().flat_map(|review| review.until(number)));
            for chunk in labels.chunks(CHUNK) {
                let chunk = chunk.iter().map(|sent| records.of(sent)).collect::<Result<Vec<_>, _>>()?;
                if !send(&mut outbox, &chunk, shutdown) {
                    return Ok(());
                }
                progress.add(chunk.len());
            }
        }
        Ok(())
    }
}

/// The labeller's position in a lap.
struct Review {
    lap: Lap,
    /// The items still to come, in reverse order.
    left: Vec<Sent>,
    /// The number of events passed.
    passed: usize,
}

impl Review {
    fn new(lap: Lap, texts: &Texts, policy: Option<&Policy>) -> Self {
        let mut left = lap.plan(texts, policy).sent;
        left.reverse();
        Self { lap, left, passed: 0 }
    }

    /// Returns the labels that the plan has before this event, and after the lap's last event all remaining ones.
    fn until(&mut self, number: usize) -> Vec<Sent> {
        let mut labels = Vec::new();
        while self.passed <= number {
            match self.left.pop() {
                Some(Sent::Event(_)) => self.passed += 1,
                Some(Sent::Malformed(_)) => {}
                Some(label) => labels.push(label),
                None => break,
            }
        }
        if self.passed == self.lap.events as usize {
            while let Some(label) = self.left.pop() {
                labels.push(label);
            }
        }
        labels
    }

    /// Returns the remaining labels of a lap that was not finished: those of events that were sent.
    fn rest(self) -> Vec<Sent> {
        let sent = |event: &str| Lap::of(event).is_some_and(|(_, number)| number < self.passed);
        let left = self.left.into_iter().rev();
        left.filter(|left| matches!(left, Sent::Label(label) if sent(&label.event))).collect()
    }
}

/// A steady rate of records.
struct Pace {
    since: Instant,
    sent: f64,
    rate: f64,
}

impl Pace {
    fn new(rate: f64) -> Self {
        Self { since: Instant::now(), sent: 0.0, rate }
    }

    /// Returns the number of records due now.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a count, not below zero and cut to a chunk"
    )]
    fn due(&self) -> usize {
        (self.since.elapsed().as_secs_f64() * self.rate - self.sent).max(0.0) as usize
    }

    /// Returns the time until the next record is due.
    fn next(&self) -> Duration {
        let due = Duration::try_from_secs_f64((self.sent + 1.0) / self.rate).unwrap_or(SHUTDOWN_INTERVAL);
        due.saturating_sub(self.since.elapsed()).max(Duration::from_millis(1))
    }

    /// Counts sent records. Records that were due while the brokers were away are not caught up on.
    fn on_sent(&mut self, count: usize) {
        self.sent += count as f64;
        if self.since.elapsed().as_secs_f64() * self.rate - self.sent > self.rate {
            *self = Self::new(self.rate);
        }
    }
}

/// Retries sending until it succeeds. Returns `false` if shutdown was requested first.
fn send(outbox: &mut Outbox, chunk: &[Produced], shutdown: &Shutdown) -> bool {
    let mut away = false;
    while let Err(error) = outbox.commit(chunk, None) {
        if !away {
            errln!("aegis demo: {error}; retrying until it works");
            away = true;
        }
        if shutdown.wait_for(RETRY_INTERVAL) {
            return false;
        }
    }
    if away {
        errln!("aegis demo: the brokers are back");
    }
    true
}

/// The number of records sent so far, shown as progress.
struct Sending {
    progress: Progress,
    count: usize,
}

impl Sending {
    fn new(what: &str) -> Self {
        Self { progress: Progress::start(what, None), count: 0 }
    }

    fn add(&mut self, count: usize) {
        self.count += count;
        self.progress.set(self.count);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_names_its_lap() {
        let lap = Lap { start: 1_767_225_600_000, seed: 7, events: 500 };
        assert_eq!(Lap::of(&format!("{}e000041", lap.prefix())), Some((lap, 41)));
        for other in
            ["e000041", "demo-1-2-3-4-e5", "demo-9999999999999-2-500-e1", "demo--2-500-e1", "demo-1-2-500-41"]
        {
            assert_eq!(Lap::of(other), None, "{other}");
        }
    }
}
