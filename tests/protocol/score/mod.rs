//! A model of score: two scorers, and one partition of events that moves between them. The second event is poison.
//!
//! Each step is one of `src/score` and of the transactions in `src/kafka`. Outcomes that are not committed are in core's
//! watermark.

mod steps;

use aegis::core::watermark::{Ready, Ticket, Watermark};
use stateright::{Model, Property};

use crate::Safeguard;
use crate::kafka::{ClientId, Entry, Kafka, Operation, Refused, Request};

// The guarantees, by their numbers in docs/guarantees.md.
pub const NEVER_TWO: &str = "1: never two outcomes";
pub const NEVER_NONE: &str = "1: no offset passes a record without its outcome";
const REST: &str = "1, 7: at rest every event, those after poison too, has its outcome";
const ORDER: &str = "8: order per key";

/// The events by offset, all with one key. The poison event cannot be decoded.
pub const EVENTS: [Event; 3] = [Event::Good, Event::Poison, Event::Good];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    Good,
    Poison,
}

/// The outcome of the event at an offset.
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

/// The configuration of the model.
pub struct Scoring {
    /// The transactional id of each scorer. If they are equal, one takes the place of the other, which may be alive.
    pub ids: [usize; 2],
    pub without: Option<Safeguard>,
}

/// The progress of a scorer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Phase {
    Down {
        fenced: bool,
    },
    /// It has no open transaction: it reads events, submits them to the panel, and takes the answers.
    Reading,
    /// The records are sent, and it waits until all are acknowledged.
    Draining {
        next: usize,
    },
    /// It adds the consumed offset to the transaction.
    Offsets {
        next: usize,
    },
    /// It waits for the answer to its commit.
    Committing,
    /// It creates a new producer.
    Renewing,
    /// It fetches the committed offset, to read from there again.
    Rewinding,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Scorer {
    phase: Phase,
    epoch: Option<u8>,
    /// The generation in which the scorer considers the partition its own.
    proof: Option<u8>,
    watermark: Watermark<u8, Outcome>,
    /// The next offset to read.
    position: usize,
    /// The events without an answer of the panel. An answer may arrive after the partition was revoked.
    asked: Vec<Ticket<u8>>,
}

const DOWN: Phase = Phase::Down { fenced: false };

impl Scorer {
    fn new() -> Self {
        let (epoch, proof, position, asked) = (None, None, 0, vec![]);
        Self { phase: DOWN, epoch, proof, watermark: Watermark::new(), position, asked }
    }

    /// Begins a tenure. All earlier tenures are equivalent, so their tickets become those of the first.
    fn begin(&mut self) {
        self.watermark = Watermark::new();
        self.watermark.begin(0);
        self.watermark.begin(0);
        self.asked.iter_mut().for_each(|ticket| ticket.tenure = 1);
        self.asked.sort_unstable();
        self.asked.dedup();
    }

    /// Returns `true` if it reads, submits and takes answers, also while its other thread ends a batch.
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
    Start(ClientId),
    Join(ClientId),
    Read(ClientId),
    /// The panel answers, in any order.
    Answer(ClientId, usize),
    Commit(ClientId),
    SendOffsets(ClientId),
    /// A request reaches the brokers, and its answer the client if it waits.
    Arrive(usize),
    Renew(ClientId),
    Rewind(ClientId),
    /// The scorer notices that its partition was revoked.
    Notice(ClientId),
    /// The session of the partition's owner ends. It is a fault if the owner is alive, and continues.
    Evict,
    // Faults.
    Crash(ClientId),
    /// The group revokes the partition cooperatively.
    Leave(ClientId),
    /// The brokers time out an open transaction.
    TimeOut(usize),
    /// The client stops waiting for an answer. The request may arrive later.
    GiveUp(ClientId),
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
                state.scorers[who].phase = Phase::Reading;
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
                scorer.phase = Phase::Reading;
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
    /// Returns `true` if no step without a fault is possible.
    fn is_at_rest(&self, state: &State) -> bool {
        let mut steps = Vec::new();
        self.steps(state, &mut steps);
        steps.is_empty()
    }
}
