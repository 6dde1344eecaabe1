//! Previews against deciding again.

use super::*;
use crate::core::policy::CategoryRule;
use crate::core::preview::preview;

/// The changes by both actions, from deciding again.
fn brute_force(
    stream: &[(Decision, bool)],
    again: impl Fn(&Decision) -> Decision,
) -> BTreeMap<(&'static str, &'static str), u64> {
    let mut changed = BTreeMap::new();
    for (decision, _) in stream {
        let after = again(decision).action;
        if after != decision.action {
            *changed.entry((decision.action.word(), after.word())).or_default() += 1;
        }
    }
    changed
}

#[test]
fn a_preview_counts_what_deciding_again_gives() {
    let mut before = policy(0.1);
    let rule = |threshold, action| ("harm".to_owned(), CategoryRule { threshold, action });
    before.categories = BTreeMap::from([rule(0.9, Action::Review)]);
    let stream = stream(&before, 9, 3_000);
    for changes in [
        Changes { threshold: Some(0.3), ..Changes::default() },
        Changes { threshold: Some(0.8), ..Changes::default() },
        Changes { cost_false_negative: Some(9.0), ..Changes::default() },
        Changes { cost_false_positive: Some(3.0), ..Changes::default() },
        Changes { categories: BTreeMap::from([rule(0.5, Action::Block)]), ..Changes::default() },
    ] {
        let after = changes.apply(&before);
        let again = |decision: &Decision| {
            let number = u64::try_from(decision.origin.offset).unwrap();
            let harm = decision.categories[0].score;
            decided(&after, number, decision.probability.unwrap(), harm, false)
        };
        let expected = brute_force(&stream, again);
        let settings = Settings { changes: changes.clone(), ..Settings::default() };
        let report = reported(&before, settings, &stream, |_| true);
        let preview = report.policies[0].preview.as_ref().unwrap();
        let found: BTreeMap<_, _> =
            preview.changed.iter().map(|changed| ((changed.from, changed.to), changed.decisions)).collect();
        assert!(!expected.is_empty() && found == expected, "{changes:?}: {found:?} is not {expected:?}");
        assert_eq!(preview.unchanged + expected.values().sum::<u64>(), 3_000);
        assert_eq!((preview.uncertain, preview.other_versions), (0, 0));
        assert_eq!(preview.threshold, after.threshold());
        assert!(preview.figures.recall.is_some());
    }
    assert_eq!(Changes { threshold: Some(0.3), ..Changes::default() }.apply(&before).threshold(), 0.3);
}

#[test]
fn the_curve_at_a_threshold_is_the_preview_of_it() {
    let rule = |threshold, action| ("harm".to_owned(), CategoryRule { threshold, action });
    let with_rule =
        |threshold, action| Policy { categories: BTreeMap::from([rule(threshold, action)]), ..policy(1.0) };
    let too_few = Policy { min_awake: 3, ..policy(1.0) };
    for before in [with_rule(0.6, Action::Block), with_rule(0.7, Action::Review), too_few] {
        let stream = stream(&before, 14, 2_000);
        for threshold in [0.2, 0.8] {
            let changes = Changes { threshold: Some(threshold), ..Changes::default() };
            let report = reported(&before, Settings { changes, ..Settings::default() }, &stream, |_| true);
            let only = &report.policies[0];
            assert!(only.curve.len() >= 200, "{}", only.curve.len());
            let point = only.curve.iter().find(|point| point.threshold == threshold).unwrap();
            let preview = only.preview.as_ref().unwrap();
            for (point, preview) in point.figures.named().into_iter().zip(preview.figures.named()) {
                let difference = point.1.zip(preview.1).map(|(point, preview)| point.value - preview.value);
                assert_eq!(point.1.is_some(), preview.1.is_some(), "{point:?} {preview:?}");
                assert!(difference.is_none_or(|number| number.abs() < 1e-9), "{point:?} is not {preview:?}");
            }
        }
    }
}

#[test]
fn a_preview_is_certain_only_if_no_answer_of_a_skipped_expert_changes_it() {
    let mut random = fastrand::Rng::with_seed(10);
    let rule = |threshold, action| ("harm".to_owned(), CategoryRule { threshold, action });
    let (mut certain, mut uncertain) = (0, 0);
    for number in 0..2_000 {
        let mut before = policy(0.0);
        if random.bool() {
            before.categories = BTreeMap::from([rule(random.f64(), random.choice(Action::ALL).unwrap())]);
        }
        let changes = Changes { threshold: Some(0.05 + 0.9 * random.f64()), ..Changes::default() };
        let after = changes.apply(&before);
        let (p, harm) = (random.f64(), random.f64());
        let decision = decided(&before, number, p, harm, true);
        let found = preview(&decision, &after, &before);
        if !found.certain {
            uncertain += 1;
            continue;
        }
        certain += 1;
        // A category that blocks decides whatever p is. Otherwise the skipped expert leaves p on its side.
        let blocks = |rule: &CategoryRule| harm >= rule.threshold && rule.action == Action::Block;
        let any_p = before.categories.get("harm").is_some_and(blocks);
        let side = |p: f64| p >= before.threshold();
        for other in (0..20).map(|_| random.f64()).filter(|other| any_p || side(*other) == side(p)) {
            let answered = decided(&before, number, other, harm, false);
            assert_eq!(answered.action, decision.action, "the skipped expert was not needed");
            assert_eq!(
                decided(&after, number, other, harm, false).action,
                found.action,
                "{decision:?} {after:?}"
            );
        }
    }
    assert!(certain > 300 && uncertain > 300, "{certain} certain, {uncertain} uncertain");
}
