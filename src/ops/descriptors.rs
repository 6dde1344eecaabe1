//! File descriptors: connections, files and pipes of this process. Each of them takes one, and without a free one the
//! brokers cannot be reached any more.

use std::fs;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use thiserror::Error;

use super::metrics::{MAX_FDS, OPEN_FDS};

/// Descriptors that are kept for brokers, the store, the experts' files and pipes: measured 60 to 80 with one broker,
/// and some six more for each further one.
pub const OWN: u64 = 192;
/// The soft limit is raised up to this: more is never needed, and some systems refuse to have it unlimited.
const ENOUGH: u64 = 65_536;

/// The process may have too few descriptors.
#[derive(Debug, Error)]
#[error(
    "this process may open {limit} files and connections at a time, and needs {needed}: {OWN} of its own and \
     {connections} for http.max_connections; raise the limit (`ulimit -n {needed}`, LimitNOFILE of systemd, ulimits of a \
     container), or lower http.max_connections"
)]
pub struct TooFew {
    limit: u64,
    needed: u64,
    connections: usize,
}

/// Raises the soft limit on descriptors as far as the system lets this process. Returns the limit then.
///
/// # Errors
/// Returns an error if that is less than this process needs with so many connections to health and metrics.
pub fn secure(connections: usize) -> Result<u64, TooFew> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let raised = maximum.unwrap_or(ENOUGH).min(ENOUGH);
    let mut limit = current.unwrap_or(u64::MAX);
    if limit < raised && setrlimit(Resource::Nofile, Rlimit { current: Some(raised), maximum }).is_ok() {
        limit = raised;
    }
    let needed = OWN.saturating_add(connections as u64);
    if limit < needed { Err(TooFew { limit, needed, connections }) } else { Ok(limit) }
}

/// Brings the gauges up to date.
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
pub(super) fn gauge() {
    let limit = getrlimit(Resource::Nofile).current;
    let folder = if cfg!(target_os = "linux") { "/proc/self/fd" } else { "/dev/fd" };
    // Without a free descriptor the folder cannot be opened: all are in use. Open, it is one of those it lists.
    let open = fs::read_dir(folder).ok().map(|entries| entries.count().saturating_sub(1) as u64);
    if let Some(open) = open.or(limit) {
        OPEN_FDS.with([]).set(open as f64);
    }
    if let Some(limit) = limit {
        MAX_FDS.with([]).set(limit as f64);
    }
}
