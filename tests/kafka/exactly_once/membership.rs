//! A member commits nothing for partitions that it does not have, or has no more.

use std::time::{Duration, Instant};

use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer as _};

use aegis::kafka::{CommitError, Connection, GroupProtocol, Outbox, Polled, Source, Start};

use super::{committed, consumed, everything, fill, named, once};
use crate::support::far::Far;
use crate::support::protocols::on_both;
use crate::support::{WAIT, kafka, make, read, record};

on_both!(
    partitions_given_up_are_committed_first,
    a_partition_that_was_paused_when_it_went_flows_when_it_is_back,
    a_member_that_lost_its_partitions_commits_nothing,
    a_member_without_a_network_commits_nothing_once_its_session_is_over,
    a_client_without_an_assignment_commits_nothing,
);

/// Brokers wait for a member that gives up partitions for `max.poll.interval.ms`, so its open unit can still be committed.
/// The embedded broker waits for its session only, which a busy machine can outlast.
fn partitions_given_up_are_committed_first(protocol: GroupProtocol) {
    let connection = kafka().connection_in(protocol);
    let [group, input, output] = ["given", "given.in", "given.out"].map(|name| named(protocol, name));
    make(&connection, &[(&input, 2, &[]), (&output, 1, &[])]);
    fill(&connection, &input, 2, 10);
    let mut outbox = Outbox::open(&connection, once(&group)).unwrap();
    let mut first = Source::subscribe(&connection, &group, &[&input], Start::Earliest).unwrap();
    let records = read(&mut first, 10);
    let mut second = Source::subscribe(&connection, &group, &[&input], Start::Earliest).unwrap();
    let until = Instant::now() + WAIT;
    let given = loop {
        assert!(Instant::now() < until, "no partition was revoked");
        second.poll(Duration::from_millis(20)).unwrap();
        if let Polled::Revoked { partitions, lost: false } = first.poll(Duration::from_millis(20)).unwrap() {
            break partitions;
        }
    };
    // The partition is announced as revoked and still held.
    assert_eq!((given.len(), first.assigned().len()), (1, 2));
    let mut done = consumed(&records);
    done.0.retain(|partition, _| given.contains(partition));
    outbox.commit(&[record(&output, 0, "1")], Some((first.membership(), &done))).unwrap();
    while second.assigned() != given {
        assert!(Instant::now() < until, "the second member has no partition");
        first.poll(Duration::from_millis(20)).unwrap();
        second.poll(Duration::from_millis(20)).unwrap();
    }
    assert_eq!(first.assigned().len(), 1);
    // The new member starts behind what was committed, and the first one commits nothing more of it.
    assert_eq!(committed(&second), 5);
    let refused = outbox.commit(&[], Some((first.membership(), &done)));
    assert!(matches!(refused, Err(CommitError::Stale { .. })), "{refused:?}");
}

/// The client keeps a partition paused, also while the partition is assigned to another member.
fn a_partition_that_was_paused_when_it_went_flows_when_it_is_back(protocol: GroupProtocol) {
    let connection = kafka().connection_in(protocol);
    let [group, input] = ["back", "back.in"].map(|name| named(protocol, name));
    make(&connection, &[(&input, 2, &[])]);
    fill(&connection, &input, 2, 10);
    let member = || Source::subscribe(&connection, &group, &[&input], Start::Earliest).unwrap();
    let mut one = member();
    read(&mut one, 10);
    one.pause().unwrap();
    let mut two = member();
    let until = Instant::now() + WAIT;
    while two.assigned().is_empty() {
        assert!(Instant::now() < until, "the second member has no partition");
        one.poll(Duration::from_millis(50)).unwrap();
        two.poll(Duration::from_millis(50)).unwrap();
    }
    assert_eq!(one.assigned().len(), 1);
    one.resume().unwrap();
    two.close(WAIT);
    // Nothing was committed, so the returned partition is read from its beginning.
    assert_eq!(read(&mut one, 5).len(), 5);
}

fn a_member_that_lost_its_partitions_commits_nothing(protocol: GroupProtocol) {
    let connection = kafka().connection_in(protocol);
    let [group, input, output] = ["lost", "lost.in", "lost.out"].map(|name| named(protocol, name));
    make(&connection, &[(&input, 1, &[]), (&output, 1, &[])]);
    fill(&connection, &input, 1, 10);
    let mut patient = connection.clone();
    if protocol == GroupProtocol::Classic {
        patient.settings.insert("session.timeout.ms".into(), "2000".into());
    }
    patient.settings.insert("max.poll.interval.ms".into(), "2000".into());
    let mut old_box = Outbox::open(&connection, once(&named(protocol, "lost-old"))).unwrap();
    let mut old = Source::subscribe(&patient, &group, &[&input], Start::Earliest).unwrap();
    let records = read(&mut old, 10);
    // The member does not poll for too long while it processes the records, so another member gets them.
    let mut new = Source::subscribe(&connection, &group, &[&input], Start::Earliest).unwrap();
    let again = read(&mut new, 10);
    assert_eq!(records, again);
    let stale = old_box.commit(&[record(&output, 0, "never")], Some((old.membership(), &consumed(&records))));
    assert!(matches!(stale, Err(CommitError::Stale { .. })), "{stale:?}");
    let mut new_box = Outbox::open(&connection, once(&named(protocol, "lost-new"))).unwrap();
    new_box.commit(&[record(&output, 0, "1")], Some((new.membership(), &consumed(&again)))).unwrap();
    assert_eq!((committed(&new), everything(&connection, &output).len()), (10, 1));
    // The member is notified at its next poll.
    let until = Instant::now() + WAIT;
    loop {
        assert!(Instant::now() < until);
        if let Polled::Revoked { lost, .. } = old.poll(Duration::from_millis(100)).unwrap() {
            assert!(lost);
            break;
        }
    }
}

/// The broker no longer hears from the member, while its producer still works. Under the classic protocol the client
/// itself ends its session. Under the other it believes that the partition is its own, until a heartbeat is answered: the
/// broker refuses its offsets because of their epoch.
fn a_member_without_a_network_commits_nothing_once_its_session_is_over(protocol: GroupProtocol) {
    let far = Far::start();
    let connection = far.kafka.connection_in(protocol);
    make(&connection, &[("cut.in", 1, &[]), ("cut.out", 1, &[])]);
    fill(&connection, "cut.in", 1, 10);
    let mut away = Connection { brokers: far.bootstrap(), ..connection.clone() };
    if protocol == GroupProtocol::Classic {
        away.settings.insert("session.timeout.ms".into(), "3000".into());
    }
    let mut old_box = Outbox::open(&connection, once("cut-old")).unwrap();
    let mut old = Source::subscribe(&away, "cut", &["cut.in"], Start::Earliest).unwrap();
    let records = read(&mut old, 10);
    let mut transaction = old_box.transaction();
    // All answers to the member now arrive after this test.
    far.proxy.set_round_trip(Duration::from_secs(3_600));
    let mut new = Source::subscribe(&connection, "cut", &["cut.in"], Start::Earliest).unwrap();
    let again = read(&mut new, 10);
    assert_eq!(records, again);
    transaction.send(&[record("cut.out", 0, "never")]).unwrap();
    let stale = transaction.commit(Some((old.membership(), &consumed(&records)))).unwrap_err();
    assert!(matches!(stale, CommitError::Stale { .. }), "{stale:?}");
    if protocol == GroupProtocol::Consumer {
        assert_eq!(old.assigned().len(), 1, "the member does not know yet");
        assert!(stale.to_string().contains("the group has moved on at offsets"), "{stale}");
    }
    let mut new_box = Outbox::open(&connection, once("cut-new")).unwrap();
    new_box.commit(&[record("cut.out", 0, "1")], Some((new.membership(), &consumed(&again)))).unwrap();
    assert_eq!((committed(&new), everything(&connection, "cut.out").len()), (10, 1));
    // It cannot leave its group over this network.
    old.close(Duration::from_millis(1));
}

/// In a transaction, brokers accept offsets for a group with live members even from a client without a membership.
/// Therefore the check of the client itself must come first.
fn a_client_without_an_assignment_commits_nothing(protocol: GroupProtocol) {
    let connection = kafka().connection_in(protocol);
    let [group, input] = ["early", "early.in"].map(|name| named(protocol, name));
    make(&connection, &[(&input, 1, &[])]);
    fill(&connection, &input, 1, 10);
    let mut member = Source::subscribe(&connection, &group, &[&input], Start::Earliest).unwrap();
    let done = consumed(&read(&mut member, 10));
    let early = Source::subscribe(&connection, &group, &[&input], Start::Earliest).unwrap();
    let mut outbox = Outbox::open(&connection, once(&group)).unwrap();
    match outbox.commit(&[], Some((early.membership(), &done))) {
        Err(CommitError::Stale { reason, .. }) if reason.contains("no longer assigned to this member") => {}
        other => panic!("{other:?}"),
    }
    assert_eq!(committed(&member), 0);
}

/// Returns the state of a group and the number of its members.
fn described(connection: &Connection, group: &str) -> (String, usize) {
    let client: BaseConsumer =
        ClientConfig::new().set("bootstrap.servers", &connection.brokers).create().unwrap();
    let groups = client.fetch_group_list(Some(group), WAIT).unwrap();
    groups
        .groups()
        .first()
        .map_or_else(Default::default, |group| (group.state().to_owned(), group.members().len()))
}

/// The brokers would otherwise wait for the end of its session, and an answer that comes after the close ends the process
/// with SIGSEGV.
#[test]
fn a_member_without_partitions_leaves_at_once() {
    let connection = kafka().connection();
    make(&connection, &[("spare", 1, &[])]);
    let member = || Source::subscribe(&connection, "spare", &["spare"], Start::Earliest).unwrap();
    let mut both = [member(), member()];
    let until = Instant::now() + WAIT;
    let poll = |source: &mut Source| drop(source.poll(Duration::from_millis(50)).unwrap());
    while described(&connection, "spare") != ("Stable".to_owned(), 2)
        || both.iter().all(|one| one.assigned().is_empty())
    {
        assert!(Instant::now() < until, "no member has the partition");
        both.iter_mut().for_each(poll);
    }
    let (mut active, spare): (Vec<_>, Vec<_>) = both.into_iter().partition(|one| !one.assigned().is_empty());
    assert_eq!(spare.len(), 1);
    drop(spare);
    assert_eq!(described(&connection, "spare").1, 1);
    active.iter_mut().for_each(poll);
    drop(active);
    assert_eq!(described(&connection, "spare").1, 0);
}
