//! Records that the brokers delete before they are read: events before score decides about them, labels and decisions
//! before learn reads them. Each loss is counted and logged once. `aegis verify` reports the lost events.

use aegis::kafka::Produced;
use rdkafka::admin::{AdminClient, AdminOptions};
use rdkafka::config::ClientConfig;
use rdkafka::topic_partition_list::{Offset, TopicPartitionList};

use super::support::flow::{event, event_record, label_record, raw, read_all, send};
use super::support::kafka;
use super::support::site::{Process, Site, wait};
use super::{about, decide, events};

const INFO: [(&str, &str); 1] = [("log.level", "info")];

/// Deletes a partition's records before `offset`, as retention does.
fn delete(site: &Site, topic: &str, partition: i32, offset: i64) {
    let mut client = ClientConfig::new();
    let admin: AdminClient<_> = client.set("bootstrap.servers", kafka().bootstrap()).create().unwrap();
    let mut list = TopicPartitionList::new();
    list.add_partition_offset(&site.topic(topic), partition, Offset::Offset(offset)).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    runtime.block_on(admin.delete_records(&list, &AdminOptions::new())).unwrap();
}

/// Returns the events with these numbers, on one partition.
fn events_on(site: &Site, partition: i32, numbers: std::ops::Range<usize>) -> Vec<Produced> {
    let record = |number| Produced {
        partition: Some(partition),
        ..event_record(&site.topic("events"), &event(number, "hello"))
    };
    numbers.map(record).collect()
}

/// Starts a role and waits until it serves HTTP.
fn start(site: &Site, role: &str) -> Process {
    let mut process = site.start_with(role, &[], &[]);
    process.says("health and metrics");
    process
}

/// Returns `true` if /metrics has this line.
fn has_metric(process: &Process, line: &str) -> bool {
    process.get("/metrics").1.lines().any(|found| found == line)
}

/// Runs `aegis verify`. Returns its exit code, its text, and its report.
fn verified(site: &Site) -> (i32, String, serde_json::Value) {
    let json = site.folder.path().join("report.json");
    let output = site.aegis(&["verify", "--json", json.to_str().unwrap()]);
    let report = serde_json::from_str(&std::fs::read_to_string(json).unwrap()).unwrap();
    (output.status.code().unwrap(), String::from_utf8(output.stdout).unwrap(), report)
}

/// Returns the number of lost offsets of a partition of events, by the metrics of a scorer.
fn lost(score: &Process, topic: &str, partition: i32) -> u64 {
    let line = format!("aegis_records_lost_total{{topic=\"{topic}\",partition=\"{partition}\"}} ");
    let page = score.get("/metrics").1;
    page.lines().find_map(|found| found.strip_prefix(&line)).map_or(0, |count| count.parse().unwrap())
}

/// While the scorer is stopped, seven events are deleted from a partition that it has read, and one from a partition
/// that it has not read. Without a committed offset the latter does not count as lost.
#[test]
fn events_that_retention_took_undecided_are_counted_logged_and_named() {
    let site = Site::with("deleted", &INFO);
    let topic = site.topic("events");
    send(&site.connection, &events_on(&site, 0, 0..3));
    let score = start(&site, "score");
    wait("the first events", || site.committed("score", "events") == 3);
    score.stop();
    send(&site.connection, &[events_on(&site, 0, 3..12), events_on(&site, 1, 20..22)].concat());
    delete(&site, "events", 0, 10);
    delete(&site, "events", 1, 1);
    let (code, text, report) = verified(&site);
    let named = format!("{topic} partition 0 offset 3: up to offset 9: 7 offsets are gone");
    assert!(code == 65 && text.contains(&named), "{text}");
    assert!(!text.contains("every committed event has an outcome"), "{text}");
    assert_eq!(report["counts"]["deleted"], 7, "{text}");

    let mut score = start(&site, "score");
    wait("the events that are left", || site.committed("score", "events") == 12 + 2);
    assert_eq!((lost(&score, &topic, 0), lost(&score, &topic, 1)), (7, 0));
    let message = "deleted before the group had read it";
    let log = score.log();
    let lines: Vec<_> = log.lines().filter(|line| line.contains(message)).collect();
    assert!(lines.len() == 1 && lines[0].contains("partition=0 offsets=7"), "{lines:?}");
    let (_, text, report) = verified(&site);
    assert!(text.contains(&named) && report["counts"]["deleted"] == 7, "{text}");

    // The same with a scorer that is paused. The first record may be part of a fetch that was requested before. The
    // others are fetched when the scorer continues, and are deleted by then.
    score.signal("STOP");
    send(&site.connection, &events_on(&site, 0, 12..13));
    send(&site.connection, &events_on(&site, 0, 13..17));
    delete(&site, "events", 0, 15);
    score.signal("CONT");
    wait("the events that are left", || site.committed("score", "events") == 17 + 2);
    let count = lost(&score, &topic, 0);
    assert!(count == 7 + 2 || count == 7 + 3, "{count}");
    assert_eq!(score.log().matches(message).count(), 2);
    assert_eq!(score.ended(), None);
    score.stop();
    let (code, text, report) = verified(&site);
    assert_eq!((code, &report["counts"]["deleted"]), (65, &count.into()), "{text}");
}

/// While the learner is stopped, labels and decisions that are not indexed yet are deleted, and decisions that cannot
/// be decoded are written.
#[test]
fn labels_and_decisions_that_learn_cannot_read_are_counted_and_logged_once() {
    let site = Site::with("unread", &INFO);
    let made = decide(&site, &events(9));
    // The decision of this event is not deleted.
    let kept = (1..9).find(|number| {
        let id = event(*number, "").id;
        made.iter().any(|(record, decision)| decision.id.event == id && record.partition == 1)
    });
    send(
        &site.connection,
        &[Produced { partition: Some(0), ..label_record(&site.topic("labels"), &about(0)) }],
    );
    let learn = start(&site, "learn");
    site.published(1, 0);
    wait("the index", || has_metric(&learn, "aegis_index_entries 9"));
    learn.stop();

    let before = read_all(&site.connection, &site.topic("decisions"));
    let next =
        before.iter().filter(|record| record.partition == 0).map(|record| record.offset + 1).max().unwrap();
    let made = before[0].payload.clone().unwrap();
    let decision = |payload: Vec<u8>, partition| Produced {
        partition: Some(partition),
        ..raw(&site.topic("decisions"), "k", payload)
    };
    let gone: Vec<_> = (0..4).map(|_| decision(made.clone(), 0)).collect();
    let junk: Vec<_> = (0..6).map(|_| decision(b"no decision".to_vec(), 1)).collect();
    let labels: Vec<_> = (1..4)
        .map(|number| Produced { partition: Some(0), ..label_record(&site.topic("labels"), &about(number)) })
        .collect();
    send(&site.connection, &[gone, junk, labels].concat());
    // The marker of a transaction is between the indexed decisions and those that were sent now.
    let sent = read_all(&site.connection, &site.topic("decisions"));
    let end =
        sent.iter().filter(|record| record.partition == 0).map(|record| record.offset + 1).max().unwrap();
    delete(&site, "decisions", 0, end);
    delete(&site, "labels", 0, 4);

    let learn = start(&site, "learn");
    let skipped =
        |reason: &str, count| format!("aegis_decisions_skipped_total{{reason=\"{reason}\"}} {count}");
    wait("the decisions", || {
        has_metric(&learn, &skipped("NotAvro", 6)) && has_metric(&learn, &skipped("Deleted", end - next))
    });
    let lost = format!("aegis_records_lost_total{{topic=\"{}\",partition=\"0\"}} 3", site.topic("labels"));
    wait("the labels", || has_metric(&learn, &lost));
    let log = learn.log();
    assert_eq!(log.matches("decisions cannot be indexed").count(), 2, "one line for each reason: {log}");
    learn.stop();
    // After a restart the learner continues after them, and does not count them again.
    let learn = start(&site, "learn");
    send(
        &site.connection,
        &[Produced { partition: Some(1), ..label_record(&site.topic("labels"), &about(kept.unwrap())) }],
    );
    site.published(2, 0);
    assert!(!learn.get("/metrics").1.contains("aegis_decisions_skipped_total{reason=\"Deleted\"}"));
    learn.stop();
}
