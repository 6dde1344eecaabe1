//! Decides the events of requests: an event in, a decision out. It is the second and third stage of the pipeline, with the
//! same panel, predictors and policies, and a stream to the panel of its own.
//!
//! The texts of requests have a head start in the panel ([`Waits`]), so that a request does not wait for everything that
//! the stream has in the panel, and the stream does not wait for all requests. Requests are never shed.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, TryRecvError};
use tokio::sync::oneshot;

use super::event_scorer::EventScorer;
use super::in_flight::{AnsweredEvent, InFlightEvents};
use super::outcome::{DecidedEvent, Decider};
use super::pipeline::open_predictors;
use super::reader::InputEvent;
use super::{IDLE_WAIT, Score, ScoreError, now, spans};
use crate::codec::Encoding;
use crate::core::decision::{Decision, Origin};
use crate::core::event::{Event, round_time};
use crate::core::watermark::Ticket;
use crate::experts::Waits;
use crate::ops::traces::{self, Moderation, Trace};
use crate::ops::{Health, Traces};

/// The interval of reports to health and metrics.
const REPORT_INTERVAL: Duration = Duration::from_millis(500);
/// The partition and offset of an event that is on no topic yet.
const NOWHERE: i32 = -1;

/// An event to be decided for a request.
pub struct Request {
    /// The event. Its policy is in force.
    pub event: Event,
    /// The headers of the event's record, with its trace context.
    pub headers: Vec<(String, Option<Vec<u8>>)>,
    /// The ids of the event's span, if the request is traced.
    pub trace: Option<Trace>,
    /// Takes the answer. A request whose receiver is gone is not decided.
    pub answer: oneshot::Sender<Answer>,
}

/// The answer to a request about an event.
pub struct Answer {
    /// The decision.
    pub decision: Decision,
    /// The span of the event, if the request is traced.
    pub span: Option<Box<Moderation>>,
}

/// A request whose event is in flight.
struct Open {
    trace: Option<Trace>,
    answer: oneshot::Sender<Answer>,
}

/// Decides the events of requests.
pub struct RequestScorer {
    score: Score,
    health: Health,
    scorer: EventScorer,
    received: Receiver<Request>,
    /// The requests whose events are in flight, by the number of their ticket.
    open: BTreeMap<u64, Open>,
    last: u64,
    events_topic: String,
    reported_at: Instant,
}

impl RequestScorer {
    /// Reads the published predictors, and opens a stream to the panel. Of `score`, the delivery is not used. Returns `None`
    /// if shutdown was requested first.
    ///
    /// # Errors
    /// Returns an error if a part cannot be opened and retrying does not help.
    pub fn open(
        score: Score,
        health: &Health,
        received: Receiver<Request>,
    ) -> Result<Option<Self>, ScoreError> {
        let (policies, panel) = (score.policies.now(), score.panel.now());
        let Some(predictors) = open_predictors(&score, health, &policies, &panel)? else { return Ok(None) };
        let config = &score.config;
        let settings = &config.http.moderation;
        // A request waits for no others: it is asked about as soon as a worker is free.
        let waits = Waits { delay: Duration::ZERO, head_start: settings.head_start() };
        let explore = config.experts.explore;
        let in_flight = InFlightEvents::open(&panel.panel, &policies, settings.window, waits, explore)?;
        // The server sends the spans of requests.
        let traces = Traces::open(&traces::Settings::default())?;
        let decider = Decider::new(config, &policies, &panel, Encoding::Avro, traces);
        Ok(Some(Self {
            events_topic: config.topics.events.clone(),
            health: health.clone(),
            scorer: EventScorer { decider, in_flight, predictors, policies, panel },
            received,
            open: BTreeMap::new(),
            last: 0,
            reported_at: Instant::now(),
            score,
        }))
    }

    /// Decides until all senders of requests are gone and their requests are answered, or until the second signal.
    ///
    /// # Errors
    /// Returns an error if deciding again does not help.
    pub fn run(mut self) -> Result<(), ScoreError> {
        let mut receives = true;
        while (receives || !self.scorer.in_flight.is_empty()) && !self.score.shutdown.aborted() {
            self.scorer.reload(&self.score)?;
            receives = self.submit(receives)?;
            self.scorer.predictors.follow(Duration::ZERO)?;
            while let Some(answered) = self.scorer.in_flight.next_answer(Duration::ZERO)? {
                self.on_answer(answered)?;
            }
            self.report();
            let more = (receives && self.scorer.in_flight.room() > 0).then_some(&self.received);
            self.scorer.in_flight.wait_with(more, IDLE_WAIT);
        }
        Ok(())
    }

    /// Submits the events of waiting requests, as far as the panel has room. Returns `false` if no more requests come.
    fn submit(&mut self, receives: bool) -> Result<bool, ScoreError> {
        while receives && self.scorer.in_flight.room() > 0 {
            match self.received.try_recv() {
                Ok(request) if request.answer.is_closed() => {}
                Ok(request) => self.submit_one(request)?,
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return Ok(false),
            }
        }
        Ok(receives)
    }

    fn submit_one(&mut self, request: Request) -> Result<(), ScoreError> {
        let Request { event, headers, trace, answer } = request;
        // The request may have been accepted under policies that are newer than the last look at them.
        if self.scorer.policies.get(&event.policy).is_none() {
            self.scorer.reload(&self.score)?;
        }
        self.last += 1;
        let timestamp = now();
        let offset = NOWHERE.into();
        let input = InputEvent {
            round_time: round_time(event.time, timestamp),
            event,
            origin: Origin { topic: self.events_topic.clone(), partition: NOWHERE, offset },
            key: None,
            headers,
            timestamp,
            read_at: Instant::now(),
            ticket: Ticket { partition: NOWHERE, tenure: self.last, offset },
        };
        self.scorer.submit(input)?;
        self.open.insert(self.last, Open { trace, answer });
        Ok(())
    }

    /// Decides an answered event, unless another expert has to be asked first, and answers its request.
    fn on_answer(&mut self, answered: AnsweredEvent) -> Result<(), ScoreError> {
        let Some((decided, times)) = self.scorer.on_answer(answered, Decider::decide_event)? else {
            return Ok(());
        };
        let DecidedEvent { decision, ticket, .. } = decided;
        if let Some(Open { trace, answer }) = self.open.remove(&ticket.tenure) {
            let span = trace.map(|trace| spans::decided(trace, &decision, times));
            let _ = answer.send(Answer { decision, span }); // its deadline may have passed
        }
        Ok(())
    }

    fn report(&mut self) {
        if self.reported_at.elapsed() > REPORT_INTERVAL {
            self.reported_at = Instant::now();
            self.scorer.report(&self.health);
        }
    }
}
