//! `aegis verify` and `aegis dlq` on a real Apache Kafka: a small run that is whole, and the same with one
//! fault planted in it.

#[path = "registry/server.rs"]
#[allow(dead_code, reason = "the registry's own tests use all of it")]
mod server;
mod support;

use std::fs;
use std::process::{Command, Output};
use std::sync::Arc;

use aegis::codec::{self, Defaults, Encoding, SCHEMAS};
use aegis::config::Policies;
use aegis::core::book::Book;
use aegis::core::decision::{Asked, Decision, Origin, decide};
use aegis::core::fold::{Fold, Settings};
use aegis::core::label::{DecisionRef, Finding};
use aegis::core::ledger::{Filed, Record, Standing};
use aegis::core::predictor::{Combined, PredictorRef, Published, Share};
use aegis::core::review::ReviewRequest;
use aegis::core::vote::Vote;
use aegis::dead_letter::{Reason, dead_letter};
use aegis::kafka::topics::{Finding as Found, ensure};
use aegis::kafka::{Connection, Consumed, Delivery, Offsets, Outbox, Produced, Source, Start};
use aegis::schemas::Encodings;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::config::ClientConfig;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use server::{Server, schema, unknown};
use support::flow::{event, event_record, label, raw, read_all};
use support::{WAIT, kafka, read};

/// Events in each of two batches; every tenth is poison.
const BATCH: usize = 20;
const PARTITIONS: i32 = 2;

/// What goes wrong in a run. The functions get all outputs of the first batch.
type Plant<'a> = &'a dyn Fn(&World, &mut Vec<Produced>);

/// A small run: events, their outcomes, a ledger and a predictor, all as score and learn would write them.
struct World {
    folder: tempfile::TempDir,
    connection: Connection,
    prefix: &'static str,
    encodings: Encodings,
    /// The predictor is published with this hash instead of its own.
    hash: Option<[u8; 32]>,
}

fn whole(_: &World, _: &mut Vec<Produced>) {}

impl World {
    fn new(prefix: &'static str, hash: Option<[u8; 32]>, plant: Plant<'_>) -> Self {
        Self::written_in(Encodings::default(), "", prefix, hash, [plant, &whole])
    }

    /// With something planted among the review requests.
    fn asking(prefix: &'static str, plant: Plant<'_>) -> Self {
        Self::written_in(Encodings::default(), "", prefix, None, [&whole, plant])
    }

    fn written_in(
        encodings: Encodings,
        more: &str,
        prefix: &'static str,
        hash: Option<[u8; 32]>,
        plants: [Plant<'_>; 2],
    ) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let names = ["events", "decisions", "review", "labels", "dlq", "rounds", "weights", "election"];
        let topics: String = names.iter().map(|name| format!("{name} = \"{prefix}.{name}\"\n")).collect();
        let config = format!(
            "[kafka]\nbrokers = \"{}\"\n[topics]\n{topics}[score]\ngroup = \"{prefix}.score\"\n{more}",
            kafka().bootstrap()
        );
        fs::write(folder.path().join("aegis.toml"), config).unwrap();
        let world = Self { folder, connection: kafka().connection(), prefix, encodings, hash };
        let loaded = aegis::config::load(&world.folder.path().join("aegis.toml"), [], &[]).unwrap();
        let made =
            ensure(&world.connection, &aegis::topics::table(&loaded.config, PARTITIONS), WAIT).unwrap();
        assert!(made.iter().all(|found| *found == Found::Made), "{made:?}");
        world.play(plants);
        world
    }

    fn topic(&self, name: &str) -> Arc<str> {
        format!("{}.{name}", self.prefix).into()
    }

    fn outbox(&self, id: &str) -> Outbox {
        let transactional_id = format!("{}.{id}", self.prefix);
        let delivery = Delivery::ExactlyOnce { transactional_id, timeout: WAIT / 10 };
        Outbox::open(&self.connection, delivery).unwrap()
    }

    fn play(&self, plants: [Plant<'_>; 2]) {
        let mut producer = self.outbox("producer");
        let mut score = self.outbox("score");
        let group = format!("{}.score", self.prefix);
        let events = self.topic("events");
        let mut source = Source::subscribe(&self.connection, &group, &[&events], Start::Earliest).unwrap();
        let mut decided = Vec::new();
        for batch in 0..2 {
            // In a transaction: its end takes offsets that are no events.
            producer.commit(&self.events(batch * BATCH..(batch + 1) * BATCH), None).unwrap();
            let read = read(&mut source, BATCH);
            let offsets: Offsets = read
                .iter()
                .map(|record| ((Arc::clone(&record.topic), record.partition), record.offset + 1))
                .collect();
            let mut outputs: Vec<Produced> = read.into_iter().map(|record| self.outcome(record)).collect();
            // Given up: nobody sees it.
            score.unit().send(&outputs).unwrap();
            if batch == 0 {
                plants[0](self, &mut outputs);
            }
            let mut unit = score.unit();
            let places = unit.send(&outputs).unwrap();
            let mut requests = self.requests(&outputs, &places);
            if batch == 0 {
                plants[1](self, &mut requests);
            }
            unit.send(&requests).unwrap();
            unit.commit(Some((&source, &offsets))).unwrap();
            decided.extend(places.into_iter().zip(outputs).filter_map(|((partition, offset), output)| {
                let decision = self.read(output.payload.as_deref()?)?;
                Some(decision.judged(DecisionRef { partition, offset }))
            }));
        }
        source.close(WAIT);
        // Not decided yet, which is no fault.
        producer.commit(&self.events(90..93), None).unwrap();
        // Opening another would take half a second.
        self.teach(&mut producer, decided.into_iter().step_by(3).map(Record::Judged).collect());
    }

    fn events(&self, numbers: std::ops::Range<usize>) -> Vec<Produced> {
        let topic = self.topic("events");
        let record = |number: usize| {
            let record = if number.is_multiple_of(10) {
                raw(&topic, "k", format!("poison {number}"))
            } else {
                event_record(&topic, &event(number, "hello"))
            };
            Produced { partition: Some(i32::from(!number.is_multiple_of(3))), ..record }
        };
        numbers.map(record).collect()
    }

    /// The one outcome of an event.
    fn outcome(&self, record: Consumed) -> Produced {
        match codec::decode_event(record.payload.as_deref().unwrap(), &Defaults::default()) {
            Ok(_) => self.decided(&record),
            Err(error) => {
                let reason = Reason { name: error.name(), message: error.to_string() };
                dead_letter(&self.topic("dlq"), "score", record, &reason)
            }
        }
    }

    fn decided(&self, record: &Consumed) -> Produced {
        let event = codec::decode_event(record.payload.as_deref().unwrap(), &Defaults::default()).unwrap();
        let vote = |expert, score| Vote::scored(expert, [1; 32], score, Vec::new());
        let origin =
            Origin { topic: record.topic.to_string(), partition: record.partition, offset: record.offset };
        let asked = Asked {
            round_time: record.timestamp.unwrap(),
            votes: vec![vote("a", 0.2), vote("b", 0.7)],
            reading: None,
            trace: None,
            event,
            origin,
        };
        let predictor =
            PredictorRef { learner: "default".into(), state_hash: [0; 32], rounds: 0, ledger_offset: -1 };
        // Every third is near the threshold and asks for a review.
        let p = if record.offset % 3 == 0 { 0.48 } else { 0.4 };
        let combined = Combined { probability: Some(p), shares: vec![Share::default(); 2] };
        let policies = Policies::default();
        self.written(&decide(asked, policies.get("default").unwrap(), predictor, &combined, 1))
    }

    fn written(&self, decision: &Decision) -> Produced {
        Produced {
            partition: Some(decision.origin.partition),
            ..raw(
                &self.topic("decisions"),
                "k",
                codec::encode_decision(decision, self.encodings.decisions).unwrap(),
            )
        }
    }

    /// A decision that was written here, in whatever encoding.
    fn read(&self, payload: &[u8]) -> Option<Decision> {
        let datum = match self.encodings.decisions {
            Encoding::Confluent(_) => [avro_mark(), payload.get(5..)?.to_vec()].concat(),
            _ => payload.to_vec(),
        };
        codec::decode_decision(&datum).ok()
    }

    /// The review requests of the decisions among `outputs`, which lie at `places`.
    fn requests(&self, outputs: &[Produced], places: &[(i32, i64)]) -> Vec<Produced> {
        let policies = Policies::default();
        let policy = policies.get("default").unwrap();
        let decisions = self.topic("decisions");
        let decided = outputs.iter().zip(places).filter(|(output, _)| output.topic == decisions);
        let request = |(output, (partition, offset)): (&Produced, &(i32, i64))| {
            let decision = self.read(output.payload.as_deref()?)?;
            let at = DecisionRef { partition: *partition, offset: *offset };
            Some(self.asked(&ReviewRequest::of(&decision, policy, at)?))
        };
        decided.filter_map(request).collect()
    }

    fn asked(&self, request: &ReviewRequest) -> Produced {
        let payload = codec::encode_review(request, self.encodings.review).unwrap();
        Produced { partition: Some(request.origin.partition), ..raw(&self.topic("review"), "k", payload) }
    }

    /// Labels for these rounds, the predictor that they make, and one more label that waits.
    fn teach(&self, learn: &mut Outbox, judged: Vec<Record>) {
        let mut records = Vec::new();
        let filed = |event: &str, standing| {
            let label = label(&format!("l-{event}"), event, Finding::Safe);
            Record::Filed(Filed { label, received: 5, standing })
        };
        for round in judged {
            let Record::Judged(judged) = &round else { unreachable!() };
            let label = filed(&judged.id.event, Standing::Accepted);
            records.extend([round, label]);
        }
        let write = |learn: &mut Outbox, records: &[Record]| {
            let produced = records.iter().map(|record| Produced {
                partition: Some(0),
                key: Some(codec::encode_key(&record.key())),
                ..raw(&self.topic("rounds"), "", codec::encode_record(record, Encoding::Avro).unwrap())
            });
            let places = learn.commit(&produced.collect::<Vec<_>>(), None).unwrap();
            places.last().unwrap().1 + 1
        };
        let half = records.len() / 2;
        let offset = write(learn, &records[..half]);
        self.publish(learn, &records[..half], offset, None);
        let offset = write(learn, &records[half..]);
        self.publish(learn, &records, offset, self.hash);
        write(learn, &[filed("unknown", Standing::Waiting)]);
    }

    fn publish(&self, learn: &mut Outbox, records: &[Record], offset: i64, hash: Option<[u8; 32]>) {
        let mut book = Book::new();
        for record in records {
            book.apply(record, &mut Vec::new()).unwrap();
        }
        let policies = Policies::default();
        let policy = policies.get("default").unwrap().clone();
        let mut fold = Fold::new(Settings::new(&policy.name, policy.learner, policy.mapping));
        fold.all(&book);
        fold.catch_up(&book).unwrap();
        let published = fold.published(&book, offset).unwrap();
        let published = Published { state_hash: hash.unwrap_or(published.state_hash), ..published };
        let payload = codec::encode_published(&published, Encoding::Avro).unwrap();
        learn.commit(&[raw(&self.topic("weights"), "default", payload)], None).unwrap();
    }

    /// Deletes the beginning of a partition, as retention does; -1: all of it.
    fn delete(&self, topic: &str, partition: i32, before: i64) {
        let mut client = ClientConfig::new();
        let admin: AdminClient<_> = client.set("bootstrap.servers", kafka().bootstrap()).create().unwrap();
        let before = if before < 0 { Offset::End } else { self.nth(topic, partition, before) };
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic(topic), partition, before).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(admin.delete_records(&list, &AdminOptions::new())).unwrap();
    }

    /// The offset of a partition's record number `number`.
    fn nth(&self, topic: &str, partition: i32, number: i64) -> Offset {
        let records = read_all(&self.connection, &self.topic(topic)).into_iter();
        let mut records = records.filter(|record| record.partition == partition);
        Offset::Offset(records.nth(usize::try_from(number).unwrap()).unwrap().offset)
    }

    fn aegis(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
        command.args(arguments).arg("--config").arg(self.folder.path().join("aegis.toml"));
        command.env_remove("AEGIS_CONFIG").output().unwrap()
    }

    /// Exit code, what people read, and the report.
    fn verify(&self, more: &[&str]) -> (i32, String, serde_json::Value) {
        let json = self.folder.path().join("report.json");
        let output = self.aegis(&[&["verify", "--json", json.to_str().unwrap()], more].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let json = fs::read_to_string(json);
        let json = json.unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), text, serde_json::from_str(&json).unwrap())
    }

    /// Exactly one fault is found, of this kind and with these words.
    fn finds(&self, kind: &str, words: &[&str]) {
        let (code, text, json) = self.verify(&[]);
        assert_eq!(code, 65, "{text}");
        let faults = json["faults"].as_object().unwrap();
        assert_eq!(faults.keys().collect::<Vec<_>>(), [kind], "{text}");
        assert_eq!(faults[kind]["count"], 1, "{text}");
        for word in words {
            assert!(text.contains(word), "{word:?} is not in:\n{text}");
        }
    }
}

/// Marks a decision in Avro's single-object encoding.
fn avro_mark() -> Vec<u8> {
    let event = event(0, "");
    let origin = Origin { topic: "t".into(), partition: 0, offset: 0 };
    let asked = Asked { event, origin, round_time: 0, votes: Vec::new(), reading: None, trace: None };
    let predictor = PredictorRef { learner: "x".into(), state_hash: [0; 32], rounds: 0, ledger_offset: 0 };
    let combined = Combined { probability: None, shares: Vec::new() };
    let decision = decide(asked, Policies::default().get("default").unwrap(), predictor, &combined, 0);
    codec::encode_decision(&decision, Encoding::Avro).unwrap()[..10].to_vec()
}

/// The outputs of the decisions partition 1, by place among all.
fn second(outputs: &[Produced], world: &World) -> Vec<usize> {
    let here = |output: &Produced| output.topic == world.topic("decisions") && output.partition == Some(1);
    (0..outputs.len()).filter(|at| here(&outputs[*at])).collect()
}

fn origin(output: &Produced) -> i64 {
    codec::decode_decision(output.payload.as_deref().unwrap()).unwrap().origin.offset
}

#[test]
fn a_run_that_is_whole_is_found_whole_and_its_dead_letters_are_shown() {
    let world = World::new("whole", None, &whole);
    let (code, text, json) = world.verify(&[]);
    assert_eq!(code, 0, "{text}");
    assert!(text.contains("43 events: 36 decisions, 4 dead letters, 3 open"), "{text}");
    assert!(text.contains("holds   every decision that asks for a review has its request"), "{text}");
    let (asking, requests) = (&json["review"]["asking"], &json["review"]["requests"]);
    assert!(asking.as_u64().unwrap() > 8 && asking == requests, "{text}");
    assert!(text.contains("holds   policy default: the ledger up to offset"), "{text}");
    assert_eq!((&json["holds"], json["predictors"].as_array().unwrap().len()), (&true.into(), 1));

    // From a time on: the second batch only, and then nothing.
    let records = read_all(&world.connection, &world.topic("events"));
    let of = |number: usize| {
        let id = format!("e{number:05}");
        let is = |record: &&Consumed| {
            let event = codec::decode_event(record.payload.as_deref().unwrap(), &Defaults::default());
            event.is_ok_and(|event| event.id == id)
        };
        records.iter().find(is).unwrap().timestamp.unwrap()
    };
    let (code, text, json) = world.verify(&["--from", &of(21).min(of(22)).to_string()]);
    assert_eq!((code, &json["counts"]["events"]), (0, &23.into()), "{text}");
    let (code, _, json) = world.verify(&["--from", "2999-01-01T00:00:00Z"]);
    assert_eq!((code, &json["counts"]["events"]), (0, &0.into()));
    assert_eq!(world.aegis(&["verify", "--from", "yesterday"]).status.code(), Some(64));

    dead_letters(&world);
}

fn dead_letters(world: &World) {
    let list = |arguments: &[&str]| {
        let output = world.aegis(&[&["dlq", "list", "--output", "json"], arguments].concat());
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let json: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        json.as_array().unwrap().clone()
    };
    let all = list(&[]);
    assert_eq!(all.len(), 4);
    assert!(all.iter().all(|line| line["reason"] == "NotAvro" && line["stage"] == "score"), "{all:?}");
    assert_eq!((list(&["--limit", "3"]), list(&["--reason", "Empty"]).len()), (all[1..].to_vec(), 0));
    let text = world.aegis(&["dlq", "list"]).stdout;
    assert!(!String::from_utf8(text).unwrap().contains("poison"));

    let last = &all[3];
    let at = format!("{}:{}", last["partition"], last["offset"]);
    let shown = String::from_utf8(world.aegis(&["dlq", "show", &at]).stdout).unwrap();
    let original =
        format!("whole.events partition {} offset {}", last["origin_partition"], last["origin_offset"]);
    assert!(shown.contains(&original) && shown.contains("__connect.errors.stage: score"), "{shown}");
    assert!(!shown.contains("poison"), "{shown}");
    let payload = world.aegis(&["dlq", "show", &at, "--payload", "-"]).stdout;
    assert!([&b"poison 20"[..], b"poison 30"].contains(&&*payload), "{payload:?}");
    let file = world.folder.path().join("payload");
    assert!(world.aegis(&["dlq", "show", &at, "--payload", file.to_str().unwrap()]).status.success());
    assert_eq!(fs::read(file).unwrap(), payload);
    assert_eq!(world.aegis(&["dlq", "show", "0:99999"]).status.code(), Some(65));
    assert_eq!(world.aegis(&["dlq", "show", "7"]).status.code(), Some(64));
}

#[test]
fn a_gap_is_found() {
    let world = World::new("gap", None, &|world, outputs| {
        let lost = second(outputs, world)[2];
        assert_eq!(origin(&outputs.remove(lost)), 2);
    });
    world.finds("gap", &["gap.events partition 1 offset 2: has neither decision nor dead letter"]);
}

#[test]
fn a_duplicate_is_found() {
    let world = World::new("twice", None, &|world, outputs| {
        outputs.push(outputs[second(outputs, world)[2]].clone());
    });
    world.finds("duplicate", &["twice.events partition 1 offset 2 has an outcome already"]);
}

#[test]
fn a_swapped_pair_is_found() {
    let world = World::new("swap", None, &|world, outputs| {
        let here = second(outputs, world);
        outputs.swap(here[2], here[3]);
    });
    world.finds("order", &["is of event 2 and comes after that of event 3, at offset"]);
}

#[test]
fn a_decision_for_no_event_is_found() {
    let world = World::new("orphan", None, &|world, outputs| {
        let like = outputs[second(outputs, world)[2]].payload.clone().unwrap();
        let mut decision = codec::decode_decision(&like).unwrap();
        decision.origin.offset = 4_711;
        outputs.push(world.written(&decision));
    });
    world.finds("orphan", &["there is no orphan.events partition 1 offset 4711"]);
}

#[test]
fn a_wrong_hash_is_found() {
    let world = World::new("hash", Some([7; 32]), &whole);
    world.finds("hash", &["the predictor of policy default has the hash 0707070707"]);
}

/// A request that says this instead; there are a dozen, and the fourth is changed.
fn changed(world: &World, requests: &mut [Produced], change: fn(&mut ReviewRequest)) {
    let mut request = codec::decode_review(requests[3].payload.as_deref().unwrap()).unwrap();
    change(&mut request);
    requests[3].payload = world.asked(&request).payload;
}

#[test]
fn a_decision_that_asks_and_has_no_request_is_found() {
    let world = World::asking("unasked", &|_, requests| _ = requests.remove(3));
    world.finds("request_gap", &["unasked.decisions partition ", "asks for a review and has no request"]);
}

#[test]
fn a_second_request_is_found() {
    let world = World::asking("asked2", &|_, requests| requests.push(requests[3].clone()));
    world.finds("request_duplicate", &["asked2.review partition ", "has one already"]);
}

#[test]
fn a_request_for_no_decision_is_found() {
    let world = World::asking("astray", &|world, requests| {
        requests.push(requests[3].clone());
        changed(world, requests, |request| request.decision.offset = 4_711);
    });
    world.finds("request_orphan", &["there is no decision that asks for a review at astray.decisions"]);
}

#[test]
fn a_request_that_names_another_events_decision_is_found() {
    let world = World::asking("mixed", &|world, requests| {
        changed(world, requests, |request| request.id.event = "another".into());
    });
    world.finds("request_orphan", &["says otherwise than the decision that it names"]);
}

#[test]
fn requests_that_retention_took_are_not_missed() {
    let world = World::asking("shorter", &whole);
    world.delete("review", 1, 2);
    let (code, text, json) = world.verify(&[]);
    assert_eq!((code, &json["review"]["not_kept"]), (0, &2.into()), "{text}");
    assert!(text.contains("2 decisions ask for a review"), "{text}");
    let (code, text, json) = world.verify(&["--from", "2020-01-01T00:00:00Z"]);
    assert_eq!((code, &json["faults"]["request_gap"]["count"]), (65, &2.into()), "{text}");
}

#[test]
fn records_in_a_registrys_framing_are_read() {
    let server = Server::start(|request| match request.line.as_str() {
        "GET /schemas/ids/13" => schema(SCHEMAS[2].1),
        "GET /schemas/ids/15" => schema(SCHEMAS[5].1),
        _ => unknown(),
    });
    let encodings = Encodings { decisions: Encoding::Confluent(13), review: Encoding::Confluent(15) };
    let more = format!("[registry]\nurl = \"{}\"\n", server.url);
    let world = World::written_in(encodings, &more, "framed", None, [&whole, &whole]);
    let (code, text, json) = world.verify(&[]);
    assert_eq!((code, &json["counts"]["decisions"]), (0, &36.into()), "{text}");
    assert_eq!(json["review"]["asking"], json["review"]["requests"], "{text}");
    // Without the registry nothing can be said of them, and nothing is.
    server.die();
    let output = world.aegis(&["verify", "--set", "registry.outage_wait_ms=300"]);
    let text = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(69), "{text}");
    assert!(text.contains("the schema registry does not help"), "{text}");
}

#[test]
fn outcomes_that_retention_took_are_not_missed() {
    let world = World::new("old", None, &whole);
    let counts = |more: &[&str]| {
        let (code, text, json) = world.verify(more);
        let count = |name: &str| json["counts"][name].as_u64().unwrap();
        let gaps = json["faults"]["gap"]["count"].as_u64();
        (code, count("decisions"), count("not_kept"), gaps, text)
    };
    world.delete("decisions", 1, 5);
    let (code, decisions, not_kept, gaps, text) = counts(&[]);
    assert_eq!((code, decisions, not_kept, gaps), (0, 36 - 5, 5, None), "{text}");
    // Whoever names a time says that what came after it is kept.
    let (code, _, _, gaps, text) = counts(&["--from", "2020-01-01T00:00:00Z"]);
    assert_eq!((code, gaps), (65, Some(5)), "{text}");
    // Dead letters that are gone could have been of any event until then.
    for partition in 0..PARTITIONS {
        world.delete("dlq", partition, -1);
    }
    let (code, _, not_kept, gaps, text) = counts(&[]);
    assert_eq!((code, not_kept, gaps), (0, 5 + 4 + 3, None), "{text}");
}

#[test]
fn what_no_one_can_read_is_found() {
    let world = World::new("noise", None, &|world, outputs| {
        outputs.push(Produced { partition: Some(0), ..raw(&world.topic("decisions"), "k", "noise") });
        outputs.push(Produced { partition: Some(0), ..raw(&world.topic("review"), "k", "noise") });
        outputs.push(raw(&world.topic("dlq"), "k", "no headers"));
    });
    let (code, text, json) = world.verify(&[]);
    assert_eq!((code, &json["faults"]["unreadable"]["count"]), (65, &3.into()), "{text}");
}
