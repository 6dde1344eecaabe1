//! Experts that hang, that are spared under load, and that leave with their panel, in a scorer that goes on.

use std::fs;

use aegis::core::decision::Decision;
use aegis::core::vote::{Abstention, Outcome};
use aegis::kafka::Produced;

use super::experts_support::Folder;
use super::support::flow::{event, event_record, send};
use super::support::site::{Site, wait};
use super::{ASSIGNED, all_committed, decided, events, hang, hanging, member};

/// The vote of an expert.
fn outcome<'a>(decision: &'a Decision, expert: &str) -> Option<&'a Outcome> {
    decision
        .votes
        .iter()
        .map(|weighed| &weighed.vote)
        .find(|vote| vote.expert == expert)
        .map(|vote| &vote.outcome)
}

fn of(made: &[Decision], number: usize) -> &Decision {
    let event = format!("e{number:05}");
    made.iter().find(|decision| decision.id.event == event).unwrap()
}

/// An expert that hangs is left alone: readiness names it, with the reason, until it answers again.
#[test]
fn readiness_names_an_expert_that_hangs_until_it_answers() {
    let panel = Folder::new();
    let site = hanging("unready", &panel, &[("experts.timeout_ms", "2000")]);
    let mut score = member(&site, "one", &[]);
    score.says(ASSIGNED);
    wait("readiness", || score.get("/readyz").0 == 200);
    send(&site.connection, &[hang(&site, 0)]);
    wait("the word of the one that hangs", || {
        let (status, page) = score.get("/readyz");
        status == 503 && page.contains("[-] score: experts answering: faulty timed_out")
    });
    assert_eq!(score.get("/livez").0, 200);
    assert!(score.get("/metrics").1.contains("aegis_expert_down{expert=\"faulty\"} 1"));
    // It is tried again with a text that comes after its pause.
    let mut sent = 1;
    wait("readiness again", || {
        send(&site.connection, &events(&site, sent..sent + 1));
        sent += 1;
        score.get("/readyz").0 == 200
    });
    all_committed(&site, i64::try_from(sent).unwrap());
    let made = decided(&site, sent);
    assert_eq!(outcome(of(&made, 0), "faulty"), Some(&Outcome::Abstained(Abstention::TimedOut)));
    score.stop();
    site.verified();
}

fn slow(site: &Site, number: usize) -> Produced {
    event_record(&site.topic("events"), &event(number, "slow"))
}

/// Under load only the cheap are asked, and decisions say who was not; once it is calm all are again.
#[test]
fn under_load_a_scorer_asks_the_cheap_and_then_all_again() {
    const EVENTS: usize = 2_000;
    let panel = Folder::new();
    let site = hanging(
        "shed",
        &panel,
        &[
            ("experts.cache_mib", "0"),
            ("score.window", "1"),
            ("score.shed_lag", "500"),
            ("score.shed_calm_ms", "500"),
        ],
    );
    let mut score = member(&site, "one", &[]);
    score.says(ASSIGNED);
    send(&site.connection, &(0..EVENTS).map(|number| slow(&site, number)).collect::<Vec<_>>());
    score.says("shrunk=true");
    score.says("shrunk=false");
    send(&site.connection, &events(&site, EVENTS..EVENTS + 1));
    all_committed(&site, i64::try_from(EVENTS + 1).unwrap());
    let made = decided(&site, EVENTS + 1);
    let spared =
        |decision: &&Decision| outcome(decision, "faulty") == Some(&Outcome::Abstained(Abstention::Overload));
    let shed = made.iter().filter(spared).count();
    assert!(shed > EVENTS / 2, "{shed}");
    assert!(made.iter().filter(spared).all(|decision| decision.degraded));
    assert!(matches!(outcome(of(&made, EVENTS), "faulty"), Some(Outcome::Voted { .. })));
    assert!(made.iter().all(|decision| matches!(outcome(decision, "rules"), Some(Outcome::Voted { .. }))));
    let page = score.get("/metrics").1;
    let line = format!("aegis_abstentions_total{{expert=\"faulty\",reason=\"overload\"}} {shed}");
    assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    assert!(page.lines().any(|found| found == "aegis_panel_shrunk 0"), "{page}");
    score.stop();
    site.verified();
}

/// A panel that is replaced answers what it was asked, the hanging expert's time-out included.
#[test]
fn a_panel_that_leaves_answers_what_it_was_asked() {
    let panel = Folder::new();
    let site = hanging("leaving", &panel, &[("experts.timeout_ms", "10000")]);
    let mut score = member(&site, "one", &[]);
    score.says(ASSIGNED);
    send(&site.connection, &[hang(&site, 40)]);
    wait("the one that hangs", || {
        score.get("/metrics").1.lines().any(|line| line == "aegis_events_consumed_total 1")
    });
    panel.rules("newcomer", "base = 0.25\n");
    let config = fs::read_to_string(site.config()).unwrap();
    let (before, after) = config.split_once("[experts]\n").unwrap();
    fs::write(site.config(), format!("{before}[experts]\nshadow = [\"newcomer\"]\n{after}")).unwrap();
    score.says("on the panel from now on, in shadow");
    send(&site.connection, &events(&site, 0..30));
    all_committed(&site, 31);
    let made = decided(&site, 31);
    let hung = of(&made, 40);
    assert_eq!(outcome(hung, "faulty"), Some(&Outcome::Abstained(Abstention::TimedOut)));
    assert_eq!(outcome(hung, "newcomer"), None);
    for number in 0..30 {
        assert!(matches!(outcome(of(&made, number), "newcomer"), Some(Outcome::Voted { .. })), "{number}");
    }
    score.stop();
    site.verified();
}
