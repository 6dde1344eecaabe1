//! The disk of a learner's store is full, and another learner stands by.

use super::disk::Disk;
use super::support::site::{Process, Site, wait};
use super::{about, decide, events, learned, send_labels};

const ACTIVE: &str = "this learner is active";
const RUNS: usize = 10;
/// Labels of one run: more than fit into what sled has of the disk already.
const LABELS: usize = 100;
/// So that there are many commits.
const SETS: [(&str, &str); 2] = [("log.level", "info"), ("learn.commit_records", "2")];

/// A learner with its store on this disk.
fn on(site: &Site, disk: &Disk) -> Process {
    let store = format!("learn.store={}", disk.store().display());
    let mut learner = site.command(&["run", "--role", "learn"]);
    learner.args(["--set", &store]);
    site.start_command("learn", Disk::limit_later(&learner))
}

#[test]
fn a_learner_with_a_full_disk_ends_and_the_one_that_stands_by_takes_over() {
    let site = Site::with("full", &SETS);
    decide(&site, &events((RUNS + 1) * LABELS));
    let mut disk = Disk::new();
    let mut active = on(&site, &disk);
    active.says(ACTIVE);
    send_labels(&site, (0..LABELS).map(about));
    learned(&site, LABELS);
    for run in 1..=RUNS {
        let next = Disk::new();
        let mut standby = on(&site, &next);
        standby.says("health and metrics");
        wait("a learner that stands by", || standby.get("/readyz").0 == 200);
        disk.fill_for(active.id());
        send_labels(&site, (run * LABELS..(run + 1) * LABELS).map(about));
        let (status, log) = (active.end(), active.log());
        assert_eq!(status.code(), Some(69), "{status}\n{log}");
        let folder = disk.store().display().to_string();
        for words in
            ["the store has failed", "learn stopped", &folder, "check space, permissions", "(os error "]
        {
            assert!(log.contains(words), "run {run}: no \"{words}\" in\n{log}");
        }
        standby.says(ACTIVE);
        (disk, active) = (next, standby);
    }
    learned(&site, (RUNS + 1) * LABELS);
    active.stop();
}

/// sled or the disk does not answer, and one SIGTERM is enough all the same.
#[test]
fn sigterm_ends_a_learner_whose_store_hangs() {
    let site = Site::with("hangs", &SETS);
    decide(&site, &events(10));
    let mut learn = site.start_with("learn", &[], &[("AEGIS_HANG_AT", "store.applied:5")]);
    send_labels(&site, (0..10).map(about));
    learn.says("hanging at store.applied");
    learn.signal("TERM");
    let (status, log) = (learn.end(), learn.log());
    assert_eq!(status.code(), Some(69), "{status}\n{log}");
    assert!(log.contains("the disk has not answered for") && log.contains("learn stopped"), "{log}");
    assert!(log.contains(&site.store().display().to_string()), "{log}");
    let learn = site.start_with("learn", &[], &[]);
    learned(&site, 10);
    learn.stop();
}
