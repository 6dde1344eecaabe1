//! Priorities of threads for processor time.

/// The niceness of low-priority threads. Against a busy thread of normal niceness such a thread gets a tenth of a core;
/// without competition it gets all of it.
#[cfg(target_os = "linux")]
const LOW_PRIORITY: i32 = 10;

/// Lowers the priority of this thread and of every thread that it starts from now on. Linux has a niceness for each thread;
/// elsewhere it belongs to the whole process, and nothing is changed.
pub fn lower_priority() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};

        // `None` is the calling thread.
        let lowered = match getpriority_process(None) {
            Ok(niceness) if niceness >= LOW_PRIORITY => Ok(()),
            _ => setpriority_process(None, LOW_PRIORITY),
        };
        if let Err(error) = lowered {
            tracing::warn!(%error, "the niceness of this thread cannot be raised: it competes with the others");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    /// Returns the niceness of the calling thread.
    fn niceness() -> i32 {
        let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
        // It is the 17th field after the name in brackets.
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn only_the_thread_and_those_that_it_starts_are_lowered() {
        let before = niceness();
        let lowered = thread::spawn(|| {
            lower_priority();
            lower_priority();
            [niceness(), thread::spawn(niceness).join().unwrap()]
        });
        assert_eq!(lowered.join().unwrap(), [before.max(LOW_PRIORITY); 2]);
        assert_eq!(niceness(), before);
        assert_eq!(thread::spawn(niceness).join().unwrap(), before);
    }
}
