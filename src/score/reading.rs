//! Reading: records become events to ask about, or dead letters, as long as the panel has room.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::committing::Committing;
use super::intake::{self, Accepted, Refused, Waiting};
use super::unit::Unit;
use super::{BUSY, IDLE, ScoreError, now};
use crate::codec;
use crate::config::{Config, Policies, Tombstones};
use crate::kafka::{Lost, Polled, Source, TopicPartition};
use crate::ops::{Health, metrics};
use crate::registry::{Registry, RegistryError, as_schemas};

/// Without room for so long the partitions are paused and polled: a member that is not heard of is thrown out, and a
/// shorter pause would only throw away what was fetched.
const STALL: Duration = Duration::from_secs(1);
/// How long the brokers may take to say how many partitions a topic has.
const ANSWER: Duration = Duration::from_secs(5);

/// The source of events, and those that have been read.
pub struct Reading<'a> {
    /// The source.
    pub source: Source,
    /// Events to ask about next.
    pub events: Vec<Accepted>,
    /// Whether more records may lie there than could be read the last time.
    pub behind: bool,
    /// Records whose schema has not come yet; each holds up the outcomes after it in its partition only.
    waiting: Vec<Waiting>,
    /// When records were last read as they came.
    flowing: Instant,
    /// Counts events.
    read: ::metrics::Counter,
    defaults: codec::Defaults,
    registry: Option<&'a Registry>,
    config: &'a Config,
    policies: Arc<Policies>,
    health: &'a Health,
}

/// What there is to look at next.
enum Next {
    Record(Waiting),
    /// A rebalance, or a record that was read already.
    Nothing,
    /// Nothing to read now.
    End,
}

impl<'a> Reading<'a> {
    /// Nothing read yet.
    #[must_use]
    pub fn new(
        source: Source,
        registry: Option<&'a Registry>,
        config: &'a Config,
        policies: Arc<Policies>,
        health: &'a Health,
    ) -> Self {
        // Served from the start, so that its first increment is seen.
        let _ = metrics::ESCAPES_REPLACED.with([]);
        Self {
            source,
            events: Vec::new(),
            behind: false,
            waiting: Vec::new(),
            flowing: Instant::now(),
            read: metrics::EVENTS.with([]),
            defaults: config.record_defaults(),
            registry,
            config,
            policies,
            health,
        }
    }

    /// Events that come are judged under these policies.
    pub fn adopt(&mut self, policies: &Arc<Policies>) {
        self.policies = Arc::clone(policies);
    }

    /// Reads at most `room` events, until the unit is full or nothing comes. `idle`: the panel has nothing to do.
    ///
    /// # Errors
    /// Where reading or a commit fails, or the registry is of no help.
    pub fn fill(
        &mut self,
        unit: &mut Unit,
        committing: &mut Committing,
        idle: bool,
        room: usize,
    ) -> Result<(), ScoreError> {
        if !unit.resumed(&mut self.source)? {
            // Rebalances and news of the brokers are heard meanwhile; a record comes again.
            self.next(unit, committing, true)?;
            return Ok(());
        }
        let blocked = room == 0 || unit.is_full();
        self.behind = true;
        if !blocked {
            self.flowing = Instant::now();
            self.source.resume()?;
        }
        let mut again: VecDeque<Waiting> = std::mem::take(&mut self.waiting).into();
        while self.events.len() < room && unit.surge().is_none() {
            let (ticket, record) = match again.pop_front() {
                Some(waiting) => waiting,
                None if unit.is_full() => break,
                None => match self.next(unit, committing, idle)? {
                    Next::Record(waiting) => waiting,
                    Next::Nothing => continue,
                    Next::End => {
                        self.behind = false;
                        break;
                    }
                },
            };
            if record.payload.is_none() && self.config.score.tombstones == Tombstones::Skip {
                unit.skip(&ticket);
                continue;
            }
            let schemas = as_schemas(self.registry);
            match intake::accept(record, ticket, &self.defaults, &self.policies, schemas, now()) {
                Ok(accepted) => self.events.push(accepted),
                Err(Refused::Waiting(again)) => self.waiting.push(*again),
                Err(Refused::Unavailable(reason)) => return Err(RegistryError::Unavailable { reason }.into()),
                Err(Refused::Dead(refused)) => {
                    let (ticket, record, reason) = *refused;
                    unit.dead_letter(&ticket, record, &reason);
                }
            }
        }
        self.waiting.extend(again);
        if blocked { self.hold(unit, committing) } else { Ok(()) }
    }

    /// Nothing is to be read now: what is assigned or taken away is heard all the same.
    ///
    /// # Errors
    /// Where polling or a commit fails.
    pub fn hold(&mut self, unit: &mut Unit, committing: &mut Committing) -> Result<(), ScoreError> {
        if self.flowing.elapsed() < STALL {
            return Ok(());
        }
        self.source.pause()?;
        // A record that was on its way when the partitions were paused is the next one then.
        if let Next::Record(waiting) = self.next(unit, committing, false)? {
            self.waiting.push(waiting);
        }
        Ok(())
    }

    fn next(&mut self, unit: &mut Unit, committing: &mut Committing, idle: bool) -> Result<Next, ScoreError> {
        // Nothing else is to be done before the unit is due; a record that waits for its schema is asked for often.
        let patience = match idle && self.events.is_empty() {
            true if self.waiting.is_empty() => unit.due_in(false).map_or(IDLE, |due| due.min(IDLE)),
            true => BUSY,
            false => Duration::ZERO,
        };
        let polled = self.source.poll(patience)?;
        for Lost { partition: (topic, partition), offsets } in self.source.take_lost() {
            metrics::lost(&topic, partition, offsets.end - offsets.start);
        }
        match polled {
            Polled::Record(record) => {
                let Some(ticket) = unit.read(&record) else { return Ok(Next::Nothing) };
                self.read.increment(1);
                Ok(Next::Record((ticket, record)))
            }
            Polled::Assigned(partitions) => {
                tracing::info!(partitions = partitions.len(), "partitions assigned");
                self.check(&partitions)?;
                unit.assigned(&partitions);
                self.health.set("partitions assigned", true);
                Ok(Next::Nothing)
            }
            Polled::Revoked { partitions, lost } => {
                self.revoked(&partitions, lost, unit, committing)?;
                Ok(Next::Nothing)
            }
            Polled::Idle => Ok(Next::End),
        }
    }

    /// Whether decisions and review requests have the partitions that were assigned. Where the brokers do not
    /// say it, the first output for one that is missing will.
    fn check(&self, assigned: &[TopicPartition]) -> Result<(), ScoreError> {
        let topics = &self.config.topics;
        let Some(partition) = assigned.iter().map(|(_, partition)| *partition).max() else { return Ok(()) };
        for topic in [&topics.decisions, &topics.review] {
            match self.source.partitions_of(topic, ANSWER) {
                Ok(count) if partition < count => {}
                Ok(count) => {
                    let (events, topic) = (topics.events.clone(), topic.clone());
                    return Err(ScoreError::Partitions { events, partition, topic, count });
                }
                Err(error) if error.is_retryable() => {
                    tracing::warn!(topic, %error, "its number of partitions is not known");
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// What is decided commits while the partitions are still this member's; what is not goes to their next
    /// owner. The unit under way ends first in any case: it may name these partitions, and the group must not take it
    /// from a later tenure.
    fn revoked(
        &mut self,
        partitions: &[TopicPartition],
        lost: bool,
        unit: &mut Unit,
        committing: &mut Committing,
    ) -> Result<(), ScoreError> {
        tracing::info!(partitions = partitions.len(), lost, "partitions revoked");
        if lost {
            unit.await_ended(committing, &mut self.source)?;
        } else {
            unit.finish(committing, &mut self.source)?;
        }
        unit.revoked(partitions);
        self.waiting.retain(|(ticket, _)| partitions.iter().all(|(_, gone)| *gone != ticket.partition));
        Ok(())
    }
}
