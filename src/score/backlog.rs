//! Detects that a scorer is behind: small transactions then save no latency, and only cost the brokers.

/// A backlog is over when the panel holds at most this part of the events that it has room for.
const DRAINED_DIVISOR: usize = 8;

/// Notes whether the scorer is behind.
///
/// It is behind while more records are available than it reads. Once its panel was full, it is also behind until the panel
/// has answered nearly all of the events that it held then: they have waited for as long as those before them.
#[derive(Debug, Clone, Copy, Default)]
pub struct Backlog {
    /// `true` if more records may be available than could be read last time.
    unread: bool,
    /// `true` if the panel was full, and still holds events of that time.
    full: bool,
}

impl Backlog {
    /// Returns `true` if the scorer is behind.
    #[must_use]
    pub fn is_behind(self) -> bool {
        self.unread || self.full
    }

    /// Notes an attempt to read. `at_end` says that no record was left, `in_flight` how many events the panel holds, and
    /// `room` for how many more it has room.
    pub fn on_read(&mut self, at_end: bool, in_flight: usize, room: usize) {
        self.unread = !at_end;
        if room == 0 {
            self.full = true;
        } else if at_end && in_flight <= (in_flight + room) / DRAINED_DIVISOR {
            self.full = false;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scorer_that_reads_to_the_end_is_not_behind() {
        let mut backlog = Backlog::default();
        assert!(!backlog.is_behind());
        backlog.on_read(false, 32, 224);
        assert!(backlog.is_behind());
        // More than a drained panel holds, and the panel was never full.
        backlog.on_read(true, 60, 196);
        assert!(!backlog.is_behind());
    }

    #[test]
    fn a_scorer_whose_panel_was_full_is_behind_until_it_is_drained() {
        let mut backlog = Backlog::default();
        backlog.on_read(false, 256, 0);
        backlog.on_read(true, 200, 56);
        assert!(backlog.is_behind());
        backlog.on_read(true, 33, 223);
        assert!(backlog.is_behind());
        // Records arrived meanwhile.
        backlog.on_read(false, 32, 224);
        assert!(backlog.is_behind());
        backlog.on_read(true, 32, 224);
        assert!(!backlog.is_behind());
    }
}
