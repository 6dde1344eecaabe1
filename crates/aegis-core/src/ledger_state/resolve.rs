//! Decisions about a round's event: which of them gives it its votes, and their erasure.

use std::cmp::Ordering;

use super::edits::Edits;
use super::rounds::{Facts, NOTHING, Rounds, Row, UNKNOWN};
use super::votes::{Panel, Score};
use super::{Full, LedgerError, VotesEntry};
use crate::label::DecisionRef;
use crate::ledger::{RoundId, RoundRecord, TextFeatures};

impl Rounds {
    /// Takes a decision; whether the round's votes are others now.
    pub(super) fn resolve_decision(
        &mut self,
        row: Row,
        sitting: &VotesEntry<'_>,
        edits: &Edits,
    ) -> Result<bool, LedgerError> {
        if sitting.subject.is_some_and(|subject| edits.erases(self.tenant(row), subject)) {
            return Ok(false);
        }
        if !self.has_votes(row) {
            self.write(row, sitting)?;
            self.counts.judged += 1;
            self.without_votes.remove(&row);
            return Ok(true);
        }
        let order = self.compare(row, sitting);
        let stranger = self.subject(row) != sitting.subject;
        match order {
            Ordering::Less => {
                if stranger && let Some(old) = self.round_record(row) {
                    self.pass_over(row, old);
                }
                self.write(row, sitting)?;
                Ok(true)
            }
            Ordering::Greater if stranger => {
                let judged = self.owned(row, sitting);
                self.pass_over(row, judged);
                Ok(false)
            }
            _ => Ok(false),
        }
    }

    /// Whether a decision would change anything.
    pub(super) fn judgement_is_new(&self, judged: &RoundRecord) -> bool {
        let known = self.find(&judged.id.tenant, &judged.id.event).and_then(|row| self.round_record(row));
        known.is_none_or(|known| order(judged, &known) == Ordering::Less)
    }

    fn subject(&self, row: Row) -> Option<&str> {
        let subject = self.facts(row).subject;
        (subject != NOTHING).then(|| self.subjects.text(subject))
    }

    /// Which of two decisions gives the round its votes: the lesser.
    fn compare(&self, row: Row, sitting: &VotesEntry<'_>) -> Ordering {
        let facts = self.facts(row);
        let known = DecisionRef { partition: facts.partition, offset: facts.offset };
        (sitting.round_time, sitting.decision).cmp(&(facts.round_time, known)).then_with(|| {
            // Without a position of its own (a replay of shuffled lines): by content.
            self.round_record(row).map_or(Ordering::Less, |known| order(&self.owned(row, sitting), &known))
        })
    }

    fn pass_over(&mut self, row: Row, judged: RoundRecord) {
        let others = self.passed_over.entry(row).or_default();
        match others.iter_mut().find(|other| other.subject == judged.subject) {
            Some(other) if order(&judged, other).is_lt() => *other = judged,
            Some(_) => {}
            None => others.push(judged),
        }
    }

    fn write(&mut self, row: Row, sitting: &VotesEntry<'_>) -> Result<(), Full> {
        let old = self.facts(row);
        let subject = match sitting.subject {
            Some(subject) => self.subjects.intern(0, subject)?,
            None => NOTHING,
        };
        let (mut features, mut encoder) = (NOTHING, NOTHING);
        if let Some((id, bytes)) = sitting.features {
            encoder = match self.encoder_numbers.get(id) {
                Some(known) => *known,
                None => {
                    let number = u32::try_from(self.encoders.len()).map_err(|_| Full)?;
                    self.encoders.push(*id);
                    self.encoder_numbers.insert(*id, number);
                    number
                }
            };
            if let Some(slot) = self.features.get_mut(old.features as usize) {
                *slot = *bytes;
                features = old.features;
            } else {
                features =
                    u32::try_from(self.features.len()).ok().filter(|new| *new < NOTHING).ok_or(Full)?;
                self.features.push(*bytes);
            }
        }
        let length = sitting.scores.len();
        let start = old.votes as usize;
        let fits = old.panel != Panel::NONE && self.panels.experts(old.panel).len() == length;
        let votes = match self.scores.get_mut(start..start + length).filter(|_| fits) {
            Some(slots) => {
                slots.copy_from_slice(sitting.scores);
                old.votes
            }
            None => {
                let new = u32::try_from(self.scores.len()).map_err(|_| Full)?;
                self.scores.extend_from_slice(sitting.scores);
                new
            }
        };
        if let Some(facts) = self.facts.get_mut(row.0 as usize) {
            *facts = Facts {
                round_time: sitting.round_time,
                offset: sitting.decision.offset,
                partition: sitting.decision.partition,
                panel: sitting.panel,
                votes,
                features,
                encoder,
                subject,
            };
        }
        Ok(())
    }

    fn owned(&self, row: Row, sitting: &VotesEntry<'_>) -> RoundRecord {
        let experts = self.panels.experts(sitting.panel);
        RoundRecord {
            id: RoundId {
                tenant: self.tenant(row).to_owned(),
                policy: self.policy.clone(),
                event: self.event(row).to_owned(),
            },
            subject: sitting.subject.map(str::to_owned),
            round_time: sitting.round_time,
            decision: sitting.decision,
            votes: experts.iter().zip(sitting.scores).map(|(expert, score)| score.vote(expert)).collect(),
            features: sitting
                .features
                .map(|(encoder, features)| TextFeatures { encoder: *encoder, features: Box::new(*features) }),
        }
    }

    /// The decision that gives the round its votes.
    #[must_use]
    pub fn round_record(&self, row: Row) -> Option<RoundRecord> {
        let facts = self.facts(row);
        let (panel, scores) = self.votes(row)?;
        let features = self.features(row);
        let sitting = VotesEntry {
            subject: self.subject(row),
            round_time: facts.round_time,
            decision: DecisionRef { partition: facts.partition, offset: facts.offset },
            panel,
            scores,
            features: features.and_then(|(at, bytes)| Some((self.encoders.get(at)?, bytes))),
        };
        Some(self.owned(row, &sitting))
    }

    /// Forgets the decisions about a subject; the rounds whose votes are others now.
    pub(super) fn erase(&mut self, tenant: &str, subject: &str) -> Vec<Row> {
        let of_tenant = |found: &str| tenant.is_empty() || tenant == found;
        self.passed_over.retain(|_, others| {
            others.retain(|other| !of_tenant(&other.id.tenant) || other.subject.as_deref() != Some(subject));
            !others.is_empty()
        });
        let Some(number) = self.subjects.find(0, subject) else {
            return Vec::new();
        };
        let theirs = |row: &Row| self.facts(*row).subject == number && of_tenant(self.tenant(*row));
        let rows: Vec<Row> = self.rows().filter(theirs).collect();
        for row in &rows {
            self.forget(*row);
        }
        rows
    }

    fn forget(&mut self, row: Row) {
        let facts = self.facts(row);
        let length = self.panels.experts(facts.panel).len();
        let start = facts.votes as usize;
        if let Some(scores) = self.scores.get_mut(start..start + length) {
            scores.fill(Score::ERASED);
        }
        if let Some(features) = self.features.get_mut(facts.features as usize) {
            *features = [0; _];
        }
        if let Some(facts) = self.facts.get_mut(row.0 as usize) {
            *facts = UNKNOWN;
        }
        self.counts.judged -= 1;
        if let Some(next) = self.next_in_line(row) {
            let experts = next.votes.iter().map(|vote| vote.expert.as_str());
            let panel = self.panels.intern(experts).unwrap_or(Panel::NONE);
            let scores: Vec<_> =
                next.votes.iter().filter_map(|vote| Score::new(vote.score, vote.shadow).ok()).collect();
            let sitting = VotesEntry {
                subject: next.subject.as_deref(),
                round_time: next.round_time,
                decision: next.decision,
                panel,
                scores: &scores,
                features: next.features.as_ref().map(|reading| (&reading.encoder, &*reading.features)),
            };
            if self.write(row, &sitting).is_ok() {
                self.counts.judged += 1;
                return;
            }
        }
        if !self.stored(row).is_empty() {
            self.without_votes.insert(row);
        }
    }

    fn next_in_line(&mut self, row: Row) -> Option<RoundRecord> {
        let others = self.passed_over.get_mut(&row)?;
        let (least, _) = others.iter().enumerate().min_by(|(_, a), (_, b)| order(a, b))?;
        let next = others.swap_remove(least);
        if others.is_empty() {
            self.passed_over.remove(&row);
        }
        Some(next)
    }
}

/// Of two decisions about one event the lesser gives the round its votes: by key, then by content.
fn order(a: &RoundRecord, b: &RoundRecord) -> Ordering {
    let votes = |judged: &RoundRecord| -> Vec<(String, Option<u64>, bool)> {
        let bits = |score: Option<f64>| score.map(f64::to_bits);
        judged.votes.iter().map(|vote| (vote.expert.clone(), bits(vote.score), vote.shadow)).collect()
    };
    let reading = |judged: &RoundRecord| {
        judged.features.as_ref().map(|reading| (reading.encoder, reading.features.clone()))
    };
    a.key()
        .cmp(&b.key())
        .then_with(|| votes(a).cmp(&votes(b)))
        .then_with(|| reading(a).cmp(&reading(b)))
        .then_with(|| a.subject.cmp(&b.subject))
}
