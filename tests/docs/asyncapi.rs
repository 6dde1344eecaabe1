//! docs/asyncapi.json: the topics as an AsyncAPI document, generated from the schemas and the specifications of topics.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use aegis::codec::SCHEMAS;
use aegis::config::{Config, topic_specs};
use aegis::kafka::topics::TopicSpec;
use serde_json::{Map, Value, json};

/// The header of an event with the decision that was answered over HTTP.
const ATTACHED: &str = "aegis-decision";
/// The header with the signature of that decision.
const SIGNATURE: &str = "aegis-decision-signature";

/// A message of a channel: its name in the document, its schema, and what its key is.
type Message = (&'static str, &'static str, &'static str);

/// A channel: its name in the document, what it is for, whether Aegis receives from it and sends to it, and its messages.
struct Channel {
    name: &'static str,
    what: &'static str,
    receives: Option<&'static str>,
    sends: Option<&'static str>,
    messages: &'static [Message],
}

/// The channels in the order of the specifications of topics. The topic of the election has no records.
const CHANNELS: &[Channel] = &[
    Channel {
        name: "events",
        what: "Conversations to judge. Producers write Avro, JSON or CloudEvents.",
        receives: Some("The scorers read each event once."),
        sends: Some(
            "Servers of moderation over HTTP (`aegis serve`) write each request that was answered, with its decision in the headers.",
        ),
        messages: &[(
            "event",
            "Event",
            "Any key: best the conversation's id, which keeps its events in order.",
        )],
    },
    Channel {
        name: "decisions",
        what: "One decision for each event, in the partition with the same number.",
        receives: Some("The learner reads the votes of decisions that people label."),
        sends: Some("The scorers write a decision and its event's offset in one transaction."),
        messages: &[("decision", "Decision", "The event's key.")],
    },
    Channel {
        name: "review",
        what: "Requests that a person should label an event.",
        receives: None,
        sends: Some("The scorers write a request in the transaction of its decision."),
        messages: &[("reviewRequest", "ReviewRequest", "The event's key.")],
    },
    Channel {
        name: "labels",
        what: "What people say about events. Reviewers and tools write Avro or JSON.",
        receives: Some("The learner joins labels to decisions."),
        sends: None,
        messages: &[("label", "Label", "Any key: best the event's id.")],
    },
    Channel {
        name: "deadLetters",
        what: "Records that cannot be used, unchanged, with the reason in headers.",
        receives: None,
        sends: Some("Both roles write a dead letter instead of an outcome."),
        messages: &[],
    },
    Channel {
        name: "ledger",
        what: "The ledger of labelled rounds, from which the predictors follow.",
        receives: Some("The learner reads back what it has committed."),
        sends: Some("The learner writes records and the offsets of their labels in one transaction."),
        messages: &[(
            "ledgerRecord",
            "LedgerRecord",
            "A JSON array of strings: docs/records.md, keys of the ledger.",
        )],
    },
    Channel {
        name: "predictors",
        what: "The learned predictor of each policy, and pins that hold a policy on one.",
        receives: Some("The scorers follow the newest predictor of each policy."),
        sends: Some("The learner publishes predictors; people pin them."),
        messages: &[
            ("predictor", "Predictor", "The name of the policy."),
            ("pin", "Pin", "The byte FF, pin:, and the name of the policy."),
        ],
    },
];

/// The settings of a topic that its specification asks for.
fn topic(spec: &TopicSpec) -> Value {
    let mut settings = Map::new();
    if let Some(cleanup) = spec.cleanup {
        settings.insert("cleanup.policy".into(), json!([cleanup.word()]));
    }
    if let Some(keeps) = spec.keeps {
        settings.insert("retention.ms".into(), json!(u64::try_from(keeps.as_millis()).unwrap()));
    }
    let mut binding = json!({"topic": spec.name, "bindingVersion": "0.5.0"});
    if !settings.is_empty() {
        binding["topicConfiguration"] = settings.into();
    }
    if spec.exactly && spec.partitions == 1 {
        binding["partitions"] = json!(1);
    }
    json!({"kafka": binding})
}

fn description(channel: &Channel, spec: &TopicSpec) -> String {
    let clock =
        spec.clock.map_or_else(String::new, |clock| format!(" message.timestamp.type is {}.", clock.word()));
    format!("{}{clock}", channel.what)
}

/// The headers of an event of a request over HTTP. Events of other producers have neither.
fn event_headers() -> Value {
    json!({
        "type": "object",
        "properties": {
            ATTACHED: {
                "type": "string",
                "format": "binary",
                "description": "The decision that was answered, in Avro. docs/http.md, records, describes it.",
            },
            SIGNATURE: {
                "type": "string",
                "format": "binary",
                "description": "Its signature by the server, without which scorers decide the event again.",
            },
        },
    })
}

/// A message: its value is Avro in the single-object encoding, or JSON with the same fields.
fn message((name, schema, key): &Message) -> Value {
    let (_, text) = SCHEMAS.iter().find(|(one, _)| one == schema).unwrap();
    let avro: Value = serde_json::from_str(text).unwrap();
    let mut message = json!({
        "name": name,
        "title": schema,
        "summary": avro["doc"],
        "contentType": "application/avro",
        "bindings": {"kafka": {"key": {"type": "string", "description": key}, "bindingVersion": "0.5.0"}},
        "payload": {"schemaFormat": "application/vnd.apache.avro+json;version=1.9.0", "schema": avro},
    });
    if *name == "event" {
        message["headers"] = event_headers();
    }
    message
}

fn dead_letter() -> Value {
    json!({
        "name": "deadLetter",
        "title": "DeadLetter",
        "summary": "A record as it was received: docs/operating.md describes its headers.",
        "contentType": "application/octet-stream",
        "headers": {
            "type": "object",
            "properties": {
                "__connect.errors.topic": {"type": "string"},
                "__connect.errors.partition": {"type": "string"},
                "__connect.errors.offset": {"type": "string"},
                "__connect.errors.exception.class.name": {"type": "string", "description": "The reason."},
                "__connect.errors.exception.message": {"type": "string"},
            },
        },
        "payload": {"type": "string", "format": "binary"},
    })
}

/// The document.
fn document() -> String {
    let specs = topic_specs(&Config::default(), 6);
    let (mut channels, mut operations, mut messages) = (Map::new(), Map::new(), Map::new());
    for (channel, spec) in CHANNELS.iter().zip(&specs) {
        let mut own = channel.messages.iter().map(|one| (one.0, message(one))).collect::<Vec<_>>();
        if own.is_empty() {
            own.push(("deadLetter", dead_letter()));
        }
        let references =
            own.iter().map(|(name, _)| ((*name).to_owned(), reference("components/messages", name)));
        let value = json!({
            "address": spec.name,
            "description": description(channel, spec),
            "messages": references.collect::<Map<_, _>>(),
            "bindings": topic(spec),
        });
        channels.insert(channel.name.to_owned(), value);
        for (action, summary) in [("receive", channel.receives), ("send", channel.sends)] {
            let Some(summary) = summary else { continue };
            let mut verb = action.to_owned();
            verb.push_str(&channel.name[..1].to_uppercase());
            verb.push_str(&channel.name[1..]);
            let value =
                json!({"action": action, "channel": reference("channels", channel.name), "summary": summary});
            operations.insert(verb, value);
        }
        messages.extend(own.into_iter().map(|(name, value)| (name.to_owned(), value)));
    }
    let document = json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Aegis",
            "version": env!("CARGO_PKG_VERSION"),
            "description": "The topics with their default names: [topics] in aegis.toml changes them. Values are Avro in the \
                single-object encoding, Avro in Confluent's framing, or JSON with the fields of the schema: docs/records.md. \
                Actions are those of Aegis: it receives what you produce, and sends what you consume.",
            "license": {"name": "MIT OR Apache-2.0"},
        },
        "defaultContentType": "application/avro",
        "channels": channels,
        "operations": operations,
        "components": {"messages": messages},
    });
    serde_json::to_string_pretty(&document).unwrap() + "\n"
}

fn reference(place: &str, name: &str) -> Value {
    json!({"$ref": format!("#/{place}/{name}")})
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

#[test]
fn the_asyncapi_document_is_what_the_code_says() {
    let path = root().join("docs/asyncapi.json");
    if std::env::var_os("AEGIS_WRITE_DOCS").is_some() {
        fs::write(&path, document()).unwrap();
    }
    assert!(
        fs::read_to_string(&path).unwrap_or_default() == document(),
        "docs/asyncapi.json differs from the code: run AEGIS_WRITE_DOCS=1 cargo test --test docs asyncapi"
    );
    // Every topic but the empty one of the election is a channel, and every schema is the payload of a message.
    let specs = topic_specs(&Config::default(), 6);
    assert_eq!(specs.len(), CHANNELS.len() + 1);
    assert_eq!(specs.last().unwrap().name, Config::default().topics.election);
    let described: Vec<_> =
        CHANNELS.iter().flat_map(|channel| channel.messages).map(|(_, schema, _)| *schema).collect();
    for (schema, _) in SCHEMAS {
        assert!(described.contains(&schema), "{schema} is in no channel");
    }
}

/// Returns the folder of AsyncAPI's own schema and of a validator.
fn tools() -> PathBuf {
    let found = Command::new("bash").arg(root().join("tests/kubernetes/fetch.sh")).output().unwrap();
    assert!(found.status.success(), "{}", String::from_utf8_lossy(&found.stderr));
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim())
}

/// Returns the problems that AsyncAPI's own JSON Schema finds.
fn problems(document: &str) -> String {
    let tools = tools();
    let mut child = Command::new(tools.join("venv/bin/python"))
        .arg(root().join("tests/kubernetes/validate.py"))
        .arg("schema")
        .arg(tools.join("asyncapi.json"))
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(document.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.success(), text.is_empty(), "{text}");
    text
}

#[test]
fn the_document_fits_asyncapis_own_schema() {
    assert_eq!(problems(&document()), "");
    // The schema does refuse what is no AsyncAPI.
    assert!(!problems(&document().replace("\"address\"", "\"adress\"")).is_empty());
    assert!(!problems(&document().replace("\"action\": \"send\"", "\"action\": \"publish\"")).is_empty());
    // References lead to something.
    let value: Value = serde_json::from_str(&document()).unwrap();
    let mut count = 0;
    for part in document().split("\"$ref\": \"#").skip(1) {
        let pointer = part.split('"').next().unwrap();
        assert!(value.pointer(pointer).is_some(), "{pointer}");
        count += 1;
    }
    assert!(count > 10);
}
