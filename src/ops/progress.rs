//! Progress of what takes long: a bar on a terminal, plain lines elsewhere.

use std::io::{self, IsTerminal, Write};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Lines come at least this often while there is progress.
const EVERY: Duration = Duration::from_secs(5);

/// Shows how far something has come, on standard error.
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
    /// Begins; without a total only the count is shown. `what` is a few words, e.g. `reading the ledger`.
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

    /// So many are done, all in all.
    pub fn set(&self, done: usize) {
        match &self.shown {
            Shown::Bar(bar) => bar.set_position(done as u64),
            Shown::Lines(lines) => {
                lines.lock().unwrap_or_else(PoisonError::into_inner).set(done as u64, Instant::now());
            }
        }
    }

    /// All is done.
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

/// Plain lines, each tenth or every five seconds.
#[derive(Debug)]
struct Lines<W> {
    to: W,
    what: String,
    total: Option<u64>,
    done: u64,
    started: Instant,
    said: (u64, Instant),
}

impl<W: Write> Lines<W> {
    fn new(to: W, what: &str, total: Option<u64>, now: Instant) -> Self {
        Self {
            to,
            what: what.to_owned(),
            total: total.filter(|total| *total > 0),
            done: 0,
            started: now,
            said: (0, now),
        }
    }

    fn tenth(&self) -> u64 {
        self.total
            .map_or(0, |total| u64::try_from(u128::from(self.done) * 10 / u128::from(total)).unwrap_or(10))
    }

    fn say(&mut self, now: Instant) {
        self.said = (self.tenth(), now);
        let Self { what, done, total, .. } = self;
        // Nobody to tell is no reason to stop.
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
        let (tenth, last) = self.said;
        if self.tenth() > tenth || now.saturating_duration_since(last) >= EVERY {
            self.say(now);
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

    fn said(lines: Lines<Vec<u8>>) -> Vec<String> {
        String::from_utf8(lines.to).unwrap().lines().map(str::to_owned).collect()
    }

    #[test]
    fn a_line_each_tenth() {
        let now = Instant::now();
        let mut lines = Lines::new(Vec::new(), "reading", Some(1_000), now);
        (1..=1_000).for_each(|done| lines.set(done, now));
        lines.finish(now);
        let said = said(lines);
        assert_eq!(said.len(), 11);
        assert_eq!(said.first().unwrap(), "reading: 100 of 1000 (10 %)");
        assert_eq!(said.last().unwrap(), "reading: 1000 in 0.0 s");
    }

    #[test]
    fn a_line_each_five_seconds() {
        let start = Instant::now();
        let mut lines = Lines::new(Vec::new(), "waiting", None, start);
        for second in 0..=11 {
            lines.set(2 * second + 2, start + Duration::from_secs(second));
        }
        assert_eq!(said(lines), ["waiting: 12", "waiting: 22"]);
    }

    #[test]
    fn a_total_of_zero_or_too_small_is_no_trouble() {
        let now = Instant::now();
        let mut lines = Lines::new(Vec::new(), "nothing", Some(0), now);
        lines.set(u64::MAX, now);
        let mut over = Lines::new(Vec::new(), "more", Some(1), now);
        over.set(u64::MAX, now);
        assert_eq!(said(over), [format!("more: {} of 1 ({} %)", u64::MAX, u128::from(u64::MAX) * 100)]);
    }
}
