//! Named points where a test makes this process die or hold still, to see that what is committed never
//! depends on what would have followed; or where a thread panics, to see that the process ends.
//!
//! Without the feature `crash-points`, which no release build takes, a point is nothing. With it,
//! `AEGIS_CRASH_AT=name[:nth]` kills the process with SIGKILL when it comes to the point `name` for the nth
//! time, `AEGIS_HOLD_AT=name[:nth]` stops it there until SIGCONT, `AEGIS_HANG_AT=name[:nth]` keeps the thread there for
//! ever, and with `AEGIS_PANIC_AT=name[:nth]` the thread that comes there panics. `AEGIS_PLAY_OLDER=1` makes it read
//! decisions of earlier schemas only, as the version before this one did.

#[cfg(all(feature = "crash-points", not(debug_assertions)))]
compile_error!("the feature crash-points is for tests, not for a release build");

/// A point: nothing without the feature.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub const fn point(_name: &str) {}

/// A call within which the process may die: only the call without the feature.
#[cfg(not(feature = "crash-points"))]
#[inline(always)]
pub fn during<T>(_name: &str, call: impl FnOnce() -> T) -> T {
    call()
}

/// Whether this process plays the version before this one: never without the feature.
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

    static DIE: LazyLock<Option<Wish>> = LazyLock::new(|| Wish::read("AEGIS_CRASH_AT"));
    static HOLD: LazyLock<Option<Wish>> = LazyLock::new(|| Wish::read("AEGIS_HOLD_AT"));
    static PANIC: LazyLock<Option<Wish>> = LazyLock::new(|| Wish::read("AEGIS_PANIC_AT"));
    static OLDER: LazyLock<bool> = LazyLock::new(|| std::env::var_os("AEGIS_PLAY_OLDER").is_some());

    static HANG: LazyLock<Option<Wish>> = LazyLock::new(|| Wish::read("AEGIS_HANG_AT"));

    /// A point, and how many times it is passed before the wish comes true.
    struct Wish {
        name: String,
        nth: u64,
        passed: AtomicU64,
    }

    impl Wish {
        fn read(variable: &str) -> Option<Self> {
            let wish = std::env::var(variable).ok()?;
            let (name, nth) = wish.split_once(':').unwrap_or((&wish, "1"));
            let nth = nth.parse().expect("AEGIS_CRASH_AT, _HOLD_AT, _HANG_AT and _PANIC_AT are name[:nth]");
            Some(Self { name: name.to_owned(), nth, passed: AtomicU64::new(0) })
        }

        fn reached(&self, name: &str) -> bool {
            self.name == name && self.passed.fetch_add(1, Ordering::Relaxed) + 1 == self.nth
        }
    }

    fn reached(wish: &Option<Wish>, name: &str) -> bool {
        wish.as_ref().is_some_and(|wish| wish.reached(name))
    }

    /// A shell that stands ready to send a signal to this process: from the word to the signal it takes some
    /// tens of microseconds, where starting it takes milliseconds.
    struct Sender(Child);

    impl Sender {
        /// `then`: what the shell does before it ends.
        fn ready(signal: &str, then: &str) -> io::Result<Self> {
            let script = format!("pid={}; echo ready; read word; kill -{signal} $pid; {then}", process::id());
            let mut child = Command::new("sh")
                .args(["-c", &script])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .spawn()?;
            if let Some(said) = &mut child.stdout {
                said.read_exact(&mut [0; 6])?;
            }
            Ok(Self(child))
        }

        fn send(&mut self) -> io::Result<()> {
            self.0.stdin.take().map_or(Ok(()), |mut word| word.write_all(b"now\n"))
        }
    }

    /// Whether this process plays the version before this one.
    pub fn plays_older() -> bool {
        *OLDER
    }

    /// Dies, holds still, hangs or panics here, if that is wished.
    ///
    /// # Panics
    /// At the point that `AEGIS_PANIC_AT` names.
    pub fn point(name: &str) {
        assert!(!reached(&PANIC, name), "AEGIS_PANIC_AT names this point");
        if reached(&DIE, name) {
            during_death(name, || ());
        }
        if reached(&HOLD, name) {
            eprintln!("holding still at {name}");
            // One of the threads takes the signal and stops the others, in its own time.
            let stopped = "until ps -o stat= -p $pid | grep -q T; do :; done";
            let mut sender = Sender::ready("STOP", stopped).expect("sh starts");
            sender.send().expect("sh listens");
            sender.0.wait().expect("sh ends");
        }
        if reached(&HANG, name) {
            eprintln!("hanging at {name}");
            loop {
                thread::park();
            }
        }
    }

    /// Makes the call; where it is wished, the process dies while it is under way, or at the latest when
    /// nothing has come of it yet.
    pub fn during<T>(name: &str, call: impl FnOnce() -> T) -> T {
        if reached(&DIE, name) { during_death(name, call) } else { call() }
    }

    fn during_death<T>(name: &str, call: impl FnOnce() -> T) -> ! {
        eprintln!("dying at {name}");
        let mut sender = Sender::ready("KILL", "").expect("sh starts");
        sender.send().expect("sh listens");
        let _unheard = call();
        loop {
            thread::park();
        }
    }
}
