//! Measures how long decisions pause when one of three scorers is killed, under both protocols of groups.

use std::time::{Duration, Instant};

use aegis::kafka::GroupProtocol::{self, Classic, Consumer};
use aegis::kafka::{Delivery, Followed, Follower, From, Outbox, Produced};

use crate::broker::support::Kafka;
use crate::broker::{Site, padded, record};
use crate::process::Process;
use crate::shown;

/// The number of partitions, of which each scorer has a third.
const PARTITIONS: usize = 9;
/// The pause between two groups of events, each with one event for each partition.
const TICK: Duration = Duration::from_millis(50);
/// The time for which all three scorers decide before one is killed, and after all partitions are decided again.
const CALM: Duration = Duration::from_secs(4);
/// The longest wait for decisions of all partitions.
const LIMIT: Duration = Duration::from_secs(120);

/// The protocols, with the session time-outs that the brokers set under the second, in seconds. That of the first is
/// Aegis's own. 45 seconds are the brokers' default.
const CASES: [(GroupProtocol, u32); 3] = [(Classic, 6), (Consumer, 6), (Consumer, 45)];

/// The longest pauses between two decisions of a partition after a kill, in seconds.
struct Pauses {
    /// The longest pause of the killed scorer's partitions.
    killed: f64,
    /// The longest pause of the other scorers' partitions.
    others: f64,
}

/// Runs all cases in each round.
pub fn run(rounds: usize) {
    println!(
        "\nRebalance: three scorers on {PARTITIONS} partitions, one killed with SIGKILL; {rounds} rounds, interleaved"
    );
    let brokers = CASES.map(|(_, session)| start(session));
    let mut found: Vec<Vec<Pauses>> = CASES.iter().map(|_| Vec::new()).collect();
    for round in 0..rounds {
        for (((protocol, _), broker), found) in CASES.iter().zip(&brokers).zip(&mut found) {
            found.push(measure(broker, *protocol, round));
        }
    }
    for ((protocol, session), pauses) in CASES.iter().zip(found) {
        let of = |pause: fn(&Pauses) -> f64| shown(pauses.iter().map(pause).collect(), 1);
        println!(
            "{:<8} session time-out {session:>2} s: {} s for the killed scorer's partitions, {} s for the others",
            protocol.name(),
            of(|pauses| pauses.killed),
            of(|pauses| pauses.others)
        );
    }
}

/// Starts a broker with this session time-out for the consumer protocol, in seconds.
fn start(session: u32) -> Kafka {
    let settings = format!(
        "group.consumer.session.timeout.ms={session}000\ngroup.consumer.heartbeat.interval.ms=2000\n\
         group.consumer.max.session.timeout.ms=60000\n"
    );
    Kafka::secured(|_, _| settings, "")
}

/// Kills one of three scorers while events arrive at a steady rate.
fn measure(broker: &Kafka, protocol: GroupProtocol, round: usize) -> Pauses {
    let prefix = format!("flow.rebalance.{}.{round}", protocol.name());
    let site = Site::without_models_on(&broker.bootstrap(), PARTITIONS, &prefix);
    let start = |member: usize| {
        let settings =
            [format!("score.member=scorer-{member}"), format!("kafka.group_protocol={}", protocol.name())];
        site.start_with("score", &settings.each_ref().map(String::as_str))
    };
    let mut scorers: Vec<Process> = (0..3).map(start).collect();
    for scorer in &mut scorers {
        scorer.tells(|page| page.contains("[+] score: partitions assigned"));
    }
    let mut stream = Stream::open(broker, &site);
    stream.decide();
    stream.go_on(CALM);
    scorers.remove(0).kill();
    stream.forget();
    stream.decide();
    stream.go_on(CALM);
    scorers.into_iter().for_each(Process::kill);
    stream.pauses()
}

/// Events of all partitions at a steady rate, and their decisions.
struct Stream {
    outbox: Outbox,
    follower: Follower,
    events: String,
    /// The number of groups that were sent.
    sent: usize,
    /// When the last decision of each partition was read.
    last: [Instant; PARTITIONS],
    /// The longest time between two decisions of each partition, in seconds.
    longest: [f64; PARTITIONS],
    /// The number of decisions of each partition.
    decided: [usize; PARTITIONS],
}

impl Stream {
    fn open(broker: &Kafka, site: &Site) -> Self {
        let connection = broker.connection();
        Self {
            outbox: Outbox::open(&connection, Delivery::AtLeastOnce).expect("a producer"),
            follower: Follower::open(&connection, &site.topic("decisions"), &From::Beginning, LIMIT)
                .expect("a reader"),
            events: site.topic("events"),
            sent: 0,
            last: [Instant::now(); PARTITIONS],
            longest: [0.0; PARTITIONS],
            decided: [0; PARTITIONS],
        }
    }

    /// Forgets the pauses so far.
    fn forget(&mut self) {
        self.longest = [0.0; PARTITIONS];
    }

    /// Sends one group of events, and reads decisions until the next is due.
    fn tick(&mut self) {
        let due = Instant::now() + TICK;
        let group = (0..PARTITIONS).map(|partition| Produced {
            partition: i32::try_from(partition).ok(),
            ..record(&self.events, &padded(self.sent * PARTITIONS + partition))
        });
        self.outbox.commit(&group.collect::<Vec<_>>(), None).expect("records are taken");
        self.sent += 1;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            match self.follower.poll(left).expect("a decision") {
                Followed::Record(record) => {
                    let partition = usize::try_from(record.partition).expect("a partition");
                    let pause = self.last[partition].elapsed().as_secs_f64();
                    self.longest[partition] = self.longest[partition].max(pause);
                    self.last[partition] = Instant::now();
                    self.decided[partition] += 1;
                }
                _ if left.is_zero() => return,
                _ => {}
            }
        }
    }

    fn go_on(&mut self, time: Duration) {
        let until = Instant::now() + time;
        while Instant::now() < until {
            self.tick();
        }
    }

    /// Goes on until each partition has a decision of an event that is sent from now on.
    fn decide(&mut self) {
        let (until, sent) = (Instant::now() + LIMIT, self.sent);
        while self.decided.iter().any(|decided| *decided <= sent) {
            assert!(Instant::now() < until, "decisions so far, by partition: {:?}", self.decided);
            self.tick();
        }
    }

    /// Returns the longest pauses. Those of the killed scorer's partitions, a third of all, are the longest.
    fn pauses(mut self) -> Pauses {
        self.longest.sort_by(|a, b| b.total_cmp(a));
        Pauses { killed: self.longest[0], others: self.longest[PARTITIONS / 3] }
    }
}
