//! The order in which requests are served.

use std::collections::BTreeMap;

use super::Queue;
use crate::core::ledger::RoundId;
use crate::review::entry::{Lane, Status};

/// The distance in virtual time between two requests of a lane, in the order of [`Lane::ALL`].
const STRIDES: [u64; 3] = [2, 1, 2];

impl Queue {
    /// Returns a request with a reference answer if the draw of this service comes up. There is none without open requests,
    /// or a reviewer would get nothing else.
    pub(super) fn next_gold(&self, reviewer: &str, policy: &str) -> Option<RoundId> {
        let (rules, shelves) = (self.rules.get(policy)?, self.shelves.policy(policy)?);
        let served = self.reviewers.get(reviewer).map_or(0, |reviewer| reviewer.served);
        let service = RoundId {
            tenant: hex::encode(self.settings.secret),
            policy: policy.to_owned(),
            event: format!("{reviewer}/{served}"),
        };
        if shelves.gold.is_empty()
            || rules.draw(&service, "gold") >= self.settings.gold
            || !shelves.lanes.values().flat_map(BTreeMap::values).any(|id| self.may_have(reviewer, id))
        {
            return None;
        }
        #[expect(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "the number is from 0 to the length"
        )]
        let first = (rules.draw(&service, "which gold") * shelves.gold.len() as f64) as usize;
        let ids = || shelves.gold.values();
        let unseen = |id: &&RoundId| {
            !self.answered(reviewer, id)
                && !self.skipped(reviewer, id)
                && !self.is_quarantined(&id.tenant, reviewer)
        };
        ids().skip(first).chain(ids().take(first)).find(unseen).cloned()
    }

    /// Returns the oldest open request of the lane whose turn it is.
    pub(super) fn next_open(&mut self, reviewer: &str, policy: &str) -> Option<RoundId> {
        let shelves = self.shelves.policy(policy)?;
        let passes = self.passes.get(policy).copied().unwrap_or_default();
        let first = |lane: &Lane| {
            let ids = shelves.lanes.get(lane)?.values();
            ids.into_iter().find(|id| self.may_have(reviewer, id)).cloned()
        };
        let lanes = Lane::ALL.iter().zip(passes).zip(STRIDES).enumerate();
        let ready =
            lanes.filter_map(|(index, ((lane, pass), stride))| Some((pass, index, stride, first(lane)?)));
        let (pass, index, stride, id) = ready.min_by_key(|(pass, index, ..)| (*pass, *index))?;
        // A lane that was empty must not be served alone for as long as it was.
        let mut moved = passes.map(|other| other.max(pass));
        if let Some(lane) = moved.get_mut(index) {
            *lane = pass + stride;
        }
        self.passes.insert(policy.to_owned(), moved);
        Some(id)
    }

    /// Returns `true` if the request can be served to the reviewer.
    pub(super) fn may_have(&self, reviewer: &str, id: &RoundId) -> bool {
        let Status::Open { missing } = self.status(id) else { return false };
        self.holders(reviewer, id) < missing
            && !self.answered(reviewer, id)
            && !self.skipped(reviewer, id)
            && !self.is_quarantined(&id.tenant, reviewer)
    }

    /// The number of requests of a policy that the reviewer has not answered: the open ones and, as long as the reviewer is
    /// served requests, those with a reference answer. It falls by one with each answer, whatever was answered, so that it
    /// does not tell which answers are known.
    #[must_use]
    pub fn open_for(&self, reviewer: &str, policy: &str) -> usize {
        let Some(shelves) = self.shelves.policy(policy) else { return 0 };
        let unanswered = |id: &&RoundId| !self.answered(reviewer, id);
        let open = || shelves.lanes.values().flat_map(BTreeMap::values);
        let current = self.reviewers.get(reviewer).and_then(|reviewer| reviewer.current.as_ref());
        let is_served = current.is_some_and(|claim| claim.id.policy == policy)
            || open().any(|id| self.may_have(reviewer, id));
        let count = open().filter(unanswered).count();
        // Without open requests, or at the rate 0, no reference answer is asked for.
        if is_served && self.settings.gold > 0.0 {
            count + shelves.gold.values().filter(unanswered).count()
        } else {
            count
        }
    }

    /// The number of other reviewers who have the request.
    pub(super) fn holders(&self, reviewer: &str, id: &RoundId) -> usize {
        let others = self.reviewers.iter().filter(|(name, _)| *name != reviewer);
        others.filter(|(_, other)| other.current.as_ref().is_some_and(|claim| claim.id == *id)).count()
    }

    pub(super) fn answered(&self, reviewer: &str, id: &RoundId) -> bool {
        self.shelves.get(id).is_some_and(|entry| entry.answered_by(reviewer))
    }

    pub(super) fn skipped(&self, reviewer: &str, id: &RoundId) -> bool {
        self.reviewers.get(reviewer).is_some_and(|reviewer| reviewer.has_skipped(id))
    }
}
