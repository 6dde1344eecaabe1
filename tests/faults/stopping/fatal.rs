//! Roles that fail: a panic in any of their threads, or an error, ends the process, and the next process repeats the
//! uncommitted work.

use aegis::core::label::Finding;
use aegis::kafka::topics::{Finding as Found, TopicSpec, ensure};

use super::support::flow::{event, event_record, label, label_record, read_all, send};
use super::support::site::{PARTITIONS, Process, Site, wait};
use super::support::{Kafka, WAIT};
use super::{ASSIGNED, Folder, INFO, all_committed, decided, events, hang, hanging_on};

/// Waits for the end of the process with this exit code. Returns its log.
fn ends(process: &mut Process, code: i32) -> String {
    let status = process.end();
    let log = process.log();
    assert_eq!(status.code(), Some(code), "{log}");
    log
}

/// A panic in the thread that decides, the thread that commits, a thread of the panel, or the learner. With both roles
/// in one process each ends the other, and with the next process every event has one outcome.
#[test]
fn a_panic_in_any_thread_of_a_role_ends_the_process_with_70() {
    let site = Site::with("panics", &[INFO]);
    let secret = "nobody may read this in a log";
    let mut sent = 0;
    // The learner's transactions have the same steps, so no label is sent before the learner's part.
    for (point, thread, part) in [
        ("score.decided", "thread=\"score\"", "score"),
        ("unit.offsets", "thread=\"commit\"", "score"),
        ("panel.read", "thread=\"panel\"", "score"),
        ("expert.serve", "thread=\"expert-", "score"),
        ("learn.committed", "thread=\"learn\"", "learn"),
    ] {
        let mut both = site.start_with("both", &[], &[("AEGIS_PANIC_AT", point)]);
        both.says("health and metrics");
        if part == "learn" {
            let label = label("l0", &event(0, "").id, Finding::Safe);
            send(&site.connection, &[label_record(&site.topic("labels"), &label)]);
        } else {
            send(&site.connection, &[event_record(&site.topic("events"), &event(sent, secret))]);
            sent += 1;
        }
        let log = ends(&mut both, 70);
        assert!(log.contains("a thread panicked") && log.contains(thread), "{point}: {log}");
        let of_the_role = log.contains(&format!("aegis: {part} stopped: it panicked"));
        assert!(of_the_role || log.contains(&format!("a thread of {part} panicked")), "{point}: {log}");
        assert!(!log.contains(secret), "{point}: {log}");
    }
    let mut both = site.start_with("both", &[], &[]);
    both.says("health and metrics");
    all_committed(&site, i64::try_from(sent).unwrap());
    site.published(1, 0);
    wait("readiness", || both.get("/readyz").0 == 200);
    let (_, page) = both.get("/readyz?verbose");
    assert!(page.contains("[+] score: running\n") && page.contains("[+] learn: running\n"), "{page}");
    both.stop();
    decided(&site, sent);
    assert_eq!(site.ledger().len(), 2, "a label and its round, once each");
    site.verified();
}

/// A scorer panics while the brokers do not answer, so the learner beside it cannot finish. The process becomes unready
/// at once, no longer reports the work of the dead role, and ends all the same.
#[test]
fn a_dead_role_holds_nothing_and_the_other_one_does_not_keep_the_process_alive() {
    let kafka = Kafka::start();
    let panel = Folder::new();
    let site = hanging_on(&kafka, "dead", &panel, &[("experts.timeout_ms", "2000")]);
    let mut both = site.start_with("both", &[], &[("AEGIS_PANIC_AT", "score.decided")]);
    both.says(ASSIGNED);
    both.says("this learner is active");
    wait("readiness", || both.get("/readyz").0 == 200);
    send(&site.connection, &[hang(&site, 0)]);
    let told = |both: &Process, line: &str| both.get("/metrics").1.lines().any(|found| found == line);
    wait("the event", || told(&both, "aegis_events_consumed_total 1"));
    wait("its partitions", || {
        told(&both, &format!("aegis_partitions_assigned{{role=\"score\"}} {PARTITIONS}"))
    });
    kafka.pause();
    both.says("a thread panicked");
    wait("its being not ready", || both.get("/readyz").0 == 503);
    let (_, page) = both.get("/readyz?verbose");
    let held = page.lines().filter(|line| line.starts_with("[+] score: "));
    assert_eq!(held.collect::<Vec<_>>(), [""; 0], "{page}");
    assert!(page.contains("[-] score: running: score has stopped\n"), "{page}");
    assert!(told(&both, "aegis_condition{condition=\"score: broker seen\"} 0"));
    wait("what is said of its work", || {
        both.ended().is_some() || told(&both, "aegis_partitions_assigned{role=\"score\"} 0")
    });
    ends(&mut both, 70);
    kafka.resume();
}

/// The topic of the ledger has two partitions. The learner refuses it, and the scorer does not continue alone.
#[test]
fn a_role_that_fails_by_an_error_stops_the_other_one() {
    let site = Site::with("refuses", &[INFO]);
    let spec = TopicSpec { exactly: true, ..TopicSpec::new(site.topic("rounds"), 2) };
    assert!(matches!(ensure(&site.connection, &[spec], WAIT).unwrap()[..], [Found::Grown(_)]));
    send(&site.connection, &events(&site, 0..1));
    let mut both = site.start_with("both", &[], &[]);
    let log = ends(&mut both, 69);
    assert!(log.contains("aegis: learn stopped: ") && log.contains("must have 1"), "{log}");
    assert!(read_all(&site.connection, &site.topic("dlq")).is_empty());
}
