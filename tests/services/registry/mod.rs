//! The schema registry: its framings, its faults, the flow with it, and a real registry.

mod faults;
mod flow;
mod framings;
mod real;
mod server;
mod tls;

use aegis::codec::{DecodeError, Defaults, Received, SchemaId, Schemas};
use aegis::config;
use aegis::core::event::Event;
use aegis::registry::Registry;

/// The schema of events, as in schemas/.
const EVENT: &str = include_str!("../../../schemas/event.avsc");

/// The schema of another producer: another name and namespace, a field and a symbol that our schema does not have, no
/// `judged`, and `time` as an int.
const FOREIGN: &str = r#"{"type":"record","name":"Chat","namespace":"com.example","fields":[
    {"name":"channel","type":{"type":"enum","name":"Channel","symbols":["web","app"]}},
    {"name":"id","type":"string"},
    {"name":"time","type":["null","int"]},
    {"name":"turns","type":{"type":"array","items":{"type":"record","name":"Line","fields":[
        {"name":"role","type":{"type":"enum","name":"Who","symbols":["bot","user"]}},
        {"name":"text","type":"string"},
        {"name":"channel","type":"Channel"}]}}}]}"#;

/// A datum of [`FOREIGN`]: on "app", id "e-1", time 7, a turn of "bot" and one of "user".
const FOREIGN_DATUM: &[u8] = b"\x02\x06e-1\x02\x0e\x04\x00\x02a\x00\x02\x04bc\x02\x00";

fn defaults() -> Defaults {
    Defaults { tenant: "t".into(), policy: "default".into(), ..Defaults::default() }
}

/// Returns a value framed with a number.
fn framed(id: u32, datum: &[u8]) -> Vec<u8> {
    [&[0][..], &id.to_be_bytes(), datum].concat()
}

fn settings(url: &str) -> config::Registry {
    config::Registry {
        url: url.to_owned(),
        request_timeout_ms: 300,
        unknown_wait_ms: 300,
        outage_wait_ms: 600,
        ..config::Registry::default()
    }
}

/// Waits for the registry's answer about a number.
fn ask(registry: &Registry, id: u32) -> Result<(), DecodeError> {
    registry.waiting(&|| false).writer(SchemaId::Number(id)).map(|_| ())
}

fn event(registry: &dyn Schemas, payload: &[u8]) -> Result<Event, DecodeError> {
    Received { schemas: Some(registry), ..Received::plain(payload) }.event(&defaults())
}
