//! Experts that hang, that are skipped under load, and that are removed with their panel, in a scorer that continues.

use std::fs;

use aegis::core::decision::Decision;
use aegis::core::vote::{Abstention, Outcome};
use aegis::kafka::Produced;

use super::experts_support::{Folder, models, plain_classifier, stuck_classifier};
use super::support::flow::{event, event_record, send};
use super::support::site::{Process, Site, wait};
use super::{ASSIGNED, INFO, all_committed, decided, events, hang, hanging, member};

/// Returns the vote of an expert.
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

/// An expert that hangs is not asked for some time. Readiness names it, with the reason, until it answers again. The
/// scorer stays ready, because the other expert answers.
#[test]
fn readiness_names_an_expert_that_hangs_until_it_answers() {
    let panel = Folder::new();
    let site = hanging("unready", &panel, &[("experts.timeout_ms", "2000")]);
    let mut score = member(&site, "one", &[]);
    score.says(ASSIGNED);
    wait("readiness", || score.get("/readyz").0 == 200);
    send(&site.connection, &[hang(&site, 0)]);
    wait("the word of the one that hangs", || {
        let (status, page) = score.get("/readyz?verbose");
        assert_eq!(status, 200, "{page}");
        page.lines().any(|line| line == "[+] score: experts answering: faulty timed_out")
    });
    assert_eq!(score.get("/livez").0, 200);
    assert!(score.get("/metrics").1.contains("aegis_expert_down{expert=\"faulty\"} 1"));
    // It is tried again with a text that comes after its pause.
    let mut sent = 1;
    wait("readiness again", || {
        send(&site.connection, &events(&site, sent..sent + 1));
        sent += 1;
        score.get("/readyz?verbose").1.lines().any(|line| line == "[+] score: experts answering")
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

/// Under load only the fast experts are asked, and decisions name the others. When the load ends, all experts are asked
/// again.
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
    // On a slow machine the load can end before the last event is there, and begin once more.
    all_committed(&site, i64::try_from(EVENTS).unwrap());
    wait("the end of the load", || {
        score.get("/metrics").1.lines().any(|line| line == "aegis_panel_shrunk 0")
    });
    // On a slow machine the expert may have timed out before. Then it is paused for a while.
    let mut sent = EVENTS;
    wait("a vote of each expert", || {
        send(&site.connection, &events(&site, sent..sent + 1));
        sent += 1;
        all_committed(&site, i64::try_from(sent).unwrap());
        let made = decided(&site, sent);
        let found = outcome(of(&made, sent - 1), "faulty").unwrap();
        assert_ne!(*found, Outcome::Abstained(Abstention::Overload), "the load has ended");
        matches!(found, Outcome::Voted { .. })
    });
    let made = decided(&site, sent);
    let spared =
        |decision: &&Decision| outcome(decision, "faulty") == Some(&Outcome::Abstained(Abstention::Overload));
    let shed = made.iter().filter(spared).count();
    assert!(shed > EVENTS / 2, "{shed}");
    assert!(made.iter().filter(spared).all(|decision| decision.degraded));
    assert!(made.iter().all(|decision| matches!(outcome(decision, "rules"), Some(Outcome::Voted { .. }))));
    let page = score.get("/metrics").1;
    let line = format!("aegis_abstentions_total{{expert=\"faulty\",reason=\"overload\"}} {shed}");
    assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    assert!(page.lines().any(|found| found == "aegis_panel_shrunk 0"), "{page}");
    score.stop();
    site.verified();
}

/// A panel that is replaced still answers all its requests, also with the timeout of the expert that hangs.
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

/// Creates a site whose expert `stuck` cannot be stopped once it gets the text "hang", with a second expert without
/// faults.
fn stuck(prefix: &str, panel: &Folder, only: &str) -> Site {
    panel.classifier("stuck", &stuck_classifier()).classifier("well", &plain_classifier());
    let (folder, runtime) = (panel.path().display().to_string(), models().join("runtime/libonnxruntime.so"));
    let runtime = runtime.display().to_string();
    Site::with(
        prefix,
        &[
            INFO,
            ("experts.folder", &folder),
            ("experts.runtime", &runtime),
            ("experts.only", only),
            ("experts.sessions", "2"),
            ("experts.cache_mib", "0"),
            ("experts.timeout_ms", "1000"),
        ],
    )
}

/// Sends texts that hang until the expert is disabled. Returns their number. Each of them is decided all the same.
fn hang_until_disabled(site: &Site, score: &mut Process) -> usize {
    score.says(ASSIGNED);
    wait("readiness", || score.get("/readyz").0 == 200);
    let mut sent = 0;
    wait("the end of its trials", || {
        send(&site.connection, &[hang(site, sent)]);
        sent += 1;
        all_committed(site, i64::try_from(sent).unwrap());
        has(score, "aegis_expert_disabled{expert=\"stuck\"} 1")
    });
    assert!(score.log().matches("a worker hangs in a run that does not stop").count() >= 3);
    sent
}

/// Returns the number of events that waited for a run.
fn queued(score: &Process) -> String {
    let page = score.get("/metrics").1;
    page.lines().find(|line| line.starts_with("aegis_queue_seconds_count")).unwrap().to_owned()
}

fn has(score: &Process, line: &str) -> bool {
    score.get("/metrics").1.lines().any(|found| found == line)
}

/// Reloads the panel with SIGHUP and checks that the expert votes on texts that do not hang.
fn asked_again(site: &Site, score: &mut Process, sent: usize) {
    score.signal("HUP");
    wait("the expert", || has(score, "aegis_expert_disabled{expert=\"stuck\"} 0"));
    wait("readiness", || {
        score.get("/readyz?verbose").1.lines().any(|line| line == "[+] score: experts answering")
    });
    send(&site.connection, &[event_record(&site.topic("events"), &event(sent, "fine"))]);
    all_committed(site, i64::try_from(sent + 1).unwrap());
    let made = decided(site, sent + 1);
    assert!(
        matches!(outcome(of(&made, sent), "stuck"), Some(Outcome::Voted { score, .. }) if *score == 0.25)
    );
}

/// Each run that cannot be stopped costs a worker. The other expert keeps its own, the scorer stays ready, and a reload
/// of the panel enables the expert again.
#[test]
fn an_expert_that_cannot_be_stopped_is_disabled_beside_one_that_votes() {
    let panel = Folder::new();
    let site = stuck("disabled", &panel, "[\"stuck\", \"well\"]");
    let mut score = member(&site, "one", &[]);
    let mut sent = hang_until_disabled(&site, &mut score);
    let (status, page) = score.get("/readyz?verbose");
    assert_eq!(status, 200, "a dead expert is no dead panel: {page}");
    assert!(page.contains("[+] score: experts answering: stuck timed_out (disabled)"), "{page}");
    let first = sent;
    for text in ["hang", "bad", "fine", "hang"] {
        send(&site.connection, &[event_record(&site.topic("events"), &event(sent, text))]);
        sent += 1;
    }
    all_committed(&site, i64::try_from(sent).unwrap());
    let made = decided(&site, sent);
    for number in 0..sent {
        assert!(matches!(outcome(of(&made, number), "well"), Some(Outcome::Voted { .. })), "{number}");
    }
    for number in first..sent {
        let silent = Some(&Outcome::Abstained(Abstention::TimedOut));
        assert_eq!(outcome(of(&made, number), "stuck"), silent, "{number}");
    }
    asked_again(&site, &mut score, sent);
    score.stop();
    site.verified();
}

/// If no expert is left, the scorer is not ready, and no event waits for a vote.
#[test]
fn a_panel_of_disabled_experts_is_not_ready_and_keeps_nothing_waiting() {
    let panel = Folder::new();
    let site = stuck("dead", &panel, "[\"stuck\"]");
    let mut score = member(&site, "one", &[]);
    let first = hang_until_disabled(&site, &mut score);
    let (status, page) = score.get("/readyz");
    assert_eq!(status, 503);
    assert!(page.contains("[-] score: experts answering: stuck timed_out (disabled)"), "{page}");
    assert_eq!(score.get("/livez").0, 200);
    let sent = first + 30;
    let runs = queued(&score);
    send(&site.connection, &events(&site, first..sent));
    all_committed(&site, i64::try_from(sent).unwrap());
    for decision in decided(&site, sent) {
        assert_eq!(outcome(&decision, "stuck"), Some(&Outcome::Abstained(Abstention::TimedOut)));
    }
    assert_eq!(queued(&score), runs, "nothing is run for them");
    asked_again(&site, &mut score, sent);
    score.stop();
    site.verified();
}
