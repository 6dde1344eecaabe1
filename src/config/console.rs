//! `[console]`

use std::net::SocketAddr;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Secret;

/// `[console]`
#[derive(Debug, Clone, Serialize, Deserialize, JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct Console {
    /// The address that serves the console: a number and a port, e.g. `127.0.0.1:9465`. If empty, `aegis run` serves
    /// none, and `aegis console` serves it on 127.0.0.1:9465. An address beyond loopback needs `credentials`.
    pub listen: String,
    /// The file of the users, which `aegis console user` writes, relative to the configuration's folder. If empty, everyone
    /// who reaches the address is the reviewer `local`. A running console follows changes of this file.
    pub credentials: PathBuf,
    /// The header with the name of a user whom a proxy has authenticated, e.g. `x-forwarded-user`. It needs
    /// `proxy_secret_file`. If empty, no header is trusted.
    pub proxy_header: String,
    /// A file with the secret that the proxy sends in the header `x-aegis-proxy-secret`, relative to the configuration's
    /// folder. `proxy_header` needs it: without a secret, a page of another site could send the header to a console on the
    /// same machine.
    pub proxy_secret_file: PathBuf,
    /// If true, the page of reviews shows the texts of messages. No other page ever does.
    pub show_text: bool,
    /// If true, the page of reviews shows the opinion of the experts only after the reviewer has chosen.
    pub hide_opinion: bool,
    /// The number of open review requests in memory. Of a full queue the oldest uncertain ones are dropped first and audits
    /// last, and all are counted.
    pub queue_requests: usize,
    /// The age up to which review requests are read, in days. 0 means all that their topic has.
    pub queue_days: u32,
    /// The time for which a request belongs to a reviewer, in milliseconds. Activity extends it.
    pub claim_ms: u64,
    /// The share of review requests that two reviewers answer, and a third one if they differ, from 0 to 1.
    pub second_opinion_rate: f64,
    /// The share of the requests served to a reviewer whose answer is known from a label of source `gold`, from 0 to 1.
    pub gold_rate: f64,
    /// The hours before the start that charts begin with.
    pub history_hours: u32,
    /// The addresses of the /metrics of other processes, e.g. `http://learn:9464/metrics`, for the figures that no topic
    /// has: regret, health of experts, estimates of the report. A console inside of `aegis run` reads its own as well.
    pub metrics: Vec<String>,
    /// The secret read from `proxy_secret_file`.
    #[serde(skip)]
    pub proxy_secret: Secret,
}

impl Default for Console {
    fn default() -> Self {
        Self {
            listen: String::new(),
            credentials: PathBuf::new(),
            proxy_header: String::new(),
            proxy_secret_file: PathBuf::new(),
            show_text: false,
            hide_opinion: true,
            queue_requests: 100_000,
            queue_days: 0,
            claim_ms: 600_000,
            second_opinion_rate: 0.0,
            gold_rate: 0.0,
            history_hours: 6,
            metrics: Vec::new(),
            proxy_secret: Secret::default(),
        }
    }
}

impl Console {
    /// The address of `aegis console` if no other is set.
    pub const DEFAULT_LISTEN: SocketAddr =
        SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9465);
    /// The greatest number of hours of charts.
    pub const MAX_HISTORY_HOURS: u32 = 48;

    /// Returns the address of `listen`, or `None` if it is empty.
    ///
    /// # Errors
    /// Returns a message if it is not an address.
    pub fn address(&self) -> Result<Option<SocketAddr>, String> {
        if self.listen.is_empty() {
            return Ok(None);
        }
        let parsed = self.listen.parse().map(Some);
        parsed.map_err(|_| {
            format!("console.listen is {:?}: write an address and a port, e.g. 127.0.0.1:9465", self.listen)
        })
    }

    /// The least time of a claim, in milliseconds: the brokers may take half of it to confirm an answer.
    pub const MIN_CLAIM_MS: u64 = 60_000;

    /// Checks the settings of reviews.
    fn check_reviews(&self) -> Result<(), String> {
        for (key, share) in [("second_opinion_rate", self.second_opinion_rate), ("gold_rate", self.gold_rate)]
        {
            if !(0.0..=1.0).contains(&share) {
                return Err(format!("console.{key} is a share of requests: write a number from 0 to 1"));
            }
        }
        if self.claim_ms < Self::MIN_CLAIM_MS {
            return Err(format!(
                "console.claim_ms is {}: write at least {}, because an answer may take half of it to be confirmed",
                self.claim_ms,
                Self::MIN_CLAIM_MS
            ));
        }
        if self.queue_requests == 0 {
            return Err(
                "console.queue_requests is 0, and no request could be reviewed: write at least 1".into()
            );
        }
        Ok(())
    }

    /// Checks the constraints that the types do not express.
    ///
    /// # Errors
    /// Returns a message if a setting contradicts another.
    pub fn check(&self) -> Result<(), String> {
        self.check_reviews()?;
        let address = self.address()?.unwrap_or(Self::DEFAULT_LISTEN);
        if !address.ip().is_loopback() && self.credentials.as_os_str().is_empty() {
            return Err(format!(
                "console.listen is {address}, which others can reach without logging in: set \
                 console.credentials, or listen on 127.0.0.1"
            ));
        }
        if !self.proxy_header.is_empty() {
            if self.credentials.as_os_str().is_empty() {
                return Err("console.proxy_header needs console.credentials, which has the roles of the proxy's users: \
                            `aegis console user add NAME --kind proxy`"
                    .into());
            }
            if self.proxy_secret_file.as_os_str().is_empty() {
                return Err("console.proxy_header needs console.proxy_secret_file: without a secret, others than the proxy \
                            can send the header, also a page of another site whose name resolves to this machine"
                    .into());
            }
            if axum::http::HeaderName::from_bytes(self.proxy_header.as_bytes()).is_err() {
                return Err("console.proxy_header is not the name of a header".into());
            }
        }
        if self.history_hours == 0 || self.history_hours > Self::MAX_HISTORY_HOURS {
            return Err(format!("console.history_hours is a number from 1 to {}", Self::MAX_HISTORY_HOURS));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_others_reach_needs_credentials() {
        let check = |listen: &str, credentials: &str, header: &str, secret: &str| {
            Console {
                listen: listen.into(),
                credentials: credentials.into(),
                proxy_header: header.into(),
                proxy_secret_file: secret.into(),
                ..Console::default()
            }
            .check()
        };
        assert_eq!(check("", "", "", ""), Ok(()));
        assert_eq!(check("[::1]:1", "", "", ""), Ok(()));
        for (listen, credentials, header, secret) in [
            ("0.0.0.0:1", "", "", ""),
            ("192.168.0.1:1", "", "", ""),
            ("[::]:1", "", "", ""),
            ("localhost:1", "", "", ""),
            ("", "", "x-user", ""),
            ("0.0.0.0:1", "users", "x-user", ""),
            ("", "users", "x-user", ""),
            ("", "users", "x user", "secret"),
        ] {
            assert!(check(listen, credentials, header, secret).is_err(), "{listen} {header}");
        }
        assert_eq!(check("0.0.0.0:1", "users", "x-user", "secret"), Ok(()));
        assert_eq!(check("", "users", "x-user", "secret"), Ok(()));
        assert!(Console { history_hours: 0, ..Console::default() }.check().is_err());
        assert!(Console { gold_rate: 1.5, ..Console::default() }.check().is_err());
        assert!(Console { second_opinion_rate: f64::NAN, ..Console::default() }.check().is_err());
        assert!(Console { claim_ms: 1_000, ..Console::default() }.check().is_err());
        assert!(Console { queue_requests: 0, ..Console::default() }.check().is_err());
    }
}
