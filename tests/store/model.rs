//! Compares the store with a model of plain maps under random actions. The store is reopened at random points.

use crate::store_support;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use aegis::core::label::DecisionRef;
use aegis::core::ledger::RoundId;
use aegis::store::{DAY, IndexEntry, MAX_PER_ROUND, Opened, Store, WriteBatch};
use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed, TestRunner};
use store_support::{KeyValue, read};

/// An entry of the model: (event, round time, partition, offset, written).
type Plain = (u32, i64, i32, i64, i64);

#[derive(Debug, Clone)]
enum Act {
    Commit {
        ledger: Vec<(u8, Option<Vec<u8>>)>,
        offset: Option<i64>,
        positions: Vec<(i32, i64)>,
        few: Vec<Plain>,
    },
    /// Writes `count` ledger records from the key `first` on with the value `value`. Many of them are written to
    /// chunks.
    Records {
        first: u32,
        count: u32,
        value: Vec<u8>,
    },
    /// Indexes `count` entries of one day from the event `first` on. Many of them become runs.
    Many {
        first: u32,
        count: u32,
        day: i64,
    },
    /// Writes the index entries of the last commit again, as after a restart.
    Repeat,
    Remove {
        day: i64,
    },
    Reopen,
}

#[derive(Debug, Default, PartialEq)]
struct Model {
    /// The newest value of each key.
    ledger: BTreeMap<Vec<u8>, Vec<u8>>,
    /// All values that were written since their key was last deleted.
    written: BTreeSet<KeyValue>,
    offset: Option<i64>,
    positions: BTreeMap<i32, i64>,
    index: BTreeSet<Plain>,
}

fn id(event: u32) -> RoundId {
    RoundId { tenant: "tenant".into(), policy: "policy".into(), event: format!("event {event}") }
}

fn entry((event, round_time, partition, offset, written): Plain) -> IndexEntry {
    IndexEntry::new(&id(event), round_time, DecisionRef { partition, offset }, written)
}

impl Model {
    fn find(&self, event: u32) -> Vec<(i64, DecisionRef)> {
        let all: BTreeSet<_> = self
            .index
            .iter()
            .filter(|plain| plain.0 == event)
            .map(|&(_, time, partition, offset, _)| (time, DecisionRef { partition, offset }))
            .collect();
        all.into_iter().take(MAX_PER_ROUND).collect()
    }

    fn write(&mut self, ledger: &[(Vec<u8>, Option<Vec<u8>>)]) {
        for (key, value) in ledger {
            if let Some(value) = value {
                self.ledger.insert(key.clone(), value.clone());
                self.written.insert((key.clone(), value.clone()));
            } else {
                self.ledger.remove(key);
                self.written.retain(|(known, _)| known != key);
            }
        }
    }

    fn compare(&self, store: &Store, events: impl Iterator<Item = u32>) {
        assert_eq!(store.ledger_offset(), self.offset);
        assert_eq!(store.decision_positions(), &self.positions);
        let read: BTreeSet<_> = read(store).expect("a whole ledger").into_iter().collect();
        let newest: BTreeSet<_> = self.ledger.clone().into_iter().collect();
        assert!(newest.is_subset(&read), "lost: {:?}", newest.difference(&read).next());
        assert!(read.is_subset(&self.written), "deleted: {:?}", read.difference(&self.written).next());
        for event in events {
            assert_eq!(store.find(&id(event)).expect("a whole index"), self.find(event), "event {event}");
        }
    }
}

fn plain() -> impl Strategy<Value = Plain> {
    // There are few events, so that some have more decisions than the index keeps.
    (0u32..12, -5i64..40, 0i32..2, 0i64..30, 0i64..4)
        .prop_map(|(event, time, partition, offset, day)| (event, time, partition, offset, day * DAY + 7))
}

fn act() -> impl Strategy<Value = Act> {
    let ledger = prop::collection::vec(
        (any::<u8>(), prop::option::of(prop::collection::vec(any::<u8>(), 0..40))),
        0..9,
    );
    let positions = prop::collection::vec((0i32..3, 0i64..1_000), 0..3);
    prop_oneof![
        8 => (ledger, prop::option::of(0i64..1_000), positions, prop::collection::vec(plain(), 0..40))
            .prop_map(|(ledger, offset, positions, few)| Act::Commit { ledger, offset, positions, few }),
        2 => (0u32..2_000, 1u32..1_500, prop::collection::vec(any::<u8>(), 0..40))
            .prop_map(|(first, count, value)| Act::Records { first, count, value }),
        3 => (0u32..4_000, 1u32..3_000, 0i64..4).prop_map(|(first, count, day)| Act::Many { first, count, day }),
        1 => Just(Act::Repeat),
        1 => (0i64..5).prop_map(|day| Act::Remove { day }),
        2 => Just(Act::Reopen),
    ]
}

fn play(folder: &Path, acts: Vec<Act>) {
    let (mut store, opened) = Store::open(folder).expect("a store");
    assert_eq!(opened, Opened::Fresh);
    let mut model = Model::default();
    let mut last = WriteBatch::default();
    for act in acts {
        match act {
            Act::Commit { ledger, offset, positions, few } => {
                let ledger: Vec<_> = ledger
                    .into_iter()
                    .map(|(key, value)| (u32::from(key).to_be_bytes().into(), value))
                    .collect();
                model.write(&ledger);
                model.offset = offset.or(model.offset);
                model.positions.extend(positions.iter().copied());
                model.index.extend(few.iter().copied());
                last = WriteBatch {
                    ledger,
                    ledger_offset: offset,
                    decisions: positions,
                    indexed: few.into_iter().map(entry).collect(),
                    ..WriteBatch::default()
                };
                store.commit(last.clone()).expect("a commit");
            }
            Act::Records { first, count, value } => {
                let key = |key: u32| (key.to_be_bytes().to_vec(), Some(value.clone()));
                let ledger: Vec<_> = (first..first + count).map(key).collect();
                model.write(&ledger);
                store.commit(WriteBatch { ledger, ..WriteBatch::default() }).expect("a commit");
            }
            Act::Many { first, count, day } => {
                let many: Vec<Plain> = (first..first + count)
                    .map(|event| (event, i64::from(event), 1, i64::from(event), day * DAY))
                    .collect();
                model.index.extend(many.iter().copied());
                let indexed = many.into_iter().map(entry).collect();
                store.commit(WriteBatch { indexed, ..WriteBatch::default() }).expect("a commit");
            }
            Act::Repeat => store
                .commit(WriteBatch {
                    ledger: Vec::new(),
                    ledger_offset: None,
                    decisions: Vec::new(),
                    ..last.clone()
                })
                .expect("a commit"),
            Act::Remove { day } => {
                store.remove_days_before(day * DAY + 3).expect("forgotten");
                model.index.retain(|plain| plain.4 >= day * DAY);
                // `Repeat` must not index the removed entries again.
                last.indexed.clear();
            }
            Act::Reopen => {
                drop(store);
                let opened;
                (store, opened) = Store::open(folder).expect("a store");
                assert_eq!(opened, Opened::Found);
            }
        }
        model.compare(&store, (0..14).chain((0..7_000).step_by(457)).chain(100_000..100_080));
    }
}

proptest! {
    #![proptest_config(Config { cases: 14, rng_seed: RngSeed::Fixed(7), max_shrink_iters: 200, failure_persistence: None, ..Config::default() })]

    #[test]
    fn the_store_is_its_model(acts in prop::collection::vec(act(), 1..40)) {
        let folder = tempfile::tempdir().expect("a folder");
        play(folder.path(), acts);
    }
}

/// Records with keys of every length, few or many in a commit, are read once each.
#[test]
fn each_record_is_read_once_by_several_threads() {
    let runner = &mut TestRunner::new(Config {
        cases: 24,
        rng_seed: RngSeed::Fixed(11),
        failure_persistence: None,
        ..Config::default()
    });
    let key = prop_oneof![
        6 => "aaaaaaaaaa[ab]{0,12}",
        2 => "[a-z]{0,3}",
        1 => "zz\\x00{0,4}[0-9]{0,9}",
    ];
    let keys = prop::collection::btree_set(key, 0..2_500);
    runner
        .run(&keys, |keys| {
            let folder = tempfile::tempdir().expect("a folder");
            let (mut store, _) = Store::open(folder.path()).expect("a store");
            let record = |key: &String| (key.clone().into_bytes(), key.repeat(key.len()).into_bytes());
            let ledger = keys.iter().map(record).map(|(key, value)| (key, Some(value))).collect();
            store.commit(WriteBatch { ledger, ..WriteBatch::default() }).expect("a commit");
            prop_assert_eq!(
                read(&store).expect("a whole ledger"),
                keys.iter().map(record).collect::<Vec<_>>()
            );
            prop_assert_eq!(store.sizes().ledger_records, keys.len() as u64);
            Ok(())
        })
        .unwrap();
}

/// Commits of one entry, as on a slow stream, and commits of many, so that runs are merged twice.
#[test]
fn a_day_of_single_entries_and_of_many_is_found() {
    let folder = tempfile::tempdir().expect("a folder");
    let acts = (0..80)
        .map(|n| Act::Many { first: 100_000 + n, count: 1, day: 0 })
        .chain([Act::Reopen])
        .chain((0..30).map(|n| Act::Many { first: n * 2_900, count: 2_999, day: 0 }))
        .chain([Act::Reopen])
        .collect();
    play(folder.path(), acts);
}
