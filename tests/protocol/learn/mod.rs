//! A model of learn: two learners with a store each, one election, one topic of labels, one topic of decisions that
//! grows, and the ledger.
//!
//! Each step is one of `src/learn`. Joining, label algebra, ledger state and fold are those of core (`world`).

mod state;
mod steps;

use stateright::{Model, Property};

use crate::Safeguard;
use crate::kafka::{self, ClientId, Kafka, Operation, Refused, Request};
use crate::world::{DECISIONS, Entry, Joined, LABELS, Read, Set, join, undisturbed};

// The guarantees, by their numbers in docs/guarantees.md.
pub const NEVER_TWO: &str = "1: never two outcomes";
pub const NEVER_NONE: &str = "1: no offset passes a label without its outcome";
pub const FOLD: &str = "2: the state is the fold of the committed ledger";
pub const REST: &str = "2, 3: at rest every label has taught what it teaches undisturbed";
pub const SLED: &str = "4: a sled is never ahead of the ledger";

/// The transactional id that both learners share. The elected one fences the other.
const ID: usize = 0;

/// The outputs of transactions. The two topics are one log here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    Ledger(Entry),
    DeadLetter(usize),
}

pub struct Learning {
    /// The greatest number of faults in one run.
    pub faults: u8,
    pub without: Option<Safeguard>,
}

/// The contents of a store.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sled {
    /// The ledger, as read back up to `next`.
    ledger: Set,
    next: usize,
    /// The indexed decisions, as a bit set.
    index: u8,
    /// The offset before which decisions have had their effect on the ledger.
    position: usize,
}

/// A change of a store since it was last used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    Sound,
    Deleted,
    /// It lost its last transactions. These offsets of the ledger and of the decisions are left.
    Stale {
        next: usize,
        position: usize,
    },
    /// It reflects more than the ledger has.
    Ahead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// It is not elected, dead, or restarted.
    Standby,
    /// It has taken over the transactional id.
    Opening,
    /// It has restored the ledger.
    Restored,
    /// It is between two batches.
    Learning,
    /// It has sent the records and waits until all are acknowledged.
    Draining { next: Option<usize> },
    /// It waits for the answer to its commit. `end` is the next offset of the ledger after the batch.
    Committing { end: usize },
    /// It reads the ledger back up to `end` and writes it to the store.
    ReadingBack { end: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Learner {
    phase: Phase,
    epoch: Option<u8>,
    /// `true` if it has been told that it is elected.
    elected: bool,
    /// The generation in which it owns the labels.
    proof: Option<u8>,
    /// The ledger as read back up to `next`.
    ledger: Set,
    next: usize,
    /// The next decision to read.
    decision: usize,
    /// The next label to read.
    label: usize,
    /// `true` until it has looked up the decisions of labels that waited in the restored ledger.
    searches: bool,
    sled: Sled,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    kafka: Kafka<Output>,
    /// The number of decisions that score has committed.
    decided: usize,
    elected: Option<ClientId>,
    learners: [Learner; 2],
    /// The number of faults that may still happen.
    faults: u8,
    /// The predictor published last: the set that was folded, and its ledger offset.
    weights: (Set, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// score commits the next decision.
    Decide,
    /// The election's partition is assigned to this learner. This is a fault if the other one is running and owns it.
    Elect(ClientId),
    /// It is told that the other learner is elected.
    Supersede(ClientId),
    Activate(ClientId),
    /// Opens the store in this state and restores the ledger.
    Restore(ClientId, Fate),
    Subscribe(ClientId),
    /// Reads decisions and labels up to these offsets, joins them, and sends the outputs.
    Unit(ClientId, usize, usize),
    Arrive(usize),
    ReadBack(ClientId),
    Publish(ClientId),
    // Faults.
    Crash(ClientId),
    /// The group of the labels evicts its member.
    Evict,
    TimeOut,
    GiveUp(ClientId),
    LoseAnswer(usize),
}

impl Model for Learning {
    type State = State;
    type Action = Action;

    fn init_states(&self) -> Vec<State> {
        vec![State {
            kafka: Kafka::new(1, self.without != Some(Safeguard::Fencing)),
            decided: 0,
            elected: None,
            learners: [Learner::new(); 2],
            weights: (Set::default(), 0),
            faults: self.faults,
        }]
    }

    fn actions(&self, state: &State, actions: &mut Vec<Action>) {
        self.steps(state, actions);
        if state.faults > 0 {
            Self::mishaps(state, actions);
        }
    }

    fn next_state(&self, last: &State, action: Action) -> Option<State> {
        let mut state = last.clone();
        state.faults -= u8::from(last.is_mishap(action));
        match action {
            Action::Decide => state.decided += 1,
            Action::Elect(who) => {
                state.elected = Some(who);
                state.learners[who].elected = true;
            }
            Action::Supersede(who) => {
                state.leave(who);
                state.learners[who].elected = false;
            }
            Action::Activate(who) => {
                state.learners[who].epoch = Some(state.kafka.initialise(ID));
                state.learners[who].phase = Phase::Opening;
            }
            Action::Restore(who, fate) => state.restore(who, fate, self.without != Some(Safeguard::Search)),
            Action::Subscribe(who) => {
                state.learners[who].label = state.kafka.join(who);
                // The other learner is evicted if it is a member.
                state.kafka.group.owner = None;
                state.learners[who].proof = Some(state.kafka.group.generation);
                state.learners[who].phase = Phase::Learning;
            }
            Action::Unit(who, decision, label) => {
                self.unit(&mut state, who, decision, label);
            }
            Action::Arrive(which) => {
                if let (Some(who), answer) = state.kafka.arrive(which) {
                    self.answered(&mut state, who, answer);
                }
            }
            Action::ReadBack(who) => {
                let Phase::ReadingBack { end } = last.learners[who].phase else { return None };
                state.read_back(who);
                let learner = &mut state.learners[who];
                if learner.next > end {
                    // Another learner writes to the ledger, so that nothing of this batch may be written to the store.
                    state.leave(who);
                    state.normalise();
                    return Some(state);
                }
                let (ledger, next, position) = (learner.ledger, learner.next, learner.decision);
                learner.sled = Sled { ledger, next, position, ..learner.sled };
                learner.phase = Phase::Learning;
            }
            Action::Publish(who) => {
                let learner = state.learners[who];
                match state.kafka.begin(ID, learner.epoch?) {
                    Ok(()) => {
                        state.kafka.abort(ID, learner.epoch?).ok()?;
                        state.weights = (learner.ledger, learner.next);
                    }
                    Err(_) => state.die(who),
                }
            }
            Action::Crash(who) => state.die(who),
            Action::Evict => state.kafka.evict(),
            Action::TimeOut => state.kafka.time_out(ID),
            Action::GiveUp(who) => {
                state.kafka.forget(who);
                self.give_up(&mut state, who);
            }
            Action::LoseAnswer(which) => {
                let (who, _) = state.kafka.arrive(which);
                self.give_up(&mut state, who?);
            }
        }
        state.normalise();
        Some(state)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        vec![
            Property::always(NEVER_TWO, |_, state: &State| {
                let outputs: Vec<_> = state.kafka.committed().collect();
                (1..outputs.len()).all(|end| !outputs[..end].contains(&outputs[end]))
            }),
            Property::always(NEVER_NONE, |_, state: &State| {
                let ledger = state.ledger(usize::MAX);
                (0..state.kafka.group.committed).all(|label| match LABELS[label] {
                    Some(_) => ledger.has_label(label),
                    None => state.kafka.committed().any(|output| *output == Output::DeadLetter(label)),
                })
            }),
            Property::always(FOLD, |_, state: &State| {
                let mut active = state.learners.iter().filter(|learner| learner.is_active());
                active.all(|learner| learner.ledger == state.ledger(learner.next))
                    && state.weights.0.state_hash() == state.ledger(state.weights.1).state_hash()
            }),
            Property::always(REST, |model, state: &State| {
                let (ledger, ideal) = (state.ledger(usize::MAX), undisturbed());
                !model.is_at_rest(state)
                    || (state.kafka.group.committed == LABELS.len()
                        && [ledger, state.weights.0].iter().all(|set| set.state_hash() == ideal.state_hash())
                        && ledger.target() == ideal.target()
                        && !ledger.has_waiting())
            }),
            Property::always(SLED, |_, state: &State| {
                let sound = |sled: &Sled| {
                    sled.next <= state.kafka.log.len() && sled.ledger == state.ledger(sled.next)
                };
                state.learners.iter().all(|learner| sound(&learner.sled))
            }),
            Property::sometimes("it comes to rest", |model, state: &State| model.is_at_rest(state)),
        ]
    }
}
