//! Who gives way where processor time is short.

/// What a learner's threads are above the others' in niceness: against one of them that wants the processor a thread of
/// theirs gets a tenth of it. With nothing else to do it has all of it.
#[cfg(target_os = "linux")]
const BEHIND: i32 = 10;

/// From now on this thread, and every thread that it starts, stands behind the process's others. Linux counts niceness
/// by thread; elsewhere it is the whole process's, and nothing is changed.
pub fn lower_priority() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};

        // Without a number it is the thread that asks.
        let given = match getpriority_process(None) {
            Ok(niceness) if niceness >= BEHIND => Ok(()),
            _ => setpriority_process(None, BEHIND),
        };
        if let Err(error) = given {
            tracing::warn!(%error, "this thread's niceness cannot be raised: it competes with the others");
        }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    use std::fs;
    use std::thread;

    use super::*;

    /// The niceness of the thread that asks.
    fn niceness() -> i32 {
        let stat = fs::read_to_string("/proc/thread-self/stat").unwrap();
        // Behind the name in brackets it is the 17th.
        stat.rsplit_once(')').unwrap().1.split_whitespace().nth(16).unwrap().parse().unwrap()
    }

    #[test]
    fn a_thread_that_gives_way_takes_along_what_it_starts_and_nothing_else() {
        let before = niceness();
        let given = thread::spawn(|| {
            lower_priority();
            lower_priority();
            [niceness(), thread::spawn(niceness).join().unwrap()]
        });
        assert_eq!(given.join().unwrap(), [before.max(BEHIND); 2]);
        assert_eq!(niceness(), before);
        assert_eq!(thread::spawn(niceness).join().unwrap(), before);
    }
}
