//! A real Prometheus for the test: Debian's, on a free port, with its own data folder.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use aegis::http::{Client, tls};
use serde_json::Value;

use crate::support::free_port;

/// A running Prometheus, which ends with the test.
pub struct Prometheus {
    child: Child,
    port: u16,
    bin: PathBuf,
}

impl Prometheus {
    /// Starts a Prometheus that scrapes `target` and evaluates `rules` every second.
    pub fn start(folder: &Path, target: &str, rules: &str) -> Self {
        fs::write(folder.join("alerts.yml"), rules).unwrap();
        let targets = format!(
            "rule_files: [alerts.yml]\nscrape_configs: [{{job_name: aegis, static_configs: [{{targets: ['{target}']}}]}}]\n"
        );
        Self::scraping(folder, &targets)
    }

    /// Starts a Prometheus with further lines of configuration. It scrapes every second.
    pub fn scraping(folder: &Path, targets: &str) -> Self {
        let bin = bin();
        let config = folder.join("prometheus.yml");
        fs::write(&config, format!("global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n{targets}"))
            .unwrap();
        let port = free_port();
        let log = fs::File::create(folder.join("prometheus.log")).unwrap();
        let child = Command::new(bin.join("prometheus"))
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", folder.join("tsdb").display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        Self { child, port, bin }
    }

    /// Returns the output of `promtool` with these arguments and `input`.
    pub fn promtool(&self, arguments: &[&str], input: &Path) -> Output {
        let input = fs::File::open(input).unwrap();
        Command::new(self.bin.join("promtool")).args(arguments).stdin(input).output().unwrap()
    }

    /// Returns `data` of a response of its API, or `None` while it does not respond.
    pub fn ask(&self, path: &str) -> Option<Value> {
        let text = get(&format!("http://127.0.0.1:{}/api/v1/{path}", self.port))?;
        let answer: Value = serde_json::from_str(&text).ok()?; // a text while it starts
        assert_eq!(answer["status"], "success", "{path}: {answer}");
        Some(answer["data"].clone())
    }

    /// Returns the current values of a query that are numbers.
    pub fn query(&self, query: &str) -> Vec<f64> {
        let encoded = percent_encoding::utf8_percent_encode(query, percent_encoding::NON_ALPHANUMERIC);
        let Some(data) = self.ask(&format!("query?query={encoded}")) else { return Vec::new() };
        let values = data["result"].as_array().unwrap().iter();
        let values = values.map(|series| series["value"][1].as_str().unwrap().parse::<f64>().unwrap());
        values.filter(|value| !value.is_nan()).collect()
    }
}

/// Returns the folder of its programs.
fn bin() -> PathBuf {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let found = Command::new("bash").arg(root.join("tests/prometheus/fetch.sh")).output().unwrap();
    assert!(found.status.success(), "no Prometheus: {}", String::from_utf8_lossy(&found.stderr));
    PathBuf::from(String::from_utf8(found.stdout).unwrap().trim())
}

/// Returns the output of `promtool test rules` for this file.
pub fn test_rules(tests: &Path) -> Output {
    Command::new(bin().join("promtool")).args(["test", "rules"]).arg(tests).output().unwrap()
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Returns the body of a response with any status, or `None` if there is no response.
pub fn get(url: &str) -> Option<String> {
    let timeout = Duration::from_secs(60);
    let client = Client::new(tls::connector(Vec::new(), None).ok()?, timeout).ok()?;
    let request = hyper::Request::get(url).body(bytes::Bytes::new()).ok()?;
    let response = client.send_blocking(request, 64 << 20, timeout).ok()?;
    String::from_utf8(response.into_body().to_vec()).ok()
}
