//! One policy's rounds, in columns.

use std::collections::{BTreeSet, HashMap};

use super::LedgerError;
use super::names::Names;
use super::stored::Stored;
use super::votes::{Panel, Panels, Score};
use crate::event::Millis;
use crate::features::{EncoderId, Features};
use crate::label::DecisionRef;
use crate::ledger::{LabelStatus, Record, RoundRecord};

/// Names a round within its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row(pub(crate) u32);

/// What a policy's part of the ledger holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Rounds whose votes are known.
    pub judged: u64,
    /// Labels that count.
    pub accepted: u64,
    /// Labels whose decision is not known yet.
    pub waiting: u64,
    /// Labels that waited and had come too late.
    pub too_late: u64,
    /// Labels that waited for too long.
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

pub(super) const NOTHING: u32 = u32::MAX;

/// What was decided about an event, in 40 bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Facts {
    pub(super) round_time: Millis,
    pub(super) offset: i64,
    pub(super) partition: i32,
    pub(super) panel: Panel,
    /// Where its scores start.
    pub(super) votes: u32,
    /// Which of the features are its; `NOTHING`: none.
    pub(super) features: u32,
    pub(super) encoder: u32,
    pub(super) subject: u32,
}

pub(super) const UNKNOWN: Facts = Facts {
    round_time: 0,
    offset: 0,
    partition: 0,
    panel: Panel::NONE,
    votes: 0,
    features: NOTHING,
    encoder: NOTHING,
    subject: NOTHING,
};

/// One policy's part of the ledger.
#[derive(Debug)]
pub struct Rounds {
    pub(super) policy: String,
    pub(super) tenants: Names,
    pub(super) last_tenant: u32,
    /// Events grouped by tenant; an event's number is its row.
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
    /// Decisions with a higher key than their round's, of another subject: erasing the one's subject
    /// must leave the other.
    pub(super) passed_over: HashMap<Row, Vec<RoundRecord>>,
    /// Rounds with labels and without votes.
    pub(super) without_votes: BTreeSet<Row>,
    pub(super) counts: Counts,
}

impl Rounds {
    pub(super) fn new(policy: &str) -> Self {
        Self {
            policy: policy.to_owned(),
            tenants: Names::default(),
            last_tenant: 0,
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

    /// How much there is.
    #[must_use]
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// How many rows there are, those of unknown events included.
    #[must_use]
    pub fn len(&self) -> usize {
        self.facts.len()
    }

    /// Whether there is no row.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.facts.is_empty()
    }

    /// All rows, in order of first appearance.
    pub fn rows(&self) -> impl Iterator<Item = Row> + use<> {
        #[expect(clippy::cast_possible_truncation, reason = "rows are numbered in 32 bits")]
        (0..self.facts.len() as u32).map(Row)
    }

    /// Rounds with labels whose decision is not known.
    pub fn without_votes(&self) -> impl Iterator<Item = Row> {
        self.without_votes.iter().copied()
    }

    /// A round's row, if any record names it.
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
        self.facts.get(row.0 as usize).copied().unwrap_or(UNKNOWN)
    }

    /// Whether the round's votes are known.
    #[must_use]
    pub fn has_votes(&self, row: Row) -> bool {
        self.facts(row).panel != Panel::NONE
    }

    /// The time that orders rounds; 0 where the votes are not known.
    #[must_use]
    pub fn round_time(&self, row: Row) -> Millis {
        self.facts(row).round_time
    }

    /// Where the decision lies that gave the round its votes; of no meaning where they are not known.
    #[must_use]
    pub fn decision(&self, row: Row) -> DecisionRef {
        let facts = self.facts(row);
        DecisionRef { partition: facts.partition, offset: facts.offset }
    }

    /// The round's panel, where its votes are known, and their scores in its order.
    #[inline]
    #[must_use]
    pub fn votes(&self, row: Row) -> Option<(Panel, &[Score])> {
        let facts = self.facts.get(row.0 as usize)?;
        let experts = self.panels.experts(facts.panel).len();
        let start = facts.votes as usize;
        (facts.panel != Panel::NONE).then_some(())?;
        Some((facts.panel, self.scores.get(start..start + experts)?))
    }

    /// Whether any expert is awake.
    #[must_use]
    pub fn any_awake(&self, row: Row) -> bool {
        self.votes(row).is_some_and(|(_, scores)| scores.iter().any(|score| !score.awake().is_nan()))
    }

    /// The round's features with their encoder's number.
    #[inline]
    #[must_use]
    pub fn features(&self, row: Row) -> Option<(usize, &Features)> {
        let facts = self.facts.get(row.0 as usize)?;
        Some((facts.encoder as usize, self.features.get(facts.features as usize)?))
    }

    /// The encoders seen, by number.
    #[must_use]
    pub fn encoders(&self) -> &[EncoderId] {
        &self.encoders
    }

    /// The panels seen, by number: the ids of each in order.
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
        if self.tenants.text(self.last_tenant) != tenant || tenant.is_empty() {
            self.last_tenant = self.tenants.intern(0, tenant)?;
        }
        let tenant = self.last_tenant;
        let row = self.events.intern(tenant, event)?;
        if row as usize == self.facts.len() {
            self.facts.push(UNKNOWN);
            self.labels.push(Stored::default());
        }
        Ok(Row(row))
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        self.rows().flat_map(|row| {
            let passed_over = self.passed_over.get(&row).into_iter().flatten().cloned();
            let judged = self.round_record(row).into_iter().chain(passed_over).map(Record::Round);
            judged.chain(self.labels(row).into_iter().map(Record::Label))
        })
    }
}
