//! `aegis verify` and `aegis dlq` on a real Apache Kafka: a small run without violations, and the same run with one
//! violation planted in it.

mod planted;
use crate::registry_server as server;
use crate::support;
mod whole;

use std::fs;
use std::process::{Command, Output};
use std::sync::Arc;

use aegis::codec::{self, Defaults, Encoding, SCHEMAS};
use aegis::config::Policies;
use aegis::core::decision::{Decision, DecisionInput, Origin, decide};
use aegis::core::fold::{Fold, Settings};
use aegis::core::label::{DecisionRef, Finding};
use aegis::core::ledger::{LabelRecord, LabelStatus, Record, RoundId};
use aegis::core::ledger_state::LedgerState;
use aegis::core::predictor::{Combined, PredictorRef, Published, Share};
use aegis::core::review::ReviewRequest;
use aegis::core::vote::Vote;
use aegis::dead_letter::{Reason, dead_letter};
use aegis::kafka::topics::{Finding as Found, ensure};
use aegis::kafka::{Connection, Consumed, Delivery, Offsets, Outbox, Produced, Source, Start};
use aegis::registry::Encodings;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::config::ClientConfig;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};
use server::{Server, schema, unknown};
use support::flow::{event, event_record, label, raw, read_all};
use support::{WAIT, kafka, read};

/// The number of events in each of two batches. Every tenth is poison.
const BATCH: usize = 20;
const PARTITIONS: i32 = 2;

/// A function that plants a violation in the outputs of the first batch.
type Plant<'a> = &'a dyn Fn(&World, &mut Vec<Produced>);

/// A small run: events, their outcomes, a ledger and a predictor, as score and learn write them.
struct World {
    folder: tempfile::TempDir,
    connection: Connection,
    prefix: &'static str,
    encodings: Encodings,
    /// The hash with which the predictor is published, or `None` for its own hash.
    hash: Option<[u8; 32]>,
}

fn whole(_: &World, _: &mut Vec<Produced>) {}

impl World {
    fn new(prefix: &'static str, hash: Option<[u8; 32]>, plant: Plant<'_>) -> Self {
        Self::written_in(Encodings::default(), "", prefix, hash, [plant, &whole])
    }

    /// Creates a run with a violation planted in the review requests.
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
            ensure(&world.connection, &aegis::config::topic_specs(&loaded.config, PARTITIONS), WAIT).unwrap();
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
            // The marker of the transaction takes an offset without an event.
            producer.commit(&self.events(batch * BATCH..(batch + 1) * BATCH), None).unwrap();
            let read = read(&mut source, BATCH);
            let offsets: Offsets = read
                .iter()
                .map(|record| ((Arc::clone(&record.topic), record.partition), record.offset + 1))
                .collect();
            let mut outputs: Vec<Produced> = read.into_iter().map(|record| self.outcome(record)).collect();
            // This transaction is aborted.
            score.transaction().send(&outputs).unwrap();
            if batch == 0 {
                plants[0](self, &mut outputs);
            }
            let mut unit = score.transaction();
            let places = unit.send(&outputs).unwrap();
            let mut requests = self.requests(&outputs, &places);
            if batch == 0 {
                plants[1](self, &mut requests);
            }
            unit.send(&requests).unwrap();
            unit.commit(Some((source.membership(), &offsets))).unwrap();
            decided.extend(places.into_iter().zip(outputs).filter_map(|((partition, offset), output)| {
                let decision = self.read(output.payload.as_deref()?)?;
                Some(decision.into_round_record(DecisionRef { partition, offset }))
            }));
        }
        source.close(WAIT);
        // Events that are not decided yet are no violation.
        producer.commit(&self.events(90..93), None).unwrap();
        // The producer is used again, since opening another takes half a second.
        self.teach(&mut producer, decided.into_iter().step_by(3).map(Record::Round).collect());
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

    /// Returns the outcome of an event.
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
        let votes = vec![vote("a", 0.2), vote("b", 0.7)];
        let round_time = record.timestamp.unwrap();
        let asked = DecisionInput { origin, round_time, ..DecisionInput::example(event, votes) };
        // Every third decision is near the threshold and asks for a review.
        let p = if record.offset % 3 == 0 { 0.48 } else { 0.4 };
        let combined = Combined { probability: Some(p), shares: vec![Share::default(); 2] };
        let policies = Policies::default();
        self.written(&decide(
            asked,
            policies.get("default").unwrap(),
            PredictorRef::prior("default"),
            &combined,
            1,
        ))
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

    /// Decodes a decision that was written here, in either encoding.
    fn read(&self, payload: &[u8]) -> Option<Decision> {
        let datum = match self.encodings.decisions {
            Encoding::Confluent(_) => [avro_mark(), payload.get(5..)?.to_vec()].concat(),
            _ => payload.to_vec(),
        };
        codec::decode_decision(&datum).ok()
    }

    /// Returns the review requests of the decisions among `outputs`, whose positions are `places`.
    fn requests(&self, outputs: &[Produced], places: &[(i32, i64)]) -> Vec<Produced> {
        let decisions = self.topic("decisions");
        let decided = outputs.iter().zip(places).filter(|(output, _)| output.topic == decisions);
        let request = |(output, (partition, offset)): (&Produced, &(i32, i64))| {
            let decision = self.read(output.payload.as_deref()?)?;
            let at = DecisionRef { partition: *partition, offset: *offset };
            Some(self.asked(&ReviewRequest::of(&decision, at)?))
        };
        decided.filter_map(request).collect()
    }

    fn asked(&self, request: &ReviewRequest) -> Produced {
        let payload = codec::encode_review(request, self.encodings.review).unwrap();
        Produced { partition: Some(request.origin.partition), ..raw(&self.topic("review"), "k", payload) }
    }

    /// Writes labels for these rounds, the resulting predictor, and one more label that waits.
    fn teach(&self, learn: &mut Outbox, rounds: Vec<Record>) {
        let mut records = Vec::new();
        let label_of = |event: &str, standing| {
            let label = label(&format!("l-{event}"), event, Finding::Safe);
            Record::Label(LabelRecord { label, received: 5, status: standing })
        };
        for record in rounds {
            let Record::Round(round) = &record else { unreachable!() };
            let label = label_of(&round.id.event, LabelStatus::Accepted);
            records.extend([record, label]);
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
        write(learn, &[label_of("unknown", LabelStatus::Waiting)]);
    }

    fn publish(&self, learn: &mut Outbox, records: &[Record], offset: i64, hash: Option<[u8; 32]>) {
        let mut state = LedgerState::new();
        for record in records {
            state.apply(record, &mut Vec::new()).unwrap();
        }
        let policies = Policies::default();
        let policy = policies.get("default").unwrap().clone();
        let mut fold = Fold::new(Settings::new(&policy.name, policy.learner, policy.mapping));
        fold.mark_all_changed(&state);
        fold.catch_up(&state).unwrap();
        let published = fold.published(&state, offset).unwrap();
        let published = Published { state_hash: hash.unwrap_or(published.state_hash), ..published };
        let payload = codec::encode_published(&published, Encoding::Avro).unwrap();
        learn.commit(&[raw(&self.topic("weights"), "default", payload)], None).unwrap();
    }

    /// Deletes the first `before` records of a partition, as retention does, or all records if `before` is -1.
    fn delete(&self, topic: &str, partition: i32, before: i64) {
        let mut client = ClientConfig::new();
        let admin: AdminClient<_> = client.set("bootstrap.servers", kafka().bootstrap()).create().unwrap();
        let before = if before < 0 { Offset::End } else { self.nth(topic, partition, before) };
        let mut list = TopicPartitionList::new();
        list.add_partition_offset(&self.topic(topic), partition, before).unwrap();
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(admin.delete_records(&list, &AdminOptions::new())).unwrap();
    }

    /// Returns the offset of the record with the index `number` in a partition.
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

    /// Runs `aegis verify`. Returns its exit code, its text, and its report.
    fn verify(&self, more: &[&str]) -> (i32, String, serde_json::Value) {
        let json = self.folder.path().join("report.json");
        let output = self.aegis(&[&["verify", "--json", json.to_str().unwrap()], more].concat());
        let text = String::from_utf8(output.stdout).unwrap();
        let json = fs::read_to_string(json);
        let json = json.unwrap_or_else(|_| panic!("{text}{}", String::from_utf8_lossy(&output.stderr)));
        (output.status.code().unwrap(), text, serde_json::from_str(&json).unwrap())
    }

    /// Checks that exactly one violation is found, of this kind and with these words.
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

/// Returns the header of a decision in Avro's single-object encoding.
fn avro_mark() -> Vec<u8> {
    let id = RoundId { tenant: "t".into(), policy: "default".into(), event: "e".into() };
    codec::encode_decision(&Decision::example(id, 0), Encoding::Avro).unwrap()[..10].to_vec()
}

/// Returns the indices of the outputs in partition 1 of the decisions.
fn second(outputs: &[Produced], world: &World) -> Vec<usize> {
    let here = |output: &Produced| output.topic == world.topic("decisions") && output.partition == Some(1);
    (0..outputs.len()).filter(|at| here(&outputs[*at])).collect()
}

fn origin(output: &Produced) -> i64 {
    codec::decode_decision(output.payload.as_deref().unwrap()).unwrap().origin.offset
}
