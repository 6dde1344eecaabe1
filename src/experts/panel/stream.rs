//! The panel for texts that keep coming: they are tokenised on threads of their own while workers run what
//! came before, and each is answered as soon as its last expert has voted, whatever came before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::experts::error::PanelError;
use crate::experts::panel::ask::{Terms, UnderLoad};
use crate::experts::panel::{Answer, Panel, RunCost};
use crate::experts::pending::{Asker, Row};
use crate::experts::worker::ROLE;
use crate::{crash, panics};

/// Texts that are tokenised in one go, at most; those before them are at the desk meanwhile.
const TOGETHER: usize = 16;

/// A text that waits to be tokenised.
struct Submitted {
    key: u64,
    text: Box<str>,
    kept: UnderLoad,
    came: Instant,
}

/// Texts on their way through a panel.
pub struct Stream {
    panel: Arc<Panel>,
    texts: Option<Sender<Submitted>>,
    answers: Receiver<(u64, Row)>,
    asker: Arc<Asker>,
    tokenised: Receiver<Duration>,
    shrunk: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    room: usize,
    inside: usize,
}

impl Panel {
    /// Opens a stream for at most `room` texts at a time. A text waits at most `delay` for others of its
    /// length where a worker is free.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub fn stream(self: &Arc<Self>, room: usize, delay: Duration) -> Result<Stream, PanelError> {
        let room = room.max(1);
        let (texts, waiting) = bounded::<Submitted>(room);
        let (told, tokenised) = bounded(room);
        let (asker, answers) = Asker::new();
        let shrunk = Arc::new(AtomicBool::new(false));
        // From here on a failure ends what has been started.
        let mut stream = Stream {
            panel: Arc::clone(self),
            texts: Some(texts),
            answers,
            asker,
            tokenised,
            shrunk,
            threads: Vec::new(),
            room,
            inside: 0,
        };
        for _ in 0..self.tokenize_threads {
            let (panel, waiting, told) = (Arc::clone(self), waiting.clone(), told.clone());
            let (asker, shrunk) = (Arc::clone(&stream.asker), Arc::clone(&stream.shrunk));
            let read = move || {
                panics::mark_fatal(ROLE);
                while let Ok(first) = waiting.recv() {
                    crash::point("panel.read");
                    // The oldest: its waiting here counts.
                    let due = first.came + delay;
                    let texts: Vec<_> =
                        std::iter::once(first).chain(waiting.try_iter()).take(TOGETHER).collect();
                    let shrunk = shrunk.load(Ordering::Relaxed);
                    let terms = Terms { heads: true, shrunk, timeout: panel.timeout };
                    let texts = texts.iter().map(|one| (one.key, one.text.as_ref(), one.kept.clone()));
                    let took = panel.bring(&asker, texts, terms, || due);
                    // Only figures: where nobody takes them they are dropped.
                    let _ = told.try_send(took);
                }
            };
            let thread = std::thread::Builder::new().name("panel".into()).spawn(read);
            stream.threads.push(thread.map_err(|error| PanelError::Threads { reason: error.to_string() })?);
        }
        Ok(stream)
    }
}

impl Stream {
    /// How many more texts may be submitted now.
    #[must_use]
    pub fn room(&self) -> usize {
        self.room.saturating_sub(self.inside)
    }

    /// Texts submitted and not answered yet.
    #[must_use]
    pub fn inside(&self) -> usize {
        self.inside
    }

    /// Asks every expert about a text, or the panel's cheap ones while it is shrunk; the answer comes with the key.
    ///
    /// # Errors
    /// Where there is no [`room`](Self::room), or the thread has ended.
    pub fn submit(&mut self, key: u64, text: &str) -> Result<(), PanelError> {
        self.submit_to(key, text, UnderLoad::Cheap)
    }

    /// As [`Stream::submit`], with those that are asked even while the panel is shrunk.
    ///
    /// # Errors
    /// As there.
    pub fn submit_to(&mut self, key: u64, text: &str, kept: UnderLoad) -> Result<(), PanelError> {
        let texts = self.texts.as_ref().filter(|_| self.inside < self.room).ok_or(PanelError::Refused)?;
        let submitted = Submitted { key, text: text.into(), kept, came: Instant::now() };
        texts.send(submitted).map_err(|_| PanelError::Refused)?;
        self.inside += 1;
        Ok(())
    }

    /// The next answer, in whatever order they come; none where none has come within `patience`.
    pub fn next(&mut self, patience: Duration) -> Option<(u64, Answer)> {
        let (key, row) = if patience.is_zero() {
            self.answers.try_recv().ok()
        } else {
            self.answers.recv_timeout(patience).ok()
        }?;
        self.inside = self.inside.saturating_sub(1);
        Some((key, self.panel.answer(row)))
    }

    /// Asks only the experts that are [`UnderLoad`] of texts from now on, or all of them again. Those not asked abstain, with
    /// the reason.
    pub fn shrink(&self, shrunk: bool) {
        self.shrunk.store(shrunk, Ordering::Relaxed);
    }

    /// The runs since the last time, those with texts of other askers first among theirs left out.
    #[must_use]
    pub fn runs(&self) -> Vec<RunCost> {
        self.asker.runs()
    }

    /// Times that it took to tokenise, since the last time.
    pub fn tokenised(&self) -> impl Iterator<Item = Duration> + '_ {
        self.tokenised.try_iter()
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
