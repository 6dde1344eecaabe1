//! Dashboards and alerts on real data: a real Prometheus scrapes a running Aegis under load on a real Apache Kafka,
//! every panel's query and every rule is evaluated, and alerts fire on faults that are caused here.

mod alerts;
mod contract;
pub mod prometheus;
use crate::support;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use aegis::core::event::Event;
use aegis::core::label::{Finding, Label};
use aegis::kafka::Produced;
use aegis::ops::metrics;
use prometheus::{Prometheus, get};
use serde_json::Value;
use sha2::{Digest, Sha256};
use support::flow::{event, event_record, label, label_record, raw, send};
use support::{free_port, kafka};

/// The timeout of every step. The machine may be busy.
const PATIENCE: Duration = Duration::from_secs(180);

/// Panels without data in this run, with the reason.
const EMPTY: &[(&str, &str)] = &[
    ("aegis_kafka_errors_total", "no transaction fails here"),
    ("aegis_store_rebuilds_total", "the store is never lost here"),
    ("aegis_store_errors_total", "the store never fails here"),
    ("aegis_predictor_rejected_total", "both roles are of one version"),
    ("aegis_records_lost_total", "nothing is deleted"),
    ("aegis_decisions_skipped_total", "every decision can be read"),
    ("aegis_http_", "no request comes here: tests/http"),
    (
        "aegis_policy_regret_bound",
        "nothing is proven for the default learner on rounds with sleeping experts",
    ),
];

/// The conditions that this test causes.
const FIRE: &[&str] =
    &["AegisExpertNotLoaded", "AegisDeadLetters", "AegisConfigRefused", "AegisLearnerStalled", "AegisLag"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// A process that ends with the test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn aegis(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_aegis"));
    command.args(arguments).arg("--config").arg(folder.join("aegis.toml")).env_remove("AEGIS_CONFIG");
    command.env("AEGIS_MODELS", root().join("models")).stdin(Stdio::null()).stderr(Stdio::null());
    command
}

/// Installs the bundled experts, and one with an invalid graph.
fn experts(folder: &Path) {
    let models = root().join("models");
    assert!(models.join(".stamp").exists(), "models/ is missing: make setup");
    fs::create_dir_all(folder.join("broken")).unwrap();
    for entry in fs::read_dir(&models).unwrap() {
        let entry = entry.unwrap();
        if entry.path().is_dir() {
            symlink(fs::canonicalize(entry.path()).unwrap(), folder.join(entry.file_name())).unwrap();
        }
    }
    let (whole, broken) = (models.join("tox-block"), folder.join("broken"));
    let manifest = fs::read_to_string(whole.join("manifest.toml")).unwrap();
    let graph = fs::read(whole.join("model.onnx")).unwrap();
    let hash =
        |bytes: &[u8]| Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let manifest = manifest.replace("id = \"tox-block\"", "id = \"broken\"");
    fs::write(broken.join("manifest.toml"), manifest.replace(&hash(&graph), &hash(b"no graph"))).unwrap();
    fs::write(broken.join("model.onnx"), b"no graph").unwrap();
    fs::copy(whole.join("tokenizer.json"), broken.join("tokenizer.json")).unwrap();
}

/// Starts Aegis with both roles, and the demo's producer and labeller. Returns its address and the processes.
fn start(folder: &Path) -> (String, Vec<Process>) {
    experts(&folder.join("experts"));
    let address = format!("127.0.0.1:{}", free_port());
    let config = format!(
        "[kafka]\nbrokers = \"{}\"\n[experts]\nfolder = \"experts\"\n[score]\nmember = \"1\"\n[learn]\n\
         store = \"store\"\n[report]\ninterval_ms = 1000\n[http]\nlisten = \"{address}\"\n",
        kafka().bootstrap()
    );
    fs::write(folder.join("aegis.toml"), config).unwrap();
    let made = aegis(folder, &["topics", "--create", "--partitions", "2"]).status().unwrap();
    assert!(made.success());
    let sides: [&[&str]; 3] = [
        &["run"],
        &["demo", "--drive", "labels", "--events", "1000"],
        &["demo", "--drive", "events", "--events", "1000", "--rate", "10"],
    ];
    let start = |side: &&[&str]| Process(aegis(folder, side).stdout(Stdio::null()).spawn().unwrap());
    (address, sides.iter().map(start).collect())
}

/// Returns every query of every dashboard, with its dashboard and panel.
fn panels() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for name in ["flow", "learning", "reliability"] {
        let path = root().join(format!("deploy/helm/aegis/files/dashboards/{name}.json"));
        let dashboard: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
        for panel in dashboard["panels"].as_array().unwrap() {
            for target in panel["targets"].as_array().unwrap() {
                let title = format!("{name}: {}", panel["title"].as_str().unwrap());
                queries.push((title, target["expr"].as_str().unwrap().to_owned()));
            }
        }
    }
    queries
}

/// Returns the committed rules with shorter times: minutes become seconds. Thresholds are unchanged.
fn hurried(rules: &str) -> String {
    let mut hurried = String::new();
    for line in rules.lines() {
        let indent = &line[..line.len() - line.trim_start().len()];
        if line.trim_start().starts_with("for: ") {
            hurried.push_str(&format!("{indent}for: 2s\n"));
        } else {
            let line = ["[5m]", "[10m]", "[15m]", "[1h]"]
                .iter()
                .fold(line.to_owned(), |line, window| line.replace(window, "[20s]"));
            hurried.push_str(&format!("{line}\n"));
        }
    }
    hurried
}

/// Adds the alerts that are firing to `firing`.
fn watch(prometheus: &Prometheus, firing: &mut BTreeSet<String>) {
    let Some(alerts) = prometheus.ask("alerts") else { return };
    for alert in alerts["alerts"].as_array().unwrap().iter().filter(|alert| alert["state"] == "firing") {
        firing.insert(alert["labels"]["alertname"].as_str().unwrap().to_owned());
    }
}

/// Calls `attempt` until it returns a value.
fn until<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let over = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = attempt() {
            return found;
        }
        assert!(Instant::now() < over, "{what} did not come within {PATIENCE:?}");
        // Prometheus scrapes once a second without a signal.
        thread::sleep(Duration::from_millis(500));
    }
}

#[test]
fn every_panel_has_data_every_rule_is_evaluated_and_what_is_provoked_fires() {
    let folder = tempfile::tempdir().unwrap();
    let (address, mut processes) = start(folder.path());
    let rules = root().join("deploy/helm/aegis/files/alerts.yml");
    let prometheus =
        Prometheus::start(folder.path(), &address, &hurried(&fs::read_to_string(&rules).unwrap()));

    // 1. The rules are valid.
    let checked = prometheus.promtool(&["check", "rules", rules.to_str().unwrap()], &rules);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));

    // 2. Faults: unreadable records, and a change that is refused. One expert is broken from the beginning.
    until("a label", || prometheus.query("sum(aegis_rounds) > 0").pop());
    let connection = kafka().connection();
    let letters: Vec<_> =
        (0..300).map(|_| raw("moderation.events", "x", *b"neither Avro nor JSON")).collect();
    // A rate needs an earlier count: Prometheus computes no increase for a series that begins with all its letters.
    send(&connection, &letters[..50]);
    until("the first letters", || prometheus.query("max(aegis_dead_letters_total) >= 50").pop());
    send(&connection, &letters[50..]);
    // Names that are not configured, in valid events and labels.
    send(&connection, &strange(200));
    let mut firing = BTreeSet::new();
    until("the letters' alert", || {
        watch(&prometheus, &mut firing);
        firing.contains("AegisDeadLetters").then_some(())
    });

    let config = folder.path().join("aegis.toml");
    let written = fs::read_to_string(&config).unwrap();
    fs::write(&config, written.replace("[experts]", "[experts]\nonly = [\"nobody\"]")).unwrap();
    until("the alert of a refused change", || {
        watch(&prometheus, &mut firing);
        firing.contains("AegisConfigRefused").then_some(())
    });
    fs::write(&config, written).unwrap();
    until("what is configured", || prometheus.query("aegis_panel_current == 1").pop());

    until("strange names", || {
        let judged = "count(aegis_dead_letters_total{reason=\"UnknownPolicy\"} >= 200) == 2";
        prometheus.query(judged).pop()
    });

    // 3. Every panel has data.
    let queries = panels();
    assert!(queries.len() > 40, "{} queries", queries.len());
    let mut missing: BTreeMap<String, String> =
        queries.iter().cloned().map(|(title, query)| (query, title)).collect();
    let expected = |query: &str| EMPTY.iter().any(|(metric, _)| query.contains(metric));
    let over = Instant::now() + PATIENCE;
    while missing.keys().any(|query| !expected(query)) {
        missing.retain(|query, _| prometheus.query(query).is_empty());
        watch(&prometheus, &mut firing);
        let left: Vec<_> = missing.iter().filter(|(query, _)| !expected(query)).collect();
        assert!(Instant::now() < over, "without data: {left:#?}");
        thread::sleep(Duration::from_millis(500)); // the next scrape
    }

    // 4. /metrics is valid, and each metric that a query uses is in the contract.
    let page = folder.path().join("metrics.txt");
    fs::write(&page, get(&format!("http://{address}/metrics")).unwrap()).unwrap();
    let linted = prometheus.promtool(&["check", "metrics"], &page);
    assert!(linted.status.success(), "{}", String::from_utf8_lossy(&linted.stderr));
    let page = fs::read_to_string(&page).unwrap();
    let breaches = contract::breaches(&page, &configured(folder.path()));
    assert!(breaches.is_empty(), "{breaches:#?}");
    let rules = prometheus.ask("rules").unwrap();
    let rules: Vec<&Value> = rules["groups"]
        .as_array()
        .unwrap()
        .iter()
        .flat_map(|group| group["rules"].as_array().unwrap())
        .collect();
    let asked = queries
        .iter()
        .map(|(_, query)| query.as_str())
        .chain(rules.iter().filter_map(|rule| rule["query"].as_str()));
    for name in asked.flat_map(names) {
        let known =
            metrics::all().any(|metric| name == metric.name || name == format!("{}_bucket", metric.name));
        assert!(known, "{name} is no metric of ours");
    }

    // 5. Every rule is healthy and has its section in the runbook.
    assert!(rules.len() >= 15, "{} rules", rules.len());
    let runbook = fs::read_to_string(root().join("docs/runbook.md")).unwrap();
    for rule in &rules {
        let name = rule["name"].as_str().unwrap();
        assert_eq!((&rule["health"], rule["lastError"].as_str()), (&"ok".into(), None), "{name}: {rule}");
        let link = rule["annotations"]["runbook_url"].as_str().unwrap();
        assert_eq!(link, format!("docs/runbook.md#{}", name.to_lowercase()), "{name}");
        assert!(
            runbook.lines().any(|line| line == format!("## {name}")),
            "{name} has no section in docs/runbook.md"
        );
    }

    // 6. A learner that does not publish for an hour and a flood of events make alerts fire.
    drop(processes.remove(0));
    let stalled = ["run", "--set", "learn.publish_interval_ms=3600000"];
    processes.push(Process(aegis(folder.path(), &stalled).stdout(Stdio::null()).spawn().unwrap()));
    let _flood = Process(
        aegis(folder.path(), &["demo", "--drive", "events", "--rate", "3000", "--events", "10000"])
            .stdout(Stdio::null())
            .spawn()
            .unwrap(),
    );
    let over = Instant::now() + PATIENCE;
    while !FIRE.iter().all(|name| firing.contains(*name)) {
        assert!(Instant::now() < over, "of {FIRE:?} only {firing:?} fire");
        thread::sleep(Duration::from_millis(500)); // the next evaluation
        watch(&prometheus, &mut firing);
    }
    for quiet in ["AegisRegretAboveBound", "AegisTransactionsAborted", "AegisStore"] {
        assert!(!firing.contains(quiet), "{quiet} fires, and nothing of the kind happened");
    }
}

/// Returns events of policies and tenants that are not configured, and labels of such policies, annotators and sources.
fn strange(count: usize) -> Vec<Produced> {
    let mut records = Vec::new();
    for number in 0..count {
        // The text is empty, has hidden characters, or neither.
        let text = [" ", "a strange\u{e0061}\u{e0062} event", "a strange event"][number % 3];
        let policy = Event { policy: format!("policy-{number}"), ..event(number, text) };
        let tenant = Event {
            id: format!("strange-{number}"),
            tenant: format!("tenant-{number}"),
            metadata: [(format!("note-{number}"), "note".to_owned())].into(),
            ..event(number, text)
        };
        records.extend([policy, tenant].map(|event| event_record("moderation.events", &event)));
        let label = label(&format!("strange-{number}"), &format!("strange-{number}"), Finding::Unsafe);
        let unknown = Label { policy: format!("policy-{number}"), ..label.clone() };
        let annotator = Label {
            tenant: format!("tenant-{number}"),
            annotator: Some(format!("annotator-{number}")),
            categories: vec![format!("category-{number}")],
            ..label
        };
        records.extend([unknown, annotator].map(|label| label_record("moderation.labels", &label)));
    }
    records
}

/// Returns the configured names; the rest are defaults.
fn configured(folder: &Path) -> contract::Configured {
    let names = fs::read_dir(folder.join("experts")).unwrap();
    let topics = aegis::config::Topics::default();
    let aegis::config::Topics { events, decisions, review, labels, dlq, rounds, weights, election } = topics;
    contract::Configured {
        policies: vec!["default".into()],
        experts: names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect(),
        topics: vec![events, decisions, review, labels, dlq, rounds, weights, election],
        groups: ["aegis-score", "aegis-learn"].map(str::to_owned).into(),
        partitions: 2,
    }
}

/// Returns the names of our metrics in a query.
fn names(query: &str) -> Vec<&str> {
    let word = |c: char| c.is_ascii_alphanumeric() || c == '_';
    let words = query.split(|c| !word(c));
    words.filter(|word| word.starts_with("aegis_") || word.starts_with("kafka_consumergroup_")).collect()
}

/// The compose file mounts each folder from which a rule or a dashboard is read.
#[test]
fn the_stack_mounts_what_is_tested_here() {
    let compose = fs::read_to_string(root().join("docker-compose.yml")).unwrap();
    for (mounted, file) in [
        (
            "./deploy/helm/aegis/files/alerts.yml:/etc/prometheus/alerts.yml:ro",
            "deploy/helm/aegis/files/alerts.yml",
        ),
        (
            "./deploy/helm/aegis/files/dashboards:/var/lib/grafana/dashboards:ro",
            "deploy/helm/aegis/files/dashboards/flow.json",
        ),
        ("./deploy/aegis.toml:/etc/aegis/aegis.toml:ro", "deploy/aegis.toml"),
    ] {
        assert!(compose.contains(mounted) && PathBuf::from(root()).join(file).is_file(), "{mounted}");
    }
    aegis::config::load(
        &root().join("deploy/aegis.toml"),
        [("AEGIS__POLICIES".into(), "../config/policies.toml".into())],
        &[],
    )
    .unwrap();
}
