//! A broker behind a slow network: its clients connect through a proxy that delays all bytes by half a round trip in
//! each direction, and does not limit the bandwidth.

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use super::{Kafka, free_port};

/// The maximum number of bytes of one read.
const CHUNK: usize = 256 << 10;

/// A proxy for one address.
pub struct Proxy {
    port: u16,
    micros: Arc<AtomicU64>,
}

impl Proxy {
    /// Forwards connections to `target`, a port of this machine, at first without a delay. The proxy runs until the
    /// process ends.
    pub fn start(target: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let micros = Arc::new(AtomicU64::new(0));
        let shared = Arc::clone(&micros);
        thread::spawn(move || {
            for client in listener.incoming() {
                let (client, micros) = (client.unwrap(), Arc::clone(&shared));
                thread::spawn(move || join(client, target, &micros));
            }
        });
        Self { port, micros }
    }

    /// Returns the port of the proxy.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sets the round trip of all bytes that are read from now on.
    pub fn set_round_trip(&self, round_trip: Duration) {
        self.micros.store(u64::try_from(round_trip.as_micros()).unwrap(), Ordering::Relaxed);
    }
}

fn join(client: TcpStream, target: u16, micros: &Arc<AtomicU64>) {
    // Opening a connection takes a round trip as well.
    thread::sleep(Duration::from_micros(micros.load(Ordering::Relaxed)));
    let Ok(server) = TcpStream::connect(("127.0.0.1", target)) else { return };
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
    }
    let ways = [(client.try_clone(), server.try_clone()), (Ok(server), Ok(client))];
    for (from, to) in ways {
        let (Ok(from), Ok(to)) = (from, to) else { return };
        // The channel is unbounded, because a slow network does not slow its sender down.
        let (sent, due) = mpsc::channel();
        let micros = Arc::clone(micros);
        thread::spawn(move || take(from, &sent, &micros));
        thread::spawn(move || give(to, &due));
    }
}

/// Reads until the connection ends, and sends each chunk with the time at which it arrives.
fn take(mut from: TcpStream, sent: &Sender<(Instant, Vec<u8>)>, micros: &AtomicU64) {
    let mut buffer = vec![0; CHUNK];
    loop {
        let read = from.read(&mut buffer).unwrap_or(0);
        let due = Instant::now() + Duration::from_micros(micros.load(Ordering::Relaxed) / 2);
        if sent.send((due, buffer[..read].to_vec())).is_err() || read == 0 {
            return;
        }
    }
}

/// Writes each chunk when its time of arrival is reached.
fn give(mut to: TcpStream, due: &Receiver<(Instant, Vec<u8>)>) {
    while let Ok((at, bytes)) = due.recv() {
        thread::sleep(at.saturating_duration_since(Instant::now()));
        if bytes.is_empty() || to.write_all(&bytes).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Both);
}

/// A broker with two listeners: a direct one for the test itself, and one behind the proxy.
pub struct Far {
    /// The broker, through its direct listener.
    pub kafka: Kafka,
    /// The proxy to the other listener.
    pub proxy: Proxy,
}

impl Far {
    /// Starts a broker, at first without a delay.
    pub fn start() -> Self {
        let port = free_port();
        let proxy = Proxy::start(port);
        let settings = |near: u16, controller: u16| {
            let host = "127.0.0.1";
            format!(
                "listeners=PLAINTEXT://{host}:{near},CONTROLLER://{host}:{controller},FAR://{host}:{port}\n\
                 advertised.listeners=PLAINTEXT://{host}:{near},FAR://{host}:{}\n\
                 listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,FAR:PLAINTEXT\n",
                proxy.port()
            )
        };
        Self { kafka: Kafka::secured(settings, ""), proxy }
    }

    /// Returns `host:port` of the proxy.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.proxy.port())
    }
}
