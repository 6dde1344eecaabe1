//! The rounds of one policy, in columns.

use std::collections::{BTreeSet, HashMap};

use super::LedgerError;
use super::names::Names;
use super::stored::Stored;
use super::votes::{Panel, Panels, Score};
use crate::event::Millis;
use crate::features::{EncoderId, Features};
use crate::label::DecisionRef;
use crate::ledger::{LabelStatus, Record, RoundRecord};

/// The number of a round within its policy.
///
/// A row is valid for the [`Rounds`] that returned it. Methods that take a row panic if it is not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row(pub(crate) u32);

/// The numbers of rounds and labels of a policy.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// The rounds whose votes are known.
    pub judged: u64,
    /// The labels that count.
    pub accepted: u64,
    /// The labels whose decision is not known yet.
    pub waiting: u64,
    /// The labels that waited, and were too late when their decision became known.
    pub too_late: u64,
    /// The labels that waited for too long.
    pub expired: u64,
}

impl Counts {
    pub(super) fn of(&mut self, status: LabelStatus) -> &mut u64 {
        match status {
            LabelStatus::Accepted => &mut self.accepted,
            LabelStatus::Waiting => &mut self.waiting,
            LabelStatus::TooLate => &mut self.too_late,
            LabelStatus::Expired => &mut self.expired,
        }
    }
}

/// The number of a subject, of features or of an encoder that a round does not have.
pub(super) const NONE: u32 = u32::MAX;

/// The decision about an event, in 40 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) round_time: Millis,
    pub(super) offset: i64,
    pub(super) partition: i32,
    pub(super) panel: Panel,
    /// The index of its first score.
    pub(super) scores: u32,
    /// The index of its features, or `NONE`.
    pub(super) features: u32,
    /// The number of its encoder, or `NONE`.
    pub(super) encoder: u32,
    /// The number of its subject, or `NONE`.
    pub(super) subject: u32,
}

/// An event whose decision is not known.
pub(super) const UNDECIDED: Facts = Facts {
    round_time: 0,
    offset: 0,
    partition: 0,
    panel: Panel::NONE,
    scores: 0,
    features: NONE,
    encoder: NONE,
    subject: NONE,
};

/// The rounds of one policy.
#[derive(Debug)]
pub struct Rounds {
    pub(super) policy: String,
    pub(super) tenants: Names,
    /// The tenant of the round interned last.
    pub(super) last_tenant: Option<u32>,
    /// The events, grouped by tenant. The number of an event is its row.
    pub(super) events: Names,
    pub(super) subjects: Names,
    pub(super) annotators: Names,
    pub(super) panels: Panels,
    pub(super) encoders: Vec<EncoderId>,
    pub(super) encoder_numbers: HashMap<EncoderId, u32>,
    pub(super) facts: Vec<Facts>,
    pub(super) scores: Vec<Score>,
    pub(super) features: Vec<Features>,
    pub(super) labels: Vec<Stored>,
    /// Decisions with a higher key than their round's and another subject. If the round's subject is erased, one
    /// of them takes its place.
    pub(super) passed_over: HashMap<Row, Vec<RoundRecord>>,
    /// The rounds with labels and without votes.
    pub(super) without_votes: BTreeSet<Row>,
    pub(super) counts: Counts,
}

impl Rounds {
    pub(super) fn new(policy: &str) -> Self {
        Self {
            policy: policy.to_owned(),
            tenants: Names::default(),
            last_tenant: None,
            events: Names::default(),
            subjects: Names::default(),
            annotators: Names::default(),
            panels: Panels::default(),
            encoders: Vec::new(),
            encoder_numbers: HashMap::new(),
            facts: Vec::new(),
            scores: Vec::new(),
            features: Vec::new(),
            labels: Vec::new(),
            passed_over: HashMap::new(),
            without_votes: BTreeSet::new(),
            counts: Counts::default(),
        }
    }

    /// The policy's name.
    #[must_use]
    pub fn policy(&self) -> &str {
        &self.policy
    }

    /// The numbers of rounds and labels.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The number of rows, including those of events whose decision is not known.
    #[must_use]
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Returns `true` if there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// All rows, in order of first appearance.
    pub fn rows(&self) -> impl DoubleEndedIterator<Item = Row> + use<> {
        #[expect(clippy::cast_possible_truncation, reason = "rows are numbered in 32 bits")]
        (0..self.facts.len() as u32).map(Row)
    }

    /// The rounds with labels whose decision is not known.
    pub fn without_votes(&self) -> impl Iterator<Item = Row> {
        self.without_votes.iter().copied()
    }

    /// The row of a round, if any record names it.
    #[must_use]
    pub fn find(&self, tenant: &str, event: &str) -> Option<Row> {
        let tenant = self.tenants.find(0, tenant)?;
        self.events.find(tenant, event).map(Row)
    }

    /// The round's tenant.
    #[must_use]
    pub fn tenant(&self, row: Row) -> &str {
        self.tenants.text(self.events.group(row.0))
    }

    /// The round's event id.
    #[inline]
    #[must_use]
    pub fn event(&self, row: Row) -> &str {
        self.events.text(row.0)
    }

    pub(super) fn facts(&self, row: Row) -> Facts {
        self.facts[row.0 as usize]
    }

    /// Returns `true` if the round's votes are known.
    #[must_use]
    pub fn has_votes(&self, row: Row) -> bool {
        self.facts(row).panel != Panel::NONE
    }

    /// The time that orders rounds; 0 if the votes are not known.
    #[must_use]
    pub fn round_time(&self, row: Row) -> Millis {
        self.facts(row).round_time
    }

    /// The position of the decision that gave the round its votes. It has no meaning if they are not known.
    #[must_use]
    pub fn decision(&self, row: Row) -> DecisionRef {
        let facts = self.facts(row);
        DecisionRef { partition: facts.partition, offset: facts.offset }
    }

    /// The round's panel and its scores in the panel's order; `None` if they are not known.
    #[inline]
    #[must_use]
    pub fn votes(&self, row: Row) -> Option<(Panel, &[Score])> {
        let facts = &self.facts[row.0 as usize];
        if facts.panel == Panel::NONE {
            return None;
        }
        let start = facts.scores as usize;
        Some((facts.panel, &self.scores[start..start + self.panels.experts(facts.panel).len()]))
    }

    /// Returns `true` if any expert is awake.
    #[must_use]
    pub fn any_awake(&self, row: Row) -> bool {
        self.votes(row).is_some_and(|(_, scores)| scores.iter().any(|score| !score.awake().is_nan()))
    }

    /// The round's features with the number of their encoder; `None` if it has none.
    #[inline]
    #[must_use]
    pub fn features(&self, row: Row) -> Option<(usize, &Features)> {
        let facts = &self.facts[row.0 as usize];
        (facts.features != NONE).then(|| (facts.encoder as usize, &self.features[facts.features as usize]))
    }

    /// The encoders of all rounds, by number.
    #[must_use]
    pub fn encoders(&self) -> &[EncoderId] {
        &self.encoders
    }

    /// The panels of all rounds, by number, as ordered expert ids.
    #[must_use]
    pub fn panels(&self) -> &[Vec<String>] {
        self.panels.all()
    }

    pub(super) fn panel<'a>(
        &mut self,
        experts: impl ExactSizeIterator<Item = &'a str> + Clone,
    ) -> Result<Panel, LedgerError> {
        self.panels.intern(experts)
    }

    pub(super) fn intern(&mut self, tenant: &str, event: &str) -> Result<Row, LedgerError> {
        let tenant = match self.last_tenant.filter(|last| self.tenants.text(*last) == tenant) {
            Some(last) => last,
            None => self.tenants.intern(0, tenant)?,
        };
        self.last_tenant = Some(tenant);
        let row = self.events.intern(tenant, event)?;
        if row as usize == self.facts.len() {
            self.facts.push(UNDECIDED);
            self.labels.push(Stored::default());
        }
        Ok(Row(row))
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        self.rows().flat_map(|row| {
            let passed_over = self.passed_over.get(&row).into_iter().flatten().cloned();
            let decisions = self.round_record(row).into_iter().chain(passed_over).map(Record::Round);
            decisions.chain(self.labels(row).into_iter().map(Record::Label))
        })
    }
}
