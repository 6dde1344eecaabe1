//! The memory that the process holds. A graph may allocate any amount, and otherwise only the kernel would stop it,
//! together with the process (docs/decisions/0013).

use std::time::Duration;

/// The interval at which the watchdog reads the memory while graphs run.
pub(crate) const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// The part of the limit by which the process must have grown during a run for the run to be stopped.
const MIN_GROWTH: usize = 16;

/// Bytes that the process has resident; `None` on systems other than Linux.
fn resident() -> Option<usize> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.trim().strip_suffix("kB")?.trim().parse::<usize>().ok().map(|kib| kib << 10)
}

/// The memory of the process, with its limit.
#[derive(Debug, Clone, Copy)]
pub(crate) struct MemoryUse {
    /// Bytes resident.
    pub(crate) resident: usize,
    /// Bytes that the process may have resident.
    pub(crate) limit: usize,
}

impl MemoryUse {
    /// Reads the current use if there is a limit. The system takes a while, so do not call this under a lock.
    pub(crate) fn read(limit: Option<usize>) -> Option<Self> {
        limit.and_then(|limit| Some(Self { resident: resident()?, limit }))
    }

    /// Returns `true` if a run must be stopped that began with `before` bytes resident: the process is above the limit
    /// and grew during the run. Memory that earlier runs kept stops no run.
    pub(crate) fn is_exceeded_since(self, before: usize) -> bool {
        self.resident > self.limit && self.resident.saturating_sub(before) > self.limit / MIN_GROWTH
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_run_that_grew_the_process_beyond_the_limit_is_stopped() {
        let is_stopped = |before, resident| MemoryUse { resident, limit: 1_600 }.is_exceeded_since(before);
        assert!(is_stopped(900, 1_601));
        assert!(!is_stopped(900, 1_600));
        assert!(!is_stopped(1_550, 1_610));
        assert!(!is_stopped(1_700, 1_650));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn resident_memory_is_read() {
        let before = resident().unwrap();
        let held = vec![1_u8; 64 << 20];
        assert!(resident().unwrap() >= before + (48 << 20) && held.len() == 64 << 20);
    }
}
