//! Memory that the process holds: a graph may take as much as its nodes ask for, and nothing but the kernel would stop
//! it, with the process.

use std::time::Duration;

/// How often memory is looked at while graphs run.
pub(crate) const EACH: Duration = Duration::from_millis(50);
/// A run is held to be what took the memory where the process has grown by this part of the bound since it began.
const GROWN: usize = 16;

/// Bytes that the process has resident; none where the system does not say (it does on Linux).
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok().map(|kib| kib << 10)
}

/// What the process holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Held {
    /// Bytes resident.
    pub(crate) now: usize,
    /// Bytes that it may hold.
    pub(crate) most: usize,
}

impl Held {
    /// What is held now, where there is a bound. It takes the system a while to tell: not for under a lock.
    pub(crate) fn now(most: Option<usize>) -> Option<Self> {
        most.and_then(|most| Some(Self { now: resident()?, most }))
    }

    /// Whether a run is to be stopped that began with `before` bytes: the process has more than it may, and it grew
    /// meanwhile. What was kept from earlier runs stops nobody.
    pub(crate) fn is_eaten_since(self, before: usize) -> bool {
        self.now > self.most && self.now.saturating_sub(before) > self.most / GROWN
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_during_which_memory_grew_beyond_the_bound_is_stopped() {
        let is_eaten = |before, now| Held { now, most: 1_600 }.is_eaten_since(before);
        assert!(is_eaten(900, 1_601));
        assert!(!is_eaten(900, 1_600));
        assert!(!is_eaten(1_550, 1_610));
        assert!(!is_eaten(1_700, 1_650));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_resident_is_seen() {
        let before = resident().unwrap();
        let held = vec![1_u8; 64 << 20];
        assert!(resident().unwrap() >= before + (48 << 20) && held.len() == 64 << 20);
    }
}
