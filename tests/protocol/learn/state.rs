//! The state of learners, stores and the log, and its changes.

use std::cmp::Ordering;

use super::*;

impl Learner {
    pub(super) fn new() -> Self {
        Self {
            phase: Phase::Standby,
            epoch: None,
            elected: false,
            proof: None,
            ledger: Set::default(),
            next: 0,
            decision: 0,
            label: 0,
            searches: false,
            sled: Sled::default(),
        }
    }

    pub(super) fn is_active(&self) -> bool {
        self.phase != Phase::Standby
    }

    /// Forgets everything except the contents of the disk and the election.
    pub(super) fn leave(&mut self) {
        let (sled, elected) = (self.sled, self.elected);
        *self = Self { elected, sled, ..Self::new() };
    }

    /// The offsets of the ledger.
    pub(super) fn offsets(&mut self) -> impl Iterator<Item = &mut usize> {
        let end = match &mut self.phase {
            Phase::Committing { end } | Phase::ReadingBack { end } => Some(end),
            _ => None,
        };
        [&mut self.next, &mut self.sled.next].into_iter().chain(end)
    }
}

impl State {
    /// Removes aborted records and decrements all offsets behind them. Then maps all states that differ only in names to
    /// the same one: requests under way are sorted, since any of them may arrive next, and the two learners, which share
    /// everything except their stores, are ordered.
    pub(super) fn normalise(&mut self) {
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
        self.kafka.wire.sort_unstable();
        match self.learners[0].cmp(&self.learners[1]) {
            Ordering::Less => {}
            Ordering::Greater => self.swap(),
            Ordering::Equal => {
                let named = |state: &Self| (state.elected, state.kafka.group.owner, state.kafka.wire.clone());
                let before = named(self);
                self.swap();
                if named(self) > before {
                    self.swap();
                }
            }
        }
    }

    /// Exchanges the numbers of the two learners.
    fn swap(&mut self) {
        self.learners.swap(0, 1);
        let names = [&mut self.elected, &mut self.kafka.group.owner].into_iter();
        let names = names.chain(self.kafka.wire.iter_mut().map(|request| &mut request.by));
        names.flatten().for_each(|who| *who = 1 - *who);
        self.kafka.wire.sort_unstable();
    }

    pub(super) fn is_mishap(&self, action: Action) -> bool {
        use Action::{Activate, Crash, Elect, Evict, GiveUp, LoseAnswer, Restore, TimeOut};
        match action {
            Crash(_) | Evict | TimeOut | GiveUp(_) | LoseAnswer(_) => true,
            Restore(_, fate) => fate != Fate::Sound,
            Elect(_) => self.elected.is_some(),
            Activate(who) => self.elected != Some(who),
            _ => false,
        }
    }

    /// The learner starts again from its last commit.
    pub(super) fn leave(&mut self, who: ClientId) {
        self.kafka.forget(who);
        self.learners[who].leave();
    }

    /// The process ends, because it was fenced or killed. If it is started again, it stands by.
    pub(super) fn die(&mut self, who: ClientId) {
        self.leave(who);
        self.learners[who].elected = false;
        self.elected = self.elected.filter(|elected| *elected != who);
    }

    /// The committed ledger before an offset.
    pub(super) fn ledger(&self, end: usize) -> Set {
        let mut set = Set::default();
        for entry in &self.kafka.log[..end.min(self.kafka.log.len())] {
            if let kafka::Entry::Committed(Output::Ledger(record)) = entry {
                set.insert(*record);
            }
        }
        set
    }

    /// Applies the records committed since `next`.
    pub(super) fn read_back(&mut self, who: ClientId) {
        let end = self.kafka.last_stable();
        let learner = &mut self.learners[who];
        for entry in self.kafka.log.get(learner.next..end).unwrap_or_default() {
            if let kafka::Entry::Committed(Output::Ledger(record)) = entry {
                learner.ledger.insert(*record);
            }
        }
        learner.next = learner.next.max(end);
    }

    /// The states that this store may have had before. They are consistent: all decisions before the position have had
    /// their effect.
    pub(super) fn stale(&self, sled: &Sled) -> impl Iterator<Item = Fate> {
        let passed = |next, position| {
            let read = Read { decisions: 0..position, labels: 0..0, search: false };
            join(self.ledger(next), 0, read).ledger.is_empty()
        };
        let all = (0..sled.next).flat_map(|next| (0..=sled.position).map(move |position| (next, position)));
        all.filter(move |(next, position)| passed(*next, *position))
            .map(|(next, position)| Fate::Stale { next, position })
    }

    /// Writes records to the store that are sent and not committed.
    pub(super) fn keep_early(&mut self, who: ClientId, end: usize) {
        let learner = &mut self.learners[who];
        for entry in &self.kafka.log {
            if let kafka::Entry::Open(_, Output::Ledger(record)) = entry {
                learner.sled.ledger.insert(*record);
            }
        }
        (learner.sled.next, learner.sled.position) = (end, learner.decision);
    }

    pub(super) fn restore(&mut self, who: ClientId, fate: Fate, search: bool) {
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
        // A topic that is shorter than the store reflects is refused until an operator adopts it, which empties the store.
        if learner.sled.next > self.kafka.log.len() {
            learner.sled = Sled::default();
        }
        (learner.ledger, learner.next) = (learner.sled.ledger, learner.sled.next);
        self.read_back(who);
        let learner = &mut self.learners[who];
        // If the index has passed decisions, the records of another learner must be looked up before they are written to the
        // store: after a crash in between they would not be looked up.
        if !search || learner.sled.position == 0 {
            learner.sled = Sled { ledger: learner.ledger, next: learner.next, ..learner.sled };
        }
        learner.searches = learner.next > learner.sled.next;
        learner.decision = learner.sled.position;
        learner.phase = Phase::Restored;
    }
}
