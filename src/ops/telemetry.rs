//! Logs: text or JSON on standard error, with times in UTC.
//!
//! The text of messages is never logged at any level, and never part of an error that may be logged.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use thiserror::Error;
use tracing_subscriber::EnvFilter;

use crate::ops::stdout::Stderr;

/// The format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Format {
    /// Lines for people.
    #[default]
    Text,
    /// One JSON object per line.
    Json,
}

/// Errors of setting up logging.
#[derive(Debug, Error)]
pub enum TelemetryError {
    /// The filter cannot be parsed.
    #[error(
        "the log filter `{filter}` cannot be read ({why}): write e.g. `info` or `info,aegis::learn=debug`"
    )]
    Filter {
        /// The configured filter.
        filter: String,
        /// The error of the parser.
        why: String,
    },
    /// Logging has been set up before.
    #[error("logging was set up before: {0}")]
    Twice(String),
}

fn filter(words: &str) -> Result<EnvFilter, TelemetryError> {
    EnvFilter::builder()
        .parse(words)
        .map_err(|error| TelemetryError::Filter { filter: words.to_owned(), why: error.to_string() })
}

/// Sets up logging for the process. Colours are used only on a terminal.
///
/// # Errors
/// Returns an error if the filter cannot be parsed or logging was set up before.
pub fn init(format: Format, words: &str) -> Result<(), TelemetryError> {
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let lines =
        tracing_subscriber::fmt().with_env_filter(filter(words)?).with_ansi(terminal).with_writer(|| Stderr);
    let set = match format {
        Format::Text => lines.try_init(),
        Format::Json => lines.json().flatten_event(true).try_init(),
    };
    set.map_err(|error| TelemetryError::Twice(error.to_string()))
}

/// The number of kinds of lines that are remembered. When it is reached, all are forgotten and may be logged again.
const MAX_KINDS: usize = 1_024;

/// Limits repeated log lines to one of each kind per interval.
///
/// ```
/// # use std::time::Duration;
/// # let repeats = aegis::ops::telemetry::Repeats::new(Duration::from_secs(10));
/// if let Some(suppressed) = repeats.allow("NotAvro") {
///     tracing::warn!(suppressed, "events that are not Avro go to the dead letters");
/// }
/// ```
#[derive(Debug)]
pub struct Repeats {
    interval: Duration,
    seen: Mutex<HashMap<String, (Instant, u64)>>,
}

impl Repeats {
    /// Allows one line of each kind per `interval`.
    #[must_use]
    pub fn new(interval: Duration) -> Self {
        Self { interval, seen: Mutex::default() }
    }

    /// Returns the number of lines of this kind suppressed since the last, or `None` if this one is to be suppressed.
    pub fn allow(&self, kind: &str) -> Option<u64> {
        self.allow_at(kind, Instant::now())
    }

    fn allow_at(&self, kind: &str, now: Instant) -> Option<u64> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((last, suppressed)) = seen.get_mut(kind) {
            if now.saturating_duration_since(*last) < self.interval {
                *suppressed += 1;
                return None;
            }
            *last = now;
            return Some(std::mem::take(suppressed));
        }
        if seen.len() >= MAX_KINDS {
            seen.clear();
        }
        seen.insert(kind.to_owned(), (now, 0));
        Some(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters() {
        assert!(filter("info,aegis::learn=debug").is_ok());
        let wrong = filter("aegis=loud").err().map(|error| error.to_string());
        assert!(wrong.is_some_and(|text| text.contains("`aegis=loud`")));
    }

    #[test]
    fn repeats_are_counted_not_logged() {
        let repeats = Repeats::new(Duration::from_secs(10));
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(repeats.allow_at("a", start), Some(0));
        assert_eq!(repeats.allow_at("a", after(1)), None);
        assert_eq!(repeats.allow_at("b", after(1)), Some(0));
        assert_eq!(repeats.allow_at("a", after(9)), None);
        assert_eq!(repeats.allow_at("a", after(10)), Some(2));
        assert_eq!(repeats.allow_at("a", after(19)), None);
    }

    #[test]
    fn the_number_of_kinds_is_bounded() {
        let repeats = Repeats::new(Duration::from_secs(10));
        let now = Instant::now();
        for kind in 0..MAX_KINDS * 3 {
            assert_eq!(repeats.allow_at(&kind.to_string(), now), Some(0));
        }
        assert!(repeats.seen.lock().unwrap().len() <= MAX_KINDS);
    }
}
