//! A few decisions and labels, and core's results for them: ledger state, label algebra, fold.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use aegis::core::fold::{Fold, Settings};
use aegis::core::label::{DecisionRef, Finding, Label, Mapping, target};
use aegis::core::learners::{LearnerSpec, Name};
use aegis::core::ledger::{Key, LabelRecord, LabelStatus, Record, RoundId, RoundRecord, RoundVote};
use aegis::core::ledger_state::LedgerState;
use aegis::core::predictor::StateHash;

const POLICY: &str = "house";
const TENANT: &str = "acme";
const EVENT: &str = "a";

/// The decisions as score commits them: round time and the vote of the expert. The event was decided twice. The second
/// decision has the lower key, and gives the round its votes.
pub const DECISIONS: [(i64, f64); 2] = [(20, 0.9), (10, 0.2)];

/// A label: its id, its verdict, and the id of the label that it corrects.
type Sent = (&'static str, Finding, Option<&'static str>);

/// The labels by offset, `None` for one that cannot be decoded. The second is the first, sent again, and the third
/// corrects it. Any of them may be read before the decision of its event.
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

    /// Returns `true` if a label waits and was not accepted since.
    pub fn has_waiting(self) -> bool {
        let filed = |label, waiting| self.has(Entry::LabelRecord { label, waiting });
        (0..LABELS.len()).any(|label| filed(label, true) && !filed(label, false))
    }

    fn ledger(self) -> LedgerState {
        let mut ledger = LedgerState::new();
        let records = Entry::all().filter(|entry| self.has(*entry)).filter_map(Entry::record);
        records.for_each(|record| {
            _ = ledger.apply(&record, &mut vec![]).expect("the world's records are sound")
        });
        ledger
    }

    /// The hash of the fold of this set.
    pub fn state_hash(self) -> StateHash {
        thread_local!(static KNOWN: RefCell<HashMap<u16, StateHash>> = RefCell::default());
        let fold = || {
            let ledger = self.ledger();
            let settings = Settings::new(POLICY, LearnerSpec::new(Name::Hedge), Mapping::default());
            let mut fold = Fold::new(settings);
            fold.mark_all_changed(&ledger);
            fold.catch_up(&ledger).expect("the learner takes these experts");
            fold.state_hash(&ledger)
        };
        KNOWN.with_borrow_mut(|known| *known.entry(self.0).or_insert_with(fold))
    }

    /// The target of the event.
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

    /// Returns `true` if the ledger has a label with the same key.
    pub fn has_label(self, label: usize) -> bool {
        let same = |other: usize| LABELS[other].zip(LABELS[label]).is_some_and(|(a, b)| a.0 == b.0);
        let filed = |label| [false, true].map(|waiting| Entry::LabelRecord { label, waiting });
        (0..LABELS.len()).filter(|other| same(*other)).flat_map(filed).any(|entry| self.has(entry))
    }
}

/// The ledger without faults in its simplest form: every label is accepted, and the rounds have the votes of their lowest
/// decisions.
pub fn undisturbed() -> Set {
    let filed = [0, 2].map(|label| Entry::LabelRecord { label, waiting: false });
    let mut set = Set::default();
    [Entry::RoundRecord(1)].into_iter().chain(filed).for_each(|entry| set.insert(entry));
    set
}

/// The output of a batch: ledger records and dead letters.
#[derive(Debug, Clone, Default, PartialEq, Eq, Hash)]
pub struct Joined {
    pub ledger: Vec<Entry>,
    pub letters: Vec<usize>,
}

/// The input of a batch.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Read {
    pub decisions: Range<usize>,
    pub labels: Range<usize>,
    /// `true` if the rounds of records that another learner wrote are looked up too.
    pub search: bool,
}

/// Joins a batch to the ledger as `src/learn/join.rs` does. The decisions of known rounds are compared. The decision of a
/// label is looked up in the `index`, which has one bit per decision, and the label waits if there is none.
pub fn join(ledger: Set, index: u8, read: Read) -> Joined {
    thread_local!(static KNOWN: RefCell<HashMap<(u16, u8, Read), Joined>> = RefCell::default());
    let asked = (ledger.0, index, read.clone());
    let make = || {
        let Read { decisions, labels, search } = read;
        let mut join = Join { ledger: ledger.ledger(), index, joined: vec![] };
        if search && join.ledger.row(&round()).is_some() {
            join.compare();
        }
        for decision in decisions {
            if join.ledger.row(&round()).is_some() {
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
    ledger: LedgerState,
    index: u8,
    /// The keys that were written, each once.
    joined: Vec<(Key, Entry)>,
}

impl Join {
    fn is_judged(&self) -> bool {
        let key = Key::Round(round());
        self.joined.iter().any(|(other, _)| *other == key)
            || self.ledger.row(&round()).is_some_and(|(rounds, row)| rounds.has_votes(row))
    }

    /// Looks up the round's decisions in the index. The lowest gives the round its votes.
    fn compare(&mut self) {
        let index = self.index;
        let known = |decision: &usize| index & 1 << decision != 0;
        for decision in (0..DECISIONS.len()).filter(known) {
            self.judge(decision);
        }
    }

    /// Gives a round its votes, if they have the lowest key, and its waiting labels their status.
    fn judge(&mut self, decision: usize) {
        if !self.put(Entry::RoundRecord(decision)) {
            return;
        }
        let Some((rounds, row)) = self.ledger.row(&round()) else { return };
        for filed in rounds.labels(row).into_iter().filter(|filed| filed.status == LabelStatus::Waiting) {
            self.put(Entry::LabelRecord { label: (filed.received - 100) as usize, waiting: false });
        }
    }

    /// Inserts a record with its key, unless the present record with that key takes precedence.
    fn put(&mut self, entry: Entry) -> bool {
        let Some(record) = entry.record().filter(|record| self.ledger.would_change(record)) else {
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
        votes: vec![RoundVote { expert: "rules".into(), score: Some(score), shadow: false, decisive: false }],
        features: None,
    }
}

fn sent(label: usize) -> Option<Label> {
    let (id, finding, corrects) = LABELS[label]?;
    Some(Label { corrects: corrects.map(Into::into), ..Label::new(&round(), id, finding) })
}
