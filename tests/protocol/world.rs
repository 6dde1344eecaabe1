//! A handful of decisions and labels, and what core makes of them: book, label algebra, fold.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use aegis::core::fold::{Fold, Settings};
use aegis::core::label::{DecisionRef, Finding, Label, Mapping, Source, target};
use aegis::core::learners::{LearnerSpec, Name};
use aegis::core::ledger::{Key, LabelRecord, LabelStatus, Record, RoundId, RoundRecord, RoundVote};
use aegis::core::ledger_state::LedgerState;
use aegis::core::predictor::StateHash;

const POLICY: &str = "house";
const TENANT: &str = "acme";
const EVENT: &str = "a";

/// The decisions as score commits them: round time and the expert's vote. The event came twice, the second
/// time with the lower key, which gives the round its votes.
pub const DECISIONS: [(i64, f64); 2] = [(20, 0.9), (10, 0.2)];

/// A label: its id, what was found, and the label that it corrects.
type Sent = (&'static str, Finding, Option<&'static str>);

/// The labels by offset; none: one that cannot be read. The second is the first, sent twice; the third
/// corrects it. Any of them may be read before its event's decision.
pub const LABELS: [Option<Sent>; 4] = [
    Some(("1", Finding::Unsafe, None)),
    Some(("1", Finding::Unsafe, None)),
    Some(("3", Finding::Safe, Some("1"))),
    None,
];

/// A record of the ledger.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Entry {
    RoundRecord(usize),
    LabelRecord { label: usize, waiting: bool },
}

impl Entry {
    fn bit(self) -> u16 {
        match self {
            Self::RoundRecord(decision) => 1 << decision,
            Self::LabelRecord { label, waiting } => 1 << (DECISIONS.len() + 2 * label + usize::from(waiting)),
        }
    }

    pub fn all() -> impl Iterator<Item = Self> {
        let filed = |label| [false, true].map(|waiting| Self::LabelRecord { label, waiting });
        (0..DECISIONS.len()).map(Self::RoundRecord).chain((0..LABELS.len()).flat_map(filed))
    }

    fn record(self) -> Option<Record> {
        match self {
            Self::RoundRecord(decision) => Some(Record::Round(judged(decision))),
            Self::LabelRecord { label, waiting } => {
                let standing = if waiting { LabelStatus::Waiting } else { LabelStatus::Accepted };
                let received = 100 + label as i64;
                Some(Record::Label(LabelRecord { label: sent(label)?, received, status: standing }))
            }
        }
    }
}

/// A set of ledger records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Set(u16);

impl Set {
    pub fn insert(&mut self, entry: Entry) {
        self.0 |= entry.bit();
    }

    pub fn has(self, entry: Entry) -> bool {
        self.0 & entry.bit() != 0
    }

    /// Whether a label waits that has not been accepted since.
    pub fn has_waiting(self) -> bool {
        let filed = |label, waiting| self.has(Entry::LabelRecord { label, waiting });
        (0..LABELS.len()).any(|label| filed(label, true) && !filed(label, false))
    }

    fn book(self) -> LedgerState {
        let mut book = LedgerState::new();
        let records = Entry::all().filter(|entry| self.has(*entry)).filter_map(Entry::record);
        records
            .for_each(|record| _ = book.apply(&record, &mut vec![]).expect("the world's records are sound"));
        book
    }

    /// The hash of the learner's state that is the fold of this set.
    pub fn state_hash(self) -> StateHash {
        thread_local!(static KNOWN: RefCell<HashMap<u16, StateHash>> = RefCell::default());
        let fold = || {
            let book = self.book();
            let settings = Settings::new(POLICY, LearnerSpec::new(Name::Hedge), Mapping::default());
            let mut fold = Fold::new(settings);
            fold.mark_all_changed(&book);
            fold.catch_up(&book).expect("the learner takes these experts");
            fold.state_hash(&book)
        };
        KNOWN.with_borrow_mut(|known| *known.entry(self.0).or_insert_with(fold))
    }

    /// What the ledger teaches about the event.
    pub fn target(self) -> Option<f64> {
        let records = Entry::all().filter(|entry| self.has(*entry)).filter_map(Entry::record);
        let labels: Vec<Label> = records
            .filter_map(|record| match record {
                Record::Label(filed) => Some(filed.label),
                _ => None,
            })
            .collect();
        target(&labels, &Mapping::default(), |_| false)
    }

    /// Whether a label under this one's key is in the ledger.
    pub fn has_label(self, label: usize) -> bool {
        let same = |other: usize| LABELS[other].zip(LABELS[label]).is_some_and(|(a, b)| a.0 == b.0);
        let filed = |label| [false, true].map(|waiting| Entry::LabelRecord { label, waiting });
        (0..LABELS.len()).filter(|other| same(*other)).flat_map(filed).any(|entry| self.has(entry))
    }
}

/// What the ledger holds where nothing ever went wrong, in its plainest form: every label accepted, the
/// rounds with the votes of their lowest decisions.
pub fn undisturbed() -> Set {
    let filed = [0, 2].map(|label| Entry::LabelRecord { label, waiting: false });
    let mut set = Set::default();
    [Entry::RoundRecord(1)].into_iter().chain(filed).for_each(|entry| set.insert(entry));
    set
}

/// What a unit writes: ledger records and dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Joined {
    pub ledger: Vec<Entry>,
    pub letters: Vec<usize>,
}

/// What a unit has read.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Read {
    pub decisions: Range<usize>,
    pub labels: Range<usize>,
    /// Whether the rounds of records that another learner wrote are looked up too.
    pub search: bool,
}

/// Joins what was read to the ledger as `src/learn/join.rs` does: the decisions of rounds that it knows are
/// compared; a label looks its decision up in the `index`, a bit for each decision, and waits without one.
pub fn join(ledger: Set, index: u8, read: Read) -> Joined {
    thread_local!(static KNOWN: RefCell<HashMap<(u16, u8, Read), Joined>> = RefCell::default());
    let asked = (ledger.0, index, read.clone());
    let make = || {
        let Read { decisions, labels, search } = read;
        let mut join = Join { book: ledger.book(), index, joined: vec![] };
        if search && join.book.row(&round()).is_some() {
            join.compare();
        }
        for decision in decisions {
            if join.book.row(&round()).is_some() {
                join.judge(decision);
            }
        }
        let mut letters = Vec::new();
        for label in labels {
            if LABELS[label].is_none() {
                letters.push(label);
                continue;
            }
            if !join.is_judged() {
                join.compare();
            }
            let waiting = !join.is_judged();
            join.put(Entry::LabelRecord { label, waiting });
        }
        Joined { ledger: join.joined.into_iter().map(|(_, entry)| entry).collect(), letters }
    };
    KNOWN.with_borrow_mut(|known| known.entry(asked).or_insert_with(make).clone())
}

struct Join {
    book: LedgerState,
    index: u8,
    /// Each key once.
    joined: Vec<(Key, Entry)>,
}

impl Join {
    fn is_judged(&self) -> bool {
        let key = Key::Round(round());
        self.joined.iter().any(|(other, _)| *other == key)
            || self.book.row(&round()).is_some_and(|(rounds, row)| rounds.has_votes(row))
    }

    /// Looks the round's decisions up in the index: the lowest gives it its votes.
    fn compare(&mut self) {
        let index = self.index;
        let known = |decision: &usize| index & 1 << decision != 0;
        for decision in (0..DECISIONS.len()).filter(known) {
            self.judge(decision);
        }
    }

    /// Gives a round its votes, if these are the ones to keep, and its waiting labels their standing.
    fn judge(&mut self, decision: usize) {
        if !self.put(Entry::RoundRecord(decision)) {
            return;
        }
        let Some((rounds, row)) = self.book.row(&round()) else { return };
        for filed in rounds.labels(row).into_iter().filter(|filed| filed.status == LabelStatus::Waiting) {
            self.put(Entry::LabelRecord { label: (filed.received - 100) as usize, waiting: false });
        }
    }

    /// Puts a record in under its key, unless what is there already stands above it.
    fn put(&mut self, entry: Entry) -> bool {
        let Some(record) = entry.record().filter(|record| self.book.would_change(record)) else {
            return false;
        };
        let key = record.key();
        let Some((_, other)) = self.joined.iter_mut().find(|(other, _)| *other == key) else {
            self.joined.push((key, entry));
            return true;
        };
        let above = match (&record, other.record()) {
            (Record::Round(new), Some(Record::Round(old))) => new.key() < old.key(),
            (Record::Label(new), Some(Record::Label(old))) => {
                new.label.newer(&old.label).then(old.received.cmp(&new.received)).is_ge()
            }
            _ => false,
        };
        if above {
            *other = entry;
        }
        above
    }
}

fn round() -> RoundId {
    RoundId { tenant: TENANT.into(), policy: POLICY.into(), event: EVENT.into() }
}

fn judged(decision: usize) -> RoundRecord {
    let (round_time, score) = DECISIONS[decision];
    RoundRecord {
        id: round(),
        subject: None,
        round_time,
        decision: DecisionRef { partition: 0, offset: decision as i64 },
        votes: vec![RoundVote { expert: "rules".into(), score: Some(score), shadow: false }],
        features: None,
    }
}

fn sent(label: usize) -> Option<Label> {
    let (id, finding, corrects) = LABELS[label]?;
    Some(Label {
        id: id.into(),
        tenant: TENANT.into(),
        policy: POLICY.into(),
        event: EVENT.into(),
        annotator: None,
        verdict: Some(finding),
        severity: None,
        categories: vec![],
        time: 0,
        source: Source::Review,
        inclusion_probability: None,
        decision: None,
        corrects: corrects.map(Into::into),
        retracts: None,
    })
}
