//! Health over HTTP.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use aegis::ops::health::{Health, Limits, ServeError, Server};
use aegis::ops::metrics;
use metrics_exporter_prometheus::PrometheusHandle;

/// The time after which a wait fails. It only keeps a test from hanging, and asserts nothing about speed.
const FAIL_SAFE: Duration = Duration::from_secs(90);

fn handle() -> PrometheusHandle {
    let recorder = metrics::builder().expect("a builder").build_recorder();
    ::metrics::with_local_recorder(&recorder, metrics::describe_all);
    recorder.handle()
}

fn local() -> SocketAddr {
    SocketAddr::from(([127, 0, 0, 1], 0))
}

fn get(server: &Server, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
    (head.split(' ').nth(1).expect("a status").parse().expect("a number"), body.to_owned())
}

#[test]
fn ready_when_every_condition_holds_and_alive_always() {
    let health = Health::new(&["broker seen", "ledger restored"]);
    let server = Server::start(local(), Limits::default(), health.clone(), handle()).expect("a server");
    assert_eq!(get(&server, "/livez"), (200, "alive\n".to_owned()));
    assert_eq!(
        get(&server, "/readyz"),
        (503, "[-] broker seen\n[-] ledger restored\nnot ready\n".to_owned())
    );

    // From any thread.
    let elsewhere = health.clone();
    std::thread::spawn(move || elsewhere.set("broker seen", true)).join().expect("set");
    health.note("ledger restored", false, "41 % read");
    assert_eq!(get(&server, "/readyz"), (503, "[-] ledger restored: 41 % read\nnot ready\n".to_owned()));
    assert_eq!(
        get(&server, "/readyz?verbose"),
        (503, "[+] broker seen\n[-] ledger restored: 41 % read\nnot ready\n".to_owned())
    );

    health.set("ledger restored", true);
    assert!(health.ready());
    assert_eq!(get(&server, "/readyz"), (200, "ready\n".to_owned()));
    assert_eq!(get(&server, "/readyz?verbose=1").1, "[+] broker seen\n[+] ledger restored\nready\n");

    health.set("broker seen", false);
    assert_eq!(get(&server, "/readyz").0, 503);
    assert_eq!(get(&server, "/livez").0, 200);
}

/// Two roles in one process say the same of themselves, and the one that has ended says it no more.
#[test]
fn a_condition_belongs_to_its_role_and_ends_with_it() {
    let health = Health::default();
    let server = Server::start(local(), Limits::default(), health.clone(), handle()).expect("a server");
    let (score, learn) = (health.of("score"), health.of("learn"));
    let later = Instant::now() + Duration::from_secs(3_600);
    score.set_until("broker seen", Some(later));
    score.note("experts answering", true, "");
    learn.set_until("broker seen", Some(later));
    assert_eq!(
        get(&server, "/readyz?verbose").1,
        "[+] learn: broker seen\n[+] score: broker seen\n[+] score: experts answering\nready\n"
    );
    score.clone().end();
    score.set_until("broker seen", Some(later));
    score.note("experts answering", true, "");
    score.forget("experts answering");
    score.set("something new", true);
    let ended =
        "[-] score: broker seen: score has stopped\n[-] score: experts answering: score has stopped\n";
    assert_eq!(get(&server, "/readyz"), (503, format!("{ended}not ready\n")));
    assert_eq!(
        get(&server, "/readyz?verbose").1,
        format!("[+] learn: broker seen\n{ended}not ready\n"),
        "the other role goes on"
    );
}

#[test]
fn a_condition_ends_when_its_time_is_over() {
    let health = Health::new(&[]);
    let server = Server::start(local(), Limits::default(), health.clone(), handle()).expect("a server");
    let now = Instant::now();
    health.set_until("broker seen", Some(now + Duration::from_secs(3_600)));
    assert!(health.ready());
    health.set_until("broker seen", Some(now));
    assert_eq!(get(&server, "/readyz"), (503, "[-] broker seen\nnot ready\n".to_owned()));
    health.set_until("broker seen", None);
    assert!(!health.ready());
    health.set("broker seen", true);
    assert!(health.ready(), "said for good");
}

#[test]
fn metrics_are_served() {
    let server = Server::start(local(), Limits::default(), Health::default(), handle()).expect("a server");
    let (status, page) = get(&server, "/metrics");
    assert_eq!(status, 200);
    assert!(page.contains("# TYPE aegis_build_info gauge"), "{page}");
    assert_eq!(get(&server, "/").0, 404);
}

#[test]
fn an_address_in_use_is_named() {
    let taken = TcpListener::bind(local()).expect("an address");
    let address = taken.local_addr().expect("its number");
    let error = Server::start(address, Limits::default(), Health::default(), handle())
        .expect_err("two on one address");
    assert!(matches!(error, ServeError::Address { .. }));
    assert!(error.to_string().contains(&address.to_string()));
}

/// The server stops while the reader still holds half a request, for which it would have an hour.
#[test]
fn it_stops_and_frees_its_address_even_with_a_reader_that_hangs() {
    let limits = Limits { idle: Duration::from_secs(3_600), ..Limits::default() };
    let server = Server::start(local(), limits, Health::default(), handle()).expect("a server");
    let address = server.address();
    let mut hanging = TcpStream::connect(address).expect("a connection");
    hanging.write_all(b"GET /readyz HTTP/1.1\r\nHost:").expect("half a request");
    assert_eq!(get(&server, "/livez").0, 200);
    let (stopped, is_stopped) = mpsc::channel();
    let stop = thread::spawn(move || {
        server.stop();
        stopped.send(()).expect("the test waits");
    });
    is_stopped.recv_timeout(FAIL_SAFE).expect("it stops although the reader hangs");
    stop.join().expect("no panic");
    assert!(TcpStream::connect(address).is_err());
    drop(hanging);
}

/// Everything that the server still sends, until it ends the connection. Fails if it does not.
fn rest(stream: &mut TcpStream) -> String {
    stream.set_read_timeout(Some(FAIL_SAFE)).expect("a time-out");
    let mut rest = Vec::new();
    match stream.read_to_end(&mut rest) {
        Ok(_) => {}
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => {}
        Err(error) => panic!("the server did not end the connection: {error}"),
    }
    String::from_utf8(rest).expect("text")
}

/// Nothing, half a head, and nothing after an answer.
#[test]
fn connections_that_are_idle_or_slow_are_closed() {
    let limits = Limits { idle: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(local(), limits, Health::default(), handle()).expect("a server");
    let mut streams: Vec<_> =
        (0..3).map(|_| TcpStream::connect(server.address()).expect("a connection")).collect();
    streams[1].write_all(b"GET /livez HTTP/1.1\r\nHost:").expect("half a request");
    streams[2].write_all(b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("a request");
    let said: Vec<_> = streams.iter_mut().map(rest).collect();
    assert_eq!(said[0], "");
    assert!(!said[1].contains("alive"), "{}", said[1]);
    assert!(said[2].ends_with("alive\n"), "{}", said[2]);
}

/// Bytes that come one by one do not give a head more time.
#[test]
fn a_head_that_drips_in_is_cut_off() {
    let limits = Limits { idle: Duration::from_millis(200), ..Limits::default() };
    let server = Server::start(local(), limits, Health::default(), handle()).expect("a server");
    let mut stream = TcpStream::connect(server.address()).expect("a connection");
    let until = Instant::now() + FAIL_SAFE;
    stream.write_all(b"GET /livez HTTP/1.1\r\nX: ").expect("half a request");
    // A write after the server's end fails, at the latest the second one.
    while stream.write_all(b"x").is_ok() {
        assert!(Instant::now() < until, "the server still takes it");
        thread::sleep(Duration::from_millis(10)); // the peer is slow
    }
}

/// However many there are, who asks is answered.
#[test]
fn a_connection_too_many_takes_the_place_of_the_oldest() {
    let limits = Limits { connections: 4, idle: Duration::from_secs(3_600), ..Limits::default() };
    let server = Server::start(local(), limits, Health::default(), handle()).expect("a server");
    let connect = |_| TcpStream::connect(server.address()).expect("a connection");
    let mut idle: Vec<_> = (0..40).map(connect).collect();
    assert_eq!(get(&server, "/livez").0, 200);
    // The one that asked has taken the place of one of the last four.
    for stream in &mut idle[..37] {
        assert_eq!(rest(stream), "");
    }
    for stream in &mut idle[37..] {
        write!(stream, "GET /livez HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").expect("sent");
        assert!(rest(stream).ends_with("alive\n"), "the newest are kept");
    }
}

/// Records that wait for a commit: the role is ready until the bound, and says then for how long nothing was committed. The
/// gauge is computed when it is read: who waits for the brokers tells nothing meanwhile.
#[test]
fn a_commit_that_does_not_come_ends_readiness() {
    let health = Health::default();
    let server = Server::start(local(), Limits::default(), health.clone(), handle()).expect("a server");
    let (score, learn) = (health.of("score"), health.of("learn"));
    let (bound, started) = (Duration::from_secs(60), Instant::now());
    score.waits("committing", None, bound);
    assert_eq!(get(&server, "/readyz?verbose").1, "[+] score: committing\nready\n");
    assert_eq!(score.waits_since(), None);

    score.waits("committing", Some(started), bound);
    assert_eq!(get(&server, "/readyz?verbose").1, "[+] score: committing\nready\n");
    assert_eq!(score.waits_since(), Some(started));
    assert_eq!(learn.waits_since(), None);

    score.waits("committing", Some(started), Duration::ZERO);
    let (status, page) = get(&server, "/readyz");
    assert_eq!(status, 503);
    assert!(
        page.starts_with("[-] score: committing: records wait, and none have been committed for ")
            && page.ends_with(" s\nnot ready\n"),
        "{page}"
    );

    score.waits("committing", None, bound);
    assert_eq!(get(&server, "/readyz"), (200, "ready\n".to_owned()));
}
