//! Connections to health and metrics: more of them than the process has descriptors, and too few descriptors.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::TcpStream;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use super::support::flow::send;
use super::support::site::{PARTITIONS, Process, Site, wait};
use super::support::{Kafka, WAIT};
use super::{ASSIGNED, INFO, all_committed, decided, events};

/// The descriptors of the scorer.
const DESCRIPTORS: usize = 1_024;
const CROWD: usize = 2_000;
/// The number of descriptors that a process reserves for itself, and for connections by default.
const NEEDED: f64 = 192.0 + 64.0;

/// Raises the limit of this process, which has the other ends of the connections.
fn make_room() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    assert!(
        maximum.is_none_or(|most| most > 2 * CROWD as u64),
        "{maximum:?} descriptors are too few for this test"
    );
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
}

/// Opens connections. Every other one has sent half the head of a request.
fn crowd(score: &Process, count: usize) -> Vec<TcpStream> {
    let connect = |number: usize| {
        let mut stream = TcpStream::connect(score.address()).unwrap();
        if number.is_multiple_of(2) {
            // The server may have closed the connection already.
            let _ = stream.write_all(b"GET /readyz HTTP/1.1\r\nHost:");
        }
        stream
    };
    (0..count).map(connect).collect()
}

/// Waits until the server ends the connection.
fn closed(mut stream: TcpStream) {
    stream.set_read_timeout(Some(WAIT)).unwrap();
    match stream.read_to_end(&mut Vec::new()) {
        Ok(_) => {}
        Err(error) => {
            assert_eq!(error.kind(), ErrorKind::ConnectionReset, "the server did not end it: {error}")
        }
    }
}

fn descriptors(score: &Process) -> f64 {
    let page = score.get("/metrics").1;
    let line = page.lines().find(|line| line.starts_with("process_open_fds ")).unwrap();
    line.rsplit(' ').next().unwrap().parse().unwrap()
}

/// The broker is killed and started again meanwhile. Its connections need descriptors of their own, as does the store.
#[test]
fn idle_and_slow_connections_do_not_stop_moderation() {
    let mut kafka = Kafka::start();
    let site = Site::on(&kafka, "crowd", PARTITIONS, &[INFO, ("http.idle_timeout_ms", "2000")]);
    let mut score = site.start_within("both", DESCRIPTORS);
    score.says(ASSIGNED);
    wait("readiness", || score.get("/readyz").0 == 200);
    make_room();
    let mut streams = crowd(&score, CROWD / 2);
    send(&site.connection, &events(&site, 0..100));
    all_committed(&site, 100);
    kafka.kill();
    streams.extend(crowd(&score, CROWD / 2));
    kafka.restart();
    send(&site.connection, &events(&site, 100..300));
    all_committed(&site, 300);
    decided(&site, 300);
    // New requests are answered although the idle connections are still open.
    assert_eq!(score.get("/livez").0, 200);
    let open = descriptors(&score);
    assert!(open <= NEEDED, "{open} descriptors are open");
    streams.into_iter().for_each(closed);
    wait("readiness again", || score.get("/readyz").0 == 200);
    let open = descriptors(&score);
    assert!(open < NEEDED / 2.0, "{open} descriptors are open");
    score.stop();
    site.verified();
}

/// The process reports too few descriptors at its start, and does not fail later.
#[test]
fn too_few_descriptors_are_refused_at_the_start() {
    let site = Site::with("few", &[INFO]);
    let mut score = site.start_within("score", NEEDED as usize - 1);
    assert_eq!(score.end().code(), Some(78));
    let log = score.log();
    assert!(log.contains("may open 255 files and connections at a time, and needs 256"), "{log}");
    let mut score = site.start_within("score", NEEDED as usize);
    score.says(ASSIGNED);
    wait("readiness", || score.get("/readyz").0 == 200);
    score.stop();
}
