//! The thread that commits: one unit at a time, while the flow reads and decides the next.

use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, TryRecvError, bounded};

use super::ScoreError;
use super::unfit::{Open, Originals};
use crate::codec::{self, Encoding};
use crate::core::event::Millis;
use crate::core::label::DecisionRef;
use crate::core::review::ReviewRequest;
use crate::dead_letter::{self, CommitOutcome, Outputs};
use crate::kafka::{Membership, Offsets, Outbox, Place, Produced};
use crate::ops::Shutdown;
use crate::ops::metrics::Counted;
use crate::ops::traces::Moderation;
use crate::panics;

/// How long the end waits for a unit that was given up. One whose brokers do not answer is left behind: they end its
/// transaction when its time is over, or when its id is taken over.
const FAREWELL: Duration = Duration::from_millis(500);

/// A unit to commit.
pub struct Closed {
    /// Its outputs, in order.
    pub records: Vec<Produced>,
    /// By output, partition and offset of its event.
    pub origins: Vec<(i32, i64)>,
    /// Review requests, each with its decision's index among `records`.
    pub asks: Vec<(usize, Box<ReviewRequest>)>,
    /// What is told of it in the end.
    pub told: Told,
}

/// What is told of a unit where it counts.
#[derive(Default)]
pub struct Told {
    /// The offsets that count with the outputs.
    pub offsets: Offsets,
    /// When its records came to the broker.
    pub came: Vec<Millis>,
    /// By output, how it is counted.
    pub counted: Vec<Counted>,
    /// Tombstones that were passed over.
    pub skipped: u64,
    /// Decisions that do not fit their topic and became dead letters.
    pub unfit: u64,
    /// What its spans say, where they are traced.
    pub spans: Vec<Moderation>,
}

/// A unit whose commit is over.
pub struct Ended {
    /// How many records count; or why none does, or nobody knows.
    pub result: Result<usize, ScoreError>,
    /// What is told of it if they do.
    pub told: Told,
    /// When its commit began.
    pub started: Instant,
    /// How long that took.
    pub took: Duration,
}

/// How review requests are written.
pub struct Requests {
    /// Their topic.
    pub topic: Arc<str>,
    /// Their encoding.
    pub encoding: Encoding,
}

/// The thread and what it is at. Dropped, it waits for the end of the unit under way, which at the second signal is
/// given up unless its commit has been asked for.
pub struct Committing {
    units: Option<Sender<Closed>>,
    ended: Receiver<Ended>,
    thread: Option<JoinHandle<()>>,
    busy: bool,
    shutdown: Shutdown,
}

impl Committing {
    /// Starts the thread, which commits for `member` from now on.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub fn start(
        mut outbox: Outbox,
        member: Membership,
        requests: Requests,
        mut originals: Originals,
        shutdown: Shutdown,
    ) -> Result<Self, ScoreError> {
        let (units, closed) = bounded::<Closed>(1);
        let (tell, ended) = bounded(1);
        let told = shutdown.clone();
        let run = move || {
            panics::mark_fatal("score");
            for unit in closed {
                let given_up = || told.aborted();
                if tell.send(commit(&mut outbox, &member, &requests, &mut originals, unit, given_up)).is_err()
                {
                    return;
                }
            }
        };
        let thread = Builder::new()
            .name("commit".into())
            .spawn(run)
            .map_err(|error| ScoreError::Thread { reason: error.to_string() })?;
        Ok(Self { units: Some(units), ended, thread: Some(thread), busy: false, shutdown })
    }

    /// Whether a unit is under way.
    #[must_use]
    pub fn is_busy(&self) -> bool {
        self.busy
    }

    /// Whether units are given up: at the second signal.
    #[must_use]
    pub fn gives_up(&self) -> bool {
        self.shutdown.aborted()
    }

    /// Takes a unit. Call only where it is not [busy](Self::is_busy): a unit that fails takes with it what was read
    /// after it, so there is never a second one behind it.
    pub fn begin(&mut self, unit: Closed) {
        debug_assert!(!self.busy, "one unit at a time");
        if let Some(units) = &self.units
            && units.send(unit).is_ok()
        {
            self.busy = true;
        } else {
            self.fallen();
        }
    }

    /// The unit whose commit is over, waited for at most for `patience`. Of one that was given up nothing is said:
    /// nothing follows from it any more.
    pub fn ended(&mut self, patience: Duration) -> Option<Ended> {
        if !self.busy {
            return None;
        }
        // A wait spins and yields before it looks at the clock, even for no time at all.
        let ended = if patience.is_zero() {
            self.ended.try_recv().map_err(|error| error == TryRecvError::Disconnected)
        } else {
            self.ended.recv_timeout(patience).map_err(|error| error == RecvTimeoutError::Disconnected)
        };
        match ended {
            Ok(ended) => {
                self.busy = false;
                (ended.result.is_ok() || !self.gives_up()).then_some(ended)
            }
            Err(gone) => {
                if gone {
                    self.fallen();
                }
                None
            }
        }
    }

    /// The thread ends by a panic only, which goes on here.
    fn fallen(&mut self) {
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join) {
            std::panic::resume_unwind(panic);
        }
    }
}

impl Drop for Committing {
    fn drop(&mut self) {
        self.units = None;
        let Some(thread) = self.thread.take() else { return };
        while self.busy && matches!(self.ended.recv_timeout(FAREWELL), Err(RecvTimeoutError::Timeout)) {
            // The second signal may come while this waits. A panic that unwinds through here waits no longer.
            if self.gives_up() || std::thread::panicking() {
                tracing::warn!("the brokers do not answer: the unit under way is theirs to end");
                return;
            }
        }
        let _ = thread.join();
    }
}

fn commit(
    outbox: &mut Outbox,
    member: &Membership,
    requests: &Requests,
    originals: &mut Originals,
    unit: Closed,
    given_up: impl Fn() -> bool,
) -> Ended {
    let Closed { records, origins, asks, told } = unit;
    let started = Instant::now();
    let mut outputs = Outputs::new(records, originals.dlq());
    let mut open = Open { origins, asks, told };
    let result = loop {
        let further = |records: &[Produced], places: &[Place]| requests.of(&open.asks, records, places);
        let consumed = Some((member, &open.told.offsets));
        match dead_letter::commit_with(outbox, &mut outputs, consumed, further, &given_up) {
            Ok(CommitOutcome::Committed(places)) => break Ok(places.len() + open.asks.len()),
            Ok(CommitOutcome::TooLarge(unfit)) => {
                if let Err(error) = originals.replace(&unfit, &mut outputs, &mut open) {
                    break Err(error);
                }
            }
            Err(error) => break Err(error),
        }
    };
    let took = started.elapsed();
    if let Err(ScoreError::Commit(error)) = &result
        && error.is_retryable()
        && !given_up()
    {
        outbox.reopen();
    }
    Ended { result, told: open.told, started, took }
}

impl Requests {
    /// The review requests, whose decisions lie at `places`. A request goes where its decision went: same key, headers
    /// and number of partition.
    fn of(
        &self,
        asks: &[(usize, Box<ReviewRequest>)],
        records: &[Produced],
        places: &[Place],
    ) -> Result<Vec<Produced>, ScoreError> {
        let mut requests = Vec::with_capacity(asks.len());
        for (index, request) in asks {
            let (Some(record), Some((partition, offset))) = (records.get(*index), places.get(*index)) else {
                continue;
            };
            let at = DecisionRef { partition: *partition, offset: *offset };
            let request = ReviewRequest { decision: at, ..(**request).clone() };
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
