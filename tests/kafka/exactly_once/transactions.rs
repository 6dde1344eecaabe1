//! The records and offsets of one transaction count together or not at all.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use aegis::dead_letter::{self, Outputs};
use aegis::kafka::{
    CommitError, Delivery, Followed, Follower, From, GroupProtocol, Outbox, Produced, Source, Start,
};

use super::{committed, consumed, everything, fill, named, once};
use crate::support::protocols::on_both;
use crate::support::{Kafka, WAIT, kafka, make, read, record};

on_both!(outputs_and_offsets_count_together_or_not_at_all, a_refused_output_takes_the_unit_with_it);

fn outputs_and_offsets_count_together_or_not_at_all(protocol: GroupProtocol) {
    let connection = kafka().connection_in(protocol);
    let [group, input, output] = ["unit", "unit.in", "unit.out"].map(|name| named(protocol, name));
    make(&connection, &[(&input, 2, &[]), (&output, 2, &[])]);
    fill(&connection, &input, 2, 20);
    let mut outbox = Outbox::open(&connection, once(&group)).unwrap();
    let mut source = Source::subscribe(&connection, &group, &[&input], Start::Earliest).unwrap();
    let records = read(&mut source, 20);
    let done = consumed(&records);

    // A transaction that is dropped without a commit is invisible, and does not move the offsets.
    let mut transaction = outbox.transaction();
    transaction.send(&[record(&output, 0, "never")]).unwrap();
    drop(transaction);
    assert_eq!(committed(&source), 0);
    // A transaction with two sends: the second record contains the position of the first.
    let mut transaction = outbox.transaction();
    let places = transaction.send(&[record(&output, 0, "decision")]).unwrap();
    transaction.send(&[record(&output, 1, format!("{places:?}"))]).unwrap();
    transaction.commit(Some((source.membership(), &done))).unwrap();
    assert_eq!(committed(&source), 20);
    // Offsets alone are a transaction as well. Without records and offsets there is none.
    outbox.commit(&[], Some((source.membership(), &done))).unwrap();
    assert_eq!(outbox.commit(&[], None), Ok(vec![]));

    let out = everything(&connection, &output);
    let shown: BTreeMap<_, _> = out.iter().map(|one| (one.partition, one.payload.clone().unwrap())).collect();
    // The aborted record and its marker have the offsets 0 and 1.
    assert_eq!(out.len(), 2);
    assert_eq!(shown, BTreeMap::from([(0, b"decision".to_vec()), (1, b"[(0, 2)]".to_vec())]));
}

fn a_refused_output_takes_the_unit_with_it(protocol: GroupProtocol) {
    let connection = kafka().connection_in(protocol);
    let [group, input, output] = ["refuse", "refuse.in", "refuse.out"].map(|name| named(protocol, name));
    make(&connection, &[(&input, 1, &[]), (&output, 1, &[])]);
    fill(&connection, &input, 1, 5);
    let mut outbox = Outbox::open(&connection, once(&group)).unwrap();
    let mut source = Source::subscribe(&connection, &group, &[&input], Start::Earliest).unwrap();
    let records = read(&mut source, 5);
    let done = consumed(&records);
    let mut sent = vec![record(&output, 0, "1"), record(&output, 0, vec![0; 9_000_000])];
    let refused = outbox.commit(&sent, Some((source.membership(), &done))).unwrap_err();
    assert!(matches!(refused, CommitError::TooLarge { index: 1, .. }), "{refused:?}");
    assert_eq!((committed(&source), everything(&connection, &output).len()), (0, 0));
    source.rewind(WAIT).unwrap();
    assert_eq!(read(&mut source, 5), records);
    sent[1].payload = None;
    outbox.commit(&sent, Some((source.membership(), &done))).unwrap();
    assert_eq!((committed(&source), everything(&connection, &output).len()), (5, 2));
}

#[test]
fn a_zombie_is_fenced_for_good() {
    let connection = kafka().connection();
    make(&connection, &[("zombie", 1, &[])]);
    let mut old = Outbox::open(&connection, once("zombie")).unwrap();
    old.commit(&[record("zombie", 0, "1")], None).unwrap();
    let mut transaction = old.transaction();
    transaction.send(&[record("zombie", 0, "never")]).unwrap();
    let mut new = Outbox::open(&connection, once("zombie")).unwrap();
    let fenced = transaction.commit(None).unwrap_err();
    assert!(matches!(fenced, CommitError::Fenced { .. }), "{fenced:?}");
    for _ in 0..2 {
        let again = old.commit(&[record("zombie", 0, "never")], None).unwrap_err();
        assert!(matches!(again, CommitError::Fenced { .. }), "{again:?}");
    }
    new.commit(&[record("zombie", 0, "2")], None).unwrap();
    assert_eq!(everything(&connection, "zombie").len(), 2);
}

#[test]
fn a_transaction_that_hangs_is_given_up_and_its_holder_is_told() {
    let connection = kafka().connection();
    make(&connection, &[("hang", 1, &[])]);
    let short = Delivery::ExactlyOnce { transactional_id: "hang".into(), timeout: Duration::from_secs(1) };
    let mut outbox = Outbox::open(&connection, short).unwrap();
    let mut transaction = outbox.transaction();
    transaction.send(&[record("hang", 0, "never")]).unwrap();
    // The brokers abort the transaction. If it stayed open, this reader would wait before the next record.
    Outbox::open(&connection, Delivery::AtLeastOnce)
        .unwrap()
        .commit(&[record("hang", 0, "after")], None)
        .unwrap();
    let until = Instant::now() + WAIT;
    let mut follower = Follower::open(&connection, "hang", &From::Beginning, WAIT).unwrap();
    loop {
        assert!(Instant::now() < until, "the transaction is not given up");
        if let Followed::Record(record) = follower.poll(Duration::from_millis(50)).unwrap() {
            assert_eq!(record.payload.as_deref(), Some(b"after".as_slice()));
            break;
        }
    }
    let late = transaction.commit(None).unwrap_err();
    assert!(matches!(late, CommitError::Outlived { .. }), "{late:?}");
    assert_eq!(everything(&connection, "hang").len(), 1);
    outbox.commit(&[record("hang", 0, "more")], None).unwrap();
    assert_eq!(everything(&connection, "hang").len(), 2);
}

/// The brokers die between the records and their commit: the outcome is unknown until they are back. The same outbox
/// continues with a new producer.
#[test]
fn a_commit_without_an_answer_is_followed_by_a_new_producer() {
    let mut broker = Kafka::start();
    let connection = broker.connection();
    make(&connection, &[("unknown", 1, &[])]);
    let mut outbox = Outbox::open(&connection, once("unknown")).unwrap();
    let mut transaction = outbox.transaction();
    transaction.send(&[record("unknown", 0, "lost")]).unwrap();
    broker.kill();
    let unknown = transaction.commit(None).unwrap_err();
    assert!(matches!(unknown, CommitError::Indefinite { .. }) && unknown.is_retryable(), "{unknown:?}");
    let away = outbox.commit(&[record("unknown", 0, "away")], None).unwrap_err();
    assert!(matches!(away, CommitError::Unavailable { .. }), "{away:?}");

    broker.restart();
    let until = Instant::now() + WAIT;
    // The coordinator may take some time to load its transactions again.
    while let Err(error) = outbox.commit(&[record("unknown", 0, "done")], None) {
        assert!(error.is_retryable() && Instant::now() < until, "{error:?}");
    }
    // Records whose commit was never requested do not count, and block no reader.
    let payloads: Vec<_> =
        everything(&connection, "unknown").into_iter().map(|one| one.payload.unwrap()).collect();
    assert_eq!(payloads, [b"done".to_vec()]);
}

/// A transaction that is aborted between its records and its commit has no effect.
#[test]
fn what_is_given_up_before_its_commit_is_aborted() {
    let connection = kafka().connection();
    make(&connection, &[("given.up", 1, &[])]);
    let mut outbox = Outbox::open(&connection, once("given-up")).unwrap();
    let asked = Cell::new(0);
    let mut sent = Outputs::new(vec![record("given.up", 0, "never")], &"dlq".into());
    let further = |_: &[Produced], places: &[(i32, i64)]| {
        asked.set(places.len());
        Ok(Vec::new())
    };
    let result = dead_letter::commit_with(&mut outbox, &mut sent, None, further, || asked.get() > 0);
    assert!(matches!(result, Err(CommitError::Aborted { stage: "commit", .. })), "{result:?}");
    assert_eq!((asked.get(), everything(&connection, "given.up").len()), (1, 0));
    outbox.commit(&[record("given.up", 0, "1")], None).unwrap();
    assert_eq!(everything(&connection, "given.up").len(), 1);
}
