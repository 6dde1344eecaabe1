//! Answers of reviewers: their labels before and after they are sent, skips and undo.

use super::{Prepared, PreparedUndo, Queue, Served, label_id};
use crate::core::event::Millis;
use crate::core::label::{Label, Source};
use crate::review::claim::Reviewer;
use crate::review::entry::Status;
use crate::review::refusal::Refusal;

impl Queue {
    /// Checks that an answer may be sent, and extends the claim while it is sent.
    ///
    /// # Errors
    /// Returns the reason for which the answer is not needed or does not count.
    pub fn prepare_answer(&mut self, reviewer: &str, token: &str, now: Millis) -> Result<Prepared, Refusal> {
        if let Some(label) = self.sent(reviewer, token) {
            let request = self.shelves.get(&label.round()).and_then(|entry| entry.request.clone());
            return Ok(Prepared::Sent { label: Box::new(label), request: request.ok_or(Refusal::Dropped)? });
        }
        let served = self.touch(reviewer, token, now)?;
        let id = &served.request.id;
        if self.is_quarantined(&id.tenant, reviewer) {
            return Err(Refusal::Quarantined);
        }
        let source = if self.status(id) == Status::Gold { Source::Calibration } else { Source::Review };
        let label = self.find(reviewer, token)?.label;
        Ok(Prepared::Send { request: served.request, label, source })
    }

    /// Returns the label that answers the claim if the brokers have it: because they confirmed it, or because it was read
    /// back although they did not answer in time.
    fn sent(&mut self, reviewer: &str, token: &str) -> Option<Label> {
        let given = &self.reviewers.get(reviewer)?.given;
        if let Some(given) = given.iter().find(|given| given.token == token) {
            return Some(given.label.clone());
        }
        let claim = self.find(reviewer, token).ok()?;
        let label = self.shelves.get(&claim.id)?.label_of(reviewer, &claim.label)?.clone();
        self.confirm_answer(reviewer, token, &label);
        Some(label)
    }

    /// Records that the brokers have the answer.
    pub fn confirm_answer(&mut self, reviewer: &str, token: &str, label: &Label) {
        self.on_label(label);
        self.reviewers.entry(reviewer.to_owned()).or_default().answered(token, label.clone());
    }

    /// Releases the claim. The request is not served to this reviewer again.
    ///
    /// # Errors
    /// Returns an error if the reviewer does not have the claim.
    pub fn skip(&mut self, reviewer: &str, token: &str) -> Result<(), Refusal> {
        let claim = self.find(reviewer, token)?;
        self.release(reviewer, token);
        self.reviewers.entry(reviewer.to_owned()).or_default().skip(claim.id);
        self.counts.skipped += 1;
        Ok(())
    }

    /// Serves the skipped requests of the reviewer again. Returns their number.
    pub fn forget_skipped(&mut self, reviewer: &str) -> usize {
        self.reviewers.get_mut(reviewer).map_or(0, Reviewer::forget_skipped)
    }

    /// Returns the retraction of the reviewer's answer to the claim `token`. It is the same when it is sent again.
    ///
    /// # Errors
    /// Returns an error if there is no such answer to undo.
    pub fn prepare_undo(
        &mut self,
        reviewer: &str,
        token: &str,
        now: Millis,
    ) -> Result<PreparedUndo, Refusal> {
        let state = self.reviewers.get_mut(reviewer).ok_or(Refusal::NothingToUndo)?;
        let Some(given) = state.given.iter_mut().find(|given| given.token == token) else {
            let undone = state.undone.iter().find(|(undone, _)| undone == token);
            let (_, retraction) = undone.ok_or(Refusal::NothingToUndo)?;
            return Ok(PreparedUndo::Undone(Box::new(retraction.clone())));
        };
        let retraction = given.retraction.get_or_insert_with(|| {
            let label = &given.label;
            let number = self.shelves.get(&label.round()).map_or(2, |entry| entry.next_number(reviewer));
            Label {
                id: label_id(reviewer, number),
                time: now,
                verdict: None,
                categories: Vec::new(),
                retracts: Some(label.id.clone()),
                ..label.clone()
            }
        });
        Ok(PreparedUndo::Send(Box::new(retraction.clone())))
    }

    /// The claim of the reviewer's last answer.
    #[cfg(test)]
    pub fn last_answer(&self, reviewer: &str) -> Option<String> {
        Some(self.reviewers.get(reviewer)?.given.back()?.token.clone())
    }

    /// Records that the brokers have the retraction, and gives the request back to the reviewer if it is open.
    pub fn confirm_undo(
        &mut self,
        reviewer: &str,
        token: &str,
        retraction: &Label,
        now: Millis,
    ) -> Option<Served> {
        self.expire(now);
        self.on_label(retraction);
        let state = self.reviewers.entry(reviewer.to_owned()).or_default();
        if !state.retracted(token, retraction) {
            return None;
        }
        state.current = None;
        let id = retraction.round();
        self.has_room(reviewer, &id).then(|| self.claim(reviewer, &id, now)).flatten()
    }
}
