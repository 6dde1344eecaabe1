//! The panel at work behind a bounded stream: while workers run some events, the flow reads the next and commits
//! the last. Answers come as they are done; the watermark restores the order of each partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::intake::Accepted;
use super::traced::Times;
use crate::config::Policies;
use crate::core::event::Millis;
use crate::core::ledger::TextFeatures;
use crate::core::policy::Policy;
use crate::core::vote::{Abstention, Vote};
use crate::experts::{Answer, Panel, PanelError, RunCost, Stream, UnderLoad};
use crate::ops::{Health, metrics};

/// How long the newest panel is waited for while an older one has events, too.
const TURN: Duration = Duration::from_millis(2);

/// An event with what the experts said of it.
pub struct RoundRecord {
    /// The event.
    pub accepted: Accepted,
    /// Each expert's vote, by the UTF-8 bytes of the ids.
    pub votes: Vec<Vote>,
    /// The judged text's features.
    pub reading: Option<TextFeatures>,
    /// When all that was.
    pub times: Times,
}

/// Events being asked about.
pub struct Asking {
    stream: Stream,
    /// Streams of panels that were replaced, until the last of their events is answered.
    leaving: Vec<Stream>,
    window: usize,
    delay: Duration,
    shrunk: bool,
    /// By the key under which the text was submitted, with when that was.
    events: BTreeMap<u64, (Accepted, Instant)>,
    submitted: u64,
    /// By policy: who is asked about its events even under load.
    kept: BTreeMap<String, UnderLoad>,
    /// How long events wait before anything runs for them.
    queued: ::metrics::Histogram,
}

impl Asking {
    /// Opens the stream: for `window` events at a time, each waiting at most `delay` for others.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub fn start(panel: &Arc<Panel>, window: usize, delay: Duration) -> Result<Self, PanelError> {
        Ok(Self {
            stream: panel.stream(window, delay)?,
            leaving: Vec::new(),
            window,
            delay,
            shrunk: false,
            events: BTreeMap::new(),
            submitted: 0,
            kept: BTreeMap::new(),
            queued: metrics::QUEUE_SECONDS.with([]),
        })
    }

    /// Asks this panel from now on; what the one before it was asked it answers. What policies say of load has to be
    /// taken anew.
    ///
    /// # Errors
    /// Where the system has no thread to give.
    pub fn seat(&mut self, panel: &Arc<Panel>) -> Result<(), PanelError> {
        if std::ptr::eq(Arc::as_ptr(panel), self.stream.panel()) {
            return Ok(());
        }
        let stream = panel.stream(self.window, self.delay)?;
        stream.shrink(self.shrunk);
        self.leaving.push(std::mem::replace(&mut self.stream, stream));
        Ok(())
    }

    /// Takes what policies say of load.
    ///
    /// # Errors
    /// Where one names an expert that the panel has not.
    pub fn adopt(&mut self, policies: &Policies) -> Result<(), PanelError> {
        let panel = self.stream.panel();
        let kept = |policy: &Policy| match policy {
            Policy { sheds: false, .. } => Ok(UnderLoad::All),
            Policy { cheap, .. } if cheap.is_empty() => Ok(UnderLoad::Cheap),
            Policy { cheap, .. } => panel.under_load(cheap),
        };
        let all = policies.policies.iter();
        self.kept = all.map(|(name, policy)| Ok((name.clone(), kept(policy)?))).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// How many more events the panel takes now.
    #[must_use]
    pub fn room(&self) -> usize {
        let leaving: usize = self.leaving.iter().map(Stream::inside).sum();
        self.stream.room().saturating_sub(leaving)
    }

    /// Whether nothing is being asked.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.events.is_empty()
    }

    /// Hands an event over. Call only with [`room`](Self::room).
    ///
    /// # Errors
    /// Where the panel takes no more: going on would leave the event without its outcome.
    pub fn offer(&mut self, accepted: Accepted) -> Result<(), PanelError> {
        self.submitted += 1;
        let asked = Instant::now();
        let kept = self.kept.get(&accepted.event.policy).cloned().unwrap_or_default();
        self.stream.submit_to(self.submitted, accepted.event.judged_text(), kept)?;
        self.events.insert(self.submitted, (accepted, asked));
        Ok(())
    }

    /// The next event that is done.
    pub fn take(&mut self, patience: Duration) -> Option<RoundRecord> {
        // Two panels cannot be waited for at once.
        let patience = if self.leaving.is_empty() { patience } else { patience.min(TURN) };
        let answered = self.leaving.iter_mut().find_map(|stream| stream.next(Duration::ZERO));
        let (key, answer) = answered.or_else(|| self.stream.next(patience))?;
        let (accepted, asked) = self.events.remove(&key)?;
        if let Some(began) = answer.began {
            let before = began.saturating_duration_since(accepted.read_at);
            self.queued.record(before.as_secs_f64());
        }
        let Answer { votes, reading, ran, .. } = answer;
        let times = Times { read: accepted.read_at, asked, answered: Instant::now(), ran };
        Some(RoundRecord { accepted, votes, reading, times })
    }

    /// When the oldest event being asked about came to the broker.
    #[must_use]
    pub fn oldest(&self) -> Option<Millis> {
        self.events.first_key_value().map(|(_, (accepted, _))| accepted.came)
    }

    /// Asks only those experts from now on whom a policy keeps under load, or all of them again.
    pub fn shrink(&mut self, shrunk: bool) {
        self.shrunk = shrunk;
        metrics::PANEL_SHRUNK.with([]).set(f64::from(u8::from(shrunk)));
        self.stream.shrink(shrunk);
    }

    /// Tells what has been run since the last time, and which experts are left alone. The panel answers while an expert
    /// does that is not in shadow.
    pub fn tell(&mut self, health: &Health, shadow: &BTreeSet<String>) {
        for stream in self.leaving.iter().chain([&self.stream]) {
            for took in stream.tokenised() {
                metrics::TOKENIZE_SECONDS.with([]).record(took.as_secs_f64());
            }
            stream.runs().iter().for_each(|run| note(stream.panel(), run));
        }
        // A panel whose last event is answered goes, with the memory that it holds.
        self.leaving.retain(|stream| stream.inside() > 0);
        let panel = self.stream.panel();
        let (mut down, mut answering) = (Vec::new(), false);
        for ((expert, reason), disabled) in panel.experts().iter().zip(panel.down()).zip(panel.disabled()) {
            let loaded = reason != Some(Abstention::NotLoaded);
            metrics::EXPERT_LOADED.with([&expert.id]).set(f64::from(u8::from(loaded)));
            metrics::EXPERT_DOWN.with([&expert.id]).set(f64::from(u8::from(reason.is_some())));
            metrics::EXPERT_DISABLED.with([&expert.id]).set(f64::from(u8::from(disabled)));
            let disabled = if disabled { " (disabled)" } else { "" };
            down.extend(reason.map(|reason| format!("{} {}{disabled}", expert.id, reason.word())));
            answering |= reason.is_none() && !shadow.contains(&expert.id);
        }
        health.note("experts answering", answering, &down.join(", "));
    }
}

#[expect(clippy::cast_precision_loss, reason = "a batch's tokens are few")]
fn note(panel: &Panel, run: &RunCost) {
    if run.texts > 0 {
        metrics::BATCH_EVENTS.with([]).record(run.texts as f64);
    }
    if run.padded_tokens > 0 {
        metrics::BATCH_TOKENS.with([]).record(run.padded_tokens as f64);
        metrics::PADDING_RATIO.with([]).record(run.real_tokens as f64 / run.padded_tokens as f64);
    }
    for (place, took) in &run.experts {
        if let Some(expert) = panel.experts().get(*place) {
            metrics::EXPERT_SECONDS.with([&expert.id]).record(took.as_secs_f64());
        }
    }
}
