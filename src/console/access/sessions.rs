//! The sessions of browsers that have logged in.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use crate::access::secrets::{self, Digest};

/// The time for which a session lasts.
pub const MAX_AGE: Duration = Duration::from_secs(12 * 3_600);
/// The number of sessions. A further one replaces the oldest.
const MAX_SESSIONS: usize = 1_024;

/// A session: the user, and the fingerprint of the entry that the user logged in with.
struct Kept {
    name: String,
    fingerprint: Digest,
    since: Instant,
}

/// The sessions, by the digest of their cookie, so that a dump of this memory does not give one away.
#[derive(Default)]
pub struct Sessions(HashMap<Digest, Kept>);

impl Sessions {
    /// Begins a session. Returns the value of its cookie.
    pub fn begin(&mut self, name: &str, fingerprint: Digest, now: Instant) -> String {
        self.0.retain(|_, kept| now.saturating_duration_since(kept.since) < MAX_AGE);
        while self.0.len() >= MAX_SESSIONS {
            let oldest = self.0.iter().min_by_key(|(_, kept)| kept.since).map(|(digest, _)| *digest);
            let Some(oldest) = oldest else { break };
            self.0.remove(&oldest);
        }
        let cookie = secrets::hex(&secrets::random());
        let kept = Kept { name: name.to_owned(), fingerprint, since: now };
        self.0.insert(secrets::digest(cookie.as_bytes()), kept);
        cookie
    }

    /// Returns the user of a cookie, and the fingerprint of the entry that the user logged in with.
    pub fn find(&self, cookie: &str, now: Instant) -> Option<(&str, Digest)> {
        let kept = self.0.get(&secrets::digest(cookie.as_bytes()))?;
        let lasts = now.saturating_duration_since(kept.since) < MAX_AGE;
        lasts.then_some((kept.name.as_str(), kept.fingerprint))
    }

    /// Ends a session.
    pub fn end(&mut self, cookie: &str) {
        self.0.remove(&secrets::digest(cookie.as_bytes()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sessions_end_and_are_bounded() {
        let (mut sessions, now) = (Sessions::default(), Instant::now());
        let first = sessions.begin("ann", [1; 32], now);
        assert_eq!(sessions.find(&first, now), Some(("ann", [1; 32])));
        assert_eq!(sessions.find("", now), None);
        assert_eq!(sessions.find(&first, now + MAX_AGE), None, "it is over");
        let second = sessions.begin("bob", [2; 32], now);
        sessions.end(&second);
        assert_eq!(sessions.find(&second, now), None);
        for _ in 0..MAX_SESSIONS {
            sessions.begin("eve", [3; 32], now + Duration::from_secs(1));
        }
        assert_eq!(sessions.0.len(), MAX_SESSIONS);
        assert_eq!(sessions.find(&first, now), None, "the oldest was replaced");
    }
}
