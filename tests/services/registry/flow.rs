//! The whole flow with a registry, exactly once on a real Apache Kafka. Each record has exactly one outcome, also if
//! the registry fails.

use std::sync::Arc;
use std::thread::{self, JoinHandle};
use std::time::Duration;

use aegis::codec::{self, Encoding, Received, SCHEMA_ID_HEADER, SCHEMAS};
use aegis::config::topic_specs;
use aegis::config::{self, Config, Policies, Topics};
use aegis::core::decision::Decision;
use aegis::core::label::Finding;
use aegis::core::ledger::Record;
use aegis::experts::{Panel, PanelConfig};
use aegis::kafka::topics::ensure;
use aegis::kafka::{Connection, Consumed, Delivery, Produced};
use aegis::learn::{Learn, LearnError, Progress};
use aegis::ops::{Health, Shutdown, StopReason};
use aegis::registry::{Registry, RegistryError};
use aegis::score::{PanelHandle, Score, ScoreError};

use super::server::{Reply, Request, Server, schema, unknown};
use super::{FOREIGN, FOREIGN_DATUM, framed, settings};
use crate::support::flow::{
    event, event_record, experts, label, ledger, raw, read_all, read_until, reasons, send,
};
use crate::support::site::wait;
use crate::support::{WAIT, kafka};

const EVENTS: u32 = 11;
const STRANGERS: u32 = 12;
const DECISIONS: u32 = 13;
const LABELS: u32 = 14;
const REVIEWS: u32 = 15;

/// Returns the responses of a registry with the schemas that the flow needs.
fn answer(request: &Request) -> Reply {
    match request.line.as_str() {
        "GET /schemas/ids/11" => schema(SCHEMAS[0].1),
        "GET /schemas/ids/12" => schema(FOREIGN),
        "GET /schemas/ids/13" => schema(SCHEMAS[2].1),
        "GET /schemas/ids/14" => schema(SCHEMAS[1].1),
        "GET /schemas/ids/15" => schema(SCHEMAS[5].1),
        line if line.ends_with("%2Ereview%2Dvalue/versions") => Reply::Status(200, r#"{"id":15}"#.into()),
        line if line.ends_with("%2Edecisions%2Dvalue/versions") => Reply::Status(200, r#"{"id":13}"#.into()),
        _ => unknown(),
    }
}

struct Running {
    connection: Connection,
    topics: Topics,
    server: Server,
    shutdown: Shutdown,
    progress: Arc<Progress>,
    score: JoinHandle<Result<(), ScoreError>>,
    learn: JoinHandle<Result<(), LearnError>>,
    _folder: tempfile::TempDir,
}

impl Running {
    /// Starts both roles with their own topics.
    fn start(prefix: &str, outage_ms: u64) -> Self {
        let server = Server::start(answer);
        let folder = tempfile::tempdir().unwrap();
        experts(&folder.path().join("models"));
        let mut config = Config::default();
        config.learn.store = folder.path().join("store");
        config.learn.publish_interval_ms = 50;
        config.score.encoding = config::Encoding::Confluent;
        config.registry.url.clone_from(&server.url);
        config.registry.request_timeout_ms = 500;
        config.registry.unknown_wait_ms = 1_500;
        config.registry.outage_wait_ms = outage_ms;
        config.topics = config.topics.under(prefix);
        config.score.group = format!("{prefix}.score");
        config.learn.group = format!("{prefix}.learn");
        let connection = kafka().connection();
        ensure(&connection, &topic_specs(&config, 3), WAIT).unwrap();
        let exactly_once = |role: &str| Delivery::ExactlyOnce {
            transactional_id: format!("{prefix}.{role}"),
            timeout: Duration::from_secs(4),
        };
        let panel = Arc::new(Panel::open(PanelConfig::new(folder.path().join("models"))).unwrap());
        let (config, policies, shutdown) = (Arc::new(config), Arc::new(Policies::default()), Shutdown::new());
        let progress = Arc::<Progress>::default();
        let score = Score {
            config: Arc::clone(&config),
            policies: Arc::clone(&policies).into(),
            panel: PanelHandle::in_force(panel, &aegis::config::Experts::default()),
            connection: connection.clone(),
            delivery: exactly_once("score"),
            health: Health::default(),
            shutdown: shutdown.clone(),
        };
        let learn = Learn {
            config: Arc::clone(&config),
            policies: policies.into(),
            connection: connection.clone(),
            delivery: exactly_once("learn"),
            health: Health::default(),
            shutdown: shutdown.clone(),
            progress: Arc::clone(&progress),
        };
        Self {
            connection,
            topics: config.topics.clone(),
            server,
            shutdown,
            progress,
            score: thread::spawn(move || score.run()),
            learn: thread::spawn(move || learn.run()),
            _folder: folder,
        }
    }

    fn event(&self, partition: i32, payload: Vec<u8>) -> Produced {
        Produced { partition: Some(partition), ..raw(&self.topics.events, "k", payload) }
    }

    fn read(&self, records: &[Consumed]) -> Vec<Decision> {
        let registry = Registry::open(&settings(&self.server.url)).unwrap();
        let waiting = registry.waiting(&|| false);
        let read = |record: &Consumed| {
            Received::new(record.payload.as_deref(), &record.headers, Some(&waiting)).decision().unwrap()
        };
        records.iter().map(read).collect()
    }
}

#[test]
fn every_framing_is_decided_and_an_unknown_schema_holds_up_its_own_partition_only() {
    let flow = Running::start("framings", 60_000);
    let datum = |number| codec::encode_event(&event(number, "kill"), Encoding::Avro).unwrap().split_off(10);
    let mut headed = flow.event(1, datum(2));
    headed.headers = vec![
        (SCHEMA_ID_HEADER.to_owned(), Some(framed(EVENTS, b""))),
        ("mine".to_owned(), Some(b"kept".to_vec())),
    ];
    // Partition 0 begins with an unknown schema.
    send(
        &flow.connection,
        &[
            flow.event(0, framed(99, b"what is it")),
            flow.event(0, framed(EVENTS, &datum(0))),
            flow.event(1, framed(EVENTS, &datum(1))),
            headed,
            flow.event(1, framed(STRANGERS, FOREIGN_DATUM)),
            Produced { partition: Some(2), ..event_record(&flow.topics.events, &event(3, "plain")) },
        ],
    );
    let records =
        read_until(&flow.connection, &flow.topics.decisions, "5 decisions", |records| records.len() >= 5);
    let last = records.last().unwrap();
    assert_eq!(last.partition, 0, "the partition of the unknown schema comes last");
    for record in &records {
        assert_eq!(record.payload.as_deref().unwrap()[..5], framed(DECISIONS, b"")[..]);
        assert!(record.headers.iter().all(|(name, _)| name != SCHEMA_ID_HEADER), "it was the event's");
    }
    assert!(records.iter().any(|record| record.headers.iter().any(|(name, _)| name == "mine")));
    let mut ids: Vec<_> = flow.read(&records).into_iter().map(|decision| decision.id.event).collect();
    ids.sort();
    assert_eq!(ids, ["e-1", "e00000", "e00001", "e00002", "e00003"]);
    let letters =
        read_until(&flow.connection, &flow.topics.dlq, "a dead letter", |letters| !letters.is_empty());
    assert_eq!(reasons(&letters), [("UnknownSchemaId".to_owned(), 1)].into());
    assert_eq!(letters[0].payload.as_deref(), Some(&framed(99, b"what is it")[..]));

    // A review request is framed with the id of its schema.
    let unread = codec::encode_event(&event(4, "\u{1f642}"), Encoding::Avro).unwrap();
    send(&flow.connection, &[flow.event(2, unread)]);
    let registry = Registry::open(&settings(&flow.server.url)).unwrap();
    let waiting = registry.waiting(&|| false);
    let event_of = |record: &Consumed| {
        let received = Received::new(record.payload.as_deref(), &record.headers, Some(&waiting));
        received.review().unwrap().id.event
    };
    let asked = read_until(&flow.connection, &flow.topics.review, "its request", |records| {
        records.iter().any(|record| event_of(record) == "e00004")
    });
    for record in &asked {
        assert_eq!(record.payload.as_deref().unwrap()[..5], framed(REVIEWS, b"")[..]);
    }

    // The labels are framed, one of them with an unknown schema; learn reads the framed decisions.
    let said =
        codec::encode_label(&label("l", "e00001", Finding::Unsafe), Encoding::Confluent(LABELS)).unwrap();
    send(
        &flow.connection,
        &[raw(&flow.topics.labels, "x", framed(98, b"?")), raw(&flow.topics.labels, "e00001", said)],
    );
    read_until(&flow.connection, &flow.topics.rounds, "the label's votes", |records| {
        ledger(records)
            .iter()
            .any(|record| matches!(record, Record::Round(judged) if judged.id.event == "e00001"))
    });
    let letters =
        read_until(&flow.connection, &flow.topics.dlq, "two dead letters", |letters| letters.len() >= 2);
    assert_eq!(reasons(&letters), [("UnknownSchemaId".to_owned(), 2)].into());
    flow.shutdown.request(StopReason::Program);
    flow.score.join().unwrap().unwrap();
    flow.learn.join().unwrap().unwrap();
}

#[test]
fn a_dead_registry_stops_nothing_that_is_known_and_dead_letters_nothing() {
    let flow = Running::start("dead", 1_000);
    let datum = |number| codec::encode_event(&event(number, "kill"), Encoding::Avro).unwrap().split_off(10);
    let decided = |count: usize| {
        read_until(&flow.connection, &flow.topics.decisions, "decisions", |records| records.len() >= count)
    };
    send(&flow.connection, &[flow.event(0, framed(EVENTS, &datum(0)))]);
    decided(1);
    wait("learn reads the decision", || flow.progress.decisions() >= 1);
    flow.server.die();
    send(&flow.connection, &[flow.event(0, framed(EVENTS, &datum(1)))]);
    decided(2);
    // The registry is down and a schema is not known yet: the service stops with the reason, and known schemas are used
    // until then.
    send(
        &flow.connection,
        &[flow.event(1, framed(STRANGERS, FOREIGN_DATUM)), flow.event(0, framed(EVENTS, &datum(2)))],
    );
    decided(3);
    let error = flow.score.join().unwrap().unwrap_err();
    assert!(matches!(error, ScoreError::Registry(RegistryError::Unavailable { .. })), "{error}");
    assert!(error.to_string().contains("registry.url"), "{error}");
    assert!(read_all(&flow.connection, &flow.topics.dlq).is_empty());
    assert_eq!(read_all(&flow.connection, &flow.topics.decisions).len(), 3);
    flow.shutdown.request(StopReason::Program);
    flow.learn.join().unwrap().unwrap();
}

#[test]
fn a_stop_while_the_registry_is_awaited_is_clean() {
    let flow = Running::start("stop", 60_000);
    let datum = codec::encode_event(&event(0, "kill"), Encoding::Avro).unwrap().split_off(10);
    send(&flow.connection, &[flow.event(0, framed(EVENTS, &datum))]);
    read_until(&flow.connection, &flow.topics.decisions, "a decision", |records| !records.is_empty());
    flow.server.answer(|_| Reply::Silence);
    let before = flow.server.requests().len();
    send(
        &flow.connection,
        &[flow.event(0, framed(98, b"?")), raw(&flow.topics.labels, "x", framed(99, b"?"))],
    );
    flow.server.await_requests(before + 2);
    flow.shutdown.request(StopReason::Program);
    flow.score.join().unwrap().unwrap();
    flow.learn.join().unwrap().unwrap();
    assert!(read_all(&flow.connection, &flow.topics.dlq).is_empty());
}
