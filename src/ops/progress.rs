//! Progress of long operations: a bar on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// The longest time between two lines while there is progress.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

/// Shows the progress of an operation on standard error.
#[derive(Debug)]
pub struct Progress {
    shown: Shown,
}

#[derive(Debug)]
enum Shown {
    Bar(ProgressBar),
    Lines(Mutex<Lines<io::Stderr>>),
}

impl Progress {
    /// Starts. `what` names the operation, e.g. `reading the ledger`. Without a total only the count is shown.
    #[must_use]
    pub fn start(what: &str, total: Option<usize>) -> Self {
        let total = total.map(|total| total as u64);
        let shown = if io::stderr().is_terminal() {
            Shown::Bar(bar(what, total))
        } else {
            Shown::Lines(Mutex::new(Lines::new(io::stderr(), what, total, Instant::now())))
        };
        Self { shown }
    }

    /// Sets the count of finished items.
    pub fn set(&self, done: usize) {
        match &self.shown {
            Shown::Bar(bar) => bar.set_position(done as u64),
            Shown::Lines(lines) => {
                lines.lock().unwrap_or_else(PoisonError::into_inner).set(done as u64, Instant::now());
            }
        }
    }

    /// Shows the end of the operation.
    pub fn finish(self) {
        match self.shown {
            Shown::Bar(bar) => bar.finish(),
            Shown::Lines(lines) => {
                lines.into_inner().unwrap_or_else(PoisonError::into_inner).finish(Instant::now())
            }
        }
    }
}

fn bar(what: &str, total: Option<u64>) -> ProgressBar {
    let (bar, template) = match total {
        Some(total) => {
            (ProgressBar::new(total), "{msg:24} {bar:32} {human_pos}/{human_len} {per_sec}, {eta} left")
        }
        None => (ProgressBar::new_spinner(), "{msg:24} {spinner} {human_pos} {per_sec}"),
    };
    let style = ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar());
    bar.with_style(style).with_message(what.to_owned())
}

/// Plain lines, one for each tenth of the total, and at least every five seconds.
#[derive(Debug)]
struct Lines<W> {
    to: W,
    what: String,
    total: Option<u64>,
    done: u64,
    started: Instant,
    /// The tenth and the time of the last line.
    last: (u64, Instant),
}

impl<W: Write> Lines<W> {
    fn new(to: W, what: &str, total: Option<u64>, now: Instant) -> Self {
        Self {
            to,
            what: what.to_owned(),
            total: total.filter(|total| *total > 0),
            done: 0,
            started: now,
            last: (0, now),
        }
    }

    fn tenth(&self) -> u64 {
        self.total
            .map_or(0, |total| u64::try_from(u128::from(self.done) * 10 / u128::from(total)).unwrap_or(10))
    }

    fn print(&mut self, now: Instant) {
        self.last = (self.tenth(), now);
        let Self { what, done, total, .. } = self;
        // Progress is not worth an error.
        let _ = match total {
            Some(total) => {
                let percent = u128::from(*done) * 100 / u128::from(*total);
                writeln!(self.to, "{what}: {done} of {total} ({percent} %)")
            }
            None => writeln!(self.to, "{what}: {done}"),
        };
    }

    fn set(&mut self, done: u64, now: Instant) {
        self.done = done;
        let (tenth, last) = self.last;
        if self.tenth() > tenth || now.saturating_duration_since(last) >= LINE_INTERVAL {
            self.print(now);
        }
    }

    fn finish(&mut self, now: Instant) {
        let seconds = now.saturating_duration_since(self.started).as_secs_f64();
        let _ = writeln!(self.to, "{}: {} in {seconds:.1} s", self.what, self.done);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn printed(lines: Lines<Vec<u8>>) -> Vec<String> {
        String::from_utf8(lines.to).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn one_line_for_each_tenth() {
        let now = Instant::now();
        let mut lines = Lines::new(Vec::new(), "reading", Some(1_000), now);
        (1..=1_000).for_each(|done| lines.set(done, now));
        lines.finish(now);
        let printed = printed(lines);
        assert_eq!(printed.len(), 11);
        assert_eq!(printed.first().unwrap(), "reading: 100 of 1000 (10 %)");
        assert_eq!(printed.last().unwrap(), "reading: 1000 in 0.0 s");
    }

    #[test]
    fn one_line_every_five_seconds() {
        let start = Instant::now();
        let mut lines = Lines::new(Vec::new(), "waiting", None, start);
        for second in 0..=11 {
            lines.set(2 * second + 2, start + Duration::from_secs(second));
        }
        assert_eq!(printed(lines), ["waiting: 12", "waiting: 22"]);
    }

    #[test]
    fn the_total_may_be_zero_or_too_small() {
        let now = Instant::now();
        let mut lines = Lines::new(Vec::new(), "nothing", Some(0), now);
        lines.set(u64::MAX, now);
        let mut over = Lines::new(Vec::new(), "more", Some(1), now);
        over.set(u64::MAX, now);
        assert_eq!(printed(over), [format!("more: {} of 1 ({} %)", u64::MAX, u128::from(u64::MAX) * 100)]);
    }
}
