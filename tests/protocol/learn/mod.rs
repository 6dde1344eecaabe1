//! learn as a model: two learners with a sled each, one election, one topic of labels, one of decisions that
//! grows meanwhile, and the ledger.
//!
//! Each step is one of `src/learn`; joining, label algebra, book and fold are core's (`world`).

mod state;
mod steps;

use stateright::{Model, Property};

use crate::Safeguard;
use crate::kafka::{self, Kafka, Refused, Request, What, Who};
use crate::world::{DECISIONS, Entry, Joined, LABELS, Read, Set, join, undisturbed};

// The promises, by their numbers in docs/guarantees.md.
pub const NEVER_TWO: &str = "1: never two outcomes";
pub const NEVER_NONE: &str = "1: no offset passes a label without its outcome";
pub const FOLD: &str = "2: the state is the fold of the committed ledger";
pub const REST: &str = "2, 3: at rest every label has taught what it teaches undisturbed";
pub const SLED: &str = "4: a sled is never ahead of the ledger";

/// The transactional id that both share: the one elected fences the other.
const ID: usize = 0;

/// What units write, to two topics that are one log here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Output {
    Ledger(Entry),
    DeadLetter(usize),
}

pub struct Learning {
    /// At most so many faults in one run.
    pub faults: u8,
    pub without: Option<Safeguard>,
}

/// What a sled holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Sled {
    /// The ledger, as read back up to `next`.
    ledger: Set,
    next: usize,
    /// The decisions indexed, a bit for each.
    index: u8,
    /// Up to where decisions have had their effect on the ledger.
    position: usize,
}

/// What has happened to a sled since it was last used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Fate {
    Sound,
    Deleted,
    /// It lost its last transactions: so much of the ledger and of the decisions is left.
    Stale {
        next: usize,
        position: usize,
    },
    /// It reflects more than the ledger holds.
    Ahead,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Phase {
    /// Not elected, dead, or started again.
    Standby,
    /// Has taken the transactional id over.
    Opening,
    /// Has restored the ledger.
    Restored,
    /// Between units.
    Learning,
    /// The records are sent; waits until all are acknowledged.
    Draining { next: Option<usize> },
    /// Waits for the answer to its commit. `end`: where the ledger goes on behind the unit.
    Committing { end: usize },
    /// Reads the ledger back up to `end`, and keeps it.
    ReadingBack { end: usize },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Learner {
    phase: Phase,
    epoch: Option<u8>,
    /// Takes itself for elected.
    elected: bool,
    /// The generation in which the labels are its own.
    proof: Option<u8>,
    /// The ledger as read back up to `next`.
    book: Set,
    next: usize,
    /// Next decision and label to read.
    decision: usize,
    label: usize,
    /// Has not looked up yet what the ledger, as restored, says that waits.
    searches: bool,
    sled: Sled,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct State {
    kafka: Kafka<Output>,
    /// How many decisions score has committed.
    decided: usize,
    elected: Option<Who>,
    learners: [Learner; 2],
    /// Faults still to come.
    faults: u8,
    /// What was published last: a fold of this set, naming this ledger offset.
    weights: (Set, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// score commits the next decision.
    Decide,
    /// The election's partition goes to this learner; a fault where the other is alive and has it.
    Elect(Who),
    /// It learns that the other is elected.
    Supersede(Who),
    Activate(Who),
    /// Opens sled, in whatever state it is, and restores the ledger.
    Restore(Who, Fate),
    Subscribe(Who),
    /// Reads decisions up to here and labels up to here, joins them and sends what comes of it.
    Unit(Who, usize, usize),
    Arrive(usize),
    ReadBack(Who),
    Publish(Who),
    // Faults.
    Crash(Who),
    /// The labels' group has thrown its member out.
    Evict,
    TimeOut,
    GiveUp(Who),
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
                // The other is thrown out, if it is there.
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
                    // Another learner writes: nothing of this unit may be kept.
                    state.leave(who);
                    state.normalise();
                    return Some(state);
                }
                let (ledger, next, position) = (learner.book, learner.next, learner.decision);
                learner.sled = Sled { ledger, next, position, ..learner.sled };
                learner.phase = Phase::Learning;
            }
            Action::Publish(who) => {
                let learner = state.learners[who];
                match state.kafka.begin(ID, learner.epoch?) {
                    Ok(()) => {
                        state.kafka.abort(ID, learner.epoch?).ok()?;
                        state.weights = (learner.book, learner.next);
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
                active.all(|learner| learner.book == state.ledger(learner.next))
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
