//! Writes the events of answered requests, with their decisions, to the topic of events.
//!
//! A thread writes what has come since its last write as one batch, and repeats the batch until all in-sync replicas
//! confirm it. A batch whose confirmation is lost is therefore written twice: a record is written at least once, and its
//! event's id says which ones are the same. A record that is larger than the topic accepts is left out, so that it does not
//! hold up the others. The memory of records that wait is bounded: a request gets its part before it is decided, and without
//! one it is refused.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, unbounded};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

use super::decide::{failed, stopping};
use super::refusal::Refusal;
use super::trace::Headers;
use super::{ModerationError, ROLE};
use crate::config::Config;
use crate::core::decision::Decision;
use crate::crash;
use crate::kafka::{CommitError, Connection, Delivery, Outbox, Produced};
use crate::ops::{Health, Shutdown, metrics};
use crate::panics;
use crate::score::RecordKey;

/// The greatest number of records in a batch.
const MAX_BATCH: usize = 500;
/// The pause before a batch is repeated.
const RETRY_PAUSE: Duration = Duration::from_millis(250);
/// The memory that a record may take besides the bytes of its event, in KiB: its decision, with the votes and features.
const DECISION_KIB: usize = 32;
/// The readiness condition that records are written.
const RECORDING: &str = "recording";

/// A record that waits.
struct Waiting {
    record: Produced,
    /// Its part of the memory.
    _room: OwnedSemaphorePermit,
    /// Takes the confirmation.
    written: oneshot::Sender<()>,
}

/// The thread that writes records.
pub struct Recorder {
    handle: RecorderHandle,
    thread: JoinHandle<Result<(), CommitError>>,
    ended: Arc<AtomicBool>,
}

/// Gives records to the thread.
#[derive(Clone)]
pub struct RecorderHandle {
    waiting: Sender<Waiting>,
    room: Arc<Semaphore>,
    /// The whole memory, in KiB.
    capacity: usize,
    key: RecordKey,
    topic: Arc<str>,
}

/// The part of the memory that a record takes.
pub struct Room(OwnedSemaphorePermit);

/// The state of the thread.
struct Worker {
    connection: Connection,
    received: Receiver<Waiting>,
    outbox: Option<Outbox>,
    health: Health,
    stalled_after: Duration,
    shutdown: Shutdown,
}

impl Recorder {
    /// Starts the thread. The brokers are first asked for by the first record.
    ///
    /// # Errors
    /// Returns an error if the system refuses the thread.
    pub fn start(
        config: &Config,
        connection: &Connection,
        key: RecordKey,
        health: &Health,
        shutdown: &Shutdown,
    ) -> Result<Self, ModerationError> {
        let (waiting, received) = unbounded();
        let capacity = config.http.moderation.record_queue_mib << 10;
        let room = Arc::new(Semaphore::new(capacity));
        let topic = config.topics.events.as_str().into();
        let worker = Worker {
            connection: connection.clone(),
            received,
            outbox: None,
            health: health.clone(),
            stalled_after: config.kafka.stalled_after(),
            shutdown: shutdown.clone(),
        };
        health.waits(RECORDING, None, worker.stalled_after);
        let ended = Arc::new(AtomicBool::new(false));
        let end = Arc::clone(&ended);
        let thread = Builder::new().name("records".into()).spawn(move || {
            panics::mark_fatal(ROLE);
            let result = worker.run();
            end.store(true, Ordering::Release);
            result
        })?;
        Ok(Self { handle: RecorderHandle { waiting, room, capacity, key, topic }, thread, ended })
    }

    /// Returns a handle that gives records to the thread. The thread ends when the last one is dropped.
    pub fn handle(&self) -> RecorderHandle {
        self.handle.clone()
    }

    /// Returns `true` if the thread has ended, which is an error before [`finish`](Self::finish).
    pub fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    /// Writes the records that wait, and ends the thread. At the second signal they are given up, and counted.
    ///
    /// # Errors
    /// Returns an error if records cannot be written, now or later.
    pub fn finish(self) -> Result<(), ModerationError> {
        drop(self.handle);
        super::join(self.thread)?.map_err(ModerationError::from)
    }
}

/// Returns the memory for the record of an event, in KiB.
fn record_kib(event: &[u8]) -> usize {
    event.len().div_ceil(1 << 10) + DECISION_KIB
}

impl RecorderHandle {
    /// Returns `true` if the records of these events fit into the memory while no others wait.
    pub fn can_hold(&self, events: &[Vec<u8>]) -> bool {
        events.iter().map(|event| record_kib(event)).sum::<usize>() <= self.capacity
    }

    /// Takes the memory for the record of an event, or `None` if there is none now.
    pub fn room(&self, event: &[u8]) -> Option<Room> {
        let kib = u32::try_from(record_kib(event)).ok()?;
        Arc::clone(&self.room).try_acquire_many_owned(kib).ok().map(Room)
    }

    /// Gives the record of an event with its decision to the thread. `headers` are the trace context. Returns the receiver of
    /// the confirmation that all in-sync replicas have it.
    ///
    /// # Errors
    /// Returns 500 if the decision cannot be encoded, and 503 if the thread has ended.
    pub fn record(
        &self,
        room: Room,
        event: Vec<u8>,
        decision: &Decision,
        mut headers: Headers,
    ) -> Result<oneshot::Receiver<()>, Refusal> {
        let (written, confirmed) = oneshot::channel();
        headers.extend(self.key.attach(&event, decision).map_err(|error| failed(&error))?);
        let record = Produced {
            topic: Arc::clone(&self.topic),
            partition: None,
            // The events of a conversation stay in order.
            key: Some(decision.conversation.as_bytes().to_vec()),
            payload: Some(event),
            headers,
            timestamp: None,
        };
        let waiting = Waiting { record, _room: room.0, written };
        self.waiting.send(waiting).map_err(|_| stopping())?;
        Ok(confirmed)
    }
}

impl Worker {
    fn run(mut self) -> Result<(), CommitError> {
        while let Ok(first) = self.received.recv() {
            let batch: Vec<Waiting> =
                std::iter::once(first).chain(self.received.try_iter()).take(MAX_BATCH).collect();
            if !self.write(batch)? {
                break;
            }
        }
        Ok(())
    }

    /// Writes a batch, and repeats it until it is confirmed. Returns `false` if the records are given up.
    fn write(&mut self, batch: Vec<Waiting>) -> Result<bool, CommitError> {
        let (mut records, mut confirmations) = (Vec::new(), Vec::new());
        for Waiting { record, _room, written } in batch {
            records.push(record);
            confirmations.push((written, _room));
        }
        let started = Instant::now();
        loop {
            crash::point("http.record");
            let count = records.len() as u64;
            match self.try_write(&records) {
                Ok(()) => break,
                Err(CommitError::TooLarge { index, topic, .. }) if self.limit_batch(&topic) => {
                    tracing::debug!(index, "records of requests are written again in smaller batches");
                }
                Err(ref error @ CommitError::TooLarge { index, .. }) if index < records.len() => {
                    tracing::error!(%error, "the record of a request is left out");
                    metrics::HTTP_RECORDS.with(["too_large"]).increment(1);
                    records.remove(index);
                    drop(confirmations.remove(index)); // which tells a durable request
                }
                Err(error) if error.is_retryable() && !self.shutdown.aborted() => {
                    tracing::warn!(name = error.name(), %error, "records of requests are written again");
                    metrics::HTTP_RECORDS.with(["repeated"]).increment(count);
                    self.health.waits(RECORDING, Some(started), self.stalled_after);
                    let _ = self.shutdown.wait_for_abort(RETRY_PAUSE);
                }
                Err(error) => {
                    let lost = count + self.received.len() as u64;
                    metrics::HTTP_RECORDS.with(["lost"]).increment(lost);
                    tracing::error!(lost, %error, "records of requests that may have been answered are lost");
                    return if self.shutdown.aborted() { Ok(false) } else { Err(error) };
                }
            }
        }
        self.health.waits(RECORDING, None, self.stalled_after);
        metrics::HTTP_RECORDS.with(["written"]).increment(records.len() as u64);
        crash::point("http.recorded");
        for (written, _room) in confirmations {
            let _ = written.send(()); // an asynchronous request does not wait
        }
        Ok(true)
    }

    fn try_write(&mut self, records: &[Produced]) -> Result<(), CommitError> {
        let outbox = match &mut self.outbox {
            Some(outbox) => outbox,
            none => none.insert(Outbox::open(&self.connection, Delivery::AtLeastOnce)?),
        };
        let written = outbox.commit(records, None).map(drop);
        // After another error a new producer is opened.
        if matches!(&written, Err(error) if !matches!(error, CommitError::TooLarge { .. })) {
            self.outbox = None;
        }
        written
    }

    /// Limits the size of batches to what the topic accepts. Returns `false` if they are as small already, so that it is
    /// a record that is too large.
    fn limit_batch(&mut self, topic: &str) -> bool {
        let Some(outbox) = &mut self.outbox else { return false };
        let limit = outbox.max_batch_size_of(topic).unwrap_or(1); // each record alone
        let is_smaller = limit < outbox.batch_size();
        if is_smaller {
            outbox.limit_batch_size(limit);
        }
        is_smaller
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::ledger::RoundId;
    use crate::kafka::embedded::Embedded;

    #[test]
    fn a_record_that_the_topic_refuses_does_not_hold_up_the_others() {
        let config = Config::default();
        let broker = Embedded::start(&[(config.topics.events.as_str(), 1)]).unwrap();
        let mut connection = Connection::new(broker.bootstrap());
        connection.settings.insert("message.max.bytes".into(), "20000".into());
        let (health, shutdown) = (Health::default().of(ROLE), Shutdown::new());
        let key = RecordKey::new("a secret of servers and scorers").unwrap();
        let recorder = Recorder::start(&config, &connection, key, &health, &shutdown).unwrap();
        let handle = recorder.handle();
        let record = |event: &str, bytes: usize| {
            let id = RoundId { tenant: "t".into(), policy: "default".into(), event: event.into() };
            let payload = vec![b'x'; bytes];
            let room = handle.room(&payload).unwrap();
            handle.record(room, payload, &Decision::example(id, 5), Vec::new()).unwrap()
        };
        let [before, large, after] =
            [("e1", 10), ("e2", 40_000), ("e3", 10)].map(|(event, bytes)| record(event, bytes));
        assert_eq!(before.blocking_recv(), Ok(()));
        assert!(large.blocking_recv().is_err(), "a durable request is not answered as if it were written");
        assert_eq!(after.blocking_recv(), Ok(()));
        drop(handle);
        recorder.finish().unwrap();
    }
}
