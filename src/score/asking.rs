//! The panel at work on its own thread, behind bounded channels: while it judges one window of events,
//! the flow reads the next and commits the last.

use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender, bounded};

use super::intake::Accepted;
use crate::core::ledger::Reading;
use crate::core::vote::Vote;
use crate::experts::{Panel, Tally};
use crate::ops::metrics;

/// Windows that may wait for the panel: one to start on as soon as it is free.
const AHEAD: usize = 1;

/// An event with what the experts said of it.
pub struct Judged {
    /// The event.
    pub accepted: Accepted,
    /// Each expert's vote, by the UTF-8 bytes of the ids.
    pub votes: Vec<Vote>,
    /// The judged text's features.
    pub reading: Option<Reading>,
}

/// The panel on its thread.
pub struct Asking {
    windows: Option<Sender<Vec<Accepted>>>,
    judged: Receiver<Vec<Judged>>,
    thread: Option<JoinHandle<()>>,
    inside: usize,
}

impl Asking {
    /// Starts the thread.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub fn start(panel: Arc<Panel>) -> std::io::Result<Self> {
        let (windows, waiting) = bounded::<Vec<Accepted>>(AHEAD);
        let (done, judged) = bounded(AHEAD + 1);
        let thread = std::thread::Builder::new().name("panel".into()).spawn(move || {
            for window in waiting {
                if done.send(ask(&panel, window)).is_err() {
                    return;
                }
            }
        })?;
        Ok(Self { windows: Some(windows), judged, thread: Some(thread), inside: 0 })
    }

    /// Whether the panel takes another window now.
    #[must_use]
    pub fn has_room(&self) -> bool {
        self.inside <= AHEAD
    }

    /// Whether nothing is being asked.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.inside == 0
    }

    /// Hands a window over. Call only with [`room`](Self::has_room).
    pub fn offer(&mut self, window: Vec<Accepted>) {
        if let Some(windows) = &self.windows
            && windows.send(window).is_ok()
        {
            self.inside += 1;
        }
    }

    /// A window that is done, in the order in which they were offered.
    pub fn take(&mut self, patience: Duration) -> Option<Vec<Judged>> {
        let done = self.judged.recv_timeout(patience).ok()?;
        self.inside -= 1;
        Some(done)
    }
}

impl Drop for Asking {
    fn drop(&mut self) {
        self.windows = None;
        while self.judged.recv().is_ok() {}
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn ask(panel: &Panel, window: Vec<Accepted>) -> Vec<Judged> {
    let started = Instant::now();
    for accepted in &window {
        metrics::QUEUE_SECONDS.with([]).record(accepted.read_at.elapsed().as_secs_f64());
    }
    let mut tally = Tally::default();
    let texts: Vec<&str> = window.iter().map(|accepted| accepted.event.judged_text()).collect();
    let answers = panel.ask_tallied(&texts, &mut tally);
    note(panel, &tally);
    tracing::debug!(events = window.len(), micros = started.elapsed().as_micros(), "asked the panel");
    window
        .into_iter()
        .zip(answers)
        .map(|(accepted, answer)| Judged { accepted, votes: answer.votes, reading: answer.reading })
        .collect()
}

/// What a window cost.
#[expect(clippy::cast_precision_loss, reason = "a window's tokens are few")]
fn note(panel: &Panel, tally: &Tally) {
    metrics::TOKENIZE_SECONDS.with([]).record(tally.tokenise.as_secs_f64());
    if tally.padded_tokens > 0 && tally.batches > 0 {
        metrics::BATCH_EVENTS.with([]).record(tally.texts as f64 / tally.batches as f64);
        metrics::BATCH_TOKENS.with([]).record(tally.padded_tokens as f64 / tally.batches as f64);
        metrics::PADDING_RATIO.with([]).record(tally.real_tokens as f64 / tally.padded_tokens as f64);
    }
    for (expert, took) in panel.experts().iter().zip(&tally.experts) {
        metrics::EXPERT_SECONDS.with([&expert.id]).record(took.as_secs_f64());
    }
}
