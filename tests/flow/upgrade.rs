//! Reads the store and the ledger topic of the first version, and compares the state. The fixture never changes. A
//! version with another format gets a fixture of its own.
//!
//! `cargo test --test flow -- --ignored upgrade` writes the fixture if it is missing.

use crate::store_support;
use crate::support;

use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use aegis::codec::{self, DecodeError, Encoding};
use aegis::config::Policies;
use aegis::core::features::DIMENSIONS;
use aegis::core::fold::{Fold, Settings};
use aegis::core::label::{DecisionRef, Finding, Label};
use aegis::core::learners::{LearnerSpec, Name};
use aegis::core::ledger::{
    Edit, EditAction, LabelRecord, LabelStatus, Record, RoundId, RoundRecord, RoundVote, TextFeatures,
};
use aegis::core::ledger_state::LedgerState;
use aegis::core::predictor::{FORMAT, Predictor, PredictorError};
use aegis::kafka::Produced;
use aegis::store::{IndexEntry, Opened, Store, StoreError, WriteBatch};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use flate2::Compression;
use flate2::read::{GzDecoder, GzEncoder};
use store_support::read;
use support::flow::{label, raw, send};
use support::site::{Site, hex};

const ROUNDS: i64 = 60;
/// The state hash of the fixture's ledger with a hedge with eta 0.3.
const HEDGE: &str = "80c4aa84ae09c9518e1273d2cc3a66accfe637ddccc710f419a70cb28dd042c2";
/// The state hash of the fixture's ledger with the learner of the default policy.
const DEFAULT: &str = "404b75c5295947967864403a30c49a4013f1e595f33152ad9ddada2f8ca3ba9d";
/// The time of the first round.
const START: i64 = 1_772_353_800_000;

fn fixture() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/upgrade/v1")
}

fn id(number: i64) -> RoundId {
    RoundId { tenant: "t".into(), policy: "default".into(), event: format!("e{number:05}") }
}

fn place(number: i64) -> DecisionRef {
    DecisionRef { partition: i32::try_from(number % 3).unwrap(), offset: number / 3 }
}

/// Returns a ledger with records of every kind.
fn records() -> Vec<Record> {
    let mut records = Vec::new();
    let labelled = |label: Label, number: i64, standing| {
        Record::Label(LabelRecord { label, received: START + number * 1000 + 500, status: standing })
    };
    for number in 0..ROUNDS {
        let share = |factor: i64| f64::from(u8::try_from(number * factor % 101).unwrap()) / 100.0;
        let vote =
            |expert: &str, score, shadow| RoundVote { expert: expert.into(), score, shadow, decisive: false };
        let reading = (number % 2 == 0).then(|| {
            let value = |at: usize| i8::try_from((at as i64 * 31 + number * 7) % 256 - 128).unwrap();
            TextFeatures {
                encoder: [7; 32],
                features: Box::new(std::array::from_fn::<i8, DIMENSIONS, _>(value)),
            }
        });
        records.push(Record::Round(RoundRecord {
            id: id(number),
            subject: Some(format!("u{}", number % 5)),
            round_time: START + number * 1000,
            decision: place(number),
            votes: vec![
                vote("alpha", Some(share(7)), false),
                vote("beta", (number % 9 != 0).then(|| share(13)), false),
                vote("gamma", Some(share(29)), number % 4 == 0),
            ],
            features: reading,
        }));
        let finding = Finding::ALL[usize::try_from(number % 7 % 3).unwrap()];
        let event = id(number).event;
        let mine = Label {
            annotator: Some(format!("r{}", number % 4)),
            ..label(&format!("l{number}"), &event, finding)
        };
        records.push(labelled(mine, number, LabelStatus::Accepted));
        if number % 10 == 0 {
            let other = label(&format!("c{number}"), &event, Finding::Unsafe);
            let corrects = Some(format!("l{number}"));
            records.push(labelled(Label { corrects, time: 2, ..other }, number, LabelStatus::Accepted));
        }
        if number % 25 == 0 {
            let other = Label { verdict: None, ..label(&format!("x{number}"), &event, Finding::Safe) };
            let retracts = Some(format!("c{number}"));
            records.push(labelled(Label { retracts, time: 3, ..other }, number, LabelStatus::Accepted));
        }
    }
    records.push(labelled(label("ghost", "e99999", Finding::Safe), 1, LabelStatus::Waiting));
    let edit = |id: &str, action| Record::Edit(Edit { id: id.into(), action });
    records.push(edit("q", EditAction::Quarantine { tenant: "t".into(), annotator: "r3".into() }));
    records.push(edit("e", EditAction::Erase { tenant: "t".into(), subject: "u4".into() }));
    records
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// Returns a copy of the fixture's store with inflated files.
fn store() -> tempfile::TempDir {
    let (from, to) = (fixture().join("store"), tempfile::tempdir().unwrap());
    for file in files(&from) {
        let target = to.path().join(file.strip_prefix(&from).unwrap()).with_extension("");
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let mut bytes = Vec::new();
        GzDecoder::new(File::open(&file).unwrap()).read_to_end(&mut bytes).unwrap();
        fs::write(target, bytes).unwrap();
    }
    to
}

/// Returns the keys and values of the fixture's ledger topic, in order.
fn ledger() -> Vec<(Vec<u8>, Vec<u8>)> {
    let text = fs::read_to_string(fixture().join("ledger.tsv")).unwrap();
    let line = |line: &str| {
        let (key, value) = line.split_once('\t').unwrap();
        (key.as_bytes().to_vec(), STANDARD.decode(value).unwrap())
    };
    text.lines().map(line).collect()
}

/// Returns the state hashes with a hedge and with the learner of the default policy.
fn hashes(records: &[Record]) -> [String; 2] {
    let mut state = LedgerState::new();
    for record in records {
        state.apply(record, &mut Vec::new()).unwrap();
    }
    let policies = Policies::default();
    let policy = policies.get("default").unwrap();
    let mut hedge = LearnerSpec::new(Name::Hedge);
    hedge.eta = Some(0.3);
    [hedge, policy.learner.clone()].map(|learner| {
        let mut fold = Fold::new(Settings::new("default", learner, policy.mapping.clone()));
        fold.mark_all_changed(&state);
        fold.catch_up(&state).unwrap();
        hex(&fold.state_hash(&state))
    })
}

fn decoded<'a>(values: impl IntoIterator<Item = &'a Vec<u8>>) -> Vec<Record> {
    values.into_iter().map(|value| codec::decode_record(value).unwrap()).collect()
}

#[test]
#[ignore = "writes the fixture where it is missing"]
fn write_missing_fixture() {
    if fixture().exists() {
        return;
    }
    let written: Vec<_> = records()
        .iter()
        .map(|record| {
            (codec::encode_key(&record.key()), codec::encode_record(record, Encoding::Avro).unwrap())
        })
        .collect();
    let line = |(key, value): &(Vec<u8>, Vec<u8>)| {
        format!("{}\t{}\n", String::from_utf8_lossy(key), STANDARD.encode(value))
    };
    fs::create_dir_all(fixture()).unwrap();
    fs::write(fixture().join("ledger.tsv"), written.iter().map(line).collect::<String>()).unwrap();

    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(folder.path()).unwrap();
    let entry = |number| {
        let time = START + number * 1000;
        IndexEntry::new(&id(number), time, place(number), time)
    };
    let count = i64::try_from(written.len()).unwrap();
    store
        .commit(WriteBatch {
            ledger: written.into_iter().map(|(key, value)| (key, Some(value))).collect(),
            ledger_offset: Some(count),
            decisions: vec![(0, 20), (1, 20), (2, 20)],
            indexed: (0..ROUNDS).map(entry).collect(),
            ..WriteBatch::default()
        })
        .unwrap();
    drop(store);
    for file in files(folder.path()) {
        let inside = file.strip_prefix(folder.path()).unwrap().to_str().unwrap();
        let target = fixture().join("store").join(format!("{inside}.gz"));
        fs::create_dir_all(target.parent().unwrap()).unwrap();
        let mut bytes = Vec::new();
        GzEncoder::new(File::open(&file).unwrap(), Compression::best()).read_to_end(&mut bytes).unwrap();
        fs::write(target, bytes).unwrap();
    }
}

#[test]
fn a_ledger_of_the_first_version_gives_its_state() {
    let read = decoded(ledger().iter().map(|(_, value)| value));
    assert_eq!(read, records());
    assert_eq!(hashes(&read), [HEDGE, DEFAULT]);
}

#[test]
fn a_store_of_the_first_version_is_opened_and_gives_its_state() {
    let folder = store();
    let (mut store, opened) = Store::open(folder.path()).unwrap();
    assert_eq!(opened, Opened::Found, "it is not rebuilt");
    assert_eq!(store.ledger_offset(), Some(i64::try_from(records().len()).unwrap()));
    assert_eq!(Vec::from_iter(store.decision_positions().clone()), [(0, 20), (1, 20), (2, 20)]);
    for number in 0..ROUNDS {
        assert_eq!(store.find(&id(number)).unwrap(), [(START + number * 1000, place(number))]);
    }
    let records = read(&store).unwrap();
    assert_eq!(hashes(&decoded(records.iter().map(|(_, value)| value))), [HEDGE, DEFAULT]);
    // The store can be written.
    store.commit(WriteBatch { ledger_offset: Some(1_000), ..WriteBatch::default() }).unwrap();
    drop(store);
    let (store, opened) = Store::open(folder.path()).unwrap();
    assert_eq!((opened, store.ledger_offset()), (Opened::Found, Some(1_000)));
}

/// A store of a version that did not note the decisions that it could not decode. If labels wait for decisions, the
/// index reads the topic from its beginning once.
#[test]
fn a_store_without_notes_is_read_again_if_labels_wait() {
    let folder = store();
    let (mut store, _) = Store::open(folder.path()).unwrap();
    let all = [(0, 20), (1, 20), (2, 20)];
    let positions = |store: &Store| Vec::from_iter(store.decision_positions().clone());
    assert_eq!(store.set_reader(7, false).unwrap(), []);
    assert_eq!(positions(&store), all);
    assert_eq!(store.set_reader(7, true).unwrap(), all);
    assert_eq!(positions(&store), []);
    store.commit(WriteBatch { decisions: all.to_vec(), ..WriteBatch::default() }).unwrap();
    assert_eq!(store.set_reader(7, true).unwrap(), []);
    assert_eq!(positions(&store), all);
}

/// A reader goes back once to the first decision of each partition that another could not decode. A crash in between
/// changes nothing.
#[test]
fn what_one_version_could_not_read_another_reads_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mut store, _) = Store::open(folder.path()).unwrap();
    assert_eq!(store.set_reader(1, true).unwrap(), []);
    let passed = |decisions: &[(i32, i64)], skipped: &[(i32, i64)]| WriteBatch {
        decisions: decisions.to_vec(),
        skipped: skipped.to_vec(),
        ..WriteBatch::default()
    };
    store.commit(passed(&[(0, 10), (1, 10)], &[(1, 7), (1, 4)])).unwrap();
    store.commit(passed(&[(1, 20)], &[(1, 15)])).unwrap();
    assert_eq!(store.set_reader(1, true).unwrap(), []);
    drop(store);
    let (mut store, _) = Store::open(folder.path()).unwrap();
    assert_eq!(store.set_reader(2, true).unwrap(), [(1, 20)]);
    drop(store);
    let (mut store, opened) = Store::open(folder.path()).unwrap();
    assert_eq!(opened, Opened::Found);
    assert_eq!(Vec::from_iter(store.decision_positions().clone()), [(0, 10), (1, 4)]);
    store.commit(passed(&[(1, 20)], &[])).unwrap();
    assert_eq!(store.set_reader(1, true).unwrap(), []);
}

#[test]
fn a_ledger_topic_of_the_first_version_is_replayed() {
    let site = Site::new("upgrade");
    let record = |(key, value)| Produced { key: Some(key), ..raw(&site.topic("rounds"), "", value) };
    send(&site.connection, &ledger().into_iter().map(record).collect::<Vec<_>>());
    assert_eq!(site.replayed(), DEFAULT);
}

/// A predictor with an older state layout is refused with a named error. The learner folds its ledger again and
/// publishes another.
#[test]
fn a_predictor_of_an_older_layout_is_refused() {
    let path = fixture().join("../../records/v1/predictor.avro");
    let published = codec::decode_published(&fs::read(path).unwrap()).unwrap();
    assert!(published.format < FORMAT);
    let error = Predictor::published(&published).err().unwrap();
    assert!(matches!(error, PredictorError::Format { found } if found == published.format), "{error}");
    assert!(error.to_string().contains("run one version of score and learn"), "{error}");
}

/// Records of a later version are refused with a named error.
#[test]
fn what_a_later_version_wrote_is_refused() {
    // The first bytes of a ledger record identify its schema.
    let (_, mut value) = ledger().swap_remove(0);
    value[2] ^= 1;
    let error = codec::decode_record(&value).unwrap_err();
    assert!(matches!(error, DecodeError::WrongSchema { .. }), "{error}");
    assert!(error.to_string().contains("is of schema"), "{error}");

    // A predictor.
    let path = fixture().join("../../records/v1/predictor.avro");
    let mut published = codec::decode_published(&fs::read(path).unwrap()).unwrap();
    published.format = FORMAT + 1;
    let error = Predictor::published(&published).err().unwrap();
    assert!(matches!(error, PredictorError::Format { found } if found == FORMAT + 1), "{error}");

    // A record of a later format in a store of the current format.
    let folder = store();
    let ledger = sled::open(folder.path().join("sled")).unwrap().open_tree("ledger").unwrap();
    let (key, value) = ledger.first().unwrap().unwrap();
    let mut value = value.to_vec();
    value[0] += 1;
    ledger.insert(key, value).unwrap();
    drop(ledger);
    let (store, _) = Store::open(folder.path()).unwrap();
    let error = read(&store).unwrap_err();
    assert!(matches!(error, StoreError::Corrupt { .. }), "{error}");
    assert!(error.to_string().contains("has version 2, this program writes 1"), "{error}");

    // A store of a later format is rebuilt from the topics, which is reported.
    let folder = self::store();
    fs::write(folder.path().join("format"), "aegis store, format 2\n").unwrap();
    let (_, opened) = Store::open(folder.path()).unwrap();
    assert!(matches!(&opened, Opened::Rebuilt { why } if why.contains("format 2")), "{opened:?}");
}
