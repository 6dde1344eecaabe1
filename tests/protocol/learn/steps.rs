//! The steps of a learner, and its faults.

use super::*;

impl Learning {
    pub(super) fn steps(&self, state: &State, actions: &mut Vec<Action>) {
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
                    if learner.ledger.state_hash() != state.weights.0.state_hash() {
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

    pub(super) fn mishaps(state: &State, actions: &mut Vec<Action>) {
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

    /// One tick up to the sending of its records.
    pub(super) fn unit(&self, state: &mut State, who: ClientId, decision: usize, label: usize) {
        let learner = &mut state.learners[who];
        let index = learner.sled.index | ((1 << decision) - 1);
        let read = Read {
            decisions: learner.decision..decision,
            labels: learner.label..label,
            search: std::mem::take(&mut learner.searches),
        };
        let Joined { ledger, letters } = join(learner.ledger, index, read);
        // The index is written first, without its position: the ledger records of these decisions are not committed yet.
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
            state.kafka.wire.push(Request { by, id: ID, epoch, operation: Operation::Records(outputs) });
            state.learners[who].phase = Phase::Draining { next };
            if !drain {
                Self::commit(state, who, next, end);
            }
        }
    }

    /// Sends the consumed offset, if there is one, with the proof of membership, and requests the commit.
    pub(super) fn commit(state: &mut State, who: ClientId, next: Option<usize>, end: usize) {
        let Learner { epoch: Some(epoch), proof, .. } = state.learners[who] else { return };
        match next.map_or(Ok(()), |next| state.kafka.offsets(ID, epoch, next, proof)) {
            Ok(()) => {
                state.learners[who].phase = Phase::Committing { end };
                state.kafka.wire.push(Request { by: Some(who), id: ID, epoch, operation: Operation::Commit });
            }
            Err(Refused::Stale) if state.kafka.abort(ID, epoch).is_ok() => state.leave(who),
            Err(_) => state.die(who),
        }
    }

    pub(super) fn answered(&self, state: &mut State, who: ClientId, answer: Result<(), Refused>) {
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

    /// The outcome of the commit is unknown, so that the learner starts again from its last commit.
    pub(super) fn give_up(&self, state: &mut State, who: ClientId) {
        let epoch = state.learners[who].epoch;
        state.leave(who);
        if self.without == Some(Safeguard::NewProducer)
            && let Some(epoch) = epoch
            && state.kafka.abort(ID, epoch).is_ok()
        {
            (state.learners[who].phase, state.learners[who].epoch) = (Phase::Opening, Some(epoch));
        }
    }

    pub(super) fn is_at_rest(&self, state: &State) -> bool {
        let mut steps = Vec::new();
        self.steps(state, &mut steps);
        steps.is_empty()
    }
}
