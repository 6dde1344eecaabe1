//! The figures that no topic has, read from the /metrics of this process and of others: regret and its bound, the health of
//! experts, the estimates of the report.

use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use hyper::{Request, header};
use metrics_exporter_prometheus::PrometheusHandle;

use crate::http::{Client, USER_AGENT, tls};

/// The metrics that are read. All are gauges with at most four labels.
const WANTED: &[&str] = &[
    "aegis_policy_regret",
    "aegis_policy_regret_bound",
    "aegis_expert_down",
    "aegis_expert_disabled",
    "aegis_report_estimate",
    "aegis_report_recall_target",
    "aegis_report_alarm",
];
/// The greatest size of a page of metrics, in bytes.
const MAX_PAGE: usize = 8 << 20;
/// The greatest number of values that are kept.
const MAX_VALUES: usize = 10_000;
/// The time within which another process answers.
const TIMEOUT: Duration = Duration::from_secs(3);

/// A metric with its labels.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Key {
    /// The name.
    pub name: String,
    /// The labels, by name.
    pub labels: BTreeMap<String, String>,
}

/// The values of the wanted metrics.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Gauges(BTreeMap<Key, f64>);

/// Parses a line of the text format. Returns `None` for a line that has no wanted metric.
fn parse(line: &str) -> Option<(Key, f64)> {
    let end = line.find(['{', ' '])?;
    let (name, rest) = line.split_at(end);
    if !WANTED.contains(&name) {
        return None;
    }
    let mut labels = BTreeMap::new();
    let mut rest = rest;
    if let Some(inner) = rest.strip_prefix('{') {
        let mut inner = inner;
        loop {
            inner = inner.trim_start_matches(',');
            if let Some(after) = inner.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = inner.split_once("=\"")?;
            let (value, after) = quoted(after)?;
            labels.insert(label.to_owned(), value);
            inner = after;
        }
    }
    let value = rest.split_whitespace().next()?.parse().ok()?;
    Some((Key { name: name.to_owned(), labels }, value))
}

/// Returns the text up to the closing quote, unescaped, and the rest behind the quote.
fn quoted(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut letters = text.char_indices();
    while let Some((at, letter)) = letters.next() {
        match letter {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => value.push(match letters.next()?.1 {
                'n' => '\n',
                other => other,
            }),
            other => value.push(other),
        }
    }
    None
}

impl Gauges {
    /// Adds the wanted values of a page. Of a gauge that several processes have, the greatest counts: processes that do not
    /// own a policy have none, or 0.
    fn add(&mut self, page: &str) {
        for (key, value) in page.lines().filter_map(parse) {
            if self.0.len() >= MAX_VALUES && !self.0.contains_key(&key) {
                return;
            }
            let known = self.0.entry(key).or_insert(value);
            *known = known.max(value);
        }
    }

    /// Returns the value of a metric whose labels include these.
    #[must_use]
    pub fn get(&self, name: &str, labels: &[(&str, &str)]) -> Option<f64> {
        let is = |key: &Key| {
            key.name == name
                && labels.iter().all(|(label, value)| key.labels.get(*label).is_some_and(|of| of == value))
        };
        self.0.iter().find(|(key, _)| is(key)).map(|(_, value)| *value).filter(|value| value.is_finite())
    }

    /// Returns the values of `label` for which a gauge is 1, among those with another label's value.
    pub fn with<'a>(
        &'a self,
        name: &'a str,
        other: &'a str,
        value: &'a str,
        label: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        let is = move |key: &&Key| key.name == name && key.labels.get(other).is_some_and(|of| of == value);
        let set = self.0.iter().filter(|(_, value)| **value == 1.0).map(|(key, _)| key);
        set.filter(is).filter_map(move |key| key.labels.get(label).map(String::as_str))
    }

    /// Returns `true` if nothing was read.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Reads the gauges.
pub struct Reader {
    own: Option<PrometheusHandle>,
    addresses: Vec<String>,
    client: Option<Client>,
}

impl Reader {
    /// Creates a reader of this process's metrics, if it has any, and of those at `addresses`.
    ///
    /// # Errors
    /// Returns a message if the client of HTTP requests cannot be created.
    pub fn new(own: Option<PrometheusHandle>, addresses: &[String]) -> Result<Self, String> {
        let client = match addresses {
            [] => None,
            _ => Some(Client::new(tls::connector(Vec::new(), None)?, TIMEOUT)?),
        };
        Ok(Self { own, addresses: addresses.to_vec(), client })
    }

    /// Reads all. A process that does not answer is logged, and its values are missing.
    #[must_use]
    pub fn read(&self) -> Gauges {
        let mut gauges = Gauges::default();
        if let Some(own) = &self.own {
            gauges.add(&own.render());
        }
        for address in &self.addresses {
            match self.fetch(address) {
                Ok(page) => gauges.add(&String::from_utf8_lossy(&page)),
                Err(reason) => {
                    tracing::debug!(address, reason, "the metrics of console.metrics cannot be read")
                }
            }
        }
        gauges
    }

    fn fetch(&self, address: &str) -> Result<Bytes, String> {
        let client = self.client.as_ref().ok_or("there is no client")?;
        let request = Request::get(address).header(header::USER_AGENT, USER_AGENT).body(Bytes::new());
        let request = request.map_err(|error| error.to_string())?;
        let response = client.send_blocking(request, MAX_PAGE, TIMEOUT).map_err(|error| error.to_string())?;
        match response.status().is_success() {
            true => Ok(response.into_body()),
            false => Err(format!("the status is {}", response.status())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gauges_are_read_from_the_text_format() {
        let mut gauges = Gauges::default();
        gauges.add(
            "# HELP aegis_policy_regret Loss\n# TYPE aegis_policy_regret gauge\n\
             aegis_policy_regret{policy=\"default\"} 3.5\naegis_policy_regret{policy=\"a\\\"b,}\"} 4\n\
             aegis_expert_down{expert=\"x\"} NaN\nprocess_open_fds 12\naegis_policy_regret{policy=\"cut\naegis_policy_regret{\n",
        );
        gauges.add("aegis_policy_regret{policy=\"default\"} 0\n");
        let of = |policy: &str| gauges.get("aegis_policy_regret", &[("policy", policy)]);
        assert_eq!((of("default"), of("a\"b,}"), of("cut")), (Some(3.5), Some(4.0), None));
        assert_eq!(gauges.get("aegis_expert_down", &[("expert", "x")]), None, "not a number");
        assert_eq!(gauges.get("process_open_fds", &[]), None, "it is not wanted");
    }

    #[test]
    fn the_metrics_of_this_process_are_read() {
        let recorder = crate::ops::metrics::builder().unwrap().build_recorder();
        let handle = recorder.handle();
        metrics::with_local_recorder(&recorder, || crate::ops::metrics::REGRET.with(["p"]).set(2.0));
        let gauges = Reader::new(Some(handle), &[]).unwrap().read();
        assert_eq!(gauges.get("aegis_policy_regret", &[("policy", "p")]), Some(2.0));
    }
}
