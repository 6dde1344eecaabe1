//! A process under measurement.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// The ticks per second of the kernel's clock of CPU time, which are the same on every Linux.
const TICKS: f64 = 100.0;

/// Returns the CPU time that all threads of a process have used so far, in seconds.
pub fn cpu_of(pid: u32) -> f64 {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("it runs");
    let fields = stat.rsplit(')').next().unwrap_or_default().split_whitespace();
    let ticks: f64 = fields.skip(11).take(2).filter_map(|field| field.parse::<f64>().ok()).sum();
    ticks / TICKS
}

/// Returns the CPU time that the whole machine has been busy so far, including time stolen by a host, in seconds.
pub fn machine_cpu() -> f64 {
    let stat = fs::read_to_string("/proc/stat").expect("Linux");
    let fields = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<f64> = fields.take(8).filter_map(|field| field.parse().ok()).collect();
    let [user, nice, system, _idle, _waits, irq, soft, stolen] = ticks[..] else { panic!("eight numbers") };
    (user + nice + system + irq + soft + stolen) / TICKS
}

/// A process that ends with its benchmark.
pub struct Process {
    child: Child,
    port: u16,
    started: Instant,
}

impl Process {
    /// Starts a command. If it is Aegis, its health endpoint uses a free port.
    pub fn start(mut command: Command) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a port");
        let port = listener.local_addr().expect("a port").port();
        drop(listener);
        command.env("AEGIS__HTTP__LISTEN", format!("127.0.0.1:{port}")).stdin(Stdio::null());
        let started = Instant::now();
        Self { child: command.spawn().expect("a process"), port, started }
    }

    /// Returns the time since the start of the process.
    pub fn age(&self) -> Duration {
        self.started.elapsed()
    }

    /// Returns the CPU time that all threads of the process have used so far, in seconds.
    pub fn cpu(&self) -> f64 {
        cpu_of(self.child.id())
    }

    /// Returns the peak memory of the process, in MiB.
    pub fn peak_mib(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
        let kib = line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok());
        kib.unwrap_or_default() / 1_024.0
    }

    /// Waits until the process is ready and this condition is fulfilled. Returns the time since its start.
    pub fn ready(&mut self, condition: &str) -> Duration {
        let condition = format!("[+] {condition}");
        self.tells(|page| page.starts_with("HTTP/1.1 200") && page.contains(&condition))
    }

    /// Waits until `so` accepts the response of the readiness endpoint. Returns the time since the start.
    pub fn tells(&mut self, so: impl Fn(&str) -> bool) -> Duration {
        loop {
            if let Some(status) = self.child.try_wait().expect("a status") {
                panic!("it ended: {status}");
            }
            assert!(self.age() < Duration::from_secs(300), "it does not become ready");
            if so(&self.readiness()) {
                return self.age();
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Returns the response of the readiness endpoint, or an empty text if there is none.
    pub fn readiness(&self) -> String {
        let mut answer = String::new();
        let Ok(mut stream) = TcpStream::connect(("127.0.0.1", self.port)) else { return answer };
        let asked =
            stream.write_all(b"GET /readyz?verbose HTTP/1.1\r\nHost: aegis\r\nConnection: close\r\n\r\n");
        if asked.and_then(|()| stream.read_to_string(&mut answer)).is_err() {
            answer.clear();
        }
        answer
    }

    /// Sends SIGTERM and checks that the process ends without an error.
    pub fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().expect("kill").success());
        let status = self.child.wait().expect("a status");
        assert!(status.success(), "{status}");
    }

    /// Kills the process with SIGKILL.
    pub fn kill(mut self) {
        self.child.kill().expect("a process");
        self.child.wait().expect("a status");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
