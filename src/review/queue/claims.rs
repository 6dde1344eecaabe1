//! Claims: which reviewer has which request, and until when.

use std::sync::Arc;

use sha2::{Digest, Sha256};

use super::{Queue, Served, label_id};
use crate::core::event::Millis;
use crate::core::ledger::RoundId;
use crate::core::review::ReviewRequest;
use crate::review::claim::Claim;
use crate::review::entry::{Gone, Status};
use crate::review::refusal::Refusal;

impl Queue {
    /// Extends the claim that the reviewer has, if it is of this policy and can still be answered. Another one is released.
    pub(super) fn resume(&mut self, reviewer: &str, policy: &str, now: Millis) -> Option<Served> {
        let claim = self.reviewers.get_mut(reviewer)?.current.take()?;
        let usable = claim.id.policy == policy
            && !self.is_quarantined(&claim.id.tenant, reviewer)
            && self.closed(&claim.id).is_none()
            && !self.answered(reviewer, &claim.id);
        usable.then(|| self.hold(reviewer, claim, now)).flatten()
    }

    /// Gives a claim to the reviewer until its time is over.
    pub(super) fn hold(&mut self, reviewer: &str, mut claim: Claim, now: Millis) -> Option<Served> {
        let request = Arc::clone(self.shelves.get(&claim.id)?.request.as_ref()?);
        claim.expires = now + self.settings.claim;
        let served = Served { token: claim.token.clone(), expires: claim.expires, request };
        self.reviewers.entry(reviewer.to_owned()).or_default().current = Some(claim);
        Some(served)
    }

    /// Gives a request to the reviewer. A claim of it that has expired is renewed: with two claims of one request, two browser
    /// windows could send two answers under the id of one label.
    pub(super) fn claim(&mut self, reviewer: &str, id: &RoundId, now: Millis) -> Option<Served> {
        let number = self.shelves.get(id)?.next_number(reviewer);
        let state = self.reviewers.entry(reviewer.to_owned()).or_default();
        state.served += 1;
        if let Some(lapsed) = state.take_lapsed(id) {
            return self.hold(reviewer, lapsed, now);
        }
        let claim = Claim {
            token: self.new_token(),
            id: id.clone(),
            label: label_id(reviewer, number),
            expires: now,
        };
        self.hold(reviewer, claim, now)
    }

    fn new_token(&mut self) -> String {
        self.tokens += 1;
        let token = Sha256::new()
            .chain_update(self.settings.secret)
            .chain_update(self.tokens.to_le_bytes())
            .finalize();
        hex::encode(token.iter().take(16).copied().collect::<Vec<_>>())
    }

    /// Extends the claim, because its reviewer is active.
    ///
    /// # Errors
    /// Returns the reason for which the request can no longer be answered.
    pub fn touch(&mut self, reviewer: &str, token: &str, now: Millis) -> Result<Served, Refusal> {
        self.expire(now);
        let claim = self.find(reviewer, token)?;
        if let Some(refusal) = self.closed(&claim.id) {
            self.release(reviewer, token);
            return Err(refusal);
        }
        let current = self.reviewers.get(reviewer).and_then(|reviewer| reviewer.current.as_ref());
        match current.map(|current| current.token == claim.token) {
            // A label of another tool may have left fewer answers to give than there are claims. The first answer counts.
            Some(true) => {}
            Some(false) => return Err(Refusal::NotClaimed),
            None if !self.has_room(reviewer, &claim.id) => return Err(Refusal::Claimed),
            None => {}
        }
        if let Some(state) = self.reviewers.get_mut(reviewer) {
            state.lapsed.retain(|lapsed| lapsed.token != claim.token);
        }
        self.hold(reviewer, claim, now).ok_or(Refusal::Dropped)
    }

    /// Returns the request of a claim of the reviewer, current or expired.
    ///
    /// # Errors
    /// Returns an error if the reviewer does not have the claim.
    pub fn request(&self, reviewer: &str, token: &str) -> Result<Arc<ReviewRequest>, Refusal> {
        let claim = self.find(reviewer, token)?;
        if let Some(refusal) = self.closed(&claim.id) {
            return Err(refusal);
        }
        let request = self.shelves.get(&claim.id).and_then(|entry| entry.request.as_ref());
        request.cloned().ok_or(Refusal::Dropped)
    }

    /// Returns `true` if fewer other reviewers have the request than answers are missing.
    pub(super) fn has_room(&self, reviewer: &str, id: &RoundId) -> bool {
        self.status(id) == Status::Gold || self.holders(reviewer, id) < self.missing(id)
    }

    pub(super) fn missing(&self, id: &RoundId) -> usize {
        if let Status::Open { missing } = self.status(id) { missing } else { 0 }
    }

    /// Returns the reason for which the request cannot be answered by anyone.
    pub(super) fn closed(&self, id: &RoundId) -> Option<Refusal> {
        match self.status(id) {
            Status::Open { .. } | Status::Gold => None,
            Status::Answered => Some(Refusal::Answered),
            Status::Gone(Gone::Expired) => Some(Refusal::Expired),
            Status::Gone(Gone::Erased) => Some(Refusal::Erased),
            Status::NoRequest => Some(Refusal::Dropped),
        }
    }

    pub(super) fn find(&self, reviewer: &str, token: &str) -> Result<Claim, Refusal> {
        let reviewer = self.reviewers.get(reviewer).ok_or(Refusal::NotClaimed)?;
        let claims = reviewer.current.iter().chain(&reviewer.lapsed);
        claims.into_iter().find(|claim| claim.token == token).cloned().ok_or(Refusal::NotClaimed)
    }

    pub(super) fn release(&mut self, reviewer: &str, token: &str) {
        if let Some(state) = self.reviewers.get_mut(reviewer) {
            state.current.take_if(|claim| claim.token == token);
            state.lapsed.retain(|claim| claim.token != token);
        }
    }
}
