//! Guards: verdicts from the next token of a causal language model.

use crate::experts_support;

use std::time::Duration;

use aegis::core::event::{Conversation, Role, Turn};
use aegis::core::vote::{Abstention, Outcome};
use aegis::experts::{Panel, PanelConfig, PanelCosts};
use experts_support::Folder;
use experts_support::adapter::adapter;
use experts_support::asked::{Said, config, outcome, outcomes};
use experts_support::causal::{Export, PLAIN, SPEC, causal, lora};

const TEXTS: [&str; 4] = ["fine", "bad bad very bad day", "very nice day fine again again", "word"];

/// Returns the scores of the only expert, asked about all texts together.
fn scores(panel: &Panel, texts: &[&str]) -> Vec<f64> {
    outcomes(panel, texts).into_iter().map(|votes| votes[0].unwrap()).collect()
}

/// Returns the panel of one guard.
fn guard(export: &Export) -> Panel {
    let folder = Folder::new();
    folder.guard("guard", "", &causal(export));
    Panel::open(PanelConfig { cache: 0, require_all: true, ..config(&folder) }).unwrap()
}

fn assert_near(found: &[f64], expected: &[f64], tolerance: f64, what: &str) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        assert!((found - expected).abs() <= tolerance, "{what}: {found} instead of {expected}");
    }
}

#[test]
fn a_verdict_does_not_depend_on_the_batch_or_the_cache() {
    let expected = scores(&guard(&Export { past: false, ..PLAIN }), &TEXTS);
    assert!(expected.iter().all(|p| (0.01..0.99).contains(p)), "{expected:?}");
    let least = expected.iter().copied().fold(1.0, f64::min);
    let greatest = expected.iter().copied().fold(0.0, f64::max);
    assert!(greatest - least > 0.05, "the model reads its text: {expected:?}");
    let exports = [
        ("plain", PLAIN),
        ("no past", Export { past: false, ..PLAIN }),
        ("shared past", Export { shares: true, ..PLAIN }),
        ("merged", Export { merged: true, ..PLAIN }),
        ("last column", Export { last_only: true, ..PLAIN }),
        ("fused", Export { fused: true, ..PLAIN }),
        ("counted positions", Export { counts_positions: true, ..PLAIN }),
        ("counted positions, last column", Export { counts_positions: true, last_only: true, ..PLAIN }),
        ("16 bits", Export { half: true, ..PLAIN }),
    ];
    for (name, export) in exports {
        let panel = guard(&export);
        let tolerance = if export.half { 2e-3 } else { 1e-5 };
        assert_near(&scores(&panel, &TEXTS), &expected, tolerance, &format!("{name}, together"));
        let alone: Vec<f64> = TEXTS.iter().map(|text| scores(&panel, &[text])[0]).collect();
        assert_near(&alone, &expected, tolerance, &format!("{name}, alone"));
    }
}
