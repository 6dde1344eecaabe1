//! The second stage: the events that the panel is working on.
//!
//! The panel's workers run some events while the pipeline reads the next and commits the last. Answers arrive in any
//! order; the watermark of the open batch restores the order of each partition.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::ScoreError;
use super::reader::InputEvent;
use super::spans::EventTimes;
use crate::config::Policies;
use crate::core::event::Millis;
use crate::core::ledger::TextFeatures;
use crate::core::policy::Policy;
use crate::core::vote::{Abstention, Vote};
use crate::experts::{Answer, Panel, PanelError, RunCost, Stream, UnderLoad};
use crate::ops::{Health, metrics};

/// The longest wait for an answer of the current panel while a replaced panel still has events.
const REPLACED_PANEL_WAIT: Duration = Duration::from_millis(2);

/// An event with the panel's answer.
pub struct AnsweredEvent {
    /// The event.
    pub event: InputEvent,
    /// The vote of each expert, sorted by the UTF-8 bytes of the experts' ids.
    pub votes: Vec<Vote>,
    /// The features of the judged text, if the panel has an encoder.
    pub features: Option<TextFeatures>,
    /// The times of the event's stages.
    pub times: EventTimes,
}

/// The events that were submitted to the panel and are not answered yet.
///
/// An event stays here until its answer is taken, whatever happens to its partition or to the panel: a replaced panel
/// answers what it was given, and the answer of an event whose partition was revoked is discarded when it is decided.
pub struct InFlightEvents {
    stream: Stream,
    /// The streams of panels that were replaced, until their last events are answered.
    replaced: Vec<Stream>,
    window: usize,
    delay: Duration,
    /// `true` if only the experts that policies keep under load are asked.
    shrunk: bool,
    /// The events by the key under which their texts were submitted, with the time of submission.
    events: BTreeMap<u64, (InputEvent, Instant)>,
    last_key: u64,
    /// By policy, the experts that are asked about its events under load.
    under_load: BTreeMap<String, UnderLoad>,
    /// The time that events wait before anything runs for them.
    queue_seconds: ::metrics::Histogram,
}

impl InFlightEvents {
    /// Opens a stream to the panel for `window` events at a time. An event waits at most `delay` to be run together with
    /// others.
    ///
    /// # Errors
    /// Returns an error if the panel's threads cannot be started, or if a policy names an expert that the panel lacks.
    pub fn open(
        panel: &Arc<Panel>,
        policies: &Policies,
        window: usize,
        delay: Duration,
    ) -> Result<Self, PanelError> {
        let mut in_flight = Self {
            stream: panel.stream(window, delay)?,
            replaced: Vec::new(),
            window,
            delay,
            shrunk: false,
            events: BTreeMap::new(),
            last_key: 0,
            under_load: BTreeMap::new(),
            queue_seconds: metrics::QUEUE_SECONDS.with([]),
        };
        in_flight.on_policies(policies)?;
        Ok(in_flight)
    }

    /// Submits later events to this panel. Events already submitted are answered by the panel that has them. Call
    /// [`on_policies`](Self::on_policies) afterwards.
    ///
    /// # Errors
    /// Returns an error if the panel's threads cannot be started.
    pub fn on_panel(&mut self, panel: &Arc<Panel>) -> Result<(), PanelError> {
        if std::ptr::eq(Arc::as_ptr(panel), self.stream.panel()) {
            return Ok(());
        }
        let stream = panel.stream(self.window, self.delay)?;
        stream.shrink(self.shrunk);
        self.replaced.push(std::mem::replace(&mut self.stream, stream));
        Ok(())
    }

    /// Applies the policies' choices of experts under load to later events.
    ///
    /// # Errors
    /// Returns an error if a policy names an expert that the panel does not have.
    pub fn on_policies(&mut self, policies: &Policies) -> Result<(), PanelError> {
        let panel = self.stream.panel();
        let under_load = |policy: &Policy| match policy {
            Policy { sheds: false, .. } => Ok(UnderLoad::All),
            Policy { cheap, .. } if cheap.is_empty() => Ok(UnderLoad::Cheap),
            Policy { cheap, .. } => panel.under_load(cheap),
        };
        let all = policies.policies.iter();
        self.under_load =
            all.map(|(name, policy)| Ok((name.clone(), under_load(policy)?))).collect::<Result<_, _>>()?;
        Ok(())
    }

    /// Returns how many more events can be submitted now. At 0 the panel is full: the pipeline decodes no further record, and
    /// the consumer is [paused](super::reader::EventReader::pause_if_blocked) after a second.
    #[must_use]
    pub fn room(&self) -> usize {
        let replaced: usize = self.replaced.iter().map(Stream::inside).sum();
        self.stream.room().saturating_sub(replaced)
    }

    /// Returns `true` if no event is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Submits an event. Call only if there is [`room`](Self::room).
    ///
    /// # Errors
    /// Returns an error if the panel refuses the event, or if its policy is not known here.
    pub fn submit(&mut self, event: InputEvent) -> Result<(), ScoreError> {
        let Some(under_load) = self.under_load.get(&event.event.policy).cloned() else {
            let what = format!("policy {} of an accepted event is in force", event.event.policy);
            return Err(ScoreError::Invariant { what });
        };
        self.last_key += 1;
        let submitted_at = Instant::now();
        self.stream.submit_to(self.last_key, &event.event, under_load)?;
        self.events.insert(self.last_key, (event, submitted_at));
        Ok(())
    }

    /// Returns the next answered event, or `None` if there is none within `timeout`.
    ///
    /// # Errors
    /// Returns an error if the panel answers an event that is not in flight.
    pub fn next_answer(&mut self, timeout: Duration) -> Result<Option<AnsweredEvent>, ScoreError> {
        // It is not possible to wait for two panels at the same time.
        let timeout = if self.replaced.is_empty() { timeout } else { timeout.min(REPLACED_PANEL_WAIT) };
        let answered = self.replaced.iter_mut().find_map(|stream| stream.next(Duration::ZERO));
        let Some((key, answer)) = answered.or_else(|| self.stream.next(timeout)) else { return Ok(None) };
        let Some((event, submitted_at)) = self.events.remove(&key) else {
            let what = format!("the answer with the key {key} belongs to an event in flight");
            return Err(ScoreError::Invariant { what });
        };
        if let Some(began) = answer.began {
            let waited = began.saturating_duration_since(event.read_at);
            self.queue_seconds.record(waited.as_secs_f64());
        }
        let Answer { votes, reading: features, ran: runs, .. } = answer;
        let times = EventTimes { read_at: event.read_at, submitted_at, answered_at: Instant::now(), runs };
        Ok(Some(AnsweredEvent { event, votes, features, times }))
    }

    /// Returns the broker timestamp of the event that has been in flight longest.
    #[must_use]
    pub fn oldest_timestamp(&self) -> Option<Millis> {
        self.events.first_key_value().map(|(_, (event, _))| event.timestamp)
    }

    /// Asks only the experts that each policy keeps under load about later events, or all experts again.
    pub fn shrink(&mut self, shrunk: bool) {
        self.shrunk = shrunk;
        metrics::PANEL_SHRUNK.with([]).set(f64::from(u8::from(shrunk)));
        self.stream.shrink(shrunk);
    }

    /// Reports the runs since the last report to metrics, and to health which experts are down. The panel answers as long
    /// as one expert that is not in shadow mode does.
    pub fn report(&mut self, health: &Health, shadow: &BTreeSet<String>) {
        for stream in self.replaced.iter().chain([&self.stream]) {
            for took in stream.tokenised() {
                metrics::TOKENIZE_SECONDS.with([]).record(took.as_secs_f64());
            }
            stream.runs().iter().for_each(|run| record_run(stream.panel(), run));
        }
        // A replaced panel is dropped, with its memory, after its last event is answered.
        self.replaced.retain(|stream| stream.inside() > 0);
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

#[expect(clippy::cast_precision_loss, reason = "a run has few texts and tokens")]
fn record_run(panel: &Panel, run: &RunCost) {
    if run.texts > 0 {
        metrics::BATCH_EVENTS.with([]).record(run.texts as f64);
    }
    if run.padded_tokens > 0 {
        metrics::BATCH_TOKENS.with([]).record(run.padded_tokens as f64);
        metrics::PADDING_RATIO.with([]).record(run.real_tokens as f64 / run.padded_tokens as f64);
    }
    for (index, took) in &run.experts {
        if let Some(expert) = panel.experts().get(*index) {
            metrics::EXPERT_SECONDS.with([&expert.id]).record(took.as_secs_f64());
        }
    }
}
