//! An event on its way through the phases of a panel.

use std::sync::Arc;
use std::time::Instant;

use crate::core::language::Language;
use crate::core::ledger::TextFeatures;
use crate::core::vote::Vote;
use crate::experts::{Answer, RunSpan, UnderLoad};
use crate::score::deferral::mark_explored;
use crate::score::reader::InputEvent;
use crate::score::spans::EventTimes;

/// An event with the panel's answer.
pub struct AnsweredEvent {
    /// The event.
    pub event: InputEvent,
    /// The vote of each expert, sorted by the UTF-8 bytes of the experts' ids.
    pub votes: Vec<Vote>,
    /// The features of the judged text, if the panel has an encoder.
    pub features: Option<TextFeatures>,
    /// The language of the judged text.
    pub language: Language,
    /// The times of the event's stages.
    pub times: EventTimes,
    /// The terms of its submission.
    pub(super) submitted: Submitted,
}

/// The terms under which an event was submitted, the same in all phases.
pub(super) struct Submitted {
    /// The key of its answers.
    pub(super) key: u64,
    /// The number of the panel that has it.
    pub(super) panel: u64,
    pub(super) at: Instant,
    /// The experts of that panel that are asked about it under load.
    pub(super) under_load: UnderLoad,
    /// The deferred experts that were drawn, by their index in that panel.
    pub(super) explored: Arc<[usize]>,
}

/// An event that the panel works on.
pub(super) struct InFlightEvent {
    pub(super) event: InputEvent,
    pub(super) submitted: Submitted,
    /// The answers of the phases before this one, and the experts that are asked now.
    pub(super) before: Option<Box<(AnsweredVotes, Arc<[usize]>)>>,
}

/// The answers about an event that is submitted again.
pub(super) struct AnsweredVotes {
    votes: Vec<Vote>,
    features: Option<TextFeatures>,
    runs: Vec<Option<RunSpan>>,
}

impl AnsweredEvent {
    /// The event while `experts` are asked.
    pub(super) fn asked_again(self, experts: Arc<[usize]>) -> InFlightEvent {
        let Self { event, votes, features, times, submitted, .. } = self;
        let known = AnsweredVotes { votes, features, runs: times.runs };
        InFlightEvent { event, submitted, before: Some(Box::new((known, experts))) }
    }
}

impl InFlightEvent {
    /// The event with the panel's answer, which is added to the answers of the phases before.
    pub(super) fn answered(self, answer: Answer) -> AnsweredEvent {
        let Self { event, submitted, before } = self;
        let Answer { mut votes, reading: mut features, language, ran: mut runs, .. } = answer;
        if let Some(before) = before {
            let (mut known, experts) = *before;
            for at in experts.iter() {
                std::mem::swap(&mut known.votes[*at], &mut votes[*at]);
                std::mem::swap(&mut known.runs[*at], &mut runs[*at]);
                known.votes[*at].decisive = true;
            }
            (votes, features, runs) = (known.votes, known.features, known.runs);
        } else {
            mark_explored(&mut votes, &submitted.explored);
        }
        let (submitted_at, answered_at) = (submitted.at, Instant::now());
        let times = EventTimes { read_at: event.read_at, submitted_at, answered_at, runs };
        AnsweredEvent { event, votes, features, language, times, submitted }
    }
}
