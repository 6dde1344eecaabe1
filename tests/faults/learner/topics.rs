//! Topics that are deleted and created again between two runs of a learner.

use std::process::Output;

use aegis::kafka::Consumed;
use aegis::kafka::topics;
use aegis::store::{Store, TopicIds};
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::client::DefaultClientContext;

use super::support::WAIT;
use super::support::flow::{raw, read_all, send};
use super::support::site::{Process, Site, wait};
use super::{about, decide, events, learned, send_labels};

const INFO: [(&str, &str); 1] = [("log.level", "info")];
const LABELS: usize = 12;

/// Deletes a topic and creates it again as `aegis topics` does.
fn recreate(site: &Site, name: &str) {
    let topic = site.topic(name);
    let before = topics::id(&site.connection, &topic, WAIT).unwrap();
    let admin: AdminClient<DefaultClientContext> =
        rdkafka::ClientConfig::new().set("bootstrap.servers", &site.connection.brokers).create().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let deleted = runtime.block_on(admin.delete_topics(&[&topic], &AdminOptions::new())).unwrap();
    deleted.into_iter().for_each(|one| drop(one.unwrap()));
    wait("the topic's end", || topics::partitions(&site.connection, &topic, WAIT).is_err());
    let made = site.aegis(&["topics", "--create", "--partitions", "3"]);
    assert!(made.status.success(), "{made:?}");
    wait("the new topic", || topics::partitions(&site.connection, &topic, WAIT).is_ok());
    let after = topics::id(&site.connection, &topic, WAIT).unwrap();
    assert!(before.is_some() && after.is_some() && before != after, "{before:?} {after:?}");
}

/// Creates a site whose learner has learned from the first labels and was stopped. Returns also the ledger and the
/// state's hash.
fn learned_site(prefix: &str) -> (Site, Vec<Consumed>, String) {
    let site = Site::with(prefix, &INFO);
    decide(&site, &events(3 * LABELS));
    let learn = site.start_with("learn", &[], &[]);
    send_labels(&site, (0..LABELS).map(about));
    learned(&site, LABELS);
    learn.stop();
    site.verified();
    let ledger = read_all(&site.connection, &site.topic("rounds"));
    let hash = site.hash();
    (site, ledger, hash)
}

/// Checks that a learner refuses to start and names the commands that help.
fn assert_refused(site: &Site, arguments: &[&str]) {
    let mut learn: Process = site.start_with("learn", arguments, &[]);
    let (status, log) = (learn.end(), learn.log());
    assert_eq!(status.code(), Some(69), "{status}\n{log}");
    for text in ["aegis ledger restore", "aegis ledger adopt", &site.topic("rounds")] {
        assert!(log.contains(text), "no \"{text}\" in\n{log}");
    }
}

/// Checks that `aegis verify` reports a difference between store and topic.
fn assert_differs(site: &Site) {
    let output = site.aegis(&["verify"]);
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert_eq!(output.status.code(), Some(65), "{said}");
    assert!(said.contains("differences between the learner's store and the ledger"), "{said}");
    assert!(said.contains("deleted and created again"), "{said}");
}

fn done(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{said}{}", String::from_utf8_lossy(&output.stderr));
    said
}

/// Writes records that change nothing, until the topic is longer than the old one.
fn grow_past(site: &Site, ledger: &[Consumed]) {
    let topic = site.topic("rounds");
    let Consumed { key, payload, .. } = ledger.first().unwrap().clone();
    let record = aegis::kafka::Produced { key, partition: Some(0), ..raw(&topic, "", payload.unwrap()) };
    let more = ledger.last().unwrap().offset + 20;
    send(&site.connection, &vec![record; usize::try_from(more).unwrap()]);
}

#[test]
fn an_empty_ledger_topic_in_the_place_of_a_full_one_is_refused_until_the_store_is_written_back() {
    let (site, _, hash) = learned_site("again");
    recreate(&site, "rounds");
    assert_refused(&site, &[]);
    assert_refused(&site, &[]);
    // A learner without a store does not start with an empty ledger either.
    let other = format!("learn.store={}", site.folder.path().join("other").display());
    assert_refused(&site, &["--set", &other]);
    assert_differs(&site);
    assert!(read_all(&site.connection, &site.topic("rounds")).is_empty(), "nothing was written");

    let written = LABELS * 2; // a round and its label
    let said = done(&site.aegis(&["ledger", "restore"]));
    assert!(said.starts_with(&format!("{written} of the store's records written")), "{said}");
    assert_eq!(site.replayed(), hash, "the state is the one before");
    let said = done(&site.aegis(&["ledger", "restore"]));
    assert!(said.starts_with("0 of the store's records written"), "{said}");
    assert_eq!(read_all(&site.connection, &site.topic("rounds")).len(), written);

    let learn = site.start_with("learn", &[], &[]);
    send_labels(&site, (LABELS..2 * LABELS).map(about));
    learned(&site, 2 * LABELS);
    learn.stop();
    site.verified();
}

#[test]
fn a_ledger_topic_that_has_grown_past_the_old_end_is_refused_until_it_is_adopted() {
    let (site, ledger, _) = learned_site("grown");
    recreate(&site, "rounds");
    grow_past(&site, &ledger);
    assert_refused(&site, &[]);
    assert_refused(&site, &[]);
    assert_differs(&site);

    let said = done(&site.aegis(&["ledger", "adopt"]));
    assert!(said.starts_with(&format!("{} ledger records dropped", LABELS * 2)), "{said}");
    // The topic has a round without its label.
    let learn = site.start_with("learn", &[], &[]);
    send_labels(&site, (LABELS..2 * LABELS + 3).map(about));
    learned(&site, LABELS + 3);
    learn.stop();
    site.verified();
}

/// If the new topic has records already when the store is written to it, both are counted.
#[test]
fn records_in_the_new_ledger_topic_are_kept() {
    let (site, ledger, hash) = learned_site("both");
    recreate(&site, "rounds");
    grow_past(&site, &ledger);
    assert_refused(&site, &[]);
    let said = done(&site.aegis(&["ledger", "restore"]));
    assert!(said.starts_with(&format!("{} of the store's records written", LABELS * 2 - 1)), "{said}");
    assert_eq!(site.replayed(), hash);
    let learn = site.start_with("learn", &[], &[]);
    send_labels(&site, (LABELS..2 * LABELS).map(about));
    learned(&site, 2 * LABELS);
    learn.stop();
    site.verified();
}

/// A store of an earlier version has no topic ids. A topic that ends before its offset is detected all the same.
#[test]
fn without_ids_a_topic_that_ends_too_early_is_noticed() {
    let (site, ledger, hash) = learned_site("older");
    let forget = || {
        let mut store = Store::existing(&site.store()).unwrap().unwrap();
        assert!(store.topic_ids().ledger.is_some());
        store.set_topic_ids(TopicIds::default()).unwrap();
    };
    forget();
    recreate(&site, "rounds");
    assert_refused(&site, &[]);
    let said = String::from_utf8(site.aegis(&["verify"]).stdout).unwrap();
    assert!(said.contains("the topic lacks"), "{said}");
    // The loss stays detected when the topic grows.
    grow_past(&site, &ledger);
    assert_refused(&site, &[]);
    done(&site.aegis(&["ledger", "restore"]));
    assert_eq!(site.replayed(), hash);

    forget();
    recreate(&site, "decisions");
    let all = events(3 * LABELS + 3);
    decide(&site, &all[3 * LABELS..]);
    let mut learn = site.start_with("learn", &[], &[]);
    send_labels(&site, (3 * LABELS..3 * LABELS + 3).map(about));
    learned(&site, LABELS + 3);
    learn.says("the index of decisions is filled again");
    learn.stop();
}

/// The ledger topic is replaced while a learner is running.
#[test]
fn a_running_learner_ends_when_its_ledger_topic_is_replaced() {
    let (site, _, _) = learned_site("work");
    let mut learn = site.start_with("learn", &[], &[]);
    learn.says("this learner is active");
    wait("the learner", || learn.get("/readyz").0 == 200);
    recreate(&site, "rounds");
    send_labels(&site, (LABELS..2 * LABELS).map(about));
    let status = learn.end();
    assert_eq!(status.code(), Some(69), "{status}\n{}", learn.log());
    assert_refused(&site, &[]);
    done(&site.aegis(&["ledger", "restore"]));
    let learn = site.start_with("learn", &[], &[]);
    learned(&site, 2 * LABELS);
    learn.stop();
    site.verified();
}

/// The index of decisions is of a deleted topic. New decisions at the offsets of old ones must be indexed again.
#[test]
fn decisions_of_a_recreated_topic_are_joined() {
    let site = Site::with("decisions", &INFO);
    let all = events(4 * LABELS);
    decide(&site, &all[..LABELS]);
    let learn = site.start_with("learn", &[], &[]);
    send_labels(&site, (0..LABELS).map(about));
    learned(&site, LABELS);
    learn.stop();

    // The new topic is shorter than the old one at first, and longer after the second time.
    recreate(&site, "decisions");
    decide(&site, &all[LABELS..LABELS + 4]);
    let mut learn = site.start_with("learn", &[], &[]);
    send_labels(&site, (LABELS..LABELS + 4).map(about));
    learned(&site, LABELS + 4);
    learn.says("the index of decisions is filled again");
    learn.stop();

    recreate(&site, "decisions");
    decide(&site, &all[LABELS + 4..]);
    let mut learn = site.start_with("learn", &[], &[]);
    send_labels(&site, (LABELS + 4..4 * LABELS).map(about));
    learned(&site, 4 * LABELS);
    learn.says("the index of decisions is filled again");
    learn.stop();
    assert!(site.waiting().is_empty());
}

/// Labels of a recreated topic are read from its beginning, because the brokers have deleted the offsets of the group.
#[test]
fn labels_of_a_recreated_topic_are_read_from_the_first() {
    let (site, _, _) = learned_site("labels");
    recreate(&site, "labels");
    send_labels(&site, (LABELS..2 * LABELS + 3).map(about));
    let mut learn = site.start_with("learn", &[], &[]);
    learn.says("the topic of labels was deleted and created again");
    learned(&site, 2 * LABELS + 3);
    learn.stop();
}
