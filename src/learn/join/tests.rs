use super::*;
use crate::codec::{self, Encoding};
use crate::core::decision::Decision;
use crate::core::label::{Finding, Source};
use crate::kafka::embedded::Embedded;
use crate::kafka::{Connection, Delivery, Outbox, Produced};

const HORIZON: Millis = 1_000;

fn label(decision: Option<DecisionRef>) -> Label {
    Label {
        id: "l".into(),
        tenant: "t".into(),
        policy: "default".into(),
        event: "e".into(),
        annotator: None,
        verdict: Some(Finding::Safe),
        severity: None,
        categories: Vec::new(),
        time: 1,
        source: Source::Review,
        inclusion_probability: None,
        decision,
        corrects: None,
        retracts: None,
    }
}

fn decision() -> Decision {
    Decision { round_time: 10, ..Decision::example(label(None).round(), 0) }
}

/// What joining does with an index that knows nothing, beside a topic that holds one decision, with this book.
fn joining(book: &LedgerState, join: impl FnOnce(&mut Join<'_>, DecisionRef)) -> Joined {
    let broker = Embedded::start(&[("decisions", 1)]).unwrap();
    let connection = Connection::new(broker.bootstrap());
    let record = Produced {
        topic: "decisions".into(),
        partition: Some(0),
        key: None,
        payload: Some(codec::encode_decision(&decision(), Encoding::Avro).unwrap()),
        headers: Vec::new(),
        timestamp: None,
    };
    let places = Outbox::open(&connection, Delivery::AtLeastOnce).unwrap().commit(&[record], None).unwrap();
    let at = DecisionRef { partition: places[0].0, offset: places[0].1 };
    let folder = tempfile::tempdir().unwrap();
    let (store, _) = Store::open(&folder.path().join("store")).unwrap();
    let mut lookup = Lookup::open(&connection, "decisions", super::super::ANSWER).unwrap();
    let mut joined = Joined::default();
    let mut all = Join {
        book,
        store: &store,
        lookup: &mut lookup,
        schemas: None,
        horizon: HORIZON,
        joined: &mut joined,
    };
    join(&mut all, at);
    joined
}

fn read(label: Label) -> Read {
    let record = Consumed {
        topic: "labels".into(),
        partition: 0,
        offset: 0,
        key: None,
        payload: None,
        headers: Vec::new(),
        timestamp: None,
    };
    Read { record: Arc::new(record), label, received: 20 }
}

fn standings(joined: &Joined) -> Vec<LabelStatus> {
    let filed = joined.records().iter().filter_map(|record| match record {
        Record::Label(filed) => Some(filed.status),
        _ => None,
    });
    filed.collect()
}

#[test]
fn a_label_that_names_its_decision_never_waits_for_the_index() {
    let book = LedgerState::new();
    let named = joining(&book, |join, at| join.labels(vec![read(label(Some(at)))]).unwrap());
    assert_eq!(standings(&named), [LabelStatus::Accepted]);
    let judged = named
        .records()
        .iter()
        .any(|record| matches!(record, Record::Round(judged) if judged.decision.offset == 0));
    assert!(judged && named.refused.is_empty());
    // Without the reference nobody knows where to look.
    let unnamed = joining(&book, |join, _| join.labels(vec![read(label(None))]).unwrap());
    assert_eq!((standings(&unnamed), unnamed.records().len()), (vec![LabelStatus::Waiting], 1));
}

#[test]
fn a_label_waits_for_twice_the_horizon_and_then_no_more() {
    let mut book = LedgerState::new();
    let filed = LabelRecord { label: label(None), received: 20, status: LabelStatus::Waiting };
    book.apply(&Record::Label(filed), &mut Vec::new()).unwrap();
    let at = |now| standings(&joining(&book, |join, _| join.expire(now)));
    assert_eq!(at(20 + 2 * HORIZON), []);
    assert_eq!(at(21 + 2 * HORIZON), [LabelStatus::Expired]);
}

/// Labels of one record share its dead letter.
#[test]
fn a_record_of_several_labels_is_refused_once() {
    let book = LedgerState::new();
    let both = |received| {
        let record = read(label(None)).record;
        let of = |id: &str, at| {
            let label = Label { id: id.into(), ..label(Some(at)) };
            Read { record: Arc::clone(&record), label, received }
        };
        joining(&book, |join, at| join.labels(vec![of("a", at), of("b", at)]).unwrap())
    };
    let late = both(11 + HORIZON);
    assert_eq!((late.refused.len(), standings(&late)), (1, vec![]));
    let kept = both(20);
    assert_eq!((kept.refused.len(), standings(&kept)), (0, vec![LabelStatus::Accepted; 2]));
}

#[test]
fn a_record_of_several_labels_is_taken_out_whole_and_once() {
    let book = LedgerState::new();
    let record = read(label(None)).record;
    let other = Arc::new(Consumed { offset: record.offset + 1, ..(*record).clone() });
    let of = |record: &Arc<Consumed>, id: &str, at| {
        let label = Label { id: id.into(), ..label(Some(at)) };
        Read { record: Arc::clone(record), label, received: 20 }
    };
    let mut joined = joining(&book, |join, at| {
        let labels = vec![of(&record, "a", at), of(&record, "b", at), of(&other, "c", at)];
        join.labels(labels).unwrap();
    });
    let key = |id: &str| Key::Label(label(None).round(), id.into());
    let mut unfit = BTreeSet::from([key("a")]);
    let taken: Vec<_> = joined.take_records(&mut unfit).iter().map(|record| record.offset).collect();
    assert_eq!((taken, unfit), (vec![record.offset], BTreeSet::from([key("a"), key("b")])));
    assert!(joined.take_records(&mut BTreeSet::from([key("b")])).is_empty());
}
