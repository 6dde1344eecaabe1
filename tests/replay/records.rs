//! Other forms of the same records: container files, records of a topic, lines of a ledger.

use super::*;

#[test]
fn container_files_are_read_like_lines() {
    use apache_avro::{Schema, Writer};
    let room = Folder::new();
    let schema = Schema::parse_str(
        r#"{"type": "record", "name": "Labelled", "fields": [
            {"name": "event_id", "type": "string"},
            {"name": "votes", "type": {"type": "map", "values": ["null", "double", "float", "int"]}},
            {"name": "unsafe", "type": ["null", "boolean", "double"]},
            {"name": "event_time", "type": {"type": "long", "logicalType": "timestamp-micros"}},
            {"name": "features", "type": ["null", "bytes"]},
            {"name": "encoder", "type": {"type": "fixed", "name": "Id", "size": 32}},
            {"name": "own", "type": {"type": "array", "items": "string"}}]}"#,
    )
    .unwrap();
    use apache_avro::types::{Record, Value as Avro};
    let mut writer = Writer::new(&schema, Vec::new()).unwrap();
    let mut lines = Vec::new();
    for event in 0..3_000i64 {
        let features = (event % 3 == 0).then(|| vec![event as u8; 384]);
        let score = event as f64 / 3_000.0;
        let union = |at, value| Avro::Union(at, Box::new(value));
        let mut record = Record::new(&schema).unwrap();
        record.put("event_id", format!("e{event}"));
        let votes = [
            ("a", union(1, Avro::Double(score))),
            ("b", union(0, Avro::Null)),
            ("c", union(3, Avro::Int(1))),
        ];
        record
            .put("votes", Avro::Map(votes.into_iter().map(|(name, vote)| (name.to_owned(), vote)).collect()));
        record.put("unsafe", union(1, Avro::Boolean(event % 7 < 3)));
        record.put("event_time", Avro::TimestampMicros(event * 1_000 + 999));
        record.put(
            "features",
            features.clone().map_or(union(0, Avro::Null), |bytes| union(1, Avro::Bytes(bytes))),
        );
        record.put("encoder", Avro::Fixed(32, vec![9; 32]));
        record.put("own", Avro::Array(vec![Avro::String("passed over".to_owned())]));
        writer.append_value(record).unwrap();
        let mut line = json!({"event_id": format!("e{event}"), "votes": {"a": score, "b": null, "c": 1}, "unsafe": event % 7 < 3, "event_time": event, "encoder": "09".repeat(32)});
        if let Some(bytes) = features {
            use base64::Engine as _;
            line["features"] = json!(base64::engine::general_purpose::STANDARD.encode(bytes));
        }
        lines.push(line.to_string());
    }
    let file = room.path("rounds.avro");
    fs::write(&file, writer.into_inner().unwrap()).unwrap();
    let ran = replay(&args(&[&file]));
    assert_eq!((ran.summary().lines, ran.summary().malformed), (3_000, 0), "{}", ran.notes);
    assert_eq!(ran.hash(), replay(&args(&[&room.file("s.jsonl", &lines)])).hash());
    let bytes = fs::read(&file).unwrap();
    fs::write(&file, &bytes[..bytes.len() / 2]).unwrap();
    assert_eq!(replay(&args(&[&file])).code(), 65);
}

#[test]
fn records_of_a_topic_are_folded_like_their_lines() {
    use aegis::core::label::{DecisionRef, Finding, Label};
    use aegis::core::ledger::{LabelRecord, LabelStatus, Record, RoundId, RoundRecord, RoundVote};
    let mut records = Vec::new();
    let mut dice = Dice(3);
    for event in 0..60 {
        let id = RoundId { tenant: "t".to_owned(), policy: "p".to_owned(), event: format!("e{event}") };
        let vote = |expert: &str, score: u64| RoundVote {
            expert: expert.to_owned(),
            score: Some(score as f64 / 100.0),
            shadow: false,
            decisive: false,
        };
        records.push(Record::Label(LabelRecord {
            label: Label::new(&id, "l", Finding::ALL[dice.below(2) as usize]),
            received: 0,
            status: LabelStatus::Accepted,
        }));
        records.push(Record::Round(RoundRecord {
            id,
            subject: None,
            round_time: dice.below(30) as i64,
            decision: DecisionRef { partition: 0, offset: event },
            votes: vec![vote("a", dice.below(101)), vote("b", dice.below(101))],
            features: None,
        }));
    }
    let lines: Vec<String> = records.iter().map(record).collect();
    let expected = fold_lines(lines.iter().map(String::as_str)).unwrap();
    let mut asked = String::new();
    let mut topic = |name: &str, each: &mut dyn FnMut(Record)| {
        name.clone_into(&mut asked);
        records.iter().cloned().for_each(each);
        Ok(())
    };
    let mut around = ReplayContext { topic: Some(&mut topic), ..ReplayContext::default() };
    let flags = args(&[Path::new("topic:aegis.rounds")]);
    let summary = run(&flags, &mut around, &mut Vec::new(), &mut Vec::new()).unwrap();
    assert_eq!(summary.policies["p"].state_hash, hex(&expected["p"]));
    assert_eq!(asked, "aegis.rounds");
    let mut away = |_: &str, _: &mut dyn FnMut(Record)| Err("no broker".to_owned());
    let mut around = ReplayContext { topic: Some(&mut away), ..ReplayContext::default() };
    let error = run(&flags, &mut around, &mut Vec::new(), &mut Vec::new()).unwrap_err();
    assert_eq!(error.exit_code(), 69);
}

#[test]
fn what_the_ledger_holds_comes_back_from_lines() {
    let room = Folder::new();
    let lines = stream(150, true);
    let save = room.path("save");
    let first = replay(&ReplayArgs { save: Some(save.clone()), ..args(&[&room.file("s.jsonl", &lines)]) });
    // The savepoint's records, written again by the demo's writer, are the same lines.
    let text = fs::read_to_string(&save).unwrap();
    let own: BTreeSet<&str> = text.lines().filter(|line| !line.contains("\"aegis\":\"savepoint\"")).collect();
    let folded = fold_lines(own.iter().copied()).unwrap();
    assert_eq!(hex(&folded["default"]), first.hash());
}

#[test]
fn every_record_is_written_and_read_to_the_bit() {
    use aegis::core::label::{DecisionRef, Finding, Label, Source};
    use aegis::core::ledger::{
        Edit, EditAction, LabelRecord, LabelStatus, Record, RoundId, RoundRecord, RoundVote, TextFeatures,
    };
    let id = RoundId {
        tenant: "tänant \"q\"".to_owned(),
        policy: "p".to_owned(),
        event: "e\n\u{1f600}".to_owned(),
    };
    let vote =
        |expert: &str, score, shadow| RoundVote { expert: expert.to_owned(), score, shadow, decisive: false };
    let mut features = Box::new([0i8; 384]);
    features.iter_mut().enumerate().for_each(|(at, byte)| *byte = (at % 256) as u8 as i8);
    let judged = RoundRecord {
        id: id.clone(),
        subject: Some("sübject".to_owned()),
        round_time: -5,
        decision: DecisionRef { partition: 3, offset: i64::MAX },
        votes: vec![
            vote("a", Some(0.1 + 0.2), false),
            vote("b\u{e9}", None, true),
            vote("c", Some(f64::MIN_POSITIVE), true),
            vote("d", Some(1.0), false),
        ],
        features: Some(TextFeatures { encoder: [7; 32], features }),
    };
    let label = Label {
        id: "l".to_owned(),
        tenant: id.tenant.clone(),
        policy: id.policy.clone(),
        event: id.event.clone(),
        annotator: Some("ann".to_owned()),
        verdict: Some(Finding::NeedsCaution),
        severity: Some(1.0 / 3.0),
        categories: vec!["hate".to_owned()],
        time: 77,
        source: Source::Gold,
        inclusion_probability: Some(0.1),
        decision: Some(DecisionRef { partition: 1, offset: 2 }),
        corrects: Some("other".to_owned()),
        retracts: None,
    };
    let taken_back = Label {
        retracts: Some("l".to_owned()),
        verdict: None,
        severity: None,
        id: "m".to_owned(),
        ..label.clone()
    };
    let filed =
        |label: Label| Record::Label(LabelRecord { label, received: 99, status: LabelStatus::Waiting });
    let records = [
        Record::Edit(Edit {
            id: "e1".to_owned(),
            action: EditAction::Erase { tenant: String::new(), subject: "s".to_owned() },
        }),
        Record::Edit(Edit {
            id: "e2".to_owned(),
            action: EditAction::Quarantine { tenant: "t".to_owned(), annotator: "q".to_owned() },
        }),
        Record::Round(judged),
        filed(label),
        filed(taken_back),
    ];
    let room = Folder::new();
    let (first, second) = (room.path("one"), room.path("two"));
    let file = room.file("s.jsonl", &records.iter().map(record).collect::<Vec<_>>());
    replay(&ReplayArgs { save: Some(first.clone()), strict: true, ..args(&[&file]) }).summary();
    let saved = fs::read_to_string(&first).unwrap();
    for line in records.iter().map(record) {
        assert!(saved.lines().any(|found| found == line), "{line}\nis not in\n{saved}");
    }
    replay(&ReplayArgs { resume: Some(first), save: Some(second.clone()), ..ReplayArgs::default() })
        .summary();
    assert_eq!(fs::read_to_string(second).unwrap(), saved);
    // Folding the records themselves gives the hash of their lines.
    let mut book = LedgerState::new();
    records.iter().for_each(|record| assert!(book.apply(record, &mut Vec::new()).unwrap()));
    let spec: LearnerSpec = "default".parse().unwrap();
    let mut fold = Fold::new(Settings::new("p", spec, Mapping::default()));
    fold.mark_all_changed(&book);
    fold.catch_up(&book).unwrap();
    let lines: Vec<String> = records.iter().map(record).collect();
    assert_eq!(fold_lines(lines.iter().map(String::as_str)).unwrap()["p"], fold.state_hash(&book));
}

#[test]
fn records_that_are_left_out_are_counted() {
    let fields = || {
        toml::from_str("event_id = \"/id\"\nverdict = \"/is\"\nskip_if = { \"/answer\" = \"ignore\" }")
            .unwrap()
    };
    let lines = b"{\"id\":1,\"is\":\"safe\",\"answer\":\"accept\"}\n{\"id\":2,\"answer\":\"ignore\"}\n\
                  {\"id\":3,\"answer\":\"ignore\"}\n";
    let ran = replay_by(fields(), "labels.jsonl", lines);
    assert_eq!((ran.summary().lines, ran.summary().malformed), (3, 0), "{}", ran.notes);
    assert!(ran.out.contains("3 lines, 2 left out by label_fields.skip_if in "), "{}", ran.out);
    let none = replay_by(fields(), "labels.jsonl", br#"{"id":1,"is":"safe"}"#);
    assert!(none.out.contains("1 lines in "), "{}", none.out);
}

/// A header that the fast reader refuses, here because a column of the user has NaN, is read all the same.
#[test]
fn a_header_is_read_by_the_second_reader_too() {
    let room = Folder::new();
    let header = r#"{"aegis":"header","format":1,"policies":{"default":{"learner":"hedge"}},"share":NaN}"#;
    let vote = r#"{"event_id":"e","votes":{"a":0.5},"unsafe":true}"#;
    let path = room.file("rounds.jsonl", &[header.to_owned(), vote.to_owned()]);
    let ran = replay(&args(&[&path]));
    assert_eq!(ran.summary().malformed, 0, "{}", ran.notes);
    assert_eq!(ran.summary().policies["default"].learner.name, "hedge");
}
