//! Fault injection for tests: named points in the code at which the process is killed or stopped, or a thread hangs or
//! panics.
//!
//! Points do nothing without the feature `crash-points`, which release builds do not have. With it, these environment
//! variables take effect when a point is reached for the nth time:
//!
//! * `AEGIS_CRASH_AT=name[:nth]` kills the process with SIGKILL.
//! * `AEGIS_HOLD_AT=name[:nth]` stops the process until SIGCONT.
//! * `AEGIS_HANG_AT=name[:nth]` keeps the thread there for ever.
//! * `AEGIS_PANIC_AT=name[:nth]` makes the thread panic.
//!
//! `AEGIS_PLAY_OLDER=1` makes the process read decisions of earlier schemas only, as the previous version did.

#[cfg(all(feature = "crash-points", not(debug_assertions)))]
compile_error!("the feature crash-points is for tests, not for a release build");

/// A point. It does nothing without the feature.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub const fn point(_name: &str) {}

/// Calls `call`. With the feature, the process can be killed during the call.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn during<T>(_name: &str, call: impl FnOnce() -> T) -> T {
    call()
}

/// Returns `true` if this process acts as the previous version. Without the feature it never does.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub const fn plays_older() -> bool {
    false
}

#[cfg(feature = "crash-points")]
pub use armed::{during, plays_older, point};

#[cfg(feature = "crash-points")]
mod armed {
    use std::io::{self, Read, Write};
    use std::process::{Child, Command, Stdio};
    use std::sync::LazyLock;
    use std::sync::atomic::{AtomicU64, Ordering};
    use std::{process, thread};

    static CRASH: LazyLock<Option<Trigger>> = LazyLock::new(|| Trigger::read("AEGIS_CRASH_AT"));
    static HOLD: LazyLock<Option<Trigger>> = LazyLock::new(|| Trigger::read("AEGIS_HOLD_AT"));
    static PANIC: LazyLock<Option<Trigger>> = LazyLock::new(|| Trigger::read("AEGIS_PANIC_AT"));
    static HANG: LazyLock<Option<Trigger>> = LazyLock::new(|| Trigger::read("AEGIS_HANG_AT"));
    static PLAY_OLDER: LazyLock<bool> = LazyLock::new(|| std::env::var_os("AEGIS_PLAY_OLDER").is_some());

    /// The point of an environment variable.
    struct Trigger {
        name: String,
        nth: u64,
        /// The number of times that the point has been reached.
        reached: AtomicU64,
    }

    impl Trigger {
        fn read(variable: &str) -> Option<Self> {
            let value = std::env::var(variable).ok()?;
            let (name, nth) = value.split_once(':').unwrap_or((&value, "1"));
            let nth = nth.parse().expect("AEGIS_CRASH_AT, _HOLD_AT, _HANG_AT and _PANIC_AT are name[:nth]");
            Some(Self { name: name.to_owned(), nth, reached: AtomicU64::new(0) })
        }

        fn is_reached(&self, name: &str) -> bool {
            self.name == name && self.reached.fetch_add(1, Ordering::Relaxed) + 1 == self.nth
        }
    }

    fn is_reached(trigger: &Option<Trigger>, name: &str) -> bool {
        trigger.as_ref().is_some_and(|trigger| trigger.is_reached(name))
    }

    /// A running shell that sends a signal to this process when it reads a line. That takes tens of microseconds, and
    /// starting a shell takes milliseconds.
    struct SignalSender(Child);

    impl SignalSender {
        /// Starts the shell. It executes `then` after the signal.
        fn start(signal: &str, then: &str) -> io::Result<Self> {
            let script = format!("pid={}; echo ready; read line; kill -{signal} $pid; {then}", process::id());
            let mut child = Command::new("sh")
                .args(["-c", &script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            if let Some(stdout) = &mut child.stdout {
                stdout.read_exact(&mut [0; 6])?;
            }
            Ok(Self(child))
        }

        fn send(&mut self) -> io::Result<()> {
            self.0.stdin.take().map_or(Ok(()), |mut stdin| stdin.write_all(b"now\n"))
        }
    }

    /// Returns `true` if this process acts as the previous version.
    pub fn plays_older() -> bool {
        *PLAY_OLDER
    }

    /// Kills or stops the process, hangs or panics if an environment variable names this point.
    ///
    /// # Panics
    /// Panics at the point that `AEGIS_PANIC_AT` names.
    pub fn point(name: &str) {
        assert!(!is_reached(&PANIC, name), "AEGIS_PANIC_AT names this point");
        if is_reached(&CRASH, name) {
            die_during(name, || ());
        }
        if is_reached(&HOLD, name) {
            eprintln!("holding still at {name}");
            // The kernel stops the threads one after another, so the shell waits until the process is stopped.
            let wait = "until ps -o stat= -p $pid | grep -q T; do :; done";
            let mut sender = SignalSender::start("STOP", wait).expect("sh starts");
            sender.send().expect("sh reads its input");
            sender.0.wait().expect("sh ends");
        }
        if is_reached(&HANG, name) {
            eprintln!("hanging at {name}");
            loop {
                thread::park();
            }
        }
    }

    /// Calls `call`. If `AEGIS_CRASH_AT` names this point, the process is killed during the call, or at the latest before
    /// its result is returned.
    pub fn during<T>(name: &str, call: impl FnOnce() -> T) -> T {
        if is_reached(&CRASH, name) { die_during(name, call) } else { call() }
    }

    fn die_during<T>(name: &str, call: impl FnOnce() -> T) -> ! {
        eprintln!("dying at {name}");
        let mut sender = SignalSender::start("KILL", "").expect("sh starts");
        sender.send().expect("sh reads its input");
        let _unused = call();
        loop {
            thread::park();
        }
    }
}
