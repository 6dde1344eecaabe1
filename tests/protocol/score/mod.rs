//! score as a model: two scorers, one partition of events that moves, the second event poison.
//!
//! Each step is one of `src/score` and `src/kafka/unit.rs`; what is decided and not committed lives in
//! core's own watermark.

mod steps;

use aegis::core::watermark::{Ready, Ticket, Watermark};
use stateright::{Model, Property};

use crate::Safeguard;
use crate::kafka::{Entry, Kafka, Refused, Request, What, Who};

// The promises, by their numbers in docs/guarantees.md.
pub const NEVER_TWO: &str = "1: never two outcomes";
pub const NEVER_NONE: &str = "1: no offset passes a record without its outcome";
const REST: &str = "1, 7: at rest every event, those after poison too, has its outcome";
const ORDER: &str = "8: order per key";

/// The events by offset, all of one key; the poison one cannot be read.
pub const EVENTS: [Event; 3] = [Event::Good, Event::Poison, Event::Good];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Good,
    Poison,
}

/// What became of the event at an offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Outcome {
    Decision(usize),
    DeadLetter(usize),
}

impl Outcome {
    fn event(self) -> usize {
        let (Self::Decision(event) | Self::DeadLetter(event)) = self;
        event
    }
}

/// The model's size and shape.
pub struct Scoring {
    /// Each scorer's transactional id. The same: one takes the other's place, which may be alive.
    pub ids: [usize; 2],
    pub without: Option<Safeguard>,
}

/// Where a scorer stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    Down {
        fenced: bool,
    },
    /// No unit is under way: reads, asks the panel, takes its answers.
    TextFeatures,
    /// The records are sent; waits until all are acknowledged.
    Draining {
        next: usize,
    },
    /// Sends the consumed offset into the transaction.
    Offsets {
        next: usize,
    },
    /// Waits for the answer to its commit.
    Committing,
    /// Makes its producer anew.
    Renewing,
    /// Asks for the committed offset, to read from there again.
    Rewinding,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scorer {
    phase: Phase,
    epoch: Option<u8>,
    /// The generation in which the partition is its own, as far as it knows.
    proof: Option<u8>,
    watermark: Watermark<u8, Outcome>,
    /// Next offset to read.
    position: usize,
    /// What the panel has not answered; an answer may come after the partition has gone.
    asked: Vec<Ticket<u8>>,
}

const DOWN: Phase = Phase::Down { fenced: false };

impl Scorer {
    fn new() -> Self {
        let (epoch, proof, position, asked) = (None, None, 0, vec![]);
        Self { phase: DOWN, epoch, proof, watermark: Watermark::new(), position, asked }
    }

    /// Begins a tenure. Those before it all count alike: tickets of theirs become the first one's.
    fn begin(&mut self) {
        self.watermark = Watermark::new();
        self.watermark.begin(0);
        self.watermark.begin(0);
        self.asked.iter_mut().for_each(|ticket| ticket.tenure = 1);
        self.asked.sort_unstable();
        self.asked.dedup();
    }

    /// Whether it reads, asks and takes answers: also while another thread of it ends a unit.
    fn reads(&self) -> bool {
        !self.is_down() && self.phase != Phase::Rewinding
    }

    fn is_down(&self) -> bool {
        matches!(self.phase, Phase::Down { .. })
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    kafka: Kafka<Outcome>,
    scorers: [Scorer; 2],
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    Start(Who),
    Join(Who),
    Read(Who),
    /// The panel answers, in any order.
    Answer(Who, usize),
    Commit(Who),
    SendOffsets(Who),
    /// A request reaches the brokers, and its answer the client if it waits.
    Arrive(usize),
    Renew(Who),
    Rewind(Who),
    /// It learns that its partition was taken away.
    Notice(Who),
    /// The session of the partition's owner is over; free where it is dead, or else a fault: it goes on.
    Evict,
    // Faults.
    Crash(Who),
    /// The group takes the partition away in order.
    Leave(Who),
    /// The brokers give an open transaction up.
    TimeOut(usize),
    /// The client waits no longer for an answer; the request may arrive later.
    GiveUp(Who),
    /// A request arrives, and its answer is lost.
    LoseAnswer(usize),
}

impl Model for Scoring {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        let kafka = Kafka::new(self.ids[1] + 1, self.without != Some(Safeguard::Fencing));
        vec![State { kafka, scorers: [Scorer::new(), Scorer::new()] }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.steps(state, actions);
        Self::mishaps(state, actions);
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        match action {
            Action::Start(who) => {
                state.scorers[who].epoch = Some(state.kafka.initialise(self.ids[who]));
                state.scorers[who].phase = Phase::TextFeatures;
            }
            Action::Join(who) => {
                let scorer = &mut state.scorers[who];
                scorer.position = state.kafka.join(who);
                scorer.proof = Some(state.kafka.group.generation);
                scorer.begin();
            }
            Action::Read(who) => state.read(who),
            Action::Answer(who, which) => {
                let scorer = &mut state.scorers[who];
                let ticket = scorer.asked.remove(which);
                scorer.watermark.settle(&ticket, Outcome::Decision(ticket.offset as usize));
            }
            Action::Commit(who) => self.commit(&mut state, who),
            Action::SendOffsets(who) => {
                let Phase::Offsets { next } = last.scorers[who].phase else { return None };
                self.send_offsets(&mut state, who, next);
            }
            Action::Arrive(which) => {
                if let (Some(who), answer) = state.kafka.arrive(which) {
                    state.answered(who, answer);
                }
            }
            Action::Renew(who) => {
                state.scorers[who].epoch = Some(state.kafka.initialise(self.ids[who]));
                state.scorers[who].phase = Phase::Rewinding;
            }
            Action::Rewind(who) => {
                let scorer = &mut state.scorers[who];
                scorer.phase = Phase::TextFeatures;
                if scorer.proof.is_some() {
                    scorer.begin();
                    scorer.position = state.kafka.group.committed;
                }
            }
            Action::Notice(who) | Action::Leave(who) => {
                state.scorers[who].proof = None;
                state.scorers[who].watermark.end(&0);
                if matches!(action, Action::Leave(_)) {
                    state.kafka.evict();
                }
            }
            Action::Evict => state.kafka.evict(),
            Action::Crash(who) => state.die(who, false),
            Action::TimeOut(id) => state.kafka.time_out(id),
            Action::GiveUp(who) => self.give_up(&mut state, who),
            Action::LoseAnswer(which) => {
                let (who, _) = state.kafka.arrive(which);
                self.give_up(&mut state, who?);
            }
        }
        state.kafka.log.retain(|entry| *entry != Entry::Aborted);
        state.normalise(self.ids);
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NEVER_TWO, |_, state: &State| {
                (0..EVENTS.len()).all(|event| state.outcomes(event).len() <= 1)
            }),
            Property::always(NEVER_NONE, |_, state: &State| {
                (0..state.kafka.group.committed).all(|event| !state.outcomes(event).is_empty())
            }),
            Property::always(REST, |model, state: &State| {
                let due = |(event, kind): (usize, &Event)| match kind {
                    Event::Good => state.outcomes(event) == [Outcome::Decision(event)],
                    Event::Poison => state.outcomes(event) == [Outcome::DeadLetter(event)],
                };
                !model.is_at_rest(state) || EVENTS.iter().enumerate().all(due)
            }),
            Property::always(ORDER, |_, state: &State| {
                let decisions =
                    state.kafka.committed().filter(|outcome| matches!(outcome, Outcome::Decision(_)));
                decisions.is_sorted_by_key(|outcome| outcome.event())
            }),
            Property::sometimes("it comes to rest", |model, state: &State| model.is_at_rest(state)),
        ]
    }
}

impl Scoring {
    /// Nothing goes on by itself any more.
    fn is_at_rest(&self, state: &State) -> bool {
        let mut steps = Vec::new();
        self.steps(state, &mut steps);
        steps.is_empty()
    }
}
