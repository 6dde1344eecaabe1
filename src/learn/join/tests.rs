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

/// Runs `join` with an empty index, a topic of one decision, and the ledger `state`. Returns the output.
fn joined(state: &LedgerState, join: impl FnOnce(&mut Join<'_>, DecisionRef)) -> JoinOutput {
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
    let mut lookup = Lookup::open(&connection, "decisions", REQUEST_TIMEOUT).unwrap();
    let mut all = Join {
        state,
        store: &store,
        lookup: &mut lookup,
        schemas: None,
        horizon: HORIZON,
        output: JoinOutput::default(),
    };
    join(&mut all, at);
    all.output
}

fn read(label: Label) -> ReadLabel {
    let record = Consumed {
        topic: "labels".into(),
        partition: 0,
        offset: 0,
        key: None,
        payload: None,
        headers: Vec::new(),
        timestamp: None,
    };
    ReadLabel { record: Arc::new(record), label, received: 20 }
}

fn statuses(output: &JoinOutput) -> Vec<LabelStatus> {
    let statuses = output.records().iter().filter_map(|record| match record {
        Record::Label(label) => Some(label.status),
        _ => None,
    });
    statuses.collect()
}

#[test]
fn a_label_that_names_its_decision_never_waits_for_the_index() {
    let state = LedgerState::new();
    let named = joined(&state, |join, at| join.labels(vec![read(label(Some(at)))]).unwrap());
    assert_eq!(statuses(&named), [LabelStatus::Accepted]);
    let has_votes = named
        .records()
        .iter()
        .any(|record| matches!(record, Record::Round(round) if round.decision.offset == 0));
    assert!(has_votes && named.refused.is_empty());
    // Without the reference the decision's offset is unknown.
    let unnamed = joined(&state, |join, _| join.labels(vec![read(label(None))]).unwrap());
    assert_eq!((statuses(&unnamed), unnamed.records().len()), (vec![LabelStatus::Waiting], 1));
}

#[test]
fn a_label_waits_for_twice_the_horizon_at_most() {
    let mut state = LedgerState::new();
    let waiting = LabelRecord { label: label(None), received: 20, status: LabelStatus::Waiting };
    state.apply(&Record::Label(waiting), &mut Vec::new()).unwrap();
    let at = |now| statuses(&joined(&state, |join, _| join.expire(now)));
    assert_eq!(at(20 + 2 * HORIZON), []);
    assert_eq!(at(21 + 2 * HORIZON), [LabelStatus::Expired]);
}

/// Labels of one record share its dead letter.
#[test]
fn a_record_of_several_labels_is_refused_once() {
    let state = LedgerState::new();
    let both = |received| {
        let record = read(label(None)).record;
        let of = |id: &str, at| {
            let label = Label { id: id.into(), ..label(Some(at)) };
            ReadLabel { record: Arc::clone(&record), label, received }
        };
        joined(&state, |join, at| join.labels(vec![of("a", at), of("b", at)]).unwrap())
    };
    let late = both(11 + HORIZON);
    assert_eq!((late.refused.len(), statuses(&late)), (1, vec![]));
    let kept = both(20);
    assert_eq!((kept.refused.len(), statuses(&kept)), (0, vec![LabelStatus::Accepted; 2]));
}

#[test]
fn a_record_of_several_labels_is_taken_out_whole_and_once() {
    let state = LedgerState::new();
    let record = read(label(None)).record;
    let other = Arc::new(Consumed { offset: record.offset + 1, ..(*record).clone() });
    let of = |record: &Arc<Consumed>, id: &str, at| {
        let label = Label { id: id.into(), ..label(Some(at)) };
        ReadLabel { record: Arc::clone(record), label, received: 20 }
    };
    let mut output = joined(&state, |join, at| {
        let labels = vec![of(&record, "a", at), of(&record, "b", at), of(&other, "c", at)];
        join.labels(labels).unwrap();
    });
    let key = |id: &str| Label { id: id.into(), ..label(None) }.key();
    let mut unfit = BTreeSet::from([key("a")]);
    let taken: Vec<_> = output.take_records(&mut unfit).iter().map(|record| record.offset).collect();
    assert_eq!((taken, unfit), (vec![record.offset], BTreeSet::from([key("a"), key("b")])));
    assert!(output.take_records(&mut BTreeSet::from([key("b")])).is_empty());
}
