//! The queue with its edges, as the console uses it. Every method blocks for at most the time-out of its brokers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::follow;
use super::queue::{Counts, Next, Prepared, PreparedUndo, Queue, Served, Settings};
use super::refusal::Refusal;
use super::sender::{SendError, Sender, Shared};
use super::texts::{TextError, Texts};
use crate::codec::{Defaults, Schemas};
use crate::config::{Config, Live};
use crate::core::event::{Event, Millis};
use crate::core::label::{Finding, Label, Source};
use crate::core::review::ReviewRequest;
use crate::kafka::Connection;
use crate::ops::{Shutdown, StopReason, metrics};
use crate::registry::{Registry, RegistryError};

/// Errors of starting the queue.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// The schema registry cannot be used.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// The system refuses a thread.
    #[error("the review queue cannot follow its topics: {0}")]
    Thread(#[from] std::io::Error),
}

/// The reason for which an operation of a reviewer failed.
#[derive(Debug, thiserror::Error)]
pub enum Failed {
    /// It was refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The topics have not been read to their ends since the start.
    #[error("the review queue is being read: {progress}")]
    Loading {
        /// The state of reading.
        progress: String,
    },
    /// The label was not written.
    #[error(transparent)]
    Send(#[from] SendError),
    /// The text cannot be read.
    #[error(transparent)]
    Text(#[from] TextError),
}

/// The verdict of a reviewer.
#[derive(Debug, Clone, PartialEq)]
pub struct Verdict {
    /// The verdict.
    pub finding: Finding,
    /// The categories, by slug.
    pub categories: Vec<String>,
}

/// The state of following the topics.
enum Followed {
    Loading(String),
    Ready,
    Behind(String),
}

/// The review queue of this process.
pub struct Reviews {
    pub(super) config: Arc<Config>,
    pub(super) policies: Live,
    pub(super) connection: Connection,
    pub(super) registry: Option<Registry>,
    pub(super) defaults: Defaults,
    /// Returns the time by the clock of this machine. The clock of a browser is never used.
    pub(super) clock: fn() -> Millis,
    queue: Mutex<Queue>,
    followed: Mutex<Followed>,
    texts: Texts,
    sender: Shared,
    unread: AtomicU64,
    reported: Mutex<Counts>,
}

/// The thread that follows the topics. It ends when this is dropped.
pub struct Following {
    shutdown: Shutdown,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Following {
    fn drop(&mut self) {
        self.shutdown.finish(StopReason::Program);
        if let Some(thread) = self.thread.take() {
            // A panic of the thread has been reported.
            let _ = thread.join();
        }
    }
}

fn now() -> Millis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Millis::try_from(since.as_millis()).unwrap_or(Millis::MAX)
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Reviews {
    /// Starts to follow the topics. `secret` makes the names of claims and the draws of reference answers unpredictable.
    ///
    /// # Errors
    /// Returns an error if the registry's settings cannot be used, or if the system refuses a thread.
    pub fn start(
        config: &Arc<Config>,
        policies: &Live,
        connection: &Connection,
        secret: [u8; 32],
    ) -> Result<(Arc<Self>, Following), ReviewError> {
        let console = &config.console;
        let settings = Settings {
            requests: console.queue_requests,
            claim: i64::try_from(console.claim_ms).unwrap_or(i64::MAX / 4),
            second_opinions: console.second_opinion_rate,
            gold: console.gold_rate,
            secret,
        };
        let defaults = config.record_defaults();
        let reviews = Arc::new(Self {
            queue: Mutex::new(Queue::new(settings, follow::rules(&policies.now()))),
            followed: Mutex::new(Followed::Loading("the topics are being opened".into())),
            texts: Texts::new(connection, &config.topics.events, defaults.clone()),
            sender: Shared::new(Sender::new(connection, &config.topics.labels)),
            registry: Registry::from_config(&config.registry)?,
            config: Arc::clone(config),
            policies: policies.clone(),
            connection: connection.clone(),
            defaults,
            clock: now,
            unread: AtomicU64::new(0),
            reported: Mutex::default(),
        });
        let shutdown = Shutdown::new();
        let thread = Some(follow::start(&reviews, &shutdown)?);
        Ok((reviews, Following { shutdown, thread }))
    }

    pub(super) fn queue(&self) -> MutexGuard<'_, Queue> {
        lock(&self.queue)
    }

    /// Sets the state of following: up to date, or an error.
    pub(super) fn set_followed(&self, result: Result<(), String>) {
        let mut followed = lock(&self.followed);
        *followed = match (result, &*followed) {
            (Ok(()), _) => Followed::Ready,
            (Err(error), Followed::Loading(_)) => Followed::Loading(error),
            (Err(error), _) => Followed::Behind(error),
        };
    }

    /// Sets the state of following: the topics are read from their beginning again.
    pub(super) fn set_loading(&self, progress: &str) {
        *lock(&self.followed) = Followed::Loading(progress.to_owned());
    }

    /// Counts a record that cannot be read.
    pub(super) fn unread(&self, topic: &'static str) {
        self.unread.fetch_add(1, Ordering::Relaxed);
        metrics::REVIEW_UNREADABLE.with([topic]).increment(1);
    }

    /// Sets the gauges, and counts what has happened since the last call.
    pub(super) fn report(&self) {
        let now = (self.clock)();
        let mut queue = self.queue();
        queue.expire(now);
        for (reason, open) in queue.shelves().open_by_reason() {
            metrics::REVIEW_OPEN.with([reason]).set(float(open));
        }
        let age = queue.shelves().oldest().map_or(0, |oldest| now.saturating_sub(oldest).max(0));
        metrics::REVIEW_OLDEST_AGE.with([]).set(float(usize::try_from(age).unwrap_or(0)) / 1_000.0);
        metrics::REVIEW_CLAIMS.with([]).set(float(queue.claims(now)));
        let counts = queue.counts().clone();
        drop(queue);
        let before = std::mem::replace(&mut *lock(&self.reported), counts.clone());
        for (kind, now, before) in [
            ("audit", counts.dropped_audit, before.dropped_audit),
            ("request", counts.dropped_open, before.dropped_open),
            ("gold", counts.dropped_gold, before.dropped_gold),
            ("label", counts.dropped_labels, before.dropped_labels),
        ] {
            metrics::REVIEW_DROPPED.with([kind]).increment(now - before);
        }
        metrics::REVIEW_EXPIRED.with([]).increment(counts.expired - before.expired);
        metrics::REVIEW_SKIPPED.with([]).increment(counts.skipped - before.skipped);
        metrics::REVIEW_CLAIMS_EXPIRED.with([]).increment(counts.claims_expired - before.claims_expired);
        if counts.dropped_audit > before.dropped_audit {
            let dropped = counts.dropped_audit - before.dropped_audit;
            tracing::warn!(
                dropped,
                "the review queue is full of audits and has dropped the oldest: estimates miss their answers; \
                 raise console.queue_requests, lower audit_rate, or add reviewers"
            );
        }
    }

    /// Returns the error of following the topics, if there is one. Answers can be given meanwhile.
    #[must_use]
    pub fn behind(&self) -> Option<String> {
        match &*lock(&self.followed) {
            Followed::Behind(error) => Some(error.clone()),
            Followed::Loading(_) | Followed::Ready => None,
        }
    }

    fn ready(&self) -> Result<(), Failed> {
        match &*lock(&self.followed) {
            Followed::Loading(progress) => Err(Failed::Loading { progress: progress.clone() }),
            Followed::Ready | Followed::Behind(_) => Ok(()),
        }
    }

    /// The number of open requests of a policy.
    #[must_use]
    pub fn open_of(&self, policy: &str) -> usize {
        self.queue().open_of(policy)
    }

    /// The number of open requests of a policy as the reviewer sees it: see [`Queue::open_for`].
    #[must_use]
    pub fn open_for(&self, reviewer: &str, policy: &str) -> usize {
        self.queue().open_for(reviewer, policy)
    }

    /// The number of records that could not be read since the start.
    #[must_use]
    pub fn unreadable(&self) -> u64 {
        self.unread.load(Ordering::Relaxed)
    }

    /// Returns the request that the reviewer has, or the next one of the policy.
    ///
    /// # Errors
    /// Returns [`Failed::Loading`] until the topics have been read, and a refusal if the reviewer is in quarantine.
    pub fn next(&self, reviewer: &str, policy: &str) -> Result<Next, Failed> {
        self.ready()?;
        let mut queue = self.queue();
        let next = queue.next(reviewer, policy, (self.clock)());
        match next {
            Next::Empty { others } if others > 0 && queue.is_quarantined_anywhere(reviewer) => {
                Err(Refusal::Quarantined.into())
            }
            next => Ok(next),
        }
    }

    /// Extends a claim.
    ///
    /// # Errors
    /// Returns the reason for which the request can no longer be answered.
    pub fn touch(&self, reviewer: &str, token: &str) -> Result<Served, Failed> {
        self.ready()?;
        Ok(self.queue().touch(reviewer, token, (self.clock)())?)
    }

    /// Returns the request of a claim with its conversation. A request whose text is deleted is closed.
    ///
    /// # Errors
    /// Returns an error if the claim is not known, the request is closed, or its text cannot be read.
    pub fn text(&self, reviewer: &str, token: &str) -> Result<(Arc<ReviewRequest>, Arc<Event>), Failed> {
        self.ready()?;
        let request = self.queue().request(reviewer, token)?;
        let stop = || false;
        let waiting = self.registry.as_ref().map(|registry| registry.waiting(&stop));
        let read = self.texts.read(&request, waiting.as_ref().map(|waiting| waiting as &dyn Schemas));
        match read {
            Ok(event) => {
                // The claim may have ended while the brokers were waited for.
                if self.queue().request(reviewer, token).is_err() {
                    self.texts.forget(&request.id);
                }
                Ok((request, event))
            }
            Err(TextError::Expired) => {
                self.queue().on_expired(&request.id);
                Err(Refusal::Expired.into())
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Sends the answer of a reviewer. When this returns, the brokers have it.
    ///
    /// # Errors
    /// Returns a refusal if the answer is not needed, or a [`SendError`] if the brokers do not confirm it. The same answer
    /// can be sent again then.
    pub fn answer(
        &self,
        reviewer: &str,
        token: &str,
        verdict: &Verdict,
    ) -> Result<(Label, Arc<ReviewRequest>), Failed> {
        self.ready()?;
        // The guard must not live while the brokers are waited for.
        let prepare = || self.queue().prepare_answer(reviewer, token, (self.clock)());
        let repeated = |label: Box<Label>, request| match label.verdict {
            Some(known) if known == verdict.finding => Ok((*label, request)),
            _ => Err(Refusal::AlreadyAnswered.into()),
        };
        // An answer that is sent again does not wait for other labels, and nor does that of a claim that has ended.
        if let Prepared::Sent { label, request } = prepare()? {
            return repeated(label, request);
        }
        let mut sender = self.sender.take(self.send_timeout())?;
        // The claim may have ended meanwhile.
        let (request, id, source) = match prepare()? {
            Prepared::Sent { label, request } => return repeated(label, request),
            Prepared::Send { request, label, source } => (request, label, source),
        };
        let label = Label {
            annotator: Some(reviewer.to_owned()),
            categories: verdict.categories.clone(),
            time: (self.clock)(),
            source,
            inclusion_probability: Some(request.inclusion_probability),
            decision: Some(request.decision),
            ..Label::new(&request.id, id, verdict.finding)
        };
        sender.send(&label)?;
        self.queue().confirm_answer(reviewer, token, &label);
        drop(sender);
        self.texts.forget(&request.id);
        // A reviewer's metrics must not tell which requests have reference answers, and nor must those of the team.
        debug_assert!(matches!(label.source, Source::Review | Source::Calibration));
        metrics::REVIEW_ANSWERED.with([verdict.finding.word()]).increment(1);
        Ok((label, request))
    }

    /// Releases a claim. The request is not served to this reviewer again.
    ///
    /// # Errors
    /// Returns an error if the reviewer does not have the claim.
    pub fn skip(&self, reviewer: &str, token: &str) -> Result<(), Failed> {
        let request = self.queue().request(reviewer, token);
        self.queue().skip(reviewer, token)?;
        if let Ok(request) = request {
            self.texts.forget(&request.id);
        }
        Ok(())
    }

    /// The time that a label waits for those before it. Its claim lasts longer.
    fn send_timeout(&self) -> Duration {
        Duration::from_millis(self.config.console.claim_ms / 2)
    }

    /// Serves the skipped requests of the reviewer again. Returns their number.
    pub fn forget_skipped(&self, reviewer: &str) -> usize {
        self.queue().forget_skipped(reviewer)
    }

    /// Retracts the answer of the reviewer to a claim, and gives the request back if it is open. A repetition changes
    /// nothing.
    ///
    /// # Errors
    /// Returns an error if there is none, or if the brokers do not confirm the retraction.
    pub fn undo(&self, reviewer: &str, token: &str) -> Result<Option<Served>, Failed> {
        self.ready()?;
        let mut sender = self.sender.take(self.send_timeout())?;
        let prepared = self.queue().prepare_undo(reviewer, token, (self.clock)())?;
        let retraction = match prepared {
            PreparedUndo::Send(retraction) => retraction,
            PreparedUndo::Undone(_) => return Ok(None),
        };
        sender.send(&retraction)?;
        Ok(self.queue().confirm_undo(reviewer, token, &retraction, (self.clock)()))
    }
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn float(number: usize) -> f64 {
    number as f64
}
