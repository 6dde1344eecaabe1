//! The decisions about an event: the choice of the one that gives the round its votes, and erasure.

use std::cmp::Ordering;

use super::edits::Edits;
use super::rounds::{Facts, NONE, Rounds, Row, UNDECIDED};
use super::votes::{Panel, Score};
use super::{Full, LedgerError, VotesEntry};
use crate::label::DecisionRef;
use crate::ledger::{RoundId, RoundRecord, RoundVote, TextFeatures};

impl Rounds {
    /// Adds a decision. Returns `true` if the round's votes changed.
    pub(super) fn resolve_decision(
        &mut self,
        row: Row,
        votes: &VotesEntry<'_>,
        edits: &Edits,
    ) -> Result<bool, LedgerError> {
        if votes.subject.is_some_and(|subject| edits.erases(self.tenant(row), subject)) {
            return Ok(false);
        }
        if !self.has_votes(row) {
            self.write(row, votes)?;
            self.counts.judged += 1;
            self.without_votes.remove(&row);
            return Ok(true);
        }
        let order = self.compare(row, votes);
        let other_subject = self.subject(row) != votes.subject;
        match order {
            Ordering::Less => {
                if other_subject {
                    let old = self.round_record(row).expect("the round has votes");
                    self.pass_over(row, old);
                }
                self.write(row, votes)?;
                Ok(true)
            }
            Ordering::Greater if other_subject => {
                let record = self.owned_round(row, votes);
                self.pass_over(row, record);
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// Returns `true` if adding the decision would change the round's votes.
    pub(super) fn decision_is_new(&self, record: &RoundRecord) -> bool {
        let known = self.find(&record.id.tenant, &record.id.event).and_then(|row| self.round_record(row));
        known.is_none_or(|known| order(record, &known) == Ordering::Less)
    }

    fn subject(&self, row: Row) -> Option<&str> {
        let subject = self.facts(row).subject;
        (subject != NONE).then(|| self.subjects.text(subject))
    }

    /// Compares a decision with the one that gives the round its votes. The lesser of both does.
    fn compare(&self, row: Row, votes: &VotesEntry<'_>) -> Ordering {
        let facts = self.facts(row);
        let known = DecisionRef { partition: facts.partition, offset: facts.offset };
        (votes.round_time, votes.decision).cmp(&(facts.round_time, known)).then_with(|| {
            // Decisions of a replay may have no position of their own. They are compared by content.
            let known = self.round_record(row).expect("the round has votes");
            order(&self.owned_round(row, votes), &known)
        })
    }

    /// Keeps a decision of another subject than the round's, the least one of each subject.
    fn pass_over(&mut self, row: Row, record: RoundRecord) {
        let others = self.passed_over.entry(row).or_default();
        match others.iter_mut().find(|other| other.subject == record.subject) {
            Some(other) if order(&record, other).is_lt() => *other = record,
            Some(_) => {}
            None => others.push(record),
        }
    }

    /// Gives the round these votes, in the place of its old ones if they fit.
    fn write(&mut self, row: Row, votes: &VotesEntry<'_>) -> Result<(), Full> {
        let old = self.facts(row);
        let subject = match votes.subject {
            Some(subject) => self.subjects.intern(0, subject)?,
            None => NONE,
        };
        let (mut features, mut encoder) = (NONE, NONE);
        if let Some((id, bytes)) = votes.features {
            encoder = match self.encoder_numbers.get(id) {
                Some(known) => *known,
                None => {
                    let number = u32::try_from(self.encoders.len()).map_err(|_| Full)?;
                    self.encoders.push(*id);
                    self.encoder_numbers.insert(*id, number);
                    number
                }
            };
            if old.features == NONE {
                features = u32::try_from(self.features.len()).ok().filter(|new| *new < NONE).ok_or(Full)?;
                self.features.push(*bytes);
            } else {
                features = old.features;
                self.features[features as usize] = *bytes;
            }
        }
        let length = votes.scores.len();
        let fits = old.panel != Panel::NONE && self.panels.experts(old.panel).len() == length;
        let scores = if fits {
            let start = old.scores as usize;
            self.scores[start..start + length].copy_from_slice(votes.scores);
            old.scores
        } else {
            let start = u32::try_from(self.scores.len()).map_err(|_| Full)?;
            self.scores.extend_from_slice(votes.scores);
            start
        };
        self.facts[row.0 as usize] = Facts {
            round_time: votes.round_time,
            offset: votes.decision.offset,
            partition: votes.decision.partition,
            panel: votes.panel,
            scores,
            features,
            encoder,
            subject,
        };
        Ok(())
    }

    fn owned_round(&self, row: Row, votes: &VotesEntry<'_>) -> RoundRecord {
        let experts = self.panels.experts(votes.panel);
        RoundRecord {
            id: RoundId {
                tenant: self.tenant(row).to_owned(),
                policy: self.policy.clone(),
                event: self.event(row).to_owned(),
            },
            subject: votes.subject.map(str::to_owned),
            round_time: votes.round_time,
            decision: votes.decision,
            votes: experts.iter().zip(votes.scores).map(|(expert, score)| score.vote(expert)).collect(),
            features: votes
                .features
                .map(|(encoder, features)| TextFeatures { encoder: *encoder, features: Box::new(*features) }),
        }
    }

    /// The decision that gives the round its votes; `None` if they are not known.
    #[must_use]
    pub fn round_record(&self, row: Row) -> Option<RoundRecord> {
        let facts = self.facts(row);
        let (panel, scores) = self.votes(row)?;
        let features = self.features(row);
        let votes = VotesEntry {
            subject: self.subject(row),
            round_time: facts.round_time,
            decision: DecisionRef { partition: facts.partition, offset: facts.offset },
            panel,
            scores,
            features: features.map(|(encoder, bytes)| (&self.encoders[encoder], bytes)),
        };
        Some(self.owned_round(row, &votes))
    }

    /// Erases the decisions about a subject. Returns the rounds whose votes changed.
    pub(super) fn erase(&mut self, tenant: &str, subject: &str) -> Result<Vec<Row>, Full> {
        let of_tenant = |found: &str| tenant.is_empty() || tenant == found;
        self.passed_over.retain(|_, others| {
            others.retain(|other| !of_tenant(&other.id.tenant) || other.subject.as_deref() != Some(subject));
            !others.is_empty()
        });
        let Some(number) = self.subjects.find(0, subject) else {
            return Ok(Vec::new());
        };
        let theirs = |row: &Row| self.facts(*row).subject == number && of_tenant(self.tenant(*row));
        let rows: Vec<Row> = self.rows().filter(theirs).collect();
        for row in &rows {
            self.erase_votes(*row)?;
        }
        Ok(rows)
    }

    /// Overwrites the round's votes and features. The least decision of another subject takes their place.
    fn erase_votes(&mut self, row: Row) -> Result<(), Full> {
        let facts = self.facts(row);
        let length = self.panels.experts(facts.panel).len();
        let start = facts.scores as usize;
        self.scores[start..start + length].fill(Score::ERASED);
        if facts.features != NONE {
            self.features[facts.features as usize] = [0; _];
        }
        self.facts[row.0 as usize] = UNDECIDED;
        self.counts.judged -= 1;
        if let Some(next) = self.take_passed_over(row) {
            let experts = next.votes.iter().map(|vote| vote.expert.as_str());
            let panel = self.panels.intern(experts).expect("the panel is known");
            let score = |vote: &RoundVote| Score::of(vote).expect("the score was checked");
            let scores: Vec<_> = next.votes.iter().map(score).collect();
            let votes = VotesEntry {
                subject: next.subject.as_deref(),
                round_time: next.round_time,
                decision: next.decision,
                panel,
                scores: &scores,
                features: next.features.as_ref().map(|known| (&known.encoder, &*known.features)),
            };
            self.write(row, &votes)?;
            self.counts.judged += 1;
        } else if !self.stored(row).is_empty() {
            self.without_votes.insert(row);
        }
        Ok(())
    }

    /// Removes and returns the least decision that was passed over.
    fn take_passed_over(&mut self, row: Row) -> Option<RoundRecord> {
        let others = self.passed_over.get_mut(&row)?;
        let (least, _) = others.iter().enumerate().min_by(|(_, a), (_, b)| order(a, b))?;
        let next = others.swap_remove(least);
        if others.is_empty() {
            self.passed_over.remove(&row);
        }
        Some(next)
    }
}

/// The order of the decisions about one event, by key, then by content. The least gives the round its votes.
fn order(a: &RoundRecord, b: &RoundRecord) -> Ordering {
    let votes = |record: &RoundRecord| -> Vec<(String, Option<u64>, bool)> {
        let bits = |score: Option<f64>| score.map(f64::to_bits);
        record.votes.iter().map(|vote| (vote.expert.clone(), bits(vote.score), vote.shadow)).collect()
    };
    let features = |record: &RoundRecord| {
        record.features.as_ref().map(|features| (features.encoder, features.features.clone()))
    };
    a.key()
        .cmp(&b.key())
        .then_with(|| votes(a).cmp(&votes(b)))
        .then_with(|| features(a).cmp(&features(b)))
        .then_with(|| a.subject.cmp(&b.subject))
}
