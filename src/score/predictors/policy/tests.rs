//! The predictor in use after pins, releases, rejections and reloads.

use super::*;
use crate::core::fold::{Fold, Settings};
use crate::core::label::Finding;
use crate::core::ledger::{Record, RoundId};
use crate::core::ledger_state::LedgerState;
use crate::core::predictor::FORMAT;

pub fn policy(name: &str, release: Release) -> Policy {
    let default = Policies::default().get("default").unwrap().clone();
    Policy { name: name.into(), release, ..default }
}

/// The predictor that a learner publishes after this number of labelled rounds.
pub fn published(policy: &Policy, rounds: i64) -> Published {
    let mut ledger = LedgerState::new();
    for number in 0..rounds {
        let id = RoundId { tenant: "t".into(), policy: policy.name.clone(), event: format!("e{number}") };
        for record in Record::examples(id, number, &[("a", 0.9), ("b", 0.2)], Finding::Unsafe) {
            ledger.apply(&record, &mut Vec::new()).unwrap();
        }
    }
    let mut fold = Fold::new(Settings::new(&policy.name, policy.learner.clone(), policy.mapping.clone()));
    fold.mark_all_changed(&ledger);
    fold.catch_up(&ledger).unwrap();
    fold.published(&ledger, 2 * rounds).unwrap()
}

pub fn panel() -> PanelIdentity {
    PanelIdentity { experts: vec!["a".into(), "b".into()], ..PanelIdentity::default() }
}

fn at(offset: i64) -> RecordRef {
    RecordRef { offset, timestamp: Some(1_000 * offset) }
}

/// The rounds of the predictor in use, and whether it is pinned.
fn in_use(of: &mut PolicyPredictor) -> (u64, bool) {
    let pinned = of.in_use().pinned;
    let reference = of.get_mut().reference();
    assert_eq!(reference.pinned, pinned, "decisions and metrics agree");
    (reference.rounds, reference.pinned)
}

fn started(release: Release) -> (Policy, PolicyPredictor) {
    let policy = policy("p", release);
    let predictor = PolicyPredictor::new(&policy, &panel().experts).unwrap();
    (policy, predictor)
}

fn pin(of: &mut PolicyPredictor, offset: i64, published: Published) -> Result<(), Rejection> {
    of.on_pin(at(offset), Ok((published, Some(7))))
}

#[test]
fn a_pinned_predictor_stays_in_use_until_it_is_unpinned() {
    let (policy, mut of) = started(Release::Automatic);
    assert_eq!(in_use(&mut of), (0, false), "the prior");
    of.on_published(at(1), published(&policy, 3)).unwrap();
    assert_eq!(in_use(&mut of), (3, false));
    pin(&mut of, 2, published(&policy, 3)).unwrap();
    of.on_published(at(3), published(&policy, 8)).unwrap();
    assert_eq!(in_use(&mut of), (3, true));
    let expected = Use {
        offset: Some(2),
        published: Some(7),
        pinned_since: Some(2_000),
        pinned: true,
        rounds_behind: 5,
    };
    assert_eq!(of.in_use(), expected);
    let (usable, notes) = of.describe("p", &panel());
    assert!(usable && notes == ["policy p: pinned, 5 rounds behind the newest"], "{notes:?}");
    // A learner that withdraws what it has published does not end a pin, and another pin replaces it.
    of.on_withdrawn();
    assert_eq!(in_use(&mut of), (3, true));
    pin(&mut of, 4, published(&policy, 2)).unwrap();
    assert_eq!(in_use(&mut of), (2, true));
    of.on_published(at(5), published(&policy, 9)).unwrap();
    of.on_unpinned();
    assert_eq!((in_use(&mut of), of.in_use().rounds_behind), ((9, false), 0));
}

#[test]
fn a_policy_with_manual_release_uses_only_what_a_person_has_released() {
    let (mut policy, mut of) = started(Release::Manual);
    of.on_published(at(1), published(&policy, 3)).unwrap();
    assert_eq!((in_use(&mut of), of.in_use().rounds_behind), ((0, false), 3), "the prior");
    assert_eq!(of.in_use().offset, None);
    let (usable, notes) = of.describe("p", &panel());
    assert!(usable && notes == ["policy p: no predictor is released, and the prior decides"], "{notes:?}");
    pin(&mut of, 2, published(&policy, 2)).unwrap();
    of.on_published(at(3), published(&policy, 8)).unwrap();
    assert_eq!(in_use(&mut of), (2, true));
    // A reload to automatic keeps the pin. Without it, the newest one is in use at once, and manual returns to the prior.
    for (release, pinned, expected) in [
        (Release::Automatic, true, (2, true)),
        (Release::Automatic, false, (8, false)),
        (Release::Manual, false, (0, false)),
        (Release::Automatic, false, (8, false)),
    ] {
        policy.release = release;
        of.on_reload(&policy, &panel().experts).unwrap();
        if !pinned {
            of.on_unpinned();
        }
        assert_eq!(in_use(&mut of), expected, "{release:?}");
    }
}

#[test]
fn while_a_pinned_predictor_cannot_be_used_nothing_changes() {
    let (policy, mut of) = started(Release::Automatic);
    of.on_published(at(1), published(&policy, 3)).unwrap();
    let of_later = Published { format: FORMAT + 1, ..published(&policy, 2) };
    assert_eq!(pin(&mut of, 2, of_later.clone()).unwrap_err().reason, "Format");
    of.on_published(at(3), published(&policy, 8)).unwrap();
    assert_eq!(in_use(&mut of), (3, false), "the predictor that was in use, not a newer one");
    assert!(!of.is_in_use_usable(&panel()) && !of.is_current(&panel()));
    let (usable, notes) = of.describe("p", &panel());
    assert!(!usable && notes[0].contains("the pinned predictor cannot be used: Format: "), "{notes:?}");
    of.on_unpinned();
    assert_eq!(in_use(&mut of), (8, false), "the newest one has waited");
    assert!(of.is_current(&panel()));

    // The same with an earlier pin, which stays, and with a withdrawal, which waits.
    pin(&mut of, 4, published(&policy, 3)).unwrap();
    let unfit = Published { state: vec![0.5], ..published(&policy, 2) };
    assert_eq!(pin(&mut of, 5, unfit).unwrap_err().reason, "State");
    of.on_withdrawn();
    assert_eq!(in_use(&mut of), (3, true));
    pin(&mut of, 6, published(&policy, 2)).unwrap();
    assert_eq!(in_use(&mut of), (2, true));
    of.on_unpinned();
    assert_eq!(in_use(&mut of), (0, false), "what was published is withdrawn");
}

#[test]
fn a_predictor_that_is_rejected_while_the_pinned_one_cannot_be_used_keeps_its_place() {
    let (policy, mut of) = started(Release::Automatic);
    let later = |rounds| Published { format: FORMAT + 1, ..published(&policy, rounds) };
    pin(&mut of, 1, later(2)).unwrap_err();
    of.on_published(at(2), published(&policy, 8)).unwrap();
    let rejection = of.on_published(at(3), later(9)).unwrap_err();
    of.on_rejected(&rejection);
    assert_eq!(in_use(&mut of), (0, false), "the prior was in use");
    of.on_unpinned();
    assert_eq!(in_use(&mut of), (8, false), "the older one that can be used");
    assert!(!of.is_current(&panel()), "the newest one is rejected");
}

#[test]
fn a_reload_builds_the_pinned_predictor_again() {
    let (mut policy, mut of) = started(Release::Automatic);
    pin(&mut of, 1, published(&policy, 3)).unwrap();
    let unfit = Published { format: FORMAT + 1, ..published(&policy, 2) };
    pin(&mut of, 2, unfit).unwrap_err();
    of.on_reload(&policy, &panel().experts).unwrap();
    assert!(!of.is_in_use_usable(&panel()), "it is rejected again");
    // As if an update of the policies made it usable.
    of.last_pin = Some((at(2), published(&policy, 2), None));
    of.on_reload(&policy, &panel().experts).unwrap();
    assert_eq!((in_use(&mut of), of.is_in_use_usable(&panel())), ((2, true), true));
    of.last_pin = Some((at(2), published(&policy, 1), None));
    of.on_reload(&policy, &panel().experts).unwrap();
    assert_eq!(in_use(&mut of), (2, true), "without a change it stays as it is");
    policy.learner.seed = Some(b"another".to_vec());
    of.on_reload(&policy, &panel().experts).unwrap();
    assert_eq!(in_use(&mut of), (1, true), "it is built with the new seed");
}

#[test]
fn a_pinned_predictor_that_does_not_fit_the_panel_is_named() {
    let (policy, mut of) = started(Release::Automatic);
    let reads = Published { encoder: Some([7; 32]), ..published(&policy, 3) };
    pin(&mut of, 1, reads).unwrap();
    let with = |experts: &[&str], encoder| PanelIdentity {
        experts: experts.iter().map(|id| (*id).to_owned()).collect(),
        encoder,
        changes_encoder: false,
    };
    for (panel, usable, words) in [
        (with(&["a", "b"], Some([7; 32])), true, "pinned, 0 rounds behind the newest"),
        (with(&["b", "c"], Some([7; 32])), true, "1 expert of the panel has no weight in it"),
        (with(&["a", "b"], Some([8; 32])), false, "it reads the features of an encoder"),
        (with(&["a", "b"], None), false, "it reads the features of an encoder"),
        (with(&["c"], Some([7; 32])), false, "none of its experts is on the panel"),
    ] {
        let (found, notes) = of.describe("p", &panel);
        assert!(found == usable && notes[0].contains(words), "{panel:?}: {notes:?}");
        assert_eq!((of.is_current(&panel), of.is_in_use_usable(&panel)), (usable, usable));
    }
    assert_eq!(in_use(&mut of), (3, true), "it stays in use");
}

#[test]
fn a_panel_with_another_encoder_than_the_predictor_in_use_does_not_begin() {
    let (policy, mut of) = started(Release::Automatic);
    let panel = |encoder, changes_encoder| PanelIdentity { encoder, changes_encoder, ..panel() };
    let (same, other) = (panel(Some([7; 32]), false), panel(Some([8; 32]), false));
    assert!(of.is_in_use_usable(&other), "the prior reads no features");
    of.on_published(at(0), Published { encoder: Some([7; 32]), ..published(&policy, 1) }).unwrap();
    assert!(of.is_in_use_usable(&same) && of.is_current(&same));
    assert!(!of.is_in_use_usable(&other) && !of.is_current(&other));
    let (usable, notes) = of.describe("p", &other);
    let expected = "policy p: the predictor in use does not fit the panel: it reads the features of encoder 07070707, and \
                    this panel has encoder 08080808";
    assert!(!usable && notes[0].starts_with(expected), "{notes:?}");
    assert!(of.is_in_use_usable(&panel(None, false)), "a panel without features was chosen");
    assert!(of.is_in_use_usable(&panel(Some([8; 32]), true)), "the group is changing its encoder");
    of.on_withdrawn();
    assert!(of.is_in_use_usable(&other), "nothing is learned any more");
}

#[test]
fn under_manual_release_only_the_pinned_predictor_has_to_fit() {
    let (policy, mut of) = started(Release::Manual);
    let reads = Published { encoder: Some([7; 32]), ..published(&policy, 1) };
    of.on_published(at(0), reads.clone()).unwrap();
    let other = |changes_encoder| PanelIdentity { encoder: Some([8; 32]), changes_encoder, ..panel() };
    assert!(of.is_in_use_usable(&other(false)), "the prior decides");
    pin(&mut of, 1, reads).unwrap();
    assert!(!of.is_in_use_usable(&other(true)), "a person has chosen what this panel cannot do");
}
