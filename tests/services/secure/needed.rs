//! Without any one entry of the lists, the operation that needs it is refused with a message that names the resource.

use std::sync::atomic::{AtomicUsize, Ordering};

use aegis::core::label::Finding;
use aegis::dead_letter::{Reason, dead_letter};
use aegis::kafka::topics::{TopicSpec, ensure};
use aegis::kafka::{Consumed, Produced};
use serde_json::json;

use super::acls::{self, Acl};
use super::site::{Running, Secured, holds_no_secret, said};
use crate::support::WAIT;
use crate::support::flow::{event, event_record, label, label_record, raw, send};
use crate::support::http::post;

/// Returns a number for names that must be new each time.
fn next() -> usize {
    static NEXT: AtomicUsize = AtomicUsize::new(1_000);
    NEXT.fetch_add(1, Ordering::Relaxed)
}

/// Removes each entry and checks that an operation is refused without it.
pub fn nothing_can_be_missing(site: &Secured) {
    let mut not_missed = Vec::new();
    for acl in acls::documented() {
        if let Err(said) = site.without(&acl, || refused(site, &acl)) {
            not_missed.push(format!("{}: {said}", acl.words));
        }
    }
    assert!(not_missed.is_empty(), "nobody misses\n{}", not_missed.join("\n"));
}

/// Runs the operations of the entry's user until one is refused.
fn refused(site: &Secured, acl: &Acl) -> Result<(), String> {
    let number = next();
    match acl.user.as_str() {
        "User:aegis-score" => role(site, "score", acl, number),
        "User:aegis-learn" => role(site, "learn", acl, number),
        "User:aegis-serve" => server(site, acl),
        "User:aegis-operator" => {
            let [made, kept, grown] = ["moderation.made", "aegis.made", "moderation.grown"];
            let [made, kept, grown] = [made, kept, grown].map(|name| format!("{name}-{number}"));
            ensure(&site.kafka.connection(), &[TopicSpec::new(grown.as_str(), 1)], WAIT).unwrap();
            let setting = |name: &str, topic: &str| format!("topics.{name}={topic}");
            let (made, kept) = (setting("dlq", &made), setting("weights", &kept));
            let grown = setting("decisions", &grown);
            let create = |setting| ["topics", "--create", "--set", setting];
            commands(site, "operator", acl, &[&["verify"], &create(&made), &create(&kept), &create(&grown)])
        }
        "User:aegis-eraser" => {
            let erase = ["erase", "--subject", "u1", "--verify"];
            commands(site, "eraser", acl, &[&erase[..3], &erase])
        }
        "User:aegis-replayer" => {
            send(&site.kafka.connection(), &["moderation.events", "moderation.labels"].map(letter));
            commands(site, "replayer", acl, &[&["dlq", "replay", "--most", "1000"]])
        }
        user => panic!("docs/security.md: {user} does nothing here"),
    }
}

/// Runs a role with a record to read, one to refuse and, for learn, a state to publish.
fn role(site: &Secured, role: &str, acl: &Acl, number: usize) -> Result<(), String> {
    let event = event(number, "kill the lights");
    let label = label(&format!("l-{number}"), &format!("e{:05}", number % 20), Finding::Unsafe);
    let label = aegis::core::label::Label { annotator: Some(format!("r{number}")), ..label };
    let records = [
        event_record("moderation.events", &event),
        raw("moderation.events", "poison", "{"),
        label_record("moderation.labels", &label),
        raw("moderation.labels", "poison", "{"),
    ];
    send(&site.kafka.connection(), &records);
    is_refused(role, site.run(role, role), acl)
}

/// Runs a server, and sends it a request if it answers.
fn server(site: &Secured, acl: &Acl) -> Result<(), String> {
    let (mut server, address) = site.serve();
    if server.listens(&address) {
        // The record of a request is written after its answer.
        let answer = post(&address, "/v1/decisions", &json!({ "text": "kill the lights" }));
        assert_eq!(answer.status, 200, "{}", answer.body);
    }
    is_refused("serve", server, acl)
}

/// Checks that a process ends with a message about this entry.
fn is_refused(name: &str, running: Running, acl: &Acl) -> Result<(), String> {
    let (code, log) = running.ends(2 * WAIT).ok_or("it goes on")?;
    holds_no_secret(name, &log);
    let last = log.lines().last().unwrap_or_default();
    if code == Some(69) && is_refusal(last, acl) { Ok(()) } else { Err(format!("{code:?}: {last}")) }
}

fn commands(site: &Secured, name: &str, acl: &Acl, commands: &[&[&str]]) -> Result<(), String> {
    let mut all = Vec::new();
    for command in commands {
        let output = site.aegis(name, command);
        let said = said(&output);
        if output.status.code() == Some(69) && is_refusal(&said, acl) {
            return Ok(());
        }
        all.push(format!("{command:?} ends with {:?}: {said}", output.status.code()));
    }
    Err(all.join("; "))
}

/// Returns `true` if the message is about this entry.
fn is_refusal(said: &str, acl: &Acl) -> bool {
    said.to_lowercase().contains("authorization failed") && said.contains(&acl.name)
}

/// Returns a dead letter with an original from that topic.
fn letter(topic: &str) -> Produced {
    let number = i64::try_from(next()).unwrap();
    let original = Consumed {
        topic: topic.into(),
        partition: 0,
        offset: number,
        key: Some(b"poison".to_vec()),
        payload: Some(b"{".to_vec()),
        headers: Vec::new(),
        timestamp: Some(number),
    };
    let reason = Reason { name: "UnknownPolicy", message: String::new() };
    dead_letter(&"moderation.dlq".into(), "score", original, &reason)
}
