//! Measures moderation over HTTP with the bundled panel, one session, without the cache: requests one by one, at half
//! load, and beside a stream that has a backlog. `cargo bench --bench http`; the tables are in docs/benchmarks.md.
//!
//! The load at half load is an open loop: each request has a time at which it is due, and its latency counts from then. Its
//! median is compared with a batch's own time at the same rate: that of requests which never wait for another one.

#[path = "../tests/support/mod.rs"]
mod support;

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use aegis::config::{Config, Policies, Secret, topic_specs};
use aegis::experts::{Panel, PanelConfig};
use aegis::kafka::embedded::Embedded;
use aegis::kafka::{Connection, Delivery, Followed, Follower, From};
use aegis::ops::{Health, Shutdown, StopReason};
use aegis::score::{PanelHandle, Score};
use aegis::serve::Moderation;
use support::flow::{event, event_record, send};
use support::free_port;
use support::site::wait;

/// The requests of a measurement.
const REQUESTS: usize = 400;
/// The clients of the closed loop, by which the capacity is measured.
const CLIENTS: usize = 8;
/// The clients that ask for more than the panel can do.
const MANY_CLIENTS: usize = 64;
/// The head starts of requests that are measured, in milliseconds.
const HEAD_STARTS: [u64; 2] = [5_000, 1_000];
/// The time for which the stream is measured alone.
const ALONE: Duration = Duration::from_secs(10);
/// The clients of the open loop: more than are ever waiting.
const OPEN_CLIENTS: usize = 48;
/// The comparisons of half load with a batch's own time.
const ROUNDS: usize = 3;
/// The events of a backlog.
const BACKLOG: usize = 8_000;

/// A scorer and a server in this process, on an embedded broker.
struct World {
    address: SocketAddr,
    connection: Connection,
    config: Arc<Config>,
    shutdown: Shutdown,
    roles: Vec<JoinHandle<()>>,
    _broker: Embedded,
}

impl World {
    fn start(panel: &Arc<Panel>, head_start_ms: u64) -> Self {
        let mut config = Config::default();
        config.http.moderation.record_key = Secret::new("a secret that servers and scorers share");
        config.http.moderation.head_start_ms = head_start_ms;
        config.http.moderation.deadline_ms = 120_000;
        let specs = topic_specs(&config, 1);
        let names: Vec<_> = specs.iter().map(|spec| (spec.name.as_str(), spec.partitions)).collect();
        let broker = Embedded::start(&names).expect("a broker");
        let connection = Connection::new(broker.bootstrap());
        let (config, shutdown) = (Arc::new(config), Shutdown::new());
        let handle = PanelHandle::in_force(Arc::clone(panel), &aegis::config::Experts::default());
        let policies: aegis::config::Live = Arc::new(Policies::default()).into();
        let score = || Score {
            config: Arc::clone(&config),
            policies: policies.clone(),
            panel: handle.clone(),
            connection: connection.clone(),
            delivery: Delivery::AtLeastOnce,
            health: Health::default(),
            shutdown: shutdown.clone(),
        };
        let address: SocketAddr = ([127, 0, 0, 1], free_port()).into();
        let (scorer, server) = (score(), Moderation { score: score(), address });
        let roles = vec![
            thread::spawn(move || scorer.run().expect("it scores")),
            thread::spawn(move || server.run().expect("it serves")),
        ];
        wait("the moderation API", || TcpStream::connect(address).is_ok());
        Self { address, connection, config, shutdown, roles, _broker: broker }
    }

    /// Adds events to the backlog.
    fn fill(&self, texts: &[String]) {
        let record = |number: usize| {
            let text = format!("{number} {}", texts[number % texts.len()]); // equal texts would share runs
            event_record(&self.config.topics.events, &event(number, &text))
        };
        for numbers in (0..BACKLOG).collect::<Vec<_>>().chunks(500) {
            send(&self.connection, &numbers.iter().map(|number| record(*number)).collect::<Vec<_>>());
        }
    }

    /// Returns the number of decisions of the stream so far.
    fn decided(&self) -> usize {
        let topic = &self.config.topics.decisions;
        let timeout = Duration::from_secs(30);
        let mut follower =
            Follower::open(&self.connection, topic, &From::Beginning, timeout).expect("a reader");
        let mut count = 0;
        loop {
            match follower.poll(Duration::from_millis(100)).expect("a record") {
                // The events of requests are named http-…
                Followed::Record(record) => {
                    let key = record.key.unwrap_or_default();
                    count += usize::from(!key.starts_with(b"http-"));
                }
                Followed::End => return count,
                _ => {}
            }
        }
    }
}

impl Drop for World {
    fn drop(&mut self) {
        self.shutdown.request(StopReason::Program);
        self.shutdown.request(StopReason::Program); // the rest of the backlog is of no use
        self.roles.drain(..).for_each(|role| drop(role.join()));
    }
}

/// A client that keeps its connection.
struct Client(BufReader<TcpStream>);

impl Client {
    fn new(address: SocketAddr) -> Self {
        let stream = TcpStream::connect(address).expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        Self(BufReader::new(stream))
    }

    fn ask(&mut self, text: &str) {
        let body = serde_json::json!({ "input": text }).to_string();
        let head = "POST /v1/moderations HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json";
        let request = format!("{head}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        self.0.get_mut().write_all(request.as_bytes()).expect("a request");
        let (mut line, mut length, mut status) = (String::new(), 0, String::new());
        loop {
            line.clear();
            self.0.read_line(&mut line).expect("an answer");
            if status.is_empty() {
                status.clone_from(&line);
            }
            match line.trim().split_once(": ") {
                Some(("content-length", value)) => length = value.parse().expect("a length"),
                None if line.trim().is_empty() => break,
                _ => {}
            }
        }
        self.0.read_exact(&mut vec![0; length]).expect("a body");
        assert!(status.contains(" 200 "), "{status}");
    }
}

/// Returns the times of one client that sends a request after the other, in milliseconds. `rate`: it pauses, to send no
/// more requests a second.
#[expect(clippy::cast_precision_loss, reason = "requests are few")]
fn one_by_one(address: SocketAddr, texts: &[String], rate: f64) -> Vec<f64> {
    let (mut client, start) = (Client::new(address), Instant::now());
    let time = |(number, text): (usize, &String)| {
        let due = start + Duration::from_secs_f64(number as f64 / rate);
        thread::sleep(due.saturating_duration_since(Instant::now()));
        let started = Instant::now();
        client.ask(text);
        started.elapsed().as_secs_f64() * 1e3
    };
    texts.iter().enumerate().map(time).collect()
}

/// Returns the requests a second of clients that ask again as soon as they are answered.
#[expect(clippy::cast_precision_loss, reason = "requests are few")]
fn capacity(address: SocketAddr, texts: &[String], clients: usize) -> f64 {
    let (next, started) = (AtomicUsize::new(0), Instant::now());
    thread::scope(|scope| {
        for _ in 0..clients {
            scope.spawn(|| {
                let mut client = Client::new(address);
                while let Some(text) = texts.get(next.fetch_add(1, Ordering::Relaxed)) {
                    client.ask(text);
                }
            });
        }
    });
    texts.len() as f64 / started.elapsed().as_secs_f64()
}

/// Returns the latencies of an open loop at this rate, in milliseconds.
#[expect(clippy::cast_precision_loss, reason = "requests are few")]
fn open_loop(address: SocketAddr, texts: &[String], rate: f64) -> Vec<f64> {
    let (next, start) = (AtomicUsize::new(0), Instant::now() + Duration::from_millis(200));
    let latencies = std::sync::Mutex::new(Vec::new());
    thread::scope(|scope| {
        for _ in 0..OPEN_CLIENTS {
            scope.spawn(|| {
                let mut client = Client::new(address);
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(text) = texts.get(number) else { return };
                    let due = start + Duration::from_secs_f64(number as f64 / rate);
                    thread::sleep(due.saturating_duration_since(Instant::now()));
                    client.ask(text);
                    latencies.lock().expect("a lock").push(due.elapsed().as_secs_f64() * 1e3);
                }
            });
        }
    });
    latencies.into_inner().expect("a lock")
}

/// Returns the latencies at this rate of a queue without any overhead: requests with these times, in milliseconds, are
/// served one by one by as many servers as there are sessions.
fn ideal_queue(times: &[f64], rate: f64, sessions: usize) -> Vec<f64> {
    let mut free_at = vec![0.0_f64; sessions];
    let mut due = 0.0;
    let latency = |time: &f64| {
        let server = free_at.iter_mut().min_by(|one, other| one.total_cmp(other)).expect("a session");
        *server = server.max(due) + time;
        let latency = *server - due;
        due += 1e3 / rate;
        latency
    };
    times.iter().map(latency).collect()
}

#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "requests are few"
)]
fn quantile(values: &mut [f64], share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    values[((values.len() - 1) as f64 * share) as usize]
}

fn texts() -> Vec<String> {
    let mut texts = Vec::new();
    for source in ["injection", "everyday", "jailbreaks"] {
        let lines = std::fs::read_to_string(format!("models/demo/{source}.jsonl")).expect("run `make setup`");
        let line = |line: &str| serde_json::from_str::<serde_json::Value>(line).expect("JSON");
        texts.extend(lines.lines().map(|text| line(text)["text"].as_str().expect("a text").to_owned()));
    }
    fastrand::Rng::with_seed(3).shuffle(&mut texts);
    texts.truncate(REQUESTS);
    texts
}

#[expect(clippy::cast_precision_loss, reason = "events are few")]
fn main() {
    let mut config = PanelConfig::new("models");
    let sessions = std::env::args().find_map(|argument| argument.parse().ok()).unwrap_or(1);
    (config.cache, config.sessions, config.threads) = (0, Some(sessions), 1);
    let panel = Arc::new(Panel::open(config).expect("run `make setup`"));
    let texts = texts();
    println!("{} experts, {} texts", panel.experts().len(), texts.len());
    let world = World::start(&panel, HEAD_STARTS[0]);
    one_by_one(world.address, &texts[..20], f64::INFINITY); // warms up
    let shown = |name: &str, mut latencies: Vec<f64>| {
        let [p50, p99] = [0.5, 0.99].map(|share| quantile(&mut latencies, share));
        println!("{name:<32} p50 {p50:.1} ms, p99 {p99:.1} ms");
        p50
    };
    shown("one by one, without a pause", one_by_one(world.address, &texts, f64::INFINITY));
    let most = capacity(world.address, &texts, CLIENTS);
    println!("{:<32} {most:.1} requests/s with {CLIENTS} clients", "capacity");
    let mut ratios = [Vec::new(), Vec::new()];
    for _ in 0..ROUNDS {
        let times = one_by_one(world.address, &texts, most / 2.0);
        let least = ideal_queue(&times, most / 2.0, sessions);
        let own = shown("one by one, at half of this rate", times);
        let least = shown("at half load, an ideal queue", least);
        let latency = shown("at half load", open_loop(world.address, &texts, most / 2.0));
        ratios[0].push(latency / own);
        ratios[1].push(latency / least);
    }
    for (ratios, what) in ratios.iter_mut().zip(["a batch's own time", "an ideal queue"]) {
        let middle = quantile(ratios, 0.5);
        println!("half load: {middle:.2} times {what} ({:.2} to {:.2})", ratios[0], ratios[ROUNDS - 1]);
    }
    drop(world);
    for head_start in HEAD_STARTS {
        let world = World::start(&panel, head_start);
        world.fill(&texts);
        wait("the stream", || world.decided() > 0);
        let rate = |from: (usize, Instant), until: (usize, Instant)| {
            (until.0 - from.0) as f64 / (until.1 - from.1).as_secs_f64()
        };
        let mark = || (world.decided(), Instant::now());
        let begin = mark();
        thread::sleep(ALONE);
        let alone = mark();
        let latencies = open_loop(world.address, &texts, most / 2.0);
        let beside = mark();
        let full = capacity(world.address, &texts, MANY_CLIENTS);
        let end = mark();
        println!("beside a backlog, head start {head_start} ms");
        println!("  {:<30} {:.1} events/s", "the stream alone", rate(begin, alone));
        shown("  half load", latencies);
        println!("  {:<30} {:.1} events/s", "  the stream meanwhile", rate(alone, beside));
        println!("  {:<30} {full:.1} requests/s", format!("{MANY_CLIENTS} clients without a pause"));
        println!("  {:<30} {:.1} events/s", "  the stream meanwhile", rate(beside, end));
        assert!(end.0 < BACKLOG, "the backlog ended before the requests");
    }
}
