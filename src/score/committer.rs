//! The fourth stage: a thread that commits one batch while the pipeline reads and decides the next.
//!
//! Decisions are sent first. Their delivery reports say at which offsets they are, and the review requests, which name
//! these offsets, follow in the same transaction.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use super::ScoreError;
use super::open_batch::Batch;
use super::oversized::OversizedReplacer;
use crate::codec::{self, Encoding};
use crate::core::label::DecisionRef;
use crate::core::review::ReviewRequest;
use crate::dead_letter::{self, CommitOutcome, Outputs};
use crate::kafka::{Membership, Outbox, Produced, RecordPosition};
use crate::ops::Shutdown;
use crate::panics;

/// The interval at which the end checks whether to stop waiting for an aborted batch. If the brokers do not answer, its
/// transaction ends when its time-out passes, or when its transactional id is taken over.
const ABORT_CHECK_INTERVAL: Duration = Duration::from_millis(500);

/// A batch whose commit has succeeded or failed.
pub struct FinishedBatch {
    /// The number of records committed. An error means that none is committed, or that this is unknown.
    pub result: Result<usize, ScoreError>,
    /// The batch, without its outputs.
    pub batch: Batch,
    /// When the commit began.
    pub started: Instant,
    /// The duration of the commit.
    pub took: Duration,
}

/// The topic and encoding of review requests.
pub struct ReviewRequests {
    /// The topic.
    pub topic: Arc<str>,
    /// The encoding.
    pub encoding: Encoding,
}

/// The commit thread, seen from the pipeline. When dropped, it waits for the batch being committed. At the second signal
/// that batch is aborted, unless its commit has already been requested.
pub struct Committer {
    batches: Option<Sender<Batch>>,
    results: Receiver<FinishedBatch>,
    thread: Option<JoinHandle<()>>,
    busy: bool,
    shutdown: Shutdown,
}

/// The state of the commit thread.
struct Worker {
    outbox: Outbox,
    member: Membership,
    reviews: ReviewRequests,
    oversized: OversizedReplacer,
    shutdown: Shutdown,
}

impl Committer {
    /// Starts the thread, which commits the offsets of `member`.
    ///
    /// # Errors
    /// Returns [`ScoreError::Thread`] if the thread cannot be started.
    pub fn start(
        outbox: Outbox,
        member: Membership,
        reviews: ReviewRequests,
        oversized: OversizedReplacer,
        shutdown: Shutdown,
    ) -> Result<Self, ScoreError> {
        let (batches, received) = bounded::<Batch>(1);
        let (sender, results) = bounded(1);
        let mut worker = Worker { outbox, member, reviews, oversized, shutdown: shutdown.clone() };
        let run = move || {
            panics::mark_fatal("score");
            for batch in received {
                if sender.send(worker.commit(batch)).is_err() {
                    return;
                }
            }
        };
        let thread = Builder::new()
            .name("commit".into())
            .spawn(run)
            .map_err(|error| ScoreError::Thread { reason: error.to_string() })?;
        Ok(Self { batches: Some(batches), results, thread: Some(thread), busy: false, shutdown })
    }

    /// Returns `true` if a batch is being committed.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Returns `true` if batches are aborted, which is so from the second signal on.
    #[must_use]
    pub fn is_aborting(&self) -> bool {
        self.shutdown.aborted()
    }

    /// Begins to commit a batch. Call only if no batch [is being committed](Self::is_busy): a batch that fails voids
    /// everything read after it, so a second one never follows before the result is known.
    pub fn begin(&mut self, batch: Batch) {
        debug_assert!(!self.busy, "one batch at a time");
        if let Some(batches) = &self.batches
            && batches.send(batch).is_ok()
        {
            self.busy = true;
        } else {
            self.resume_panic();
        }
    }

    /// Returns the batch whose commit is over, waiting at most `timeout`. Returns `None` for a batch that was aborted at
    /// the second signal: nothing follows from it any more.
    pub fn finished(&mut self, timeout: Duration) -> Option<FinishedBatch> {
        if !self.busy {
            return None;
        }
        // `recv_timeout` spins and yields before it looks at the clock, even with a time-out of zero.
        let finished = if timeout.is_zero() {
            self.results.try_recv().map_err(|error| error == TryRecvError::Disconnected)
        } else {
            self.results.recv_timeout(timeout).map_err(|error| error == RecvTimeoutError::Disconnected)
        };
        match finished {
            Ok(committed) => {
                self.busy = false;
                (committed.result.is_ok() || !self.is_aborting()).then_some(committed)
            }
            Err(disconnected) => {
                if disconnected {
                    self.resume_panic();
                }
                None
            }
        }
    }

    /// Continues the panic of the commit thread, which ends in no other way while batches can be sent to it.
    fn resume_panic(&mut self) {
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Committer {
    fn drop(&mut self) {
        self.batches = None;
        let Some(thread) = self.thread.take() else { return };
        while self.busy
            && matches!(self.results.recv_timeout(ABORT_CHECK_INTERVAL), Err(RecvTimeoutError::Timeout))
        {
            // The second signal may arrive during this wait. A panic that unwinds through here does not wait longer.
            if self.is_aborting() || std::thread::panicking() {
                tracing::warn!("the brokers do not answer: they will end the transaction of the last batch");
                return;
            }
        }
        let _ = thread.join();
    }
}

impl Worker {
    fn commit(&mut self, mut batch: Batch) -> FinishedBatch {
        let started = Instant::now();
        let outputs = std::mem::take(&mut batch.outputs);
        let mut outputs = Outputs::new(outputs, self.oversized.dlq_topic());
        let aborted = || self.shutdown.aborted();
        let result = loop {
            let reviews = |records: &[Produced], positions: &[RecordPosition]| {
                self.reviews.encode(&batch.reviews, records, positions)
            };
            let consumed = Some((&self.member, &batch.offsets));
            match dead_letter::commit_with(&mut self.outbox, &mut outputs, consumed, reviews, aborted) {
                Ok(CommitOutcome::Committed(positions)) => break Ok(positions.len() + batch.reviews.len()),
                Ok(CommitOutcome::TooLarge(unfit)) => {
                    if let Err(error) = self.oversized.replace(&unfit, &mut outputs, &mut batch) {
                        break Err(error);
                    }
                }
                Err(error) => break Err(error),
            }
        };
        let took = started.elapsed();
        if let Err(ScoreError::Commit(error)) = &result
            && error.is_retryable()
            && !self.shutdown.aborted()
        {
            self.outbox.reopen();
        }
        FinishedBatch { result, batch, started, took }
    }
}

impl ReviewRequests {
    /// Encodes the review requests, whose decisions are at `positions`. A request has the key, the headers and the
    /// partition number of its decision.
    fn encode(
        &self,
        reviews: &[(usize, ReviewRequest)],
        records: &[Produced],
        positions: &[RecordPosition],
    ) -> Result<Vec<Produced>, ScoreError> {
        let mut requests = Vec::with_capacity(reviews.len());
        for (index, request) in reviews {
            let (Some(record), Some((partition, offset))) = (records.get(*index), positions.get(*index))
            else {
                let what = format!("the review request of the output {index} has a decision that was sent");
                return Err(ScoreError::Invariant { what });
            };
            let decision = DecisionRef { partition: *partition, offset: *offset };
            let request = ReviewRequest { decision, ..request.clone() };
            requests.push(Produced {
                topic: Arc::clone(&self.topic),
                partition: record.partition,
                key: record.key.clone(),
                payload: Some(codec::encode_review(&request, self.encoding)?),
                headers: record.headers.clone(),
                timestamp: None,
            });
        }
        Ok(requests)
    }
}
