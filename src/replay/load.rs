//! Parsed lines become the ledger, and the folds follow.

use std::collections::BTreeMap;

use super::ReplayError;
use super::batch::{Batch, Item, Said, Savepoint, Votes, Who};
use super::header::HeaderPolicy;
use super::write::Policy;
use crate::core::event::Millis;
use crate::core::features::{EncoderId, Features};
use crate::core::fold::{DEFAULT_MEMORY, Fold, Settings};
use crate::core::hash::hex;
use crate::core::label::DecisionRef;
use crate::core::learners::LearnerSpec;
use crate::core::learners::tally::Costs;
use crate::core::ledger::Record;
use crate::core::ledger_state::{
    Change, LabelEntry, LedgerError, LedgerState, Panel, Row, Score, VotesEntry,
};

/// A round whose text is to be read before it can sit.
#[derive(Debug)]
pub(super) struct Unread {
    pub(super) text: String,
    policy: usize,
    row: Row,
    subject: Option<String>,
    round_time: Millis,
    decision: DecisionRef,
    panel: Panel,
    scores: Vec<Score>,
}

/// How one policy's fold follows the book.
#[derive(Debug, Default)]
struct Follower {
    fold: Option<Fold>,
    /// Changes since the fold last took a step.
    owed: usize,
    /// The fold waits until so many have come.
    patience: usize,
}

/// The ledger of a replay, and its folds.
#[derive(Debug, Default)]
pub(super) struct Loader {
    pub(super) book: LedgerState,
    followers: Vec<Follower>,
    /// What headers and configuration say.
    pub(super) headers: BTreeMap<String, HeaderPolicy>,
    /// The learner that goes before any header's.
    pub(super) learner: Option<LearnerSpec>,
    /// `--seed`.
    pub(super) seed: Option<Vec<u8>>,
    pub(super) costs: Option<Costs>,
    /// Whether lines with votes have times; `None` before the first.
    pub(super) timed: Option<bool>,
    /// Lines with votes so far.
    pub(super) position: i64,
    /// Lines of a savepoint bring their places with them.
    pub(super) resuming: bool,
    pub(super) savepoint: Option<Savepoint>,
    pub(super) unread: Vec<Unread>,
    /// Every panel's experts, as the reading thread counts panels.
    panels: Vec<Vec<String>>,
    /// By policy: the book's numbers for them.
    known_panels: Vec<Vec<Option<Panel>>>,
    last_policy: Option<(String, usize)>,
    changes: Vec<Change>,
}

/// Why a line was not taken.
#[derive(Debug)]
pub(super) enum Refused {
    /// It is malformed.
    Line(String),
    /// The whole run cannot go on.
    Run(ReplayError),
}

impl From<LedgerError> for Refused {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Full => Self::Run(ReplayError::Internal(error.to_string())),
            _ => Self::Line(error.to_string()),
        }
    }
}

impl Loader {
    /// Takes one item of a batch.
    pub(super) fn take(&mut self, item: &Item, batch: &Batch) -> Result<(), Refused> {
        match item {
            Item::Round { who, votes, said } => self.round(*who, votes.as_ref(), said.as_ref(), batch),
            Item::Labels(labels) => {
                labels.iter().try_for_each(|(who, said)| self.round(*who, None, Some(said), batch))
            }
            Item::Edit(edit) => self.record(&Record::Edit(edit.clone())),
            Item::Header(policies) => self.header(policies),
            Item::Savepoint(savepoint) if self.resuming => {
                self.timed = savepoint.timed;
                self.position = savepoint.position;
                self.savepoint = Some(savepoint.clone());
                Ok(())
            }
            Item::Savepoint(_) => Err(Refused::Line("a savepoint is read with --resume".to_owned())),
            Item::Malformed(reason) => Err(Refused::Line(reason.clone())),
        }
    }

    /// Learns of the panels that a batch brings.
    pub(super) fn panels(&mut self, batch: &Batch) {
        self.panels.extend(batch.panels.iter().cloned());
    }

    /// A new parser counts its panels from 0.
    pub(super) fn new_parser(&mut self) {
        self.panels.clear();
        self.known_panels.clear();
    }

    /// Takes a record of a ledger topic.
    pub(super) fn record(&mut self, record: &Record) -> Result<(), Refused> {
        let taken = self.book.apply(record, &mut self.changes);
        self.tell();
        taken.map(|_| ()).map_err(Refused::from)
    }

    fn header(&mut self, policies: &BTreeMap<String, HeaderPolicy>) -> Result<(), Refused> {
        for (name, given) in policies {
            match self.headers.get(name) {
                Some(known) if known.same(given) => {}
                Some(_) => {
                    let reason = format!("two headers contradict one another about the policy {name:?}");
                    return Err(Refused::Run(ReplayError::Data(reason)));
                }
                None => {
                    self.headers.insert(name.clone(), given.clone());
                    if let Some(follower) = self.book.find(name).and_then(|at| self.followers.get_mut(at)) {
                        *follower = Follower::default();
                    }
                }
            }
        }
        Ok(())
    }

    fn policy(&mut self, name: &str) -> usize {
        if let Some((last, at)) = &self.last_policy
            && last == name
        {
            return *at;
        }
        let at = self.book.policy(name);
        self.last_policy = Some((name.to_owned(), at));
        at
    }

    fn panel(&mut self, policy: usize, number: usize) -> Result<Panel, LedgerError> {
        if self.known_panels.len() <= policy {
            self.known_panels.resize(policy + 1, Vec::new());
        }
        let known = self.known_panels.get_mut(policy).ok_or(LedgerError::Full)?;
        if known.len() <= number {
            known.resize(number + 1, None);
        }
        let slot = known.get_mut(number).ok_or(LedgerError::Full)?;
        if let Some(panel) = slot {
            return Ok(*panel);
        }
        let experts = self.panels.get(number).map_or(&[][..], Vec::as_slice);
        let panel = self.book.panel(policy, experts.iter().map(String::as_str))?;
        *slot = Some(panel);
        Ok(panel)
    }

    fn round(
        &mut self,
        who: Who,
        votes: Option<&Votes>,
        said: Option<&Said>,
        batch: &Batch,
    ) -> Result<(), Refused> {
        let policy = self.policy(batch.text(who.policy));
        let row = self.book.intern(policy, batch.text(who.tenant), batch.text(who.event))?;
        if let Some(votes) = votes {
            self.votes(policy, row, votes, batch)?;
        }
        if let Some(said) = said {
            let text = |span| batch.text(span);
            let filing = LabelEntry {
                id: text(said.id),
                annotator: said.annotator.map(text),
                verdict: said.verdict,
                severity: said.severity,
                categories: &said.categories,
                time: said.time,
                source: said.source,
                inclusion_probability: said.inclusion_probability,
                decision: said.decision,
                corrects: said.corrects.map(text),
                retracts: said.retracts.map(text),
                received: said.received,
                status: said.standing,
            };
            self.book.insert_label(policy, row, &filing, &mut self.changes)?;
        }
        self.tell();
        Ok(())
    }

    fn votes(&mut self, policy: usize, row: Row, votes: &Votes, batch: &Batch) -> Result<(), Refused> {
        let place = self.position;
        let timed = votes.time.is_some();
        if !self.resuming && *self.timed.get_or_insert(timed) != timed {
            let reason =
                "event_time stands on some lines with votes and not on others: give it on all or on none";
            return Err(Refused::Run(ReplayError::Data(reason.to_owned())));
        }
        if !self.resuming {
            self.position += 1;
        }
        let untimed = DecisionRef { partition: 0, offset: if timed { 0 } else { place } };
        let panel = self.panel(policy, votes.panel)?;
        let experts = self.panels.get(votes.panel).map_or(0, Vec::len);
        let scores = batch.scores.get(votes.scores..votes.scores + experts).unwrap_or(&[]);
        let reading = votes.reading.and_then(|at| batch.readings.get(at));
        let sitting = VotesEntry {
            subject: votes.subject.map(|span| batch.text(span)),
            round_time: votes.time.unwrap_or(place),
            decision: votes.at.unwrap_or(untimed),
            panel,
            scores,
            features: reading.map(|(encoder, features)| (encoder, features)),
        };
        if let Some(text) = votes.text {
            self.unread.push(Unread {
                text: batch.text(text).to_owned(),
                policy,
                row,
                subject: sitting.subject.map(str::to_owned),
                round_time: sitting.round_time,
                decision: sitting.decision,
                panel,
                scores: scores.to_vec(),
            });
            return Ok(());
        }
        self.book.insert_votes(policy, row, &sitting, &mut self.changes)?;
        Ok(())
    }

    /// PanelHandle a round whose text was read; without features where it could not be.
    pub(super) fn seat(
        &mut self,
        unread: &Unread,
        reading: Option<(&EncoderId, &Features)>,
    ) -> Result<(), Refused> {
        let sitting = VotesEntry {
            subject: unread.subject.as_deref(),
            round_time: unread.round_time,
            decision: unread.decision,
            panel: unread.panel,
            scores: &unread.scores,
            features: reading,
        };
        self.book.insert_votes(unread.policy, unread.row, &sitting, &mut self.changes)?;
        self.tell();
        Ok(())
    }

    /// Passes changes on to the folds that exist.
    fn tell(&mut self) {
        for change in self.changes.drain(..) {
            let Some(follower) = self.followers.get_mut(change.policy) else { continue };
            if let Some(fold) = &mut follower.fold {
                fold.mark_changed(&change);
                follower.owed += 1;
            }
        }
    }

    /// What a policy is folded with, by headers and flags.
    pub(super) fn settings(&self, policy: &str) -> Result<Policy, ReplayError> {
        let known = self.headers.get(policy).cloned();
        let mut header = known.unwrap_or_else(|| Policy::unknown(policy).into());
        if let Some(learner) = &self.learner {
            header.settings.learner = learner.clone();
            return Ok(header.settings);
        }
        let keyed = header.key(self.seed.as_deref());
        keyed.map_err(|reason| ReplayError::Usage(format!("policy {policy:?}: {reason}")))?;
        Ok(header.settings)
    }

    /// Drops the folds: what they are folded with changed.
    pub(super) fn start_over(&mut self) {
        self.followers.clear();
    }

    /// Whether the states are those that a savepoint tells of; if not, the policy whose is not.
    pub(super) fn check(&mut self, states: &BTreeMap<String, String>) -> Result<(), String> {
        for (name, hash) in states {
            let found = self.book.find(name).and_then(|at| self.followers.get_mut(at));
            let fold = found.and_then(|follower| follower.fold.as_mut()).ok_or_else(|| name.clone())?;
            fold.catch_up(&self.book).map_err(|_| name.clone())?;
            if hex(&fold.state_hash(&self.book)) != *hash {
                return Err(name.clone());
            }
        }
        Ok(())
    }

    fn fold(&self, policy: &str) -> Result<Fold, ReplayError> {
        let settings = self.settings(policy)?;
        let mut fold = Fold::new(Settings {
            policy: policy.to_owned(),
            learner: settings.learner,
            mapping: settings.mapping,
            encoder: settings.encoder,
            memory: DEFAULT_MEMORY,
            tally: true,
            costs: self.costs,
        });
        fold.mark_all_changed(&self.book);
        Ok(fold)
    }

    /// Folds what has come, where that does not cost more than it brings: lines in order are folded as
    /// they come, shuffled ones when they have doubled.
    pub(super) fn follow(&mut self) {
        while self.followers.len() < self.book.policies().len() {
            let name = self.book.policies().get(self.followers.len()).map_or("", |rounds| rounds.policy());
            // Where it cannot be built, the end will tell.
            let fold = self.fold(name).ok();
            let owed = fold.as_ref().map_or(0, Fold::pending);
            self.followers.push(Follower { fold, owed, patience: 0 });
        }
        for follower in &mut self.followers {
            let Some(fold) = &mut follower.fold else { continue };
            if follower.owed == 0 || follower.owed < follower.patience {
                continue;
            }
            match fold.reorder(&self.book) {
                Ok(steps) if steps <= 2 * follower.owed + 1_000 => {
                    // An expert that is still to come may make a learner possible.
                    let _ = fold.advance(&self.book, usize::MAX);
                    follower.owed = 0;
                }
                Ok(steps) => follower.patience = steps / 2,
                Err(_) => follower.patience = follower.owed * 2,
            }
        }
    }

    /// Folds everything; the folds in the order of the policies' names.
    pub(super) fn finish(&mut self) -> Result<Vec<Fold>, ReplayError> {
        let mut folds = Vec::new();
        let names: BTreeMap<String, usize> = self
            .book
            .policies()
            .iter()
            .enumerate()
            .map(|(at, rounds)| (rounds.policy().to_owned(), at))
            .collect();
        for (name, at) in names {
            let kept = self.followers.get_mut(at).and_then(|follower| follower.fold.take());
            let mut fold = match kept {
                Some(fold) => fold,
                None => self.fold(&name)?,
            };
            fold.catch_up(&self.book).map_err(|error| ReplayError::Data(error.to_string()))?;
            folds.push(fold);
        }
        Ok(folds)
    }
}
