//! The bundled panel is as good as it must be: docs/evaluate.json and the manifests, against small expectations.

use std::path::Path;

use serde_json::Value;

/// Expert, and the held-out set of its own harm.
const OWN: [(&str, &str); 11] = [
    ("abuse", "abuse"),
    ("harmful-request", "requests"),
    ("hate", "hate"),
    ("injection", "injection"),
    ("jailguard", "injection"),
    ("moderation", "moderation"),
    ("profanity", "toxicity"),
    ("rules", "offensive"),
    ("sexism", "sexism"),
    ("tox-block", "toxicity"),
    ("toxic-bilstm", "toxicity"),
];
/// What an expert must reach on its own harm.
const BAR: f64 = 0.75;
/// So many experts must reach it.
const ENOUGH: usize = 8;

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
fn enough_experts_know_their_own_harm() {
    let figures = figures();
    let good = OWN.iter().filter(|(expert, set)| auc(&figures, expert, set) >= BAR).count();
    assert!(good >= ENOUGH, "only {good} experts reach {BAR} on their own harm");
}

#[test]
fn no_two_experts_are_one() {
    let most = figures()["around"]["correlation"].as_f64().unwrap();
    assert!(most <= 0.95, "two experts correlate by {most}");
}

/// The manifests' figures are of all held-out texts, those of the page of a share of them.
#[test]
fn manifests_and_page_agree() {
    let figures = figures();
    for (expert, set) in OWN {
        let path = root().join("models").join(expert).join("manifest.toml");
        let text = std::fs::read_to_string(&path).expect("`make setup` brings the experts");
        let manifest: toml::Table = text.parse().unwrap();
        let said = manifest["quality"]["auc"].as_float().unwrap();
        let found = auc(&figures, expert, set);
        assert!(said >= BAR, "{expert}: its manifest says {said}");
        assert!((said - found).abs() < 0.08, "{expert}: its manifest says {said}, the page {found}");
    }
}
