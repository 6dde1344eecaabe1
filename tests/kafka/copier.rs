//! The scenario of Kafka's own transactional copier: three scorers of one group on nine partitions are killed with
//! SIGKILL and stopped in turn, and their Apache Kafka is killed twice. A reader of committed records beside them never
//! reads a duplicate or a break of order, and misses nothing in the end. The same holds if members change the protocol of
//! their group one by one.
//!
//! `AEGIS_COPIER_EVENTS` sets the number of events (10,000; 6,000 under the consumer protocol, and 4,000 for the change of
//! protocols). `make soak` uses 100,000.

use crate::support;

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aegis::codec;
use aegis::kafka::GroupProtocol::{self, Classic, Consumer};
use aegis::kafka::{Connection, Followed, Follower, From};
use support::flow::{event, event_record, send};
use support::protocols::on_both;
use support::site::{Process, Site};
use support::{Kafka, WAIT};

on_both!(members_and_broker_die_in_rotation_and_nothing_is_lost_doubled_or_swapped);

const PARTITIONS: i32 = 9;
const MEMBERS: [&str; 3] = ["score.member=one", "score.member=two", "score.member=three"];

/// A fault that is caused while events wait.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// This member is killed with SIGKILL, and started again.
    Kill(usize),
    /// This member is stopped, and started again.
    Stop(usize),
    /// The broker is killed with SIGKILL, and started again.
    Broker,
    /// This member is stopped, and started again with another protocol of its group.
    Change(usize, GroupProtocol),
}

const FAULTS: [Fault; 8] = [
    Fault::Kill(0),
    Fault::Stop(1),
    Fault::Broker,
    Fault::Kill(2),
    Fault::Stop(0),
    Fault::Broker,
    Fault::Kill(1),
    Fault::Stop(2),
];

/// A group of the classic protocol takes the other one, member by member, and goes back. Both kinds of members are killed
/// while the group has both.
const CHANGES: [Fault; 8] = [
    Fault::Change(0, Consumer),
    Fault::Kill(1),
    Fault::Change(1, Consumer),
    Fault::Change(2, Consumer),
    Fault::Change(0, Classic),
    Fault::Kill(2),
    Fault::Change(1, Classic),
    Fault::Change(2, Classic),
];

/// The state of the reader, which panics when a guarantee is broken.
#[derive(Default)]
struct Seen {
    /// `true` for each decided event, by number.
    events: Vec<bool>,
    /// The offset of the last decided event, by partition of the decisions.
    places: HashMap<i32, i64>,
    /// The number of the last event, by conversation.
    keys: BTreeMap<String, usize>,
}

impl Seen {
    fn meet(&mut self, partition: i32, payload: &[u8]) {
        let decision = codec::decode_decision(payload).unwrap();
        let origin = (decision.origin.partition, decision.origin.offset);
        assert_eq!(partition, origin.0, "a decision lies where its event lay");
        let before = self.places.insert(partition, origin.1);
        assert!(before < Some(origin.1), "partition {partition}: {} comes after {before:?}", origin.1);
        let number: usize = decision.id.event[1..].parse().unwrap();
        assert!(!std::mem::replace(&mut self.events[number], true), "event {number} is decided twice");
        let before = self.keys.insert(event(number, "").conversation, number);
        assert!(before < Some(number), "event {number} comes after {before:?} of its conversation");
    }
}

/// Reads decisions until `over` is set, and then up to the end of the topic.
fn follow(connection: &Connection, topic: &str, seen: &Mutex<Seen>, count: &AtomicUsize, over: &AtomicBool) {
    let mut follower = Follower::open(connection, topic, &From::Beginning, WAIT).unwrap();
    loop {
        let last = over.load(Ordering::Acquire);
        match follower.poll(Duration::from_millis(100)).unwrap() {
            Followed::Record(record) => {
                seen.lock().unwrap().meet(record.partition, record.payload.as_deref().unwrap());
                count.fetch_add(1, Ordering::Release);
            }
            Followed::Skipped { .. } => panic!("decisions are gone from {topic}"),
            Followed::End => {}
            Followed::Idle if last => return,
            Followed::Idle => {}
        }
    }
}

/// Ends the reader when the test ends, also if it fails.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Release);
    }
}

/// The members of the group, each with its protocol.
struct Members<'a> {
    site: &'a Site,
    processes: Vec<Process>,
    protocols: [GroupProtocol; 3],
}

impl<'a> Members<'a> {
    fn start(site: &'a Site, protocol: GroupProtocol) -> Self {
        let protocols = [protocol; 3];
        let processes = (0..3).map(|member| start(site, member, protocol)).collect();
        Self { site, processes, protocols }
    }

    /// Starts a member again that has ended.
    fn restart(&mut self, member: usize) {
        self.processes[member] = start(self.site, member, self.protocols[member]);
    }

    /// Sends SIGTERM and checks that the process ends without an error.
    fn stop(&mut self, member: usize) {
        let process = &mut self.processes[member];
        process.signal("TERM");
        let status = process.end();
        assert!(status.success(), "{status}\n{}", process.log());
    }

    fn cause(&mut self, fault: Fault, kafka: &mut Kafka) {
        match fault {
            Fault::Kill(member) => {
                self.processes[member].signal("KILL");
                self.processes[member].end();
                self.restart(member);
            }
            Fault::Stop(member) => {
                self.stop(member);
                self.restart(member);
            }
            Fault::Change(member, protocol) => {
                self.stop(member);
                self.protocols[member] = protocol;
                self.restart(member);
            }
            Fault::Broker => {
                kafka.kill();
                kafka.restart();
            }
        }
    }
}

fn start(site: &Site, member: usize, protocol: GroupProtocol) -> Process {
    let protocol = format!("kafka.group_protocol={}", protocol.name());
    site.start_with("score", &["--set", MEMBERS[member], "--set", &protocol], &[])
}

fn members_and_broker_die_in_rotation_and_nothing_is_lost_doubled_or_swapped(protocol: GroupProtocol) {
    let total = if protocol == Classic { 10_000 } else { 6_000 };
    rotate(&format!("copier.{}", protocol.name()), total, protocol, &FAULTS);
}

#[test]
fn members_change_their_protocol_one_by_one_and_nothing_is_lost_doubled_or_swapped() {
    rotate("copier.change", 4_000, Classic, &CHANGES);
}

/// Lets three members decide events, and causes each fault when a part of them is decided.
fn rotate(prefix: &str, total: usize, protocol: GroupProtocol, faults: &[Fault]) {
    let total = std::env::var("AEGIS_COPIER_EVENTS").map_or(total, |said| said.parse().unwrap());
    let began = Instant::now();
    let mut kafka = Kafka::start();
    let site = Site::on(&kafka, prefix, PARTITIONS, &[("score.commit_records", "100")]);
    let mut members = Members::start(&site, protocol);

    let seen = Mutex::new(Seen { events: vec![false; total], ..Seen::default() });
    let (count, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let topic = site.topic("decisions");
    thread::scope(|scope| {
        let ends = Over(&over);
        let reader = scope.spawn(|| follow(&site.connection, &topic, &seen, &count, &over));
        let wait = |members: &mut [Process], events: usize| {
            let until = Instant::now() + 4 * WAIT + Duration::from_millis(total as u64 * 2);
            while count.load(Ordering::Acquire) < events {
                assert!(!reader.is_finished(), "the reader has met what must not be: see above");
                for member in members.iter_mut() {
                    let status = member.ended();
                    assert!(status.is_none(), "a member ended by itself: {status:?}\n{}", member.log());
                }
                let met = count.load(Ordering::Acquire);
                assert!(Instant::now() < until, "{met} of {events} decisions came");
                thread::sleep(Duration::from_millis(5)); // the reader blocks on the brokers only
            }
        };
        let step = total.div_ceil(faults.len());
        for (number, fault) in faults.iter().enumerate() {
            let numbers = number * step..total.min((number + 1) * step);
            let before = numbers.start;
            let records: Vec<_> =
                numbers.map(|number| event_record(&site.topic("events"), &event(number, "hello"))).collect();
            send(&site.connection, &records);
            // The fault is caused when a quarter of these events is decided.
            wait(&mut members.processes, before + records.len() / 4);
            members.cause(*fault, &mut kafka);
            println!("{:?}: {fault:?} at {} decisions", began.elapsed(), count.load(Ordering::Acquire));
        }
        wait(&mut members.processes, total);
        (0..MEMBERS.len()).for_each(|member| members.stop(member));
        drop(ends);
        reader.join().unwrap();
    });
    let seen = seen.into_inner().unwrap();
    assert!(seen.events.iter().all(|decided| *decided), "each event has its decision");
    assert_eq!(count.into_inner(), total);
    assert_eq!(seen.places.len(), PARTITIONS as usize, "every partition had events");
    assert_eq!(site.committed("score", "events"), i64::try_from(total).unwrap());
    site.verified();
    println!("{total} events, {} faults in {:?}", faults.len(), began.elapsed());
}
