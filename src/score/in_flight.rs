//! The second stage: the events that the panel is working on.
//!
//! The panel's workers run some events while the pipeline reads the next and commits the last. Answers arrive in any
//! order; the watermark of the open batch restores the order of each partition.

mod event;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::ScoreError;
use super::deferral::Deferral;
use super::reader::InputEvent;
use crate::config::Policies;
use crate::core::event::Millis;
use crate::core::policy::Policy;
use crate::core::predictor::Predictor;
use crate::core::vote::Abstention;
use crate::crash;
use crate::experts::{Asked, Panel, PanelError, RunCost, Stream, UnderLoad, Waits};
use crate::ops::{Health, metrics};
pub use event::AnsweredEvent;
use event::{InFlightEvent, Submitted};

/// The longest wait for an answer of the current panel while a replaced panel still has events.
const REPLACED_PANEL_WAIT: Duration = Duration::from_millis(2);

/// A panel with the events that it works on.
struct PanelStream {
    /// The number of the panel, by the order in which panels were opened.
    number: u64,
    stream: Stream,
    deferral: Deferral,
}

/// The events that were submitted to the panel and are not answered yet.
///
/// An event stays here until its answer is taken, whatever happens to its partition or to the panel: a replaced panel
/// answers what it was given, and the answer of an event whose partition was revoked is discarded when it is decided.
pub struct InFlightEvents {
    current: PanelStream,
    /// Panels that were replaced, until their last events are answered.
    replaced: Vec<PanelStream>,
    /// The probability with which a deferred expert is asked in any case.
    explore: f64,
    window: usize,
    waits: Waits,
    /// `true` if only the experts that policies keep under load are asked.
    shrunk: bool,
    /// The events by the key under which they were submitted. An event keeps its key in the second phase.
    events: BTreeMap<u64, InFlightEvent>,
    last_key: u64,
    /// By policy, the experts that are asked about its events under load.
    under_load: BTreeMap<String, UnderLoad>,
    /// The time that events wait before anything runs for them.
    queue_seconds: ::metrics::Histogram,
}

impl InFlightEvents {
    /// Opens a stream to the panel for `window` events at a time. `waits` is the time that an event waits at most to be run
    /// together with others, or that time with a head start. A deferred expert is asked in any case with the probability `explore`.
    ///
    /// # Errors
    /// Returns an error if the panel's threads cannot be started, or if a policy names an expert that the panel lacks.
    pub fn open(
        panel: &Arc<Panel>,
        policies: &Policies,
        window: usize,
        waits: impl Into<Waits>,
        explore: f64,
    ) -> Result<Self, PanelError> {
        let waits = waits.into();
        let mut in_flight = Self {
            current: PanelStream::open(1, panel, window, waits, explore)?,
            replaced: Vec::new(),
            explore,
            window,
            waits,
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
        if std::ptr::eq(Arc::as_ptr(panel), self.current.stream.panel()) {
            return Ok(());
        }
        let number = self.current.number + 1;
        let opened = PanelStream::open(number, panel, self.window, self.waits, self.explore)?;
        opened.stream.shrink(self.shrunk);
        self.replaced.push(std::mem::replace(&mut self.current, opened));
        Ok(())
    }

    /// Applies the policies' choices of experts under load to later events.
    ///
    /// # Errors
    /// Returns an error if a policy names an expert that the panel does not have.
    pub fn on_policies(&mut self, policies: &Policies) -> Result<(), PanelError> {
        let panel = self.current.stream.panel();
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
        let replaced: usize = self.replaced.iter().map(|panel| panel.stream.inside()).sum();
        self.current.stream.room().saturating_sub(replaced)
    }

    /// Returns the number of events in flight.
    #[must_use]
    pub fn len(&self) -> usize {
        self.events.len()
    }

    /// Returns `true` if no event is in flight.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.events.is_empty()
    }

    /// Submits an event of a policy, to all experts but the deferred ones. Call only if there is [`room`](Self::room).
    ///
    /// # Errors
    /// Returns an error if the panel refuses the event, or if its policy is not known here.
    pub fn submit(&mut self, event: InputEvent, policy: &Policy) -> Result<(), ScoreError> {
        let under_load = self.under_load_of(&event.event.policy)?;
        self.last_key += 1;
        let PanelStream { number, stream, deferral } = &mut self.current;
        let explored = deferral.explored(&event.event, policy, stream.panel().experts());
        let asked = deferral.first_phase(&explored);
        let (key, panel, at) = (self.last_key, *number, Instant::now());
        stream.submit_asking(key, &event.event, under_load.clone(), asked)?;
        let submitted = Submitted { key, panel, at, under_load, explored };
        self.events.insert(key, InFlightEvent { event, submitted, before: None });
        Ok(())
    }

    fn under_load_of(&self, policy: &str) -> Result<UnderLoad, ScoreError> {
        let what = || format!("policy {policy} of an accepted event is in force");
        self.under_load.get(policy).cloned().ok_or_else(|| ScoreError::Invariant { what: what() })
    }

    /// Returns the deferred expert that must be asked before an event is decided, by its index in the panel that answered;
    /// `None` if the event can be decided.
    pub fn next_expert(
        &self,
        answered: &AnsweredEvent,
        shadow: &BTreeSet<String>,
        policy: &Policy,
        predictor: &mut Predictor,
    ) -> Option<usize> {
        // The panel is there as long as it has events, and an event without it has no expert left to ask.
        let PanelStream { stream, deferral, .. } = self.panel(answered.submitted.panel)?;
        deferral.next(answered, shadow, stream.panel().experts(), policy, predictor)
    }

    fn panel(&self, number: u64) -> Option<&PanelStream> {
        self.replaced.iter().chain([&self.current]).find(|panel| panel.number == number)
    }

    /// Submits an answered event again, to one expert of the panel that answered it and to those that its run answers for
    /// as well. There is room, because the event had a place until its answer was taken.
    ///
    /// # Errors
    /// Returns an error if the panel refuses the event, or is gone.
    pub fn ask_again(&mut self, answered: AnsweredEvent, expert: usize) -> Result<(), ScoreError> {
        crash::point("score.second_phase");
        let (key, panel) = (answered.submitted.key, answered.submitted.panel);
        let mut panels = self.replaced.iter_mut().chain([&mut self.current]);
        let Some(PanelStream { stream, deferral, .. }) = panels.find(|stream| stream.number == panel) else {
            return Err(ScoreError::Invariant { what: format!("panel {panel} has answered an event") });
        };
        let experts = deferral.asked_together(expert, &answered.votes, stream.panel().experts());
        let (event, under_load) = (&answered.event.event, answered.submitted.under_load.clone());
        stream.submit_asking(key, event, under_load, Asked::Only(Arc::clone(&experts)))?;
        self.events.insert(key, answered.asked_again(experts));
        Ok(())
    }

    /// Returns the next answered event, or `None` if there is none within `timeout`.
    ///
    /// # Errors
    /// Returns an error if the panel answers an event that is not in flight.
    pub fn next_answer(&mut self, timeout: Duration) -> Result<Option<AnsweredEvent>, ScoreError> {
        // It is not possible to wait for two panels at the same time.
        let timeout = if self.replaced.is_empty() { timeout } else { timeout.min(REPLACED_PANEL_WAIT) };
        let answered = self.replaced.iter_mut().find_map(|panel| panel.stream.next(Duration::ZERO));
        let Some((key, answer)) = answered.or_else(|| self.current.stream.next(timeout)) else {
            return Ok(None);
        };
        let Some(in_flight) = self.events.remove(&key) else {
            let what = format!("the answer with the key {key} belongs to an event in flight");
            return Err(ScoreError::Invariant { what });
        };
        if let (Some(began), None) = (answer.began, &in_flight.before) {
            let waited = began.saturating_duration_since(in_flight.event.read_at);
            self.queue_seconds.record(waited.as_secs_f64());
        }
        Ok(Some(in_flight.answered(answer)))
    }

    /// Waits until an event may be answered, until `more` has a message or is closed, or for `timeout`.
    pub fn wait_with<T>(&self, more: Option<&Receiver<T>>, timeout: Duration) {
        // It is not possible to wait for two panels at the same time.
        let timeout = if self.replaced.is_empty() { timeout } else { timeout.min(REPLACED_PANEL_WAIT) };
        self.current.stream.wait_with(more, timeout);
    }

    /// Returns the broker timestamp of the event that has been in flight longest.
    #[must_use]
    pub fn oldest_timestamp(&self) -> Option<Millis> {
        self.events.first_key_value().map(|(_, in_flight)| in_flight.event.timestamp)
    }

    /// Asks only the experts that each policy keeps under load about later events, or all experts again.
    pub fn shrink(&mut self, shrunk: bool) {
        self.shrunk = shrunk;
        metrics::PANEL_SHRUNK.with([]).set(f64::from(u8::from(shrunk)));
        self.replaced.iter().chain([&self.current]).for_each(|panel| panel.stream.shrink(shrunk));
    }

    /// Drops the costs of the runs so far, so that their memory is bounded where nothing reports them. Experts keep the cost
    /// of an unknown expert, so that their order does not depend on the clock.
    pub fn drop_costs(&mut self) {
        for PanelStream { stream, .. } in self.replaced.iter_mut().chain([&mut self.current]) {
            stream.tokenised().for_each(drop);
            drop(stream.runs());
        }
    }

    /// Reports the runs since the last report to metrics, and to health which experts are down. The panel answers as long
    /// as one expert that is not in shadow mode does.
    pub fn report(&mut self, health: &Health, shadow: &BTreeSet<String>) {
        for PanelStream { stream, deferral, .. } in self.replaced.iter_mut().chain([&mut self.current]) {
            for took in stream.tokenised() {
                metrics::TOKENIZE_SECONDS.with([]).record(took.as_secs_f64());
            }
            for run in stream.runs() {
                record_run(stream.panel(), &run);
                deferral.on_run(&run);
            }
        }
        // A replaced panel is dropped, with its memory, after its last event is answered.
        self.replaced.retain(|panel| panel.stream.inside() > 0);
        let panel = self.current.stream.panel();
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

impl PanelStream {
    fn open(
        number: u64,
        panel: &Arc<Panel>,
        window: usize,
        waits: Waits,
        explore: f64,
    ) -> Result<Self, PanelError> {
        let deferral = Deferral::new(panel.experts(), explore);
        Ok(Self { number, stream: panel.stream(window, waits)?, deferral })
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
