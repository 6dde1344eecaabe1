//! The scenario of Kafka's own transactional copier: three scorers of one group on nine partitions are killed with
//! SIGKILL and stopped in turn, and their Apache Kafka is killed twice. A reader of committed records beside them never
//! reads a duplicate or a break of order, and misses nothing in the end.
//!
//! `AEGIS_COPIER_EVENTS` sets the number of events (10,000). `make soak` uses 100,000.

use crate::support;

use std::collections::{BTreeMap, HashMap};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use aegis::codec;
use aegis::kafka::{Connection, Followed, Follower, From};
use support::flow::{event, event_record, send};
use support::site::{Process, Site};
use support::{Kafka, WAIT};

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

fn start(site: &Site, member: usize) -> Process {
    site.start_with("score", &["--set", MEMBERS[member]], &[])
}

/// Sends SIGTERM and checks that the process ends without an error.
fn stop(member: &mut Process) {
    member.signal("TERM");
    let status = member.end();
    assert!(status.success(), "{status}\n{}", member.log());
}

#[test]
fn members_and_broker_die_in_rotation_and_nothing_is_lost_doubled_or_swapped() {
    let total: usize = std::env::var("AEGIS_COPIER_EVENTS").map_or(10_000, |said| said.parse().unwrap());
    let began = Instant::now();
    let mut kafka = Kafka::start();
    let site = Site::on(&kafka, "copier", PARTITIONS, &[("score.commit_records", "100")]);
    let mut members: Vec<_> = (0..MEMBERS.len()).map(|member| start(&site, member)).collect();

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
        let step = total.div_ceil(FAULTS.len());
        for (number, fault) in FAULTS.into_iter().enumerate() {
            let numbers = number * step..total.min((number + 1) * step);
            let before = numbers.start;
            let records: Vec<_> =
                numbers.map(|number| event_record(&site.topic("events"), &event(number, "hello"))).collect();
            send(&site.connection, &records);
            // The fault is caused when a quarter of these events is decided.
            wait(&mut members, before + records.len() / 4);
            match fault {
                Fault::Kill(member) => {
                    members[member].signal("KILL");
                    members[member].end();
                    members[member] = start(&site, member);
                }
                Fault::Stop(member) => {
                    stop(&mut members[member]);
                    members[member] = start(&site, member);
                }
                Fault::Broker => {
                    kafka.kill();
                    kafka.restart();
                }
            }
            println!("{:?}: {fault:?} at {} decisions", began.elapsed(), count.load(Ordering::Acquire));
        }
        wait(&mut members, total);
        for member in &mut members {
            stop(member);
        }
        drop(ends);
        reader.join().unwrap();
    });
    let seen = seen.into_inner().unwrap();
    assert!(seen.events.iter().all(|decided| *decided), "each event has its decision");
    assert_eq!(count.into_inner(), total);
    assert_eq!(seen.places.len(), PARTITIONS as usize, "every partition had events");
    assert_eq!(site.committed("score", "events"), i64::try_from(total).unwrap());
    site.verified();
    println!("{total} events, {} faults in {:?}", FAULTS.len(), began.elapsed());
}
