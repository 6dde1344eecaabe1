//! What the lists allow is enough, and nothing of it can be missing.

use crate::acls::{self, Acl};
use crate::site::{holds_no_secret, said, secured};
use crate::support::flow::{
    decisions, event, event_record, label, label_record, ledger, raw, read_until, send,
};
use aegis::core::label::Finding;

#[test]
fn the_documented_lists_are_enough_and_needed() {
    let site = secured();
    let admin = site.kafka.connection();
    let events: Vec<_> = (0..20).map(|number| event(number, "kill the lights")).collect();
    let mut records: Vec<_> = events.iter().map(|event| event_record("moderation.events", event)).collect();
    records.push(raw("moderation.events", "poison", "{"));
    let (score, learn) = (site.run("score", "score"), site.run("learn", "learn"));
    send(&admin, &records);
    let made = read_until(&admin, "moderation.decisions", "every decision", |records| records.len() >= 20);
    assert_eq!(decisions(&made).len(), 20);
    read_until(&admin, "moderation.dlq", "the poison", |records| !records.is_empty());
    let labels: Vec<_> = events
        .iter()
        .map(|event| {
            label_record("moderation.labels", &label(&format!("l-{}", event.id), &event.id, Finding::Unsafe))
        })
        .collect();
    send(&admin, &labels);
    read_until(&admin, "aegis.rounds", "the rounds", |records| ledger(records).len() >= 40);
    read_until(&admin, "aegis.weights", "a predictor", |records| !records.is_empty());
    for (name, running) in [("score", &score), ("learn", &learn)] {
        holds_no_secret(name, &running.metrics());
    }
    let verified = site.aegis("operator", &["verify"]);
    assert!(verified.status.success(), "{}", said(&verified));
    holds_no_secret("score's log", &score.stop());
    holds_no_secret("learn's log", &learn.stop());

    // A list that lacks an entry stops the role that needs it, with a word.
    for (role, user, name) in [
        ("score", "User:aegis-score", "moderation.events"),
        ("score", "User:aegis-score", "aegis-score-"),
        ("learn", "User:aegis-learn", "aegis-learn-election"),
    ] {
        let mine = |acl: &Acl| acl.user == user && acl.name == name;
        let acl = acls::documented().into_iter().find(mine).unwrap();
        site.without(&acl, || {
            send(&admin, &[raw("moderation.events", "poison", "{")]);
            let (code, _, log) = site.run(role, role).end();
            assert_eq!(code, Some(69), "without {name}: {log}");
            let last = log.lines().last().unwrap();
            assert!(last.to_lowercase().contains("authorization failed"), "without {name}: {last}");
        });
    }
}
