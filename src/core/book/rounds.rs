//! One policy's rounds, in columns.

use std::cmp::Ordering;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::edits::Edits;
use super::names::Names;
use super::stored::{Entry, Stored};
use super::votes::{Panel, Panels, Score};
use super::{BookError, Full, Sitting};
use crate::core::event::Millis;
use crate::core::features::{EncoderId, Features};
use crate::core::label::{DecisionRef, Label, Mapping, target};
use crate::core::ledger::{Filed, Judged, Reading, Record, RoundId, Standing};

/// Names a round within its policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Row(pub(in crate::core) u32);

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
    fn of(&mut self, standing: Standing) -> &mut u64 {
        match standing {
            Standing::Accepted => &mut self.accepted,
            Standing::Waiting => &mut self.waiting,
            Standing::TooLate => &mut self.too_late,
            Standing::Expired => &mut self.expired,
        }
    }
}

const NOTHING: u32 = u32::MAX;

/// What was decided about an event, in 40 bytes.
#[derive(Debug, Clone, Copy)]
struct Facts {
    round_time: Millis,
    offset: i64,
    partition: i32,
    panel: Panel,
    /// Where its scores start.
    votes: u32,
    /// Which of the features are its; `NOTHING`: none.
    features: u32,
    encoder: u32,
    subject: u32,
}

const UNKNOWN: Facts = Facts {
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
    policy: String,
    tenants: Names,
    /// Events grouped by tenant; an event's number is its row.
    events: Names,
    subjects: Names,
    pub(super) annotators: Names,
    panels: Panels,
    encoders: Vec<EncoderId>,
    encoder_numbers: HashMap<EncoderId, u32>,
    facts: Vec<Facts>,
    scores: Vec<Score>,
    features: Vec<Features>,
    labels: Vec<Stored>,
    /// Decisions with a higher key than their round's, of another subject: erasing the one's subject
    /// must leave the other.
    passed_over: HashMap<Row, Vec<Judged>>,
    /// Rounds with labels and without votes.
    unjudged: BTreeSet<Row>,
    counts: Counts,
}

impl Rounds {
    pub(super) fn new(policy: &str) -> Self {
        Self {
            policy: policy.to_owned(),
            tenants: Names::default(),
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
            unjudged: BTreeSet::new(),
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
        #[expect(
            clippy::cast_possible_truncation,
            reason = "rows are numbered in 32 bits"
        )]
        (0..self.facts.len() as u32).map(Row)
    }

    /// Rounds with labels whose decision is not known.
    pub fn unjudged(&self) -> impl Iterator<Item = Row> {
        self.unjudged.iter().copied()
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

    fn facts(&self, row: Row) -> Facts {
        self.facts.get(row.0 as usize).copied().unwrap_or(UNKNOWN)
    }

    /// Whether the round's votes are known.
    #[must_use]
    pub fn is_judged(&self, row: Row) -> bool {
        self.facts(row).panel != Panel::NONE
    }

    /// The time that orders rounds; 0 where the votes are not known.
    #[must_use]
    pub fn round_time(&self, row: Row) -> Millis {
        self.facts(row).round_time
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
        self.votes(row)
            .is_some_and(|(_, scores)| scores.iter().any(|score| !score.awake().is_nan()))
    }

    /// The round's features with their encoder's number.
    #[inline]
    #[must_use]
    pub fn features(&self, row: Row) -> Option<(usize, &Features)> {
        let facts = self.facts.get(row.0 as usize)?;
        Some((
            facts.encoder as usize,
            self.features.get(facts.features as usize)?,
        ))
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
    ) -> Result<Panel, BookError> {
        self.panels.intern(experts)
    }

    fn row(&mut self, tenant: &str, event: &str) -> Result<Row, Full> {
        let tenant = self.tenants.intern(0, tenant)?;
        let row = self.events.intern(tenant, event)?;
        if row as usize == self.facts.len() {
            self.facts.push(UNKNOWN);
            self.labels.push(Stored::default());
        }
        Ok(Row(row))
    }

    /// Takes a decision; the round, where its votes are others now.
    pub(super) fn judge(
        &mut self,
        sitting: &Sitting<'_>,
        edits: &Edits,
    ) -> Result<Option<Row>, BookError> {
        if sitting
            .subject
            .is_some_and(|subject| edits.erases(sitting.tenant, subject))
        {
            return Ok(None);
        }
        let row = self.row(sitting.tenant, sitting.event)?;
        if !self.is_judged(row) {
            self.write(row, sitting)?;
            self.counts.judged += 1;
            self.unjudged.remove(&row);
            return Ok(Some(row));
        }
        let order = self.compare(row, sitting);
        let stranger = self.subject(row) != sitting.subject;
        match order {
            Ordering::Less => {
                if stranger && let Some(old) = self.judged(row) {
                    self.pass_over(row, old);
                }
                self.write(row, sitting)?;
                Ok(Some(row))
            }
            Ordering::Greater if stranger => {
                let judged = self.owned(sitting);
                self.pass_over(row, judged);
                Ok(None)
            }
            _ => Ok(None),
        }
    }

    /// Whether a decision would change anything.
    pub(super) fn judgement_is_new(&self, judged: &Judged) -> bool {
        let known = self
            .find(&judged.id.tenant, &judged.id.event)
            .and_then(|row| self.judged(row));
        known.is_none_or(|known| order(judged, &known) == Ordering::Less)
    }

    fn subject(&self, row: Row) -> Option<&str> {
        let subject = self.facts(row).subject;
        (subject != NOTHING).then(|| self.subjects.text(subject))
    }

    /// Which of two decisions gives the round its votes: the lesser.
    fn compare(&self, row: Row, sitting: &Sitting<'_>) -> Ordering {
        let facts = self.facts(row);
        let known = DecisionRef {
            partition: facts.partition,
            offset: facts.offset,
        };
        (sitting.round_time, sitting.decision)
            .cmp(&(facts.round_time, known))
            .then_with(|| {
                // Without a position of its own (a replay of shuffled lines): by content.
                self.judged(row)
                    .map_or(Ordering::Less, |known| order(&self.owned(sitting), &known))
            })
    }

    fn pass_over(&mut self, row: Row, judged: Judged) {
        let others = self.passed_over.entry(row).or_default();
        match others
            .iter_mut()
            .find(|other| other.subject == judged.subject)
        {
            Some(other) if order(&judged, other).is_lt() => *other = judged,
            Some(_) => {}
            None => others.push(judged),
        }
    }

    fn write(&mut self, row: Row, sitting: &Sitting<'_>) -> Result<(), Full> {
        let old = self.facts(row);
        let subject = match sitting.subject {
            Some(subject) => self.subjects.intern(0, subject)?,
            None => NOTHING,
        };
        let (mut features, mut encoder) = (NOTHING, NOTHING);
        if let Some((id, bytes)) = sitting.reading {
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
                features = u32::try_from(self.features.len())
                    .ok()
                    .filter(|new| *new < NOTHING)
                    .ok_or(Full)?;
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

    fn owned(&self, sitting: &Sitting<'_>) -> Judged {
        let experts = self.panels.experts(sitting.panel);
        Judged {
            id: RoundId {
                tenant: sitting.tenant.to_owned(),
                policy: self.policy.clone(),
                event: sitting.event.to_owned(),
            },
            subject: sitting.subject.map(str::to_owned),
            round_time: sitting.round_time,
            decision: sitting.decision,
            votes: experts
                .iter()
                .zip(sitting.scores)
                .map(|(expert, score)| score.vote(expert))
                .collect(),
            reading: sitting.reading.map(|(encoder, features)| Reading {
                encoder: *encoder,
                features: Box::new(*features),
            }),
        }
    }

    /// The decision that gives the round its votes.
    #[must_use]
    pub fn judged(&self, row: Row) -> Option<Judged> {
        let facts = self.facts(row);
        let (panel, scores) = self.votes(row)?;
        Some(
            self.owned(&Sitting {
                tenant: self.tenant(row),
                event: self.event(row),
                subject: self.subject(row),
                round_time: facts.round_time,
                decision: DecisionRef {
                    partition: facts.partition,
                    offset: facts.offset,
                },
                panel,
                scores,
                reading: self
                    .features(row)
                    .and_then(|(at, features)| Some((self.encoders.get(at)?, features))),
            }),
        )
    }

    /// Forgets the decisions about a subject; the rounds whose votes are others now.
    pub(super) fn erase(&mut self, tenant: &str, subject: &str) -> Vec<Row> {
        let of_tenant = |found: &str| tenant.is_empty() || tenant == found;
        self.passed_over.retain(|_, others| {
            others.retain(|other| {
                !of_tenant(&other.id.tenant) || other.subject.as_deref() != Some(subject)
            });
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
            let scores: Vec<_> = next
                .votes
                .iter()
                .filter_map(|vote| Score::new(vote.score, vote.shadow).ok())
                .collect();
            let sitting = Sitting {
                tenant: &next.id.tenant,
                event: &next.id.event,
                subject: next.subject.as_deref(),
                round_time: next.round_time,
                decision: next.decision,
                panel,
                scores: &scores,
                reading: next
                    .reading
                    .as_ref()
                    .map(|reading| (&reading.encoder, &*reading.features)),
            };
            if self.write(row, &sitting).is_ok() {
                self.counts.judged += 1;
                return;
            }
        }
        if !self.stored(row).is_empty() {
            self.unjudged.insert(row);
        }
    }

    fn next_in_line(&mut self, row: Row) -> Option<Judged> {
        let others = self.passed_over.get_mut(&row)?;
        let (least, _) = others
            .iter()
            .enumerate()
            .min_by(|(_, a), (_, b)| order(a, b))?;
        let next = others.swap_remove(least);
        if others.is_empty() {
            self.passed_over.remove(&row);
        }
        Some(next)
    }

    pub(super) fn stored(&self, row: Row) -> &Stored {
        const NONE: &Stored = &Stored::NONE;
        self.labels.get(row.0 as usize).unwrap_or(NONE)
    }

    /// Takes a label; its round, where the set is another now.
    pub(super) fn file(&mut self, filed: &Filed) -> Result<Option<Row>, BookError> {
        let label = &filed.label;
        if label
            .severity
            .is_some_and(|severity| !(0.0..=1.0).contains(&severity))
        {
            return Err(BookError::Severity);
        }
        if label
            .inclusion_probability
            .is_some_and(|q| !(q > 0.0 && q <= 1.0))
        {
            return Err(BookError::Inclusion);
        }
        let row = self.row(&label.tenant, &label.event)?;
        let annotator = match &label.annotator {
            Some(annotator) => self.annotators.intern(0, annotator)? + 1,
            None => 0,
        };
        let mut replaced = None;
        if let Some((at, known)) = self.same(row, label, annotator) {
            if !supersedes(filed, &self.filed(row, &known)) {
                return Ok(None);
            }
            *self.counts.of(known.standing) -= 1;
            replaced = Some(at);
        }
        *self.counts.of(filed.standing) += 1;
        if let Some(stored) = self.labels.get_mut(row.0 as usize) {
            stored.put(filed, annotator, &label.event, replaced);
        }
        if !self.is_judged(row) {
            self.unjudged.insert(row);
        }
        Ok(Some(row))
    }

    /// Whether a label would change anything.
    pub(super) fn label_is_new(&self, filed: &Filed) -> bool {
        let label = &filed.label;
        let Some(row) = self.find(&label.tenant, &label.event) else {
            return true;
        };
        let annotator = match &label.annotator {
            Some(annotator) => match self.annotators.find(0, annotator) {
                Some(known) => known + 1,
                None => return true,
            },
            None => 0,
        };
        let known = self.same(row, label, annotator);
        known.is_none_or(|(_, known)| supersedes(filed, &self.filed(row, &known)))
    }

    /// The label of the same id and annotator. An annotator who takes another's id replaces nothing
    /// here (the algebra keeps one per id): quarantined, the other's label counts again.
    fn same(&self, row: Row, label: &Label, annotator: u32) -> Option<(usize, Entry<'_>)> {
        self.stored(row).entries().enumerate().find(|(_, entry)| {
            entry.annotator == annotator && entry.id.unwrap_or(&label.event) == label.id
        })
    }

    fn filed(&self, row: Row, entry: &Entry<'_>) -> Filed {
        entry.filed(
            self.tenant(row),
            &self.policy,
            self.event(row),
            self.annotator(entry),
        )
    }

    pub(super) fn annotator(&self, entry: &Entry<'_>) -> Option<&str> {
        entry
            .annotator
            .checked_sub(1)
            .map(|number| self.annotators.text(number))
    }

    /// A round's labels, whatever became of them.
    #[must_use]
    pub fn labels(&self, row: Row) -> Vec<Filed> {
        self.stored(row)
            .entries()
            .map(|entry| self.filed(row, &entry))
            .collect()
    }

    /// The rounds with a label of this annotator.
    pub(super) fn labelled_by(&self, tenant: &str, annotator: &str) -> Vec<Row> {
        let Some(number) = self.annotators.find(0, annotator) else {
            return Vec::new();
        };
        let theirs = |row: &Row| {
            self.stored(*row)
                .entries()
                .any(|entry| entry.annotator == number + 1)
                && (tenant.is_empty() || self.tenant(*row) == tenant)
        };
        self.rows().filter(theirs).collect()
    }

    /// What the round's live labels say, in \[0,1\], known votes or not; `None` where no label is live.
    #[must_use]
    pub fn target(&self, row: Row, mapping: &Mapping, edits: &Edits) -> Option<f64> {
        let tenant = self.tenant(row);
        if let Some(only) = self.stored(row).only() {
            let id = only.id.unwrap_or(self.event(row));
            let quarantined = edits.quarantine_anyone()
                && self
                    .annotator(&only)
                    .is_some_and(|annotator| edits.quarantines(tenant, annotator));
            let teaches = only.standing.counts()
                && mapping.teaches.contains(&only.source)
                && only.retracts.is_none()
                && only.corrects != Some(id);
            return (teaches && !quarantined)
                .then(|| mapping.says(only.verdict, only.severity))
                .flatten();
        }
        let labels = self.accepted(row);
        target(&labels, mapping, |annotator| {
            edits.quarantines(tenant, annotator)
        })
    }

    /// A round's labels that may teach.
    pub(super) fn accepted(&self, row: Row) -> Vec<Label> {
        let entries = self
            .stored(row)
            .entries()
            .filter(|entry| entry.standing.counts());
        entries.map(|entry| self.filed(row, &entry).label).collect()
    }

    pub(super) fn records(&self) -> impl Iterator<Item = Record> {
        self.rows().flat_map(|row| {
            let passed_over = self.passed_over.get(&row).into_iter().flatten().cloned();
            let judged = self
                .judged(row)
                .into_iter()
                .chain(passed_over)
                .map(Record::Judged);
            judged.chain(self.labels(row).into_iter().map(Record::Filed))
        })
    }

    /// Labels by annotator, those without one under the empty name.
    #[must_use]
    pub fn labels_by_annotator(&self) -> BTreeMap<String, u64> {
        let mut found = BTreeMap::new();
        for entry in self.labels.iter().flat_map(Stored::entries) {
            *found
                .entry(self.annotator(&entry).unwrap_or("").to_owned())
                .or_insert(0) += 1;
        }
        found
    }
}

/// Of two decisions about one event the lesser gives the round its votes: by key, then by content.
fn order(a: &Judged, b: &Judged) -> Ordering {
    let votes = |judged: &Judged| -> Vec<(String, Option<u64>, bool)> {
        let bits = |score: Option<f64>| score.map(f64::to_bits);
        judged
            .votes
            .iter()
            .map(|vote| (vote.expert.clone(), bits(vote.score), vote.shadow))
            .collect()
    };
    let reading = |judged: &Judged| {
        judged
            .reading
            .as_ref()
            .map(|reading| (reading.encoder, reading.features.clone()))
    };
    a.key()
        .cmp(&b.key())
        .then_with(|| votes(a).cmp(&votes(b)))
        .then_with(|| reading(a).cmp(&reading(b)))
        .then_with(|| a.subject.cmp(&b.subject))
}

/// Whether a label takes the place of one with the same id and annotator: the newer does, and of the
/// same label the one further on its way, then the one received first.
fn supersedes(new: &Filed, known: &Filed) -> bool {
    let further = |filed: &Filed| filed.standing as u8;
    new.label
        .newer(&known.label)
        .then(further(new).cmp(&further(known)))
        .then(known.received.cmp(&new.received))
        .is_gt()
}
