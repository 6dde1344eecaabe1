//! What a scorer does at each step, and what goes wrong.

use super::*;

impl Scoring {
    /// What goes on by itself.
    pub(super) fn steps(&self, state: &State, actions: &mut Vec<Action>) {
        let kafka = &state.kafka;
        for (who, scorer) in state.scorers.iter().enumerate() {
            let other = &state.scorers[1 - who];
            let replaced = self.ids[0] == self.ids[1] && !other.is_down();
            if scorer.phase == Phase::TextFeatures && scorer.watermark.ready() > 0 {
                actions.push(Action::Commit(who));
            }
            if scorer.reads() {
                actions.extend((0..scorer.asked.len()).map(|which| Action::Answer(who, which)));
                if scorer.proof.is_some() && scorer.position < EVENTS.len() {
                    actions.push(Action::Read(who));
                }
            }
            if scorer.phase == Phase::TextFeatures
                || self.without == Some(Safeguard::EndsFirst) && scorer.reads()
            {
                if scorer.proof.is_none() && kafka.group.owner.is_none() && kafka.is_stable() {
                    actions.push(Action::Join(who));
                }
                if scorer.proof.is_some_and(|proof| proof != kafka.group.generation) {
                    actions.push(Action::Notice(who));
                }
            }
            match scorer.phase {
                Phase::Down { fenced } if !(fenced && replaced) => actions.push(Action::Start(who)),
                Phase::Offsets { .. } => actions.push(Action::SendOffsets(who)),
                Phase::Renewing => actions.push(Action::Renew(who)),
                Phase::Rewinding if kafka.is_stable() => actions.push(Action::Rewind(who)),
                _ => {}
            }
        }
        actions.extend((0..kafka.wire.len()).map(Action::Arrive));
        if kafka.group.owner.is_some() && !state.owner_holds_on() {
            actions.push(Action::Evict);
        }
    }

    /// What goes wrong.
    pub(super) fn mishaps(state: &State, actions: &mut Vec<Action>) {
        let kafka = &state.kafka;
        for (who, scorer) in state.scorers.iter().enumerate() {
            if !scorer.is_down() {
                actions.push(Action::Crash(who));
            }
            if scorer.phase == Phase::TextFeatures && scorer.proof == Some(kafka.group.generation) {
                actions.push(Action::Leave(who));
            }
            if kafka.wire.iter().any(|request| request.by == Some(who)) {
                actions.push(Action::GiveUp(who));
            }
        }
        let waited = |which: &usize| kafka.wire[*which].by.is_some();
        actions.extend((0..kafka.wire.len()).filter(waited).map(Action::LoseAnswer));
        if state.owner_holds_on() {
            actions.push(Action::Evict);
        }
        actions.extend((0..kafka.ids.len()).filter(|id| kafka.ids[*id].open).map(Action::TimeOut));
    }

    /// Takes what is decided, opens a transaction and sends the records.
    pub(super) fn commit(&self, state: &mut State, who: Who) {
        let scorer = &mut state.scorers[who];
        let Ready { outcomes, offsets } = scorer.watermark.take(usize::MAX);
        let (id, next) = (self.ids[who], offsets[0].1 as usize);
        let Some(epoch) = scorer.epoch else { return };
        if state.kafka.begin(id, epoch).is_err() {
            return state.die(who, true);
        }
        let drain = self.without != Some(Safeguard::Drain);
        let by = drain.then_some(who);
        state.kafka.wire.push(Request { by, id, epoch, what: What::Records(outcomes) });
        scorer.phase = if drain { Phase::Draining { next } } else { Phase::Offsets { next } };
    }

    /// Sends the offset with the proof of membership, and asks for the commit.
    pub(super) fn send_offsets(&self, state: &mut State, who: Who, next: usize) {
        let scorer = &mut state.scorers[who];
        let id = self.ids[who];
        let Some(epoch) = scorer.epoch else { return };
        // A proof from before the first assignment is empty.
        let proof = scorer.proof.filter(|_| self.without != Some(Safeguard::FreshMetadata));
        match state.kafka.offsets(id, epoch, next, proof) {
            Ok(()) => {
                state.kafka.wire.push(Request { by: Some(who), id, epoch, what: What::Commit });
                scorer.phase = Phase::Committing;
            }
            Err(Refused::Fenced) => state.die(who, true),
            Err(refused) => {
                if refused == Refused::Stale {
                    scorer.proof = None;
                    scorer.watermark.end(&0);
                }
                scorer.phase = Phase::Rewinding;
                if state.kafka.abort(id, epoch).is_err() {
                    state.die(who, true);
                }
            }
        }
    }

    /// Nobody knows what came of the unit.
    pub(super) fn give_up(&self, state: &mut State, who: Who) {
        let Some(epoch) = state.scorers[who].epoch else { return };
        state.kafka.forget(who);
        if self.without != Some(Safeguard::NewProducer) {
            state.scorers[who].phase = Phase::Renewing;
            state.scorers[who].epoch = None;
        } else if state.kafka.abort(self.ids[who], epoch).is_err() {
            state.die(who, true);
        } else {
            state.scorers[who].phase = Phase::Rewinding;
        }
    }
}

impl State {
    pub(super) fn die(&mut self, who: Who, fenced: bool) {
        self.kafka.forget(who);
        self.scorers[who] = Scorer { phase: Phase::Down { fenced }, ..Scorer::new() };
    }

    pub(super) fn normalise(&mut self, ids: [usize; 2]) {
        let (mut epochs, mut proofs) = (vec![], vec![]);
        for (scorer, id) in self.scorers.iter_mut().zip(ids) {
            epochs.extend(scorer.epoch.as_mut().map(|epoch| (id, epoch)));
            proofs.extend(scorer.proof.as_mut());
        }
        self.kafka.normalise(epochs, proofs);
    }

    pub(super) fn read(&mut self, who: Who) {
        let scorer = &mut self.scorers[who];
        let offset = scorer.position;
        scorer.position += 1;
        let Some(ticket) = scorer.watermark.consume(&0, offset as i64) else { return };
        match EVENTS[offset] {
            Event::Good => scorer.asked.push(ticket),
            Event::Poison => {
                scorer.watermark.settle(&ticket, Outcome::DeadLetter(offset));
            }
        }
    }

    /// The answer to a request that was waited for.
    pub(super) fn answered(&mut self, who: Who, answer: Result<(), Refused>) {
        let scorer = &mut self.scorers[who];
        match (answer, scorer.phase) {
            (Ok(()), Phase::Draining { next }) => scorer.phase = Phase::Offsets { next },
            (Ok(()), _) => scorer.phase = Phase::TextFeatures,
            (Err(Refused::Fenced), _) => self.die(who, true),
            (Err(_), _) => scorer.phase = Phase::Rewinding,
        }
    }

    /// Whether the partition's owner is alive and takes it for its own.
    pub(super) fn owner_holds_on(&self) -> bool {
        let proof = self.kafka.group.owner.map(|owner| self.scorers[owner].proof);
        proof == Some(Some(self.kafka.group.generation))
    }

    pub(super) fn outcomes(&self, event: usize) -> Vec<Outcome> {
        self.kafka.committed().copied().filter(|outcome| outcome.event() == event).collect()
    }
}
