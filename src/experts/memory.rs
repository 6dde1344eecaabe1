//! Memory that the process holds: a graph may take as much as its nodes ask for, and nothing but the kernel would stop
//! it, with the process.

use std::time::Duration;

/// How often memory is looked at while graphs run.
pub(super) const EACH: Duration = Duration::from_millis(50);
/// A run is held to be what took the memory where the process has grown by this part of the bound since it began.
const GROWN: usize = 16;

/// Bytes that the process has resident; none where the system does not say (it does on Linux).
pub(super) fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok().map(|kib| kib << 10)
}

/// Whether a run is to be stopped that began with `before` bytes: the process has more than `most`, and it grew
/// meanwhile. What was kept from earlier runs stops nobody.
pub(super) fn is_eaten(before: usize, now: usize, most: usize) -> bool {
    now > most && now.saturating_sub(before) > most / GROWN
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_during_which_memory_grew_beyond_the_bound_is_stopped() {
        assert!(is_eaten(900, 1_601, 1_600));
        assert!(!is_eaten(900, 1_600, 1_600));
        assert!(!is_eaten(1_550, 1_610, 1_600));
        assert!(!is_eaten(1_700, 1_650, 1_600));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn what_is_resident_is_seen() {
        let before = resident().unwrap();
        let held = vec![1_u8; 64 << 20];
        assert!(resident().unwrap() >= before + (48 << 20) && held.len() == 64 << 20);
    }
}
