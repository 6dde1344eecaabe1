//! `[http.moderation]`

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// `[http.moderation]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Moderation {
    /// The address that answers moderation requests: a number and a port, e.g. `127.0.0.1:9466`. If empty, `aegis run`
    /// serves none, and `aegis serve` serves on 127.0.0.1:9466. An address beyond loopback needs `keys`.
    pub listen: String,
    /// The file of the API keys, which `aegis serve key` writes, relative to the configuration's folder. If empty, every
    /// program on this machine is answered, with the tenant and policy of `[defaults]`. A running server follows changes
    /// of this file.
    pub keys: PathBuf,
    /// If true, each answered request becomes an event and a decision on the topics. It needs `record_key_file`.
    pub record: bool,
    /// A file with the secret by which scorers know that a decision was made for a request, relative to the configuration's
    /// folder. All servers and all scorers of a group need the same: without it a scorer decides the event again.
    pub record_key_file: PathBuf,
    /// If true, a request is answered after all in-sync replicas have its event and decision. If false, it is answered at
    /// once, and a process that is killed loses the records that are not written yet.
    pub durable: bool,
    /// The treatment of decisions with the action `review` where an answer can only pass or block.
    pub review: OnReview,
    /// The number of texts of requests that the panel holds at a time, beside the `score.window` of the stream. The two
    /// numbers are the shares of a panel that both keep full.
    pub window: usize,
    /// The time by which a text of a request counts as older than one of the stream, in milliseconds: it runs before those
    /// that came up to this time before it, and after all that have waited longer.
    pub head_start_ms: u64,
    /// The number of texts that are accepted and not answered yet. Further requests are refused with 503.
    pub queue: usize,
    /// The memory for records that are not written yet, in MiB. Further requests are refused with 503.
    pub record_queue_mib: usize,
    /// The time within which a request is answered, in milliseconds. After it the answer is 504.
    pub deadline_ms: u64,
    /// The greatest size of a request's body, in bytes.
    pub max_body_bytes: usize,
    /// The greatest number of texts in one request.
    pub max_items: usize,
    /// The number of requests that each API key may send in a minute, with bursts of a tenth of it. The number of texts in a
    /// request does not count. There is no limit if it is 0.
    pub requests_per_minute: u32,
    /// The number of connections that are open at a time. A further one replaces the oldest that has no request in flight. If all
    /// have one, it is refused with 503.
    pub max_connections: usize,
    /// The secret read from `record_key_file`.
    #[serde(skip)]
    pub record_key: Secret,
}

/// The treatment of decisions with the action `review`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum OnReview {
    /// The text is flagged or blocked, as with the action `block`.
    Block,
    /// The text passes, and a person looks at it later.
    Pass,
}

impl Default for Moderation {
    fn default() -> Self {
        Self {
            listen: String::new(),
            keys: PathBuf::new(),
            record: true,
            record_key_file: PathBuf::new(),
            durable: false,
            review: OnReview::Block,
            window: 64,
            head_start_ms: 5_000,
            queue: 256,
            record_queue_mib: 64,
            deadline_ms: 5_000,
            max_body_bytes: 256 << 10,
            max_items: 64,
            requests_per_minute: 0,
            max_connections: 256,
            record_key: Secret::default(),
        }
    }
}

impl Moderation {
    /// The address of `aegis serve` if no other is set.
    pub const DEFAULT_LISTEN: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), 9466);
    /// The greatest size of a body that can be set: event and decision must fit into one record.
    pub const MAX_BODY: usize = 768 << 10;
    /// The greatest number of texts, connections or MiB that can be set.
    const MAX_COUNT: usize = 100_000;
    /// The longest time that can be set, in milliseconds: ten minutes.
    const MAX_TIME_MS: usize = 600_000;
    /// The least length of the secret of records, in bytes.
    const MIN_RECORD_KEY: usize = 32;

    /// Returns the address of `listen`, or `None` if it is empty.
    ///
    /// # Errors
    /// Returns a message if it is not an address.
    pub fn address(&self) -> Result<Option<SocketAddr>, String> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        let wrong = || format!("http.moderation.listen is {:?}: write e.g. 127.0.0.1:9466", self.listen);
        self.listen.parse().map(Some).map_err(|_| wrong())
    }

    /// Returns the time within which a request is answered.
    #[must_use]
    pub fn deadline(&self) -> Duration {
        Duration::from_millis(self.deadline_ms)
    }

    /// Returns the head start of requests.
    #[must_use]
    pub fn head_start(&self) -> Duration {
        Duration::from_millis(self.head_start_ms)
    }

    /// Checks the constraints that the types do not express.
    ///
    /// # Errors
    /// Returns a message if a setting contradicts another.
    pub fn check(&self) -> Result<(), String> {
        let address = self.address()?.unwrap_or(Self::DEFAULT_LISTEN);
        if !address.ip().is_loopback() && self.keys.as_os_str().is_empty() {
            return Err(format!(
                "http.moderation.listen is {address}, which others can reach without a key: set http.moderation.keys, or \
                 listen on 127.0.0.1"
            ));
        }
        let key = self.record_key.expose().len();
        if key > 0 && key < Self::MIN_RECORD_KEY {
            return Err(format!(
                "http.moderation.record_key_file has {key} bytes: write at least {}, e.g. of `openssl rand -hex 32`",
                Self::MIN_RECORD_KEY
            ));
        }
        if !self.listen.is_empty() {
            self.check_records()?;
        }
        let milliseconds = |number| usize::try_from(number).unwrap_or(usize::MAX);
        let at_most = |most| 1..=most;
        for (name, number, range) in [
            ("window", self.window, at_most(Self::MAX_COUNT)),
            ("queue", self.queue, at_most(Self::MAX_COUNT)),
            ("record_queue_mib", self.record_queue_mib, at_most(Self::MAX_COUNT)),
            ("max_items", self.max_items, at_most(Self::MAX_COUNT)),
            ("max_body_bytes", self.max_body_bytes, at_most(Self::MAX_BODY)),
            ("max_connections", self.max_connections, at_most(Self::MAX_COUNT)),
            ("deadline_ms", milliseconds(self.deadline_ms), at_most(Self::MAX_TIME_MS)),
            ("head_start_ms", milliseconds(self.head_start_ms), 0..=Self::MAX_TIME_MS),
        ] {
            if !range.contains(&number) {
                let (least, most) = (range.start(), range.end());
                return Err(format!(
                    "http.moderation.{name} is {number}: write a number from {least} to {most}"
                ));
            }
        }
        if self.max_items > self.queue {
            return Err(format!(
                "http.moderation.max_items is {}, and only {} texts are accepted at a time: raise http.moderation.queue",
                self.max_items, self.queue
            ));
        }
        Ok(())
    }

    /// Checks that requests can be recorded, if they are.
    ///
    /// # Errors
    /// Returns a message if the secret is missing, or if `durable` has no effect.
    pub fn check_records(&self) -> Result<(), String> {
        if self.record && self.record_key.expose().is_empty() {
            return Err(
                "http.moderation.record needs http.moderation.record_key_file, the same for all servers and \
                        scorers: write a secret into it, e.g. with `openssl rand -hex 32`, or set \
                        http.moderation.record = false"
                    .into(),
            );
        }
        if self.durable && !self.record {
            return Err(
                "http.moderation.durable needs http.moderation.record: nothing would be written".into()
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(change: impl FnOnce(&mut Moderation)) -> Result<(), String> {
        let mut settings = Moderation { record_key: Secret::new("k".repeat(32)), ..Moderation::default() };
        change(&mut settings);
        settings.check()
    }

    #[test]
    fn an_address_that_others_reach_needs_keys() {
        assert_eq!(with(|_| {}), Ok(()));
        assert_eq!(with(|settings| settings.listen = "[::1]:1".into()), Ok(()));
        for listen in ["0.0.0.0:1", "[::]:1", "192.168.0.1:1", "localhost:1"] {
            assert!(with(|settings| settings.listen = listen.into()).is_err(), "{listen}");
        }
        let keyed = |settings: &mut Moderation| {
            (settings.listen, settings.keys) = ("0.0.0.0:1".into(), "keys".into());
        };
        assert_eq!(with(keyed), Ok(()));
    }

    #[test]
    fn contradictions_are_refused() {
        let wrong: [fn(&mut Moderation); 11] = [
            |settings| settings.queue = 0,
            |settings| settings.max_items = 1_000,
            |settings| settings.max_body_bytes = 1 << 20,
            |settings| settings.deadline_ms = 0,
            |settings| settings.record_key = Secret::new("short"),
            |settings| {
                (settings.listen, settings.record_key) = ("127.0.0.1:1".into(), Secret::default());
            },
            |settings| {
                (settings.listen, settings.durable, settings.record) = ("127.0.0.1:1".into(), true, false)
            },
            |settings| settings.window = 0,
            |settings| settings.deadline_ms = u64::MAX,
            |settings| settings.head_start_ms = u64::MAX,
            |settings| settings.record_queue_mib = usize::MAX,
        ];
        for (at, change) in wrong.into_iter().enumerate() {
            assert!(with(change).is_err(), "{at}");
        }
    }
}
