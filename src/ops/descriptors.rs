//! The limit on file descriptors. Connections, files and pipes each need one, and without a free one the brokers cannot be
//! reached.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

use super::metrics::{MAX_FDS, OPEN_FDS};

/// Descriptors for files, pipes, the store, a registry and a collector. Both roles together use 70.
const OWN_DESCRIPTORS: u64 = 96;
/// Descriptors for each broker: both roles together have nine clients, each with a pipe and a connection to each broker.
const PER_BROKER: u64 = 32;
/// The number of brokers for which descriptors are always reserved.
const MIN_BROKERS: usize = 3;
/// The greatest soft limit that is requested. More is never needed, and some systems refuse an unlimited one.
const MAX_SOFT_LIMIT: u64 = 65_536;

/// The error of a limit on descriptors that is too low.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "this process may open {limit} files and connections at a time, and needs {needed}: {own} for itself, {brokers} for \
     brokers and {connections} for http.max_connections; raise the limit (`ulimit -n {needed}`, LimitNOFILE of systemd, \
     ulimits of a container), or lower http.max_connections",
    own = OWN_DESCRIPTORS
)]
pub struct TooFew {
    limit: u64,
    needed: u64,
    brokers: u64,
    connections: usize,
}

/// Raises the soft limit on descriptors as far as the system allows. Returns the new limit.
///
/// # Errors
/// Returns an error if the limit is less than this process needs for `brokers`, at least three, and for `connections` to
/// health and metrics.
pub fn secure(connections: usize, brokers: Option<usize>) -> Result<u64, TooFew> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = maximum.unwrap_or(MAX_SOFT_LIMIT).min(MAX_SOFT_LIMIT);
    let mut limit = current.unwrap_or(u64::MAX);
    if limit < raised && setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).is_ok() {
        limit = raised;
    }
    check(limit, connections, brokers).map(|()| limit)
}

fn check(limit: u64, connections: usize, brokers: Option<usize>) -> Result<(), TooFew> {
    let brokers = PER_BROKER.saturating_mul(brokers.unwrap_or(0).max(MIN_BROKERS) as u64);
    let needed = OWN_DESCRIPTORS.saturating_add(brokers).saturating_add(connections as u64);
    if limit < needed { Err(TooFew { limit, needed, brokers, connections }) } else { Ok(()) }
}

/// Sets the gauges. Returns `true` if descriptors run short.
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
pub(super) fn gauge() -> bool {
    let limit = getrlimit(Resource::Nofile).current;
    let folder = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
    // If no descriptor is free, the folder cannot be opened. If it is open, it lists itself.
    let open = fs::read_dir(folder).ok().map(|entries| entries.count().saturating_sub(1) as u64);
    let Some(open) = open.or(limit) else { return false };
    OPEN_FDS.with([]).set(open as f64);
    if let Some(limit) = limit {
        MAX_FDS.with([]).set(limit as f64);
    }
    limit.is_some_and(|limit| are_short(open, limit))
}

/// Returns `true` if more than four fifths are in use.
fn are_short(open: u64, limit: u64) -> bool {
    open > limit.saturating_sub(limit / 5)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn descriptors_are_short_above_four_fifths() {
        assert!(!are_short(97, 256) && !are_short(800, 1_000) && !are_short(97, u64::MAX));
        assert!(are_short(801, 1_000) && are_short(256, 256) && are_short(u64::MAX, u64::MAX));
    }

    #[test]
    fn the_need_grows_with_connections_and_brokers() {
        assert_eq!(check(256, 64, None), Ok(()));
        assert_eq!(check(256, 64, Some(3)), Ok(()));
        let error = check(256, 64, Some(20)).unwrap_err();
        assert_eq!(error, TooFew { limit: 256, needed: 800, brokers: 640, connections: 64 });
        assert!(error.to_string().contains("`ulimit -n 800`"), "{error}");
        assert_eq!(check(800, 64, Some(20)), Ok(()));
        assert_eq!(check(1_024, 1_000, None).unwrap_err().needed, 1_192);
        assert!(check(u64::MAX - 1, usize::MAX, Some(usize::MAX)).is_err());
    }
}
