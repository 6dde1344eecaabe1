//! Exactly-once on a real Apache Kafka: outputs and consumed offsets are one transaction, whichever process is killed.

mod killed;
mod membership;
mod transactions;

use std::time::{Duration, Instant};

use aegis::kafka::{
    Connection, Consumed, Delivery, Followed, Follower, From, GroupProtocol, Offsets, Outbox, Source,
};

use crate::support::{WAIT, record};

/// Returns a name of a topic, a group or a transactional id of one of the two runs of a test.
pub fn named(protocol: GroupProtocol, name: &str) -> String {
    format!("{}.{name}", protocol.name())
}

pub fn once(id: &str) -> Delivery {
    Delivery::ExactlyOnce { transactional_id: id.into(), timeout: Duration::from_secs(4) }
}

pub fn fill(connection: &Connection, topic: &str, partitions: i32, count: i32) {
    let sent: Vec<_> =
        (0..count).map(|number| record(topic, number % partitions, format!("{number}"))).collect();
    Outbox::open(connection, Delivery::AtLeastOnce).unwrap().commit(&sent, None).unwrap();
}

pub fn consumed(records: &[Consumed]) -> Offsets {
    records.iter().map(|one| ((one.topic.clone(), one.partition), one.offset + 1)).collect()
}

/// Returns all committed records of a topic.
pub fn everything(connection: &Connection, topic: &str) -> Vec<Consumed> {
    let until = Instant::now() + WAIT;
    let mut follower = Follower::open(connection, topic, &From::Beginning, WAIT).unwrap();
    let mut all = Vec::new();
    loop {
        assert!(Instant::now() < until);
        match follower.poll(Duration::from_millis(100)).unwrap() {
            Followed::Record(record) => all.push(record),
            Followed::End => return all,
            _ => {}
        }
    }
}

pub fn committed(source: &Source) -> i64 {
    source.committed(WAIT).unwrap().iter().filter_map(|(_, next)| *next).sum()
}
