//! Faults of registries and their effects.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use aegis::codec::{DecodeError, SchemaId, Schemas};
use aegis::config::{self, Secret};
use aegis::registry::{Registry, RegistryError};
use serde_json::json;

use super::server::{Reply, Server, schema, unknown};
use super::{EVENT, FOREIGN, FOREIGN_DATUM, ask, event, framed, settings};
use crate::support::site::returns;

fn outcome(registry: &Registry, id: u32) -> &'static str {
    ask(registry, id).map_or_else(|error| error.name(), |()| "known")
}

#[test]
fn known_schemas_outlive_the_registry() {
    let server = Server::start(|request| match request.line.as_str() {
        "GET /schemas/ids/1" => schema(FOREIGN),
        _ => unknown(),
    });
    let registry = Registry::open(&settings(&server.url)).unwrap();
    assert_eq!(outcome(&registry, 1), "known");
    server.die();
    assert_eq!(event(&registry, &framed(1, FOREIGN_DATUM)).unwrap().id, "e-1");
    let error = ask(&registry, 2).unwrap_err();
    assert!(server.closed() > 1, "during the outage the request is repeated");
    assert_eq!(error.name(), "RegistryUnavailable");
    assert!(error.to_string().contains(&server.url), "{error}");
    assert_eq!(event(&registry, &framed(1, FOREIGN_DATUM)).unwrap().id, "e-1");
    assert_eq!(server.requests().len(), 1, "it is asked once");
}

/// A thousand lookups return while the registry holds the first request. Its timeout is longer than the test may run,
/// so a lookup that waited for an answer would not return.
#[test]
fn only_its_thread_waits_for_the_registry() {
    let server = Server::start(|_| Reply::Silence);
    let settings = config::Registry { request_timeout_ms: 600_000, ..settings(&server.url) };
    let registry = Registry::open(&settings).unwrap();
    let first = SchemaId::Number(0);
    assert_eq!(registry.writer(first).err(), Some(DecodeError::SchemaPending { id: first }));
    server.await_requests(1);
    let _registry = returns("a lookup", move || {
        for number in 0..1_000 {
            let id = SchemaId::Number(number);
            assert_eq!(registry.writer(id).err(), Some(DecodeError::SchemaPending { id }));
        }
        let stopped = registry.waiting(&|| true).writer(SchemaId::Number(1));
        assert_eq!(stopped.err().map(|error| error.name()), Some("SchemaPending"));
        registry
    });
    assert_eq!(server.requests().len(), 1, "the first request is still held");
}

#[test]
fn an_unknown_id_may_become_known() {
    let count = Arc::new(AtomicUsize::new(0));
    let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
        0 | 1 => unknown(),
        _ => schema(EVENT),
    });
    let settings = config::Registry { unknown_wait_ms: 20_000, ..settings(&server.url) };
    assert_eq!(outcome(&Registry::open(&settings).unwrap(), 1), "known");
    assert_eq!(server.requests().len(), 3);
}

/// The request is repeated before the lookup fails. The length of the wait is a test of the cache, whose clock is an
/// argument.
#[test]
fn an_unknown_id_fails_after_its_wait() {
    let server = Server::start(|_| unknown());
    let registry = Registry::open(&settings(&server.url)).unwrap();
    assert_eq!(outcome(&registry, 9), "UnknownSchemaId");
    let requests = server.requests().len();
    assert!(requests > 1, "{requests} requests");
    // For some time the error is returned at once, without another request.
    assert_eq!(outcome(&registry, 9), "UnknownSchemaId");
    assert_eq!(server.requests().len(), requests);
}

#[test]
fn temporary_faults_are_retried() {
    for fault in [
        Reply::Status(500, "oops".into()),
        Reply::Status(503, json!({"error_code": 50003, "message": "no leader"}).to_string()),
        Reply::Status(429, String::new()),
        Reply::Status(200, "<html>a portal</html>".into()),
        Reply::Raw(b"SSH-2.0-OpenSSH\r\n".to_vec()),
        Reply::Raw(Vec::new()),
        Reply::Silence,
    ] {
        let count = AtomicUsize::new(0);
        let server = Server::start(move |_| match count.fetch_add(1, Ordering::SeqCst) {
            0 => fault.clone(),
            _ => schema(EVENT),
        });
        let settings = config::Registry { outage_wait_ms: 20_000, ..settings(&server.url) };
        assert_eq!(outcome(&Registry::open(&settings).unwrap(), 1), "known");
        assert_eq!(server.requests().len(), 2);
    }
}

#[test]
fn permanent_faults_stop_with_the_reason() {
    for (fault, said) in [
        (
            Reply::Status(500, r#"{"error_code":50001,"message":"store\nfailed"}"#.into()),
            "500 Internal Server Error storefailed",
        ),
        (Reply::Status(200, "{}".into()), "something else than asked for"),
        (Reply::Status(404, "<html>not here</html>".into()), "its Confluent API"),
        (Reply::Status(401, String::new()), "registry.user"),
        (Reply::Status(302, String::new()), "302"),
        (Reply::Silence, "timeout"),
    ] {
        let server = Server::start(move |_| fault.clone());
        let error = ask(&Registry::open(&settings(&server.url)).unwrap(), 1).unwrap_err();
        assert_eq!(error.name(), "RegistryUnavailable", "{error}");
        assert!(error.to_string().contains(said), "{error}: {said}");
    }
}

#[test]
fn an_unusable_schema_is_incompatible_at_once() {
    for reply in [
        Reply::Endless,
        schema("{ \"type\": \"recor"),
        schema(&format!("\"string\"{}", " ".repeat(300_000))),
        Reply::Status(200, json!({"schema": "syntax = \"proto3\";", "schemaType": "PROTOBUF"}).to_string()),
        Reply::Status(200, json!({"schema": EVENT, "references": [{"name": "a"}]}).to_string()),
    ] {
        let server = Server::start(move |_| reply.clone());
        let settings = config::Registry { request_timeout_ms: 20_000, ..settings(&server.url) };
        assert_eq!(outcome(&Registry::open(&settings).unwrap(), 1), "Incompatible");
        assert_eq!(server.requests().len(), 1);
    }
}

#[test]
fn a_registry_without_guids_does_not_stop_the_service() {
    let server = Server::start(|_| Reply::Status(404, String::new()));
    let registry = Registry::open(&settings(&server.url)).unwrap();
    let error = registry.waiting(&|| false).writer(SchemaId::Guid([0xAB; 16])).err().unwrap();
    assert_eq!(error.name(), "UnknownSchemaId");
    let requests = server.requests();
    assert_eq!(requests[0].line, "GET /schemas/guids/abababab-abab-abab-abab-abababababab");
}

#[test]
fn credentials_go_to_the_registry_and_nowhere_else() {
    let server = Server::start(|_| Reply::Status(403, String::new()));
    let settings = config::Registry {
        user: "aegis".into(),
        password: Secret::new("hunter2"),
        ..settings(&format!("{}/apis/v7/", server.url))
    };
    assert!(!format!("{settings:?}").contains("hunter2"));
    let error = ask(&Registry::open(&settings).unwrap(), 1).unwrap_err();
    assert!(!error.to_string().contains("hunter2"), "{error}");
    let requests = server.requests();
    assert_eq!(requests.len(), 1, "asking again would lock the account");
    assert_eq!(requests[0].line, "GET /apis/v7/schemas/ids/1");
    assert_eq!(requests[0].authorization.as_deref(), Some("Basic YWVnaXM6aHVudGVyMg=="));
}

#[test]
fn the_next_address_is_used_if_one_does_not_answer() {
    let (dead, live) = (Server::start(|_| unknown()), Server::start(|_| schema(EVENT)));
    dead.die();
    let settings = settings(&format!("{},{}", dead.url, live.url));
    assert_eq!(outcome(&Registry::open(&settings).unwrap(), 1), "known");
}

#[test]
fn unusable_certificates_are_refused_at_start() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("key.pem");
    std::fs::write(&path, "-----BEGIN RSA PRIVATE KEY-----\n").unwrap();
    let missing = folder.path().join("absent.pem");
    for (authorities, said) in [(missing, "cannot read"), (path, "no certificate")] {
        let settings = config::Registry { authorities, ..settings("https://127.0.0.1:1") };
        let error = Registry::open(&settings).err().unwrap();
        assert!(matches!(error, RegistryError::Settings { key: "authorities", .. }), "{error}");
        assert!(error.to_string().contains(said), "{error}");
    }
}

#[test]
fn our_schema_is_registered_once_and_a_refusal_has_a_reason() {
    let server = Server::start(|request| match request.line.as_str() {
        "POST /subjects/my%2Etopic%2Dvalue/versions" => Reply::Status(200, r#"{"id":41}"#.into()),
        "POST /subjects/my%2Etopic%2Dvalue" => unknown(),
        _ => Reply::Status(409, r#"{"error_code":409,"message":"reader misses default"}"#.into()),
    });
    let registry = Registry::open(&settings(&server.url)).unwrap();
    let register = |subject: &str, add| registry.register(subject, EVENT, add, &|| false);
    assert_eq!(register("my.topic-value", true), Ok(41));
    let body: serde_json::Value = serde_json::from_str(&server.requests()[0].body).unwrap();
    assert_eq!((body["schema"].as_str(), body["schemaType"].as_str()), (Some(EVENT), Some("AVRO")));
    let error = register("my.topic-value", false).unwrap_err();
    assert!(matches!(error, RegistryError::NotRegistered { .. }), "{error}");
    let error = register("other", true).unwrap_err();
    assert!(matches!(error, RegistryError::Conflict { .. }), "{error}");
    assert!(error.to_string().contains("reader misses default"), "{error}");
    server.die();
    assert_eq!(register("other", true).unwrap_err().name(), "Unavailable");
    let stopped = registry.register("other", EVENT, true, &|| true);
    assert_eq!(stopped, Err(RegistryError::Interrupted));
}
