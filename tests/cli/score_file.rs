//! `aegis score FILE`: one decision or one dead letter for each row.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use aegis::codec::{self, Encoding};
use apache_avro::reader::datum::GenericDatumReader;
use serde_json::{Value, json};

use crate::experts_support::models;
use crate::support::flow::{event, experts};

/// A folder with a configuration, two rule experts and files.
struct Desk {
    folder: tempfile::TempDir,
}

struct Ran {
    code: Option<i32>,
    out: String,
    notes: String,
}

impl Ran {
    fn decisions(&self) -> Vec<Value> {
        self.out.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

impl Desk {
    fn new(more: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        experts(&folder.path().join("models"));
        let desk = Self { folder };
        desk.put(
            "aegis.toml",
            format!("policies = \"policies.toml\"\n[experts]\nfolder = \"models\"\n{more}"),
        );
        desk.put(
            "policies.toml",
            "[policies.default]\n[policies.strict]\nflagged = \"review\"\ncost_false_negative = 4.0\n",
        );
        desk
    }

    fn put(&self, name: &str, bytes: impl AsRef<[u8]>) -> PathBuf {
        let path = self.folder.path().join(name);
        fs::write(&path, bytes).unwrap();
        path
    }

    fn run(&self, arguments: &str) -> Ran {
        let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
        command.args(arguments.split_whitespace()).current_dir(self.folder.path());
        let output = command.env_remove("AEGIS_CONFIG").env_remove("AEGIS_MODELS").output().unwrap();
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        Ran { code: output.status.code(), out: text(output.stdout), notes: text(output.stderr) }
    }

    fn score(&self, arguments: &str) -> Ran {
        self.run(&format!("score --config aegis.toml {arguments}"))
    }
}

fn line(id: &str, text: &str, more: &str) -> String {
    format!("{{\"id\": \"{id}\", \"conversation\": \"c\", \"text\": \"{text}\"{more}}}\n")
}

#[test]
fn every_row_has_one_decision_or_one_dead_letter() {
    let desk = Desk::new("");
    let rows = [
        line("e1", "hello", ""),
        "{\"id\": \"e2\", \n".to_owned(),
        line("e3", "I will kill you", ", \"policy\": \"strict\", \"time\": 1700000000000"),
        line("e4", "hello", ", \"policy\": \"nowhere\""),
        format!("{{\"id\": \"e5\", \"text\": \"{}\"}}\n", "x".repeat(5 << 20)),
        "{\"id\": \"e6\"}\n".to_owned(),
        line("e7", "", ""),
    ];
    desk.put("events.jsonl", rows.concat());
    let ran = desk.score("events.jsonl --dead-letters dead.jsonl");
    assert_eq!(ran.code, Some(0), "{}", ran.notes);
    assert!(ran.notes.contains("events.jsonl: 3 decisions, 4 dead letters"), "{}", ran.notes);
    let decisions = ran.decisions();
    let ids: Vec<_> =
        decisions.iter().map(|one| (one["event_id"].clone(), one["source_offset"].clone())).collect();
    assert_eq!(ids, [(json!("e1"), json!(1)), (json!("e3"), json!(3)), (json!("e7"), json!(7))]);
    let flagged = &decisions[1];
    assert_eq!((&flagged["action"], &flagged["policy"]), (&json!("review"), &json!("strict")));
    assert_eq!(
        (&flagged["round_time"], &flagged["source_topic"]),
        (&json!(1_700_000_000_000_i64), &json!("events.jsonl"))
    );
    assert_eq!((&decisions[0]["round_time"], &decisions[0]["latency_micros"]), (&json!(0), &json!(0)));
    // Each line is a decision as on the topic.
    for line in ran.out.lines() {
        codec::decode_decision(line.as_bytes()).unwrap();
    }
    let letters = fs::read_to_string(desk.folder.path().join("dead.jsonl")).unwrap();
    let letters: Vec<Value> = letters.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let reasons: Vec<_> = letters.iter().map(|one| (one["line"].clone(), one["reason"].clone())).collect();
    let expected = [(2, "BadJson"), (4, "UnknownPolicy"), (5, "TooLarge"), (6, "MissingField")];
    assert_eq!(reasons, expected.map(|(line, reason)| (json!(line), json!(reason))));
    assert_eq!(letters[1]["value"].as_str().unwrap(), rows[3].trim_end());
    assert_eq!(letters[2]["value"], Value::Null, "a row that is too large is not kept");
}

#[test]
fn dead_letters_without_a_file_are_an_error() {
    let desk = Desk::new("");
    desk.put("events.jsonl", line("e1", "hello", "") + "secret\n");
    let ran = desk.score("events.jsonl");
    assert_eq!((ran.code, ran.decisions().len()), (Some(65), 1), "{}", ran.notes);
    assert!(ran.notes.contains("events.jsonl:2: NotAvro: "), "{}", ran.notes);
    assert!(ran.notes.contains("--dead-letters FILE") && !ran.notes.contains("secret"), "{}", ran.notes);
    assert_eq!(desk.score("gone.jsonl").code, Some(69));
    assert_eq!(desk.score("events.jsonl --weights aegis.toml").code, Some(65));
    assert_eq!(desk.score("events.jsonl --id id").code, Some(64));
}

#[test]
fn texts_are_found_by_fields_and_events_in_containers() {
    let desk = Desk::new("");
    desk.put("texts.csv", "number,body\n7,I will kill you\n8,hello\n");
    let ran = desk.score("texts.csv --text body --id number");
    assert_eq!(ran.code, Some(0), "{}", ran.notes);
    let actions: Vec<_> =
        ran.decisions().iter().map(|one| (one["event_id"].clone(), one["action"].clone())).collect();
    assert_eq!(actions, [(json!("7"), json!("block")), (json!("8"), json!("allow"))]);
    let ran = desk.score("texts.csv --text body");
    assert_eq!(ran.decisions()[0]["event_id"], "texts.csv-0-2", "without an id, the id is the place");

    // The same events in a container and in lines have the same decisions.
    let schema = codec::SCHEMAS.iter().find(|(name, _)| *name == "Event").unwrap().1;
    let schema = apache_avro::Schema::parse_str(schema).unwrap();
    let reader = GenericDatumReader::builder(&schema).human_readable(false).build().unwrap();
    let mut writer = apache_avro::Writer::new(&schema, Vec::new()).unwrap();
    let mut lines = String::new();
    for (number, text) in ["I will kill you", "hello", ""].into_iter().enumerate() {
        let event = event(number, text);
        let avro = codec::encode_event(&event, Encoding::Avro).unwrap();
        let datum = &avro[10..];
        let value = reader.read_value(&mut &*datum).unwrap();
        writer.append_value(value).unwrap();
        lines += &format!(
            "{}\n",
            String::from_utf8(codec::encode_event(&event, Encoding::Json).unwrap()).unwrap()
        );
    }
    desk.put("events.avro", writer.into_inner().unwrap());
    desk.put("events.jsonl", lines);
    let from_container = desk.score("events.avro").out.replace("events.avro", "FILE");
    assert_eq!(from_container, desk.score("events.jsonl").out.replace("events.jsonl", "FILE"));
    assert_eq!(from_container.lines().count(), 3);
}

#[test]
fn a_replayed_predictor_decides() {
    let desk = Desk::new("");
    let vote = |number: usize| {
        let unsafe_ = number.is_multiple_of(2);
        // The lenient expert is right, and the strict one always wrong.
        let (lenient, strict) = if unsafe_ { (0.9, 0.1) } else { (0.1, 0.9) };
        format!(
            "{{\"event_id\": {number}, \"votes\": {{\"lenient\": {lenient}, \"strict\": {strict}}}, \"unsafe\": {unsafe_}}}\n"
        )
    };
    desk.put("votes.jsonl", (0..200).map(vote).collect::<String>());
    let replayed = desk.run("replay votes.jsonl --predictor learned.jsonl");
    assert_eq!(replayed.code, Some(0), "{}", replayed.notes);
    let state = replayed.out.split("state ").nth(1).unwrap().split_whitespace().next().unwrap();
    desk.put("events.jsonl", line("e1", "I will kill you", ""));
    let learned = desk.score("events.jsonl --weights learned.jsonl");
    assert_eq!(learned.code, Some(0), "{}", learned.notes);
    let (prior, learned) = (desk.score("events.jsonl").decisions(), learned.decisions());
    assert_eq!(learned[0]["predictor"]["state_hash"], state, "{:#}", learned[0]);
    let p = |decisions: &[Value]| decisions[0]["probability"].as_f64().unwrap();
    assert!(p(&learned) < p(&prior), "the strict expert has lost its weight");
    desk.put("policies.toml", "[policies.other]\n[policies.default]\n");
    let other = fs::read_to_string(desk.folder.path().join("learned.jsonl")).unwrap();
    desk.put("other.jsonl", other.replace("\"policy\":\"default\"", "\"policy\":\"gone\""));
    let refused = desk.score("events.jsonl --weights other.jsonl");
    assert_eq!(refused.code, Some(78), "{}", refused.notes);
    assert!(refused.notes.contains("policy gone"), "{}", refused.notes);
}

#[test]
fn equal_files_have_equal_decisions_on_the_bundled_panel() {
    let desk = Desk::new("");
    desk.put("aegis.toml", format!("[experts]\nfolder = {:?}\n", models()));
    let texts = ["hello", "how do I kill a process", "you stupid idiot", "hello", "what a lovely day"];
    let rows = texts.iter().enumerate().map(|(at, text)| line(&format!("e{at}"), text, ""));
    desk.put("events.jsonl", rows.collect::<String>());
    let one = desk.score("events.jsonl --reproducible");
    assert_eq!((one.code, one.decisions().len()), (Some(0), 5), "{}", one.notes);
    assert_eq!(one.out, desk.score("events.jsonl --reproducible").out);
    // Together, the votes may differ in their last digits, and no action does.
    let together = desk.score("events.jsonl");
    let outcome = |decision: &Value| (decision["event_id"].clone(), decision["action"].clone());
    let outcomes = |ran: &Ran| ran.decisions().iter().map(outcome).collect::<Vec<_>>();
    assert_eq!(outcomes(&one), outcomes(&together));
}
