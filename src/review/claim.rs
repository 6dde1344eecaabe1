//! Claims: which reviewer has which request, and until when.

use std::collections::{BTreeSet, VecDeque};

use crate::core::event::Millis;
use crate::core::label::Label;
use crate::core::ledger::RoundId;

/// The greatest number of expired claims that a reviewer can still answer.
const MAX_LAPSED: usize = 8;
/// The greatest number of answers that a reviewer can undo.
pub const MAX_UNDO: usize = 20;
/// The greatest number of requests that a reviewer can skip. Beyond it the first one is served again.
const MAX_SKIPPED: usize = 10_000;

/// The right of a reviewer to answer a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim {
    /// The name of the claim, which cannot be guessed.
    pub token: String,
    /// The request.
    pub id: RoundId,
    /// The id of the label that answers the request. It is the same when the answer is sent again.
    pub label: String,
    /// The time at which the claim ends.
    pub expires: Millis,
}

/// An answer that the brokers have confirmed.
#[derive(Debug, Clone, PartialEq)]
pub struct Given {
    /// The claim that was answered.
    pub token: String,
    /// The label.
    pub label: Label,
    /// The retraction that was sent last, perhaps without a confirmation. It keeps its id when it is sent again.
    pub retraction: Option<Label>,
}

/// The state of one reviewer.
#[derive(Debug, Default)]
pub struct Reviewer {
    /// The request that the reviewer has now.
    pub current: Option<Claim>,
    /// The claims that expired, the newest last.
    pub lapsed: VecDeque<Claim>,
    /// The answers, the newest last.
    pub given: VecDeque<Given>,
    /// The claims whose answers were retracted, the newest last, each with its retraction.
    pub undone: VecDeque<(String, Label)>,
    /// The number of requests served. It keys the draws.
    pub served: u64,
    skipped: VecDeque<RoundId>,
    skipped_set: BTreeSet<RoundId>,
}

impl Reviewer {
    /// Moves a claim that has expired to the lapsed ones. Returns `true` if there was one.
    pub fn expire(&mut self, now: Millis) -> bool {
        match self.current.take_if(|claim| claim.expires <= now) {
            Some(claim) => {
                push_bounded(&mut self.lapsed, claim, MAX_LAPSED);
                true
            }
            None => false,
        }
    }

    /// Returns the expired claim of a request, and removes it from the lapsed ones.
    pub fn take_lapsed(&mut self, id: &RoundId) -> Option<Claim> {
        let index = self.lapsed.iter().position(|claim| claim.id == *id)?;
        self.lapsed.remove(index)
    }

    /// Remembers a confirmed answer, and ends its claim.
    pub fn answered(&mut self, token: &str, label: Label) {
        self.current.take_if(|claim| claim.token == token);
        self.lapsed.retain(|claim| claim.token != token);
        // Two requests of a page may send one answer at the same time.
        self.given.retain(|given| given.token != token);
        push_bounded(&mut self.given, Given { token: token.to_owned(), label, retraction: None }, MAX_UNDO);
    }

    /// Remembers a confirmed retraction. Returns `false` if it was known.
    pub fn retracted(&mut self, token: &str, retraction: &Label) -> bool {
        let before = self.given.len();
        self.given.retain(|given| given.token != token);
        if self.given.len() == before {
            return false;
        }
        push_bounded(&mut self.undone, (token.to_owned(), retraction.clone()), MAX_UNDO);
        true
    }

    /// Remembers that a request is not to be served again.
    pub fn skip(&mut self, id: RoundId) {
        if self.skipped_set.insert(id.clone()) {
            self.skipped.push_back(id);
        }
        if self.skipped.len() > MAX_SKIPPED
            && let Some(first) = self.skipped.pop_front()
        {
            self.skipped_set.remove(&first);
        }
    }

    /// Forgets what was skipped. Returns the number of requests.
    pub fn forget_skipped(&mut self) -> usize {
        self.skipped_set.clear();
        std::mem::take(&mut self.skipped).len()
    }

    /// Returns `true` if the reviewer has skipped the request.
    pub fn has_skipped(&self, id: &RoundId) -> bool {
        self.skipped_set.contains(id)
    }
}

fn push_bounded<T>(list: &mut VecDeque<T>, item: T, bound: usize) {
    list.push_back(item);
    if list.len() > bound {
        list.pop_front();
    }
}
