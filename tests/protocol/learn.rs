//! learn as a model: two learners with a sled each, one election, one topic of labels, one of decisions that
//! grows meanwhile, and the ledger.
//!
//! Each step is one of `src/learn`; joining, label algebra, book and fold are core's (`world`).

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

impl Learner {
    fn new() -> Self {
        Self {
            phase: Phase::Standby,
            epoch: None,
            elected: false,
            proof: None,
            book: Set::default(),
            next: 0,
            decision: 0,
            label: 0,
            searches: false,
            sled: Sled::default(),
        }
    }

    fn is_active(&self) -> bool {
        self.phase != Phase::Standby
    }

    /// Forgets all but what is on disk, and whether it is elected.
    fn leave(&mut self) {
        let (sled, elected) = (self.sled, self.elected);
        *self = Self { elected, sled, ..Self::new() };
    }

    /// What counts records of the ledger.
    fn offsets(&mut self) -> impl Iterator<Item = &mut usize> {
        let end = match &mut self.phase {
            Phase::Committing { end } | Phase::ReadingBack { end } => Some(end),
            _ => None,
        };
        [&mut self.next, &mut self.sled.next].into_iter().chain(end)
    }
}

impl State {
    /// Drops what was aborted; every offset behind it moves down.
    fn normalise(&mut self) {
        let log = &mut self.kafka.log;
        while let Some(gone) = log.iter().position(|entry| *entry == kafka::Entry::Aborted) {
            log.remove(gone);
            let offsets = self.learners.iter_mut().flat_map(Learner::offsets).chain([&mut self.weights.1]);
            offsets.for_each(|offset| *offset -= usize::from(*offset > gone));
        }
        let (mut epochs, mut proofs) = (vec![], vec![]);
        for learner in &mut self.learners {
            epochs.extend(learner.epoch.as_mut().map(|epoch| (ID, epoch)));
            proofs.extend(learner.proof.as_mut());
        }
        self.kafka.normalise(epochs, proofs);
    }

    fn is_mishap(&self, action: Action) -> bool {
        use Action::{Activate, Crash, Elect, Evict, GiveUp, LoseAnswer, Restore, TimeOut};
        match action {
            Crash(_) | Evict | TimeOut | GiveUp(_) | LoseAnswer(_) => true,
            Restore(_, fate) => fate != Fate::Sound,
            Elect(_) => self.elected.is_some(),
            Activate(who) => self.elected != Some(who),
            _ => false,
        }
    }

    /// Begins again from what is committed.
    fn leave(&mut self, who: Who) {
        self.kafka.forget(who);
        self.learners[who].leave();
    }

    /// The process ends: fenced, or killed. Whether and when it is started again, it stands by.
    fn die(&mut self, who: Who) {
        self.leave(who);
        self.learners[who].elected = false;
        self.elected = self.elected.filter(|elected| *elected != who);
    }

    /// The ledger as committed in front of an offset.
    fn ledger(&self, end: usize) -> Set {
        let mut set = Set::default();
        for entry in &self.kafka.log[..end.min(self.kafka.log.len())] {
            if let kafka::Entry::Committed(Output::Ledger(record)) = entry {
                set.insert(*record);
            }
        }
        set
    }

    /// Applies what has been committed since `next`.
    fn read_back(&mut self, who: Who) {
        let end = self.kafka.last_stable();
        let learner = &mut self.learners[who];
        for entry in self.kafka.log.get(learner.next..end).unwrap_or_default() {
            if let kafka::Entry::Committed(Output::Ledger(record)) = entry {
                learner.book.insert(*record);
            }
        }
        learner.next = learner.next.max(end);
    }

    /// What this sled may have been before: sound in itself, all decisions passed have had their effect.
    fn stale(&self, sled: &Sled) -> impl Iterator<Item = Fate> {
        let passed = |next, position| {
            let read = Read { decisions: 0..position, labels: 0..0, search: false };
            join(self.ledger(next), 0, read).ledger.is_empty()
        };
        let all = (0..sled.next).flat_map(|next| (0..=sled.position).map(move |position| (next, position)));
        all.filter(move |(next, position)| passed(*next, *position))
            .map(|(next, position)| Fate::Stale { next, position })
    }

    /// Writes to sled what is sent and not committed.
    fn keep_early(&mut self, who: Who, end: usize) {
        let learner = &mut self.learners[who];
        for entry in &self.kafka.log {
            if let kafka::Entry::Open(_, Output::Ledger(record)) = entry {
                learner.sled.ledger.insert(*record);
            }
        }
        (learner.sled.next, learner.sled.position) = (end, learner.decision);
    }

    fn restore(&mut self, who: Who, fate: Fate, search: bool) {
        let before = match fate {
            Fate::Stale { next, .. } => self.ledger(next),
            _ => Set::default(),
        };
        let learner = &mut self.learners[who];
        match fate {
            Fate::Sound => {}
            Fate::Deleted => learner.sled = Sled::default(),
            Fate::Stale { next, position } => {
                learner.sled = Sled { ledger: before, next, index: (1 << position) - 1, position };
            }
            Fate::Ahead => {
                Entry::all().for_each(|entry| learner.sled.ledger.insert(entry));
                learner.sled.next = self.kafka.log.len() + 1;
            }
        }
        // The topic is shorter than what sled reflects: rebuild.
        if learner.sled.next > self.kafka.log.len() {
            learner.sled = Sled::default();
        }
        (learner.book, learner.next) = (learner.sled.ledger, learner.sled.next);
        self.read_back(who);
        let learner = &mut self.learners[who];
        // With decisions passed, the records that another has written must be looked up before they are
        // kept: a crash between must not make them look old.
        if !search || learner.sled.position == 0 {
            learner.sled = Sled { ledger: learner.book, next: learner.next, ..learner.sled };
        }
        learner.searches = learner.next > learner.sled.next;
        learner.decision = learner.sled.position;
        learner.phase = Phase::Restored;
    }
}

impl Learning {
    fn steps(&self, state: &State, actions: &mut Vec<Action>) {
        let kafka = &state.kafka;
        if state.decided < DECISIONS.len() {
            actions.push(Action::Decide);
        }
        for (who, learner) in state.learners.iter().enumerate() {
            if learner.elected
                && state.elected != Some(who)
                && matches!(learner.phase, Phase::Standby | Phase::Learning)
            {
                actions.push(Action::Supersede(who));
            }
            match learner.phase {
                Phase::Standby if state.elected.is_none() => actions.push(Action::Elect(who)),
                Phase::Standby if state.elected == Some(who) => actions.push(Action::Activate(who)),
                Phase::Opening => actions.push(Action::Restore(who, Fate::Sound)),
                Phase::Restored if kafka.is_stable() => actions.push(Action::Subscribe(who)),
                Phase::Learning => {
                    for decision in learner.decision..=state.decided {
                        for label in learner.label..=LABELS.len() {
                            let moves = (decision, label) != (learner.decision, learner.label);
                            if moves || learner.searches || learner.next < kafka.last_stable() {
                                actions.push(Action::Unit(who, decision, label));
                            }
                        }
                    }
                    if learner.book.state_hash() != state.weights.0.state_hash() {
                        actions.push(Action::Publish(who));
                    }
                }
                Phase::ReadingBack { end } if kafka.last_stable() >= end => {
                    actions.push(Action::ReadBack(who))
                }
                _ => {}
            }
        }
        actions.extend((0..kafka.wire.len()).map(Action::Arrive));
    }

    fn mishaps(state: &State, actions: &mut Vec<Action>) {
        let kafka = &state.kafka;
        for (who, learner) in state.learners.iter().enumerate() {
            match learner.phase {
                Phase::Standby if state.elected == Some(1 - who) => {
                    actions.push(if learner.elected { Action::Activate(who) } else { Action::Elect(who) });
                }
                Phase::Opening => {
                    actions.extend([Fate::Deleted, Fate::Ahead].map(|fate| Action::Restore(who, fate)));
                    actions.extend(state.stale(&learner.sled).map(|fate| Action::Restore(who, fate)));
                }
                _ => {}
            }
            actions.push(Action::Crash(who));
            if kafka.wire.iter().any(|request| request.by == Some(who)) {
                actions.push(Action::GiveUp(who));
            }
        }
        if state.learners.iter().any(|learner| learner.proof == Some(kafka.group.generation)) {
            actions.push(Action::Evict);
        }
        if kafka.ids[ID].open {
            actions.push(Action::TimeOut);
        }
        let waited = |which: &usize| kafka.wire[*which].by.is_some();
        actions.extend((0..kafka.wire.len()).filter(waited).map(Action::LoseAnswer));
    }

    /// One round of the loop up to the sending of its records.
    fn unit(&self, state: &mut State, who: Who, decision: usize, label: usize) {
        let learner = &mut state.learners[who];
        let index = learner.sled.index | ((1 << decision) - 1);
        let read = Read {
            decisions: learner.decision..decision,
            labels: learner.label..label,
            search: std::mem::take(&mut learner.searches),
        };
        let Joined { ledger, letters } = join(learner.book, index, read);
        // The index first, without its position: what came of these decisions is not committed yet.
        learner.sled.index = index;
        let next = (label > learner.label).then_some(label);
        let (end, Some(epoch)) = (learner.next, learner.epoch) else { return };
        (learner.decision, learner.label) = (decision, label);
        let letters = letters.into_iter().map(Output::DeadLetter);
        let outputs: Vec<_> = ledger.into_iter().map(Output::Ledger).chain(letters).collect();
        if outputs.is_empty() && next.is_none() {
            learner.phase = Phase::ReadingBack { end };
        } else if state.kafka.begin(ID, epoch).is_err() {
            state.die(who);
        } else if outputs.is_empty() {
            Self::commit(state, who, next, end);
        } else {
            let drain = self.without != Some(Safeguard::Drain);
            let by = drain.then_some(who);
            state.kafka.wire.push(Request { by, id: ID, epoch, what: What::Records(outputs) });
            state.learners[who].phase = Phase::Draining { next };
            if !drain {
                Self::commit(state, who, next, end);
            }
        }
    }

    /// Sends the consumed offset, if there is one, with the proof of membership, and asks for the commit.
    fn commit(state: &mut State, who: Who, next: Option<usize>, end: usize) {
        let Learner { epoch: Some(epoch), proof, .. } = state.learners[who] else { return };
        match next.map_or(Ok(()), |next| state.kafka.offsets(ID, epoch, next, proof)) {
            Ok(()) => {
                state.learners[who].phase = Phase::Committing { end };
                state.kafka.wire.push(Request { by: Some(who), id: ID, epoch, what: What::Commit });
            }
            Err(Refused::Stale) if state.kafka.abort(ID, epoch).is_ok() => state.leave(who),
            Err(_) => state.die(who),
        }
    }

    fn answered(&self, state: &mut State, who: Who, answer: Result<(), Refused>) {
        let end = state.kafka.log.len();
        match (answer, state.learners[who].phase) {
            (Ok(()), Phase::Draining { next }) => {
                if self.without == Some(Safeguard::SledAfterCommit) {
                    state.keep_early(who, end);
                }
                Self::commit(state, who, next, end);
            }
            (Ok(()), Phase::Committing { end }) => state.learners[who].phase = Phase::ReadingBack { end },
            (Err(Refused::Fenced), _) => state.die(who),
            _ => state.leave(who),
        }
    }

    /// Nobody knows what came of the unit: begin again from what is committed.
    fn give_up(&self, state: &mut State, who: Who) {
        let epoch = state.learners[who].epoch;
        state.leave(who);
        if self.without == Some(Safeguard::NewProducer)
            && let Some(epoch) = epoch
            && state.kafka.abort(ID, epoch).is_ok()
        {
            (state.learners[who].phase, state.learners[who].epoch) = (Phase::Opening, Some(epoch));
        }
    }

    fn is_at_rest(&self, state: &State) -> bool {
        let mut steps = Vec::new();
        self.steps(state, &mut steps);
        steps.is_empty()
    }
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
