//! The state is a function of the set of records: against a plain model, in any order of arrival.

mod edits;
mod influence;
mod model;
mod orders;
mod world;

use aegis_core::fold::{Fold, Settings};
use aegis_core::label::Mapping;
use aegis_core::ledger::Record;
use aegis_core::ledger_state::{Change, LedgerState};
use aegis_core::predictor::StateHash;

use world::{Dice, POLICY};

fn settings(learner: &str) -> Settings {
    Settings { memory: 40_000, ..Settings::new(POLICY, learner.parse().unwrap(), Mapping::default()) }
}

/// A ledger with a fold of it.
struct Fixture {
    ledger: LedgerState,
    fold: Fold,
}

impl Fixture {
    fn new(settings: Settings) -> Self {
        Self { ledger: LedgerState::new(), fold: Fold::new(settings) }
    }

    fn apply(&mut self, record: &Record) -> bool {
        let mut changes = Vec::new();
        let expected = self.ledger.would_change(record);
        let changed = self.ledger.apply(record, &mut changes).unwrap();
        assert_eq!(changed, expected, "{record:?}");
        changes.iter().for_each(|change: &Change| self.fold.mark_changed(change));
        changed
    }

    /// Replaces the ledger and the fold by new ones from the ledger's records.
    fn restart(&mut self, dice: &mut Dice) {
        let mut records: Vec<_> = self.ledger.records().collect();
        dice.shuffle(&mut records);
        *self = Self::new(self.fold.settings().clone());
        records.iter().for_each(|record| {
            self.ledger.apply(record, &mut Vec::new()).unwrap();
        });
        self.fold.mark_all_changed(&self.ledger);
    }

    fn hash(&mut self) -> StateHash {
        self.fold.catch_up(&self.ledger).unwrap();
        assert!(self.fold.is_current());
        self.fold.state_hash(&self.ledger)
    }
}

/// Applies the records in a random order, a tenth of them twice, with folds at random times and `stops` restarts.
/// Returns the hash at the end.
fn arrive(records: &[Record], settings: &Settings, seed: u64, stops: usize) -> StateHash {
    let mut dice = Dice(seed);
    let mut order: Vec<&Record> = records.iter().collect();
    for _ in 0..records.len() / 10 {
        order.push(&records[dice.below(records.len())]);
    }
    dice.shuffle(&mut order);
    let mut fixture = Fixture::new(settings.clone());
    let stop_each = order.len().checked_div(stops).unwrap_or(usize::MAX);
    for (at, record) in order.into_iter().enumerate() {
        fixture.apply(record);
        match dice.below(60) {
            0 => fixture.fold.catch_up(&fixture.ledger).unwrap(),
            1 => drop(fixture.fold.advance(&fixture.ledger, dice.below(40)).unwrap()),
            _ => {}
        }
        if at % stop_each == stop_each - 1 {
            fixture.restart(&mut dice);
        }
    }
    // The figures equal those of a pass without rewinds.
    let hash = fixture.hash();
    let mut fresh = Fixture { ledger: fixture.ledger, fold: Fold::new(settings.clone()) };
    fresh.fold.mark_all_changed(&fresh.ledger);
    assert_eq!(fresh.hash(), hash);
    assert_eq!(fresh.fold.tally(), fixture.fold.tally());
    hash
}
