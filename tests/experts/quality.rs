//! Tests that the quality of the bundled panel, in docs/evaluate.json and in the manifests, does not fall below minima.

use std::path::Path;

use serde_json::Value;

/// Each expert with the held-out set of the harm that it detects.
const SETS: [(&str, &str); 14] = [
    ("abuse", "abuse"),
    ("harmful-request", "requests"),
    ("hate", "hate"),
    ("injection", "injection"),
    ("jailguard", "injection"),
    ("moderation", "moderation"),
    ("profanity", "toxicity"),
    ("rules", "offensive"),
    ("sexism", "sexism"),
    ("smollm2-abuse", "abuse"),
    ("smollm2-harm", "toxicity"),
    ("smollm2-request", "requests"),
    ("tox-block", "toxicity"),
    ("toxic-bilstm", "toxicity"),
];
/// The least AUC of an expert on its set.
const MIN_AUC: f64 = 0.75;
/// The least number of experts that must reach it.
const MIN_EXPERTS: usize = 8;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn figures() -> Value {
    let path = root().join("docs/evaluate.json");
    serde_json::from_str(&std::fs::read_to_string(&path).unwrap()).unwrap()
}

fn auc(figures: &Value, expert: &str, set: &str) -> f64 {
    let auc = &figures["sets"][set]["judges"][expert]["auc"];
    auc.as_f64().unwrap_or_else(|| panic!("docs/evaluate.json has no AUC of {expert} on {set}"))
}

#[test]
fn enough_experts_detect_their_harm() {
    let figures = figures();
    let good = SETS.iter().filter(|(expert, set)| auc(&figures, expert, set) >= MIN_AUC).count();
    assert!(good >= MIN_EXPERTS, "only {good} experts reach {MIN_AUC} on their own sets");
}

#[test]
fn no_two_experts_are_nearly_equal() {
    let greatest = figures()["around"]["correlation"].as_f64().unwrap();
    assert!(greatest <= 0.95, "two experts correlate by {greatest}");
}

/// The figures in manifests cover all held-out texts, those on the page a part of them.
#[test]
fn manifests_and_page_agree() {
    let figures = figures();
    for (expert, set) in SETS {
        let path = root().join("models").join(expert).join("manifest.toml");
        let text = std::fs::read_to_string(&path).expect("`make setup` installs the experts");
        let manifest: toml::Table = text.parse().unwrap();
        let listed = manifest["quality"]["auc"].as_float().unwrap();
        let found = auc(&figures, expert, set);
        assert!(listed >= MIN_AUC, "{expert}: its manifest says {listed}");
        assert!((listed - found).abs() < 0.08, "{expert}: its manifest says {listed}, the page {found}");
    }
}
