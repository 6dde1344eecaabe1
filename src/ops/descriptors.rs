//! File descriptors: connections, files and pipes of this process. Each of them takes one, and without a free one the
//! brokers cannot be reached any more.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

use super::metrics::{MAX_FDS, OPEN_FDS};

/// Descriptors for files, pipes, the store, a registry and a collector. Both roles have 70 of them.
const OWN: u64 = 96;
/// Descriptors for each broker: both roles have nine clients, and each client has a pipe and a connection for each broker.
const BROKER: u64 = 32;
/// Brokers that there are at least, as far as descriptors go.
const BROKERS: usize = 3;
/// The soft limit is raised up to this: more is never needed, and some systems refuse to have it unlimited.
const ENOUGH: u64 = 65_536;

/// The process may have too few descriptors.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "this process may open {limit} files and connections at a time, and needs {needed}: {own} for itself, {brokers} for \
     brokers and {connections} for http.max_connections; raise the limit (`ulimit -n {needed}`, LimitNOFILE of systemd, \
     ulimits of a container), or lower http.max_connections",
    own = OWN
)]
pub struct TooFew {
    limit: u64,
    needed: u64,
    brokers: u64,
    connections: usize,
}

/// Raises the soft limit on descriptors as far as the system lets this process. Returns the limit then.
///
/// # Errors
/// Returns an error if that is less than this process needs for so many brokers, at least three, and for so many
/// connections to health and metrics.
pub fn secure(connections: usize, brokers: Option<usize>) -> Result<u64, TooFew> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = maximum.unwrap_or(ENOUGH).min(ENOUGH);
    let mut limit = current.unwrap_or(u64::MAX);
    if limit < raised && setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).is_ok() {
        limit = raised;
    }
    suffice(limit, connections, brokers).map(|()| limit)
}

fn suffice(limit: u64, connections: usize, brokers: Option<usize>) -> Result<(), TooFew> {
    let brokers = BROKER.saturating_mul(brokers.unwrap_or(0).max(BROKERS) as u64);
    let needed = OWN.saturating_add(brokers).saturating_add(connections as u64);
    if limit < needed { Err(TooFew { limit, needed, brokers, connections }) } else { Ok(()) }
}

/// Brings the gauges up to date. Returns `true` if descriptors run short.
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
pub(super) fn gauge() -> bool {
    let limit = getrlimit(Resource::Nofile).current;
    let folder = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
    // Without a free descriptor the folder cannot be opened: all are in use. Open, it is one of those it lists.
    let open = fs::read_dir(folder).ok().map(|entries| entries.count().saturating_sub(1) as u64);
    let Some(open) = open.or(limit) else { return false };
    OPEN_FDS.with([]).set(open as f64);
    if let Some(limit) = limit {
        MAX_FDS.with([]).set(limit as f64);
    }
    limit.is_some_and(|limit| are_short(open, limit))
}

/// More than four fifths are in use.
fn are_short(open: u64, limit: u64) -> bool {
    open > limit.saturating_sub(limit / 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_fifth_is_short() {
        assert!(!are_short(97, 256) && !are_short(800, 1_000) && !are_short(97, u64::MAX));
        assert!(are_short(801, 1_000) && are_short(256, 256) && are_short(u64::MAX, u64::MAX));
    }

    #[test]
    fn what_is_needed_grows_with_connections_and_brokers() {
        assert_eq!(suffice(256, 64, None), Ok(()));
        assert_eq!(suffice(256, 64, Some(3)), Ok(()));
        let error = suffice(256, 64, Some(20)).unwrap_err();
        assert_eq!(error, TooFew { limit: 256, needed: 800, brokers: 640, connections: 64 });
        assert!(error.to_string().contains("`ulimit -n 800`"), "{error}");
        assert_eq!(suffice(800, 64, Some(20)), Ok(()));
        assert_eq!(suffice(1_024, 1_000, None).unwrap_err().needed, 1_192);
        assert!(suffice(u64::MAX - 1, usize::MAX, Some(usize::MAX)).is_err());
    }
}
