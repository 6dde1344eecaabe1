//! An expert that is asked in a second phase, in scorers that die, lose their partitions, or get another panel between
//! the phases.

use std::fs;

use aegis::core::decision::Decision;
use aegis::core::vote::{Abstention, Outcome, Vote};
use aegis::kafka::Produced;

use super::experts_support::{Folder, SCORES, faulty_classifier, models, plain_classifier};
use super::support::flow::{event, event_record, send};
use super::support::kafka;
use super::support::site::{PARTITIONS, Site, wait};
use super::{ASSIGNED, INFO, all_committed, decided, member};

/// The point at which an event is about to be submitted to the expert that it needs.
const SECOND_PHASE: &str = "score.second_phase";

/// Creates a site with two experts by rules, and the classifier `judge`, which is asked only when it is decisive. The rules
/// are certain that "fine" is harmless, and undecided on "bad".
fn deferring(prefix: &str, panel: &Folder, sets: &[(&str, &str)]) -> Site {
    for id in ["terms", "words"] {
        let term = "[[terms]]\ncategory = \"violence\"\nseverity = 0.5\nwords = [\"bad\"]\n";
        panel.rules(id, &format!("base = 0.01\n{term}"));
    }
    let rest = format!("{}[inputs]\nids = \"ids\"\n{SCORES}", panel.tokenizer("judge"));
    panel.add("judge", "classifier", "ask = \"when_decisive\"", &plain_classifier(), &rest);
    let (folder, runtime) = (panel.path().display().to_string(), models().join("runtime/libonnxruntime.so"));
    let runtime = runtime.display().to_string();
    let mut all = vec![
        INFO,
        ("experts.folder", folder.as_str()),
        ("experts.runtime", runtime.as_str()),
        ("experts.explore", "0"),
    ];
    all.extend(sets);
    Site::on(kafka(), prefix, PARTITIONS, &all)
}

/// Returns events of which every third one needs the judge.
fn mixed(site: &Site, numbers: std::ops::Range<usize>) -> Vec<Produced> {
    let text = |number: usize| if number.is_multiple_of(3) { "bad" } else { "fine" };
    numbers.map(|number| event_record(&site.topic("events"), &event(number, text(number)))).collect()
}

fn judge(decision: &Decision) -> &Vote {
    decision.votes.iter().map(|weighed| &weighed.vote).find(|vote| vote.expert == "judge").unwrap()
}

/// Checks that the judge was asked about the events that needed it, and about no other.
fn check_asked(site: &Site, count: usize) {
    for decision in decided(site, count) {
        let number: usize = decision.id.event[1..].parse().unwrap();
        let vote = judge(&decision);
        if number.is_multiple_of(3) {
            assert_eq!((vote.score(), vote.decisive), (Some(0.75), true), "{number}: {vote:?}");
        } else {
            assert_eq!(vote.outcome, Outcome::Abstained(Abstention::NotNeeded), "{number}");
            assert!(!vote.decisive && !decision.degraded, "{number}");
        }
    }
}

#[test]
fn a_scorer_that_dies_between_the_phases_decides_each_event_once() {
    let panel = Folder::new();
    let site = deferring("second.dies", &panel, &[]);
    let mut score = member(&site, "one", &[("AEGIS_CRASH_AT", &format!("{SECOND_PHASE}:5"))]);
    score.says(ASSIGNED);
    send(&site.connection, &mixed(&site, 0..60));
    let status = score.end();
    score.died_at(status, SECOND_PHASE);
    let mut score = member(&site, "one", &[]);
    score.says(ASSIGNED);
    all_committed(&site, 60);
    check_asked(&site, 60);
    let page = score.get("/metrics").1;
    for outcome in ["asked", "not_needed"] {
        let line = format!("aegis_deferred_total{{expert=\"judge\",outcome=\"{outcome}\"}} ");
        assert!(page.contains(&line), "{line} is not in\n{page}");
    }
    score.stop();
    site.verified();
}

/// A scorer is stopped between the phases for longer than its session. The other member decides its events, and when it
/// continues, the answers of the second phase belong to a tenure that has ended.
#[test]
fn a_partition_that_is_taken_between_the_phases_is_decided_by_its_next_owner() {
    let panel = Folder::new();
    let site = deferring("second.revoked", &panel, &[]);
    let mut old = member(&site, "old", &[("AEGIS_HOLD_AT", SECOND_PHASE)]);
    old.says(ASSIGNED);
    let mut new = member(&site, "new", &[]);
    new.says(ASSIGNED);
    send(&site.connection, &mixed(&site, 0..150));
    old.holds_still_at(SECOND_PHASE);
    all_committed(&site, 150);
    old.signal("CONT");
    send(&site.connection, &mixed(&site, 150..210));
    all_committed(&site, 210);
    check_asked(&site, 210);
    drop(old);
    new.stop();
    site.verified();
}

/// SIGTERM between the phases: the second phase ends, and the event is committed.
#[test]
fn a_scorer_that_is_stopped_between_the_phases_finishes_the_second() {
    let panel = Folder::new();
    let site = deferring("second.stopped", &panel, &[]);
    let mut score = member(&site, "one", &[("AEGIS_HOLD_AT", SECOND_PHASE)]);
    score.says(ASSIGNED);
    send(&site.connection, &mixed(&site, 0..1));
    score.holds_still_at(SECOND_PHASE);
    score.signal("TERM");
    score.signal("CONT");
    assert!(score.end().success(), "{}", score.log());
    assert_eq!(site.committed("score", "events"), 1);
    check_asked(&site, 1);
    site.verified();
}

/// The panel is replaced while the first phase of an event lasts. The panel that has the event is asked in the second
/// phase, too.
#[test]
fn a_panel_that_leaves_answers_both_phases() {
    let panel = Folder::new();
    panel.classifier("faulty", &faulty_classifier());
    let site = deferring("second.leaving", &panel, &[("experts.timeout_ms", "10000")]);
    let mut score = member(&site, "one", &[]);
    score.says(ASSIGNED);
    // The first phase ends when `faulty` has timed out; the rules find "bad", and the judge knows its first word alone.
    send(&site.connection, &[event_record(&site.topic("events"), &event(0, "hang bad"))]);
    wait("the event", || score.get("/metrics").1.lines().any(|line| line == "aegis_events_consumed_total 1"));
    // Its id moves the indices of all others.
    panel.rules("arrival", "base = 0.25\n");
    let config = fs::read_to_string(site.config()).unwrap();
    let (before, after) = config.split_once("[experts]\n").unwrap();
    fs::write(site.config(), format!("{before}[experts]\nshadow = [\"arrival\"]\n{after}")).unwrap();
    score.says("on the panel from now on, in shadow");
    all_committed(&site, 1);
    let decision = decided(&site, 1).remove(0);
    assert!(decision.votes.iter().all(|weighed| weighed.vote.expert != "arrival"));
    assert_eq!((judge(&decision).score(), judge(&decision).decisive), (Some(0.5), true));
    send(&site.connection, &mixed(&site, 1..10));
    all_committed(&site, 10);
    let made = decided(&site, 10);
    let later = made.iter().find(|decision| decision.id.event == "e00009").unwrap();
    assert!(later.votes.iter().any(|weighed| weighed.vote.expert == "arrival"));
    assert_eq!(judge(later).score(), Some(0.75));
    score.stop();
    site.verified();
}
