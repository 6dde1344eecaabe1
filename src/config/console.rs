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
    /// The header with the name of a user whom a proxy has authenticated, e.g. `x-forwarded-user`. It is trusted on
    /// loopback, and elsewhere only with `proxy_secret_file`. If empty, no header is trusted.
    pub proxy_header: String,
    /// A file with the secret that the proxy sends in the header `x-aegis-proxy-secret`, relative to the configuration's
    /// folder. If empty, a proxy on the same machine needs none.
    pub proxy_secret_file: PathBuf,
    /// If true, the page of reviews shows the texts of messages. No other page ever does.
    pub show_text: bool,
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

    /// Checks the constraints that the types do not express.
    ///
    /// # Errors
    /// Returns a message if a setting contradicts another.
    pub fn check(&self) -> Result<(), String> {
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
            if !address.ip().is_loopback() && self.proxy_secret_file.as_os_str().is_empty() {
                return Err(format!(
                    "console.proxy_header is trusted and console.listen is {address}, so that others than the proxy can send \
                     it: set console.proxy_secret_file, or listen on 127.0.0.1"
                ));
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
            ("", "users", "x user", ""),
        ] {
            assert!(check(listen, credentials, header, secret).is_err(), "{listen} {header}");
        }
        assert_eq!(check("0.0.0.0:1", "users", "x-user", "secret"), Ok(()));
        assert_eq!(check("", "users", "x-user", ""), Ok(()));
        assert!(Console { history_hours: 0, ..Console::default() }.check().is_err());
    }
}
