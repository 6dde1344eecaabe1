//! The Helm chart, rendered by a real Helm: its manifests against the schemas of Kubernetes, KEDA and the Prometheus
//! operator, its settings as Aegis loads them, and the scaler's query on a real Prometheus.

mod configuration;
mod monitoring;
mod requests;

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;
use std::thread;

use serde_json::Value;

/// The versions of Kubernetes whose schemas the manifests must fit: the oldest that the chart supports, and the newest
/// that is known here.
const VERSIONS: [&str; 3] = ["1.25", "1.31", "1.37"];

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn chart() -> PathBuf {
    root().join("deploy/helm/aegis")
}

/// Returns the folder of the tools, which are fetched once.
fn tools() -> &'static Path {
    static TOOLS: OnceLock<PathBuf> = OnceLock::new();
    TOOLS.get_or_init(|| {
        let found = Command::new("bash").arg(root().join("tests/kubernetes/fetch.sh")).output().unwrap();
        assert!(found.status.success(), "no Helm: {}", String::from_utf8_lossy(&found.stderr));
        PathBuf::from(String::from_utf8(found.stdout).unwrap().trim())
    })
}

fn helm(arguments: &[&str]) -> Output {
    // Helm keeps a cache in the home directory, which tests leave alone.
    let home = tempfile::tempdir().unwrap();
    Command::new(tools().join("bin/helm")).args(arguments).env("HOME", home.path()).output().unwrap()
}

fn texts(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Runs a program of Python with `input`.
fn python(arguments: &[&str], input: &[u8]) -> Output {
    let mut child = Command::new(tools().join("venv/bin/python"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    let writer = thread::spawn(move || stdin.write_all(&input));
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap().unwrap();
    output
}

/// Returns the arguments that render the chart, with values for every part of it if `full`.
fn template(full: bool) -> Vec<String> {
    let chart = chart();
    let mut arguments: Vec<String> =
        ["template", "moderation", chart.to_str().unwrap(), "--namespace", "safety"]
            .map(str::to_owned)
            .to_vec();
    if full {
        arguments.extend(["--values".to_owned(), chart.join("ci/full.yaml").to_str().unwrap().to_owned()]);
    }
    arguments
}

fn rendered(full: bool, more: &[&str]) -> Output {
    let arguments = template(full);
    helm(&[&arguments.iter().map(String::as_str).collect::<Vec<_>>()[..], more].concat())
}

/// Returns the valid manifests of the defaults, or of every part, by kind and name. Both are checked once.
fn manifests(full: bool) -> &'static BTreeMap<String, Value> {
    static LEAST: OnceLock<BTreeMap<String, Value>> = OnceLock::new();
    static FULL: OnceLock<BTreeMap<String, Value>> = OnceLock::new();
    if full { FULL.get_or_init(|| checked(true, &[])) } else { LEAST.get_or_init(|| checked(false, &[])) }
}

/// Renders manifests with further values, and checks them.
fn checked(full: bool, more: &[&str]) -> BTreeMap<String, Value> {
    let yaml = rendered(full, more);
    assert!(yaml.status.success(), "{}", texts(&yaml));
    let script = root().join("tests/kubernetes/validate.py");
    let checked = python(&[&[script.to_str().unwrap(), "manifests"][..], &VERSIONS].concat(), &yaml.stdout);
    assert!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stderr));
    let all: Vec<Value> = serde_json::from_slice(&checked.stdout).unwrap();
    let key = |one: &Value| {
        format!("{} {}", one["kind"].as_str().unwrap(), one["metadata"]["name"].as_str().unwrap())
    };
    all.into_iter().map(|one| (key(&one), one)).collect()
}

/// Returns the pods of manifests, by the manifest.
fn pods(all: &BTreeMap<String, Value>) -> Vec<(&str, &Value)> {
    all.iter().filter_map(|(name, one)| Some((name.as_str(), one.pointer("/spec/template/spec")?))).collect()
}

#[test]
fn the_chart_is_clean_and_its_manifests_fit_the_schemas() {
    let chart = chart();
    for values in ["values.yaml", "ci/full.yaml"] {
        let values = chart.join(values);
        let linted =
            helm(&["lint", "--strict", chart.to_str().unwrap(), "--values", values.to_str().unwrap()]);
        assert!(linted.status.success(), "{}", texts(&linted));
    }
    let least: Vec<_> = manifests(false).keys().cloned().collect();
    let least: Vec<_> = least.iter().map(|name| name.split("-topics-").next().unwrap()).collect();
    assert_eq!(
        least,
        [
            "ConfigMap moderation-aegis",
            "Deployment moderation-aegis-score",
            "Job moderation-aegis",
            "PodDisruptionBudget moderation-aegis-learn",
            "PodDisruptionBudget moderation-aegis-score",
            "Service moderation-aegis-learn",
            "Service moderation-aegis-score",
            "ServiceAccount moderation-aegis",
            "StatefulSet moderation-aegis-learn",
        ]
    );
    let full = manifests(true);
    for kind in ["ScaledObject", "ServiceMonitor", "PrometheusRule", "NetworkPolicy"] {
        assert!(full.keys().any(|name| name.starts_with(kind)), "{kind}: {:?}", full.keys());
    }
    // A Deployment that is scaled must not name a number, or each upgrade would set it back.
    assert_eq!(full["Deployment moderation-aegis-score"]["spec"].get("replicas"), None);
    assert_eq!(full["StatefulSet moderation-aegis-learn"]["spec"]["replicas"], 2);
    assert_eq!(full["Deployment moderation-aegis-serve"]["spec"].get("replicas"), None);
    let hpa = checked(false, &["--set", "score.autoscaling.kind=hpa"]);
    let hpa = &hpa["HorizontalPodAutoscaler moderation-aegis-score"]["spec"];
    assert_eq!(
        hpa["metrics"][0]["external"]["metric"]["selector"]["matchLabels"]["consumergroup"],
        "aegis-score"
    );
}

#[test]
fn pods_have_no_rights_and_are_probed() {
    let all = manifests(true);
    let pods = pods(all);
    assert_eq!(pods.len(), 5);
    for (name, pod) in pods {
        assert_eq!(pod["automountServiceAccountToken"], false, "{name}");
        assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
        assert_eq!(pod["securityContext"]["seccompProfile"]["type"], "RuntimeDefault", "{name}");
        let container = &pod["containers"][0];
        let context = &container["securityContext"];
        assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
        assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
        assert_eq!(context["capabilities"]["drop"][0], "ALL", "{name}");
        assert!(container["resources"]["requests"]["memory"].is_string(), "{name}");
        assert!(container["resources"]["limits"]["memory"].is_string(), "{name}");
        // Each mount has its volume. The store's is a claim of the StatefulSet.
        let volumes: Vec<_> = pod["volumes"].as_array().unwrap().iter().map(|one| &one["name"]).collect();
        for mount in container["volumeMounts"].as_array().unwrap() {
            assert!(volumes.contains(&&mount["name"]) || mount["name"] == "store", "{name}: {mount}");
        }
        if ["-score", "-learn", "-serve"].iter().any(|role| name.ends_with(role)) {
            assert_eq!(container["livenessProbe"]["httpGet"]["path"], "/livez", "{name}");
            assert_eq!(container["readinessProbe"]["httpGet"]["path"], "/readyz", "{name}");
        }
        // The command line is one of this version.
        let arguments = container["args"].as_array().unwrap().iter().map(|one| one.as_str().unwrap());
        let help = Command::new(env!("CARGO_BIN_EXE_aegis")).args(arguments).arg("--help").output().unwrap();
        assert!(help.status.success(), "{name}: {}", texts(&help));
    }
}
