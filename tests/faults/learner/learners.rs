//! Two learners on the same topics.

use std::time::Duration;

use aegis::kafka::{Delivery, GroupProtocol, Outbox};

use super::support::protocols::on_both;
use super::support::site::Process;
use super::{Site, about, decide, events, learned, learner, send_labels, wait, written_once};

on_both!(
    of_two_started_together_one_is_active,
    one_that_outlived_its_transaction_stands_for_election_again,
    one_that_hung_in_a_commit_stands_by,
);

const INFO: [(&str, &str); 1] = [("log.level", "info")];
const ACTIVE: &str = "this learner is active";
/// The error of a learner that was fenced.
const FENCED: &str = "another instance has taken over";
/// The log message of a learner whose transaction was open for too long.
const OUTLIVED: &str = "another may be active by now: this one stands for election again";
/// The log message of a learner that lost the election before it had anything to commit.
const SUPERSEDED: &str = "another learner is active now; this one stands by";

/// Returns a site whose learners stand for election in this protocol.
fn site(name: &str, protocol: GroupProtocol) -> Site {
    let protocol = protocol.name();
    Site::with(&format!("{name}.{protocol}"), &[INFO[0], ("kafka.group_protocol", protocol)])
}

fn of_two_started_together_one_is_active(protocol: GroupProtocol) {
    const ROUNDS: usize = 10;
    const LABELS: usize = 6;
    let site = site("together", protocol);
    decide(&site, &events(ROUNDS * LABELS));
    for round in 0..ROUNDS {
        let two = [learner(&site, "one", &[]), learner(&site, "two", &[])];
        send_labels(&site, (round * LABELS..(round + 1) * LABELS).map(about));
        site.published(((round + 1) * LABELS) as u64, 0);
        let active = two.iter().filter(|process| process.log().contains(ACTIVE)).count();
        assert_eq!(active, 1, "round {round}");
        two.into_iter().for_each(Process::stop);
    }
    learned(&site, ROUNDS * LABELS);
    written_once(&site, ROUNDS * LABELS);
}

/// The transactional id of a learner is taken over within its transaction. It writes nothing more and ends with an
/// error.
#[test]
fn one_that_was_fenced_ends_with_a_clear_word() {
    // With a long session timeout the pause is not taken for an expired transaction.
    let settings = [INFO[0], ("kafka.settings.session_timeout_ms", "60000")];
    let site = Site::with("fenced", &settings);
    decide(&site, &events(40));
    let mut old = learner(&site, "old", &[("AEGIS_HOLD_AT", "unit.sent:2")]);
    send_labels(&site, (0..20).map(about));
    old.says("holding still at unit.sent");
    let id =
        Delivery::ExactlyOnce { transactional_id: "fenced.learn".into(), timeout: Duration::from_secs(5) };
    drop(Outbox::open(&site.connection, id).unwrap());

    old.signal("CONT");
    let status = old.end();
    assert_eq!(status.code(), Some(69), "{status}\n{}", old.log());
    assert!(old.log().contains(FENCED), "{}", old.log());
    let new = learner(&site, "new", &[]);
    send_labels(&site, (20..40).map(about));
    learned(&site, 40);
    written_once(&site, 40);
    new.stop();
}

/// A learner is stopped within its transaction, which expires, and another takes over. When the first continues, it
/// writes nothing, and stands for election before it could take the id back.
fn one_that_outlived_its_transaction_stands_for_election_again(protocol: GroupProtocol) {
    let site = site("outlived", protocol);
    decide(&site, &events(40));
    let mut old = learner(&site, "old", &[("AEGIS_HOLD_AT", "unit.sent:2")]);
    send_labels(&site, (0..20).map(about));
    old.says("holding still at unit.sent");
    let mut new = learner(&site, "new", &[]);
    new.says(ACTIVE);
    learned(&site, 20);

    old.signal("CONT");
    old.says(OUTLIVED);
    send_labels(&site, (20..40).map(about));
    learned(&site, 40);
    written_once(&site, 40);
    assert_eq!(old.log().matches(ACTIVE).count(), 1, "{}", old.log());
    new.stop();
    wait("the election of the remaining learner", || old.log().matches(ACTIVE).count() == 2);
    old.stop();
}

/// A learner is stopped for longer than a commit may take. It must not take the transactional id back to learn the
/// outcome of the commit, but stand by and leave the new learner alone. Whether the brokers' refusal of the commit still
/// arrives before its time-out depends on the machine: the learner then stands for election again at once.
fn one_that_hung_in_a_commit_stands_by(protocol: GroupProtocol) {
    let site = site("hung", protocol);
    decide(&site, &events(40));
    let mut old = learner(&site, "old", &[("AEGIS_HOLD_AT", "unit.offsets")]);
    send_labels(&site, (0..20).map(about));
    old.says("holding still at unit.offsets");
    let mut new = learner(&site, "new", &[]);
    new.says(ACTIVE);
    learned(&site, 20);

    old.signal("CONT");
    old.says_one_of(&[SUPERSEDED, OUTLIVED]);
    send_labels(&site, (20..40).map(about));
    learned(&site, 40);
    written_once(&site, 40);
    assert_eq!(old.log().matches(ACTIVE).count(), 1, "{}", old.log());
    new.stop();
    old.stop();
}

/// A learner loses the election while it restores. It writes nothing.
#[test]
fn a_rebalance_during_restore_leaves_one_learner() {
    let site = Site::with("restore", &INFO);
    decide(&site, &events(40));
    let first = learner(&site, "old", &[]);
    send_labels(&site, (0..10).map(about));
    site.published(10, 0);
    first.stop();
    let mut old = learner(&site, "old", &[("AEGIS_HOLD_AT", "learn.restored")]);
    old.says("holding still at learn.restored");
    send_labels(&site, (10..20).map(about));
    let mut new = learner(&site, "new", &[]);
    new.says(ACTIVE);
    learned(&site, 20);

    old.signal("CONT");
    wait("the end of the replaced learner", || {
        let log = old.log();
        log.contains(SUPERSEDED) || (log.contains(FENCED) && old.ended().is_some())
    });
    send_labels(&site, (20..40).map(about));
    learned(&site, 40);
    written_once(&site, 40);
    new.stop();
}
