//! The chart's rules and dashboards, and the scaler's query on a real Prometheus.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::thread;
use std::time::{Duration, Instant};

use aegis::ops::metrics::Lag;
use metrics_exporter_prometheus::PrometheusBuilder;
use serde_json::Value;

use super::{manifests, python, root};
use crate::observability::prometheus::Prometheus;
use crate::support::WAIT;

/// Rules and dashboards have one source, which the compose stack mounts too.
#[test]
fn rules_and_dashboards_are_those_of_the_stack() {
    let all = manifests(true);
    let rules = fs::read(root().join("deploy/helm/aegis/files/alerts.yml")).unwrap();
    let as_json = "import json, sys, yaml; json.dump(yaml.safe_load(sys.stdin), sys.stdout)";
    let rules: Value = serde_json::from_slice(&python(&["-c", as_json], &rules).stdout).unwrap();
    assert_eq!(all["PrometheusRule moderation-aegis"]["spec"], rules);
    let data = all["ConfigMap moderation-aegis-dashboards"]["data"].as_object().unwrap();
    let folder = root().join("deploy/helm/aegis/files/dashboards");
    assert_eq!(data.len(), fs::read_dir(&folder).unwrap().count());
    for (name, text) in data {
        let source = fs::read_to_string(folder.join(name.strip_prefix("aegis-").unwrap())).unwrap();
        assert_eq!(text.as_str().unwrap().trim_end(), source.trim_end(), "{name}");
    }
    // The rules and dashboards select the roles by job="aegis", which the monitor takes from this label.
    let monitor = &all["ServiceMonitor moderation-aegis"]["spec"];
    let label = monitor["jobLabel"].as_str().unwrap();
    let components = monitor["selector"]["matchExpressions"][0]["values"].as_array().unwrap();
    for (role, service) in [("score", "score"), ("learn", "learn"), ("serve", "serve-metrics")] {
        let labels = &all[&format!("Service moderation-aegis-{service}")]["metadata"]["labels"];
        assert_eq!(labels[label], "aegis");
        assert!(labels["app.kubernetes.io/component"] == role && components.contains(&role.into()));
    }
}

/// Serves each page under its path, to every request, until the test ends.
fn serve(pages: BTreeMap<&'static str, String>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4_096];
            let read = stream.read(&mut request).unwrap_or_default();
            let request = String::from_utf8_lossy(&request[..read]);
            let path = request.split(' ').nth(1).unwrap_or_default();
            let page = pages.get(path).map_or("", String::as_str);
            let head = format!(
                "HTTP/1.1 200 OK\r\ncontent-type: text/plain\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
                page.len()
            );
            let _ = stream.write_all((head + page).as_bytes());
        }
    });
    port
}

/// Returns the page of metrics of a process with these lags: group, partition and seconds.
fn page(lags: &[(&str, i32, u64)]) -> String {
    let recorder = PrometheusBuilder::new().build_recorder();
    let reported: Vec<_> = metrics::with_local_recorder(&recorder, || {
        let report = |(group, partition, seconds): &(&str, i32, u64)| {
            let mut lag = Lag::new(group);
            lag.report([("moderation.events", *partition, 1, Some(Duration::from_secs(*seconds)))]);
            lag
        };
        lags.iter().map(report).collect()
    });
    let page = recorder.handle().render();
    // A lag that is dropped reports 0.
    drop(reported);
    page
}

/// The scaler's query is the greatest lag of the release's own scorers: of all partitions, and neither of the learner's
/// group nor of another namespace.
#[test]
fn the_scalers_query_finds_the_lag_of_its_own_scorers() {
    let all = manifests(true);
    let trigger = &all["ScaledObject moderation-aegis-score"]["spec"]["triggers"][0];
    let query = trigger["metadata"]["query"].as_str().unwrap();
    let port = serve(BTreeMap::from([
        ("/a", page(&[("moderators", 0, 4), ("moderators", 1, 12), ("aegis-learn", 0, 900)])),
        ("/b", page(&[("moderators", 2, 31)])),
        ("/other", page(&[("moderators", 0, 5_000)])),
    ]));
    let folder = tempfile::tempdir().unwrap();
    let job = |path: &str, namespace: &str| {
        format!(
            "  - {{job_name: 'aegis{path}', metrics_path: '{path}', static_configs: [{{targets: ['127.0.0.1:{port}'], \
             labels: {{namespace: {namespace}}}}}]}}\n"
        )
    };
    let jobs = ["/a", "/b"].map(|path| job(path, "safety")).concat() + &job("/other", "elsewhere");
    let prometheus = Prometheus::scraping(folder.path(), &format!("scrape_configs:\n{jobs}"));
    let until = Instant::now() + WAIT * 3;
    while prometheus.query("count(kafka_consumergroup_lag_seconds)") != [5.0] {
        assert!(Instant::now() < until, "Prometheus has not scraped the three targets");
        // Prometheus scrapes once a second without a signal.
        thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(prometheus.query(query), [31.0]);
}
