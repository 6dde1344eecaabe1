//! The panel for texts that keep coming. Threads of the stream tokenise them while workers run earlier ones, and each
//! text is answered as soon as its last expert has voted, in any order.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Select, Sender, bounded};

use super::ask::{Asked, Question, Terms, UnderLoad};
use super::{Answer, Panel};
use crate::core::event::ConversationRef;
use crate::experts::cost::RunCost;
use crate::experts::error::PanelError;
use crate::experts::pending::{AnswerSink, PartialAnswer};
use crate::experts::worker::ROLE;
use crate::{crash, panics};

/// The greatest number of texts that are tokenised together. Then they go to the scheduler.
const TOKENIZE_BATCH: usize = 16;

/// The waiting times of the texts of a stream, and their place among those of other streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Waits {
    /// The time that a text waits at most for others of its length while a worker is free.
    pub delay: Duration,
    /// The time by which a text counts as older than it is. Of the texts that wait for a model, the one that counts as the
    /// oldest runs first: a text runs before texts of other streams that came up to this time before it, and after all
    /// that have waited longer. So neither stream waits forever for the other.
    pub head_start: Duration,
}

impl From<Duration> for Waits {
    fn from(delay: Duration) -> Self {
        Self { delay, head_start: Duration::ZERO }
    }
}

impl Waits {
    /// Returns when a text that came at `at` is due. It is in the past for a text with a head start.
    fn due(self, at: Instant) -> Instant {
        (at + self.delay).checked_sub(self.head_start).unwrap_or(at)
    }
}

/// A conversation that waits to be tokenised.
struct Submitted {
    question: Question,
    at: Instant,
}

/// Texts on their way through a panel.
pub struct Stream {
    panel: Arc<Panel>,
    texts: Option<Sender<Submitted>>,
    answers: Receiver<(u64, PartialAnswer)>,
    sink: Arc<AnswerSink>,
    tokenise_times: Receiver<Duration>,
    shrunk: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    room: usize,
    inside: usize,
}

/// A thread of a stream that tokenises texts.
struct TokenizeThread {
    panel: Arc<Panel>,
    texts: Receiver<Submitted>,
    sink: Arc<AnswerSink>,
    times: Sender<Duration>,
    shrunk: Arc<AtomicBool>,
    waits: Waits,
}

impl TokenizeThread {
    fn run(&self) {
        panics::mark_fatal(ROLE);
        while let Ok(first) = self.texts.recv() {
            crash::point("panel.read");
            // The time that the oldest text waits here counts.
            let due = self.waits.due(first.at);
            let texts: Vec<_> =
                std::iter::once(first).chain(self.texts.try_iter()).take(TOKENIZE_BATCH).collect();
            let shrunk = self.shrunk.load(Ordering::Relaxed);
            let terms = Terms { votes: true, shrunk, timeout: self.panel.timeout };
            let questions = texts.into_iter().map(|submitted| submitted.question);
            let time = self.panel.submit(&self.sink, questions, terms, || due);
            // These are only figures, so they are dropped if the caller does not take them.
            let _ = self.times.try_send(time);
        }
    }
}

impl Panel {
    /// Opens a stream for at most `room` texts at a time. `waits` is the time that a text waits at most for others of its
    /// length while a worker is free, or that time with a head start.
    ///
    /// # Errors
    /// Returns an error if no thread can be started.
    pub fn stream(self: &Arc<Self>, room: usize, waits: impl Into<Waits>) -> Result<Stream, PanelError> {
        let (room, waits) = (room.max(1), waits.into());
        let (texts, waiting) = bounded::<Submitted>(room);
        let (times, tokenise_times) = bounded(room);
        let (sink, answers) = AnswerSink::new();
        let shrunk = Arc::new(AtomicBool::new(false));
        // If something fails from here on, dropping this ends the threads that were started.
        let mut stream = Stream {
            panel: Arc::clone(self),
            texts: Some(texts),
            answers,
            sink,
            tokenise_times,
            shrunk,
            threads: Vec::new(),
            room,
            inside: 0,
        };
        for _ in 0..self.tokenize_threads {
            let thread = TokenizeThread {
                panel: Arc::clone(self),
                texts: waiting.clone(),
                sink: Arc::clone(&stream.sink),
                times: times.clone(),
                shrunk: Arc::clone(&stream.shrunk),
                waits,
            };
            let thread = std::thread::Builder::new().name("panel".into()).spawn(move || thread.run());
            stream.threads.push(thread.map_err(|error| PanelError::Threads { reason: error.to_string() })?);
        }
        Ok(stream)
    }
}

impl Stream {
    /// The number of texts that may be submitted now.
    #[must_use]
    pub fn room(&self) -> usize {
        self.room.saturating_sub(self.inside)
    }

    /// The number of texts that are submitted and not answered yet.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.inside
    }

    /// Asks every expert about a conversation, or the panel's cheap ones while the stream is shrunk. A text is a
    /// conversation of one turn by the user. Only the turns that an expert reads are copied. The answer comes with the key.
    ///
    /// # Errors
    /// Returns [`PanelError::Refused`] if there is no [`room`](Self::room), or the threads have ended.
    pub fn submit<'a>(
        &mut self,
        key: u64,
        conversation: impl Into<ConversationRef<'a>>,
    ) -> Result<(), PanelError> {
        self.submit_to(key, conversation, UnderLoad::Cheap)
    }

    /// Like [`Stream::submit`], with the experts that are asked even while the stream is shrunk.
    ///
    /// # Errors
    /// Returns the same error.
    pub fn submit_to<'a>(
        &mut self,
        key: u64,
        conversation: impl Into<ConversationRef<'a>>,
        under_load: UnderLoad,
    ) -> Result<(), PanelError> {
        self.submit_asking(key, conversation, under_load, Asked::All)
    }

    /// Like [`Stream::submit_to`], with the choice of experts. The others abstain with
    /// [`Abstention::NotNeeded`](crate::core::vote::Abstention::NotNeeded).
    ///
    /// # Errors
    /// Returns the same error.
    pub fn submit_asking<'a>(
        &mut self,
        key: u64,
        conversation: impl Into<ConversationRef<'a>>,
        under_load: UnderLoad,
        asked: Asked,
    ) -> Result<(), PanelError> {
        let texts = self.texts.as_ref().filter(|_| self.inside < self.room).ok_or(PanelError::Refused)?;
        let conversation = conversation.into().to_conversation(self.panel.history_turns);
        let submitted =
            Submitted { question: Question { key, conversation, under_load, asked }, at: Instant::now() };
        texts.send(submitted).map_err(|_| PanelError::Refused)?;
        self.inside += 1;
        Ok(())
    }

    /// The next answer, in any order, or `None` if none comes within `timeout`.
    pub fn next(&mut self, timeout: Duration) -> Option<(u64, Answer)> {
        let (key, answer) = if timeout.is_zero() {
            self.answers.try_recv().ok()
        } else {
            self.answers.recv_timeout(timeout).ok()
        }?;
        self.inside = self.inside.saturating_sub(1);
        Some((key, self.panel.answer(answer)))
    }

    /// Waits until an answer can be taken, until `more` has a message or is closed, or for `timeout`.
    pub fn wait_with<T>(&self, more: Option<&Receiver<T>>, timeout: Duration) {
        let mut select = Select::new();
        select.recv(&self.answers);
        if let Some(more) = more {
            select.recv(more);
        }
        let _ = select.ready_timeout(timeout);
    }

    /// From now on asks only the experts that a text has [`UnderLoad`], or all of them again. The others abstain with
    /// [`Abstention::Overload`](crate::core::vote::Abstention::Overload).
    pub fn shrink(&self, shrunk: bool) {
        self.shrunk.store(shrunk, Ordering::Relaxed);
    }

    /// The costs of the runs since the last call. A run that began with another caller's text is not among them.
    #[must_use]
    pub fn runs(&self) -> Vec<RunCost> {
        self.sink.take_costs()
    }

    /// The times that it took to tokenise, since the last call.
    pub fn tokenised(&self) -> impl Iterator<Item = Duration> + '_ {
        self.tokenise_times.try_iter()
    }

    /// The panel.
    #[must_use]
    pub fn panel(&self) -> &Panel {
        &self.panel
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.texts = None;
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}
