//! The report on nothing and on one label, its memory, and its form as JSON.

use super::*;

#[test]
fn nothing_one_label_and_an_unknown_policy_are_reported_as_such() {
    let empty = Collector::new(Policies::default(), Settings::default()).finish();
    assert_eq!((empty.policies.len(), empty.skipped.len()), (0, 0));
    assert!(page(&empty).contains("The period has no decision"));

    let other = Policy { name: "other <b>".into(), ..policy(0.5) };
    let stream = stream(&other, 11, 50);
    let mut collector = Collector::new(Policies::default(), Settings::default());
    stream.iter().for_each(|(decision, _)| collector.add_decision(decision));
    let report = collector.finish();
    let only = &report.policies[0];
    assert!(!only.known && only.policy == "other <b>");
    assert_eq!((only.figures.labels, only.figures.recall), (0, None));
    assert!(page(&report).contains("other &lt;b&gt;") && !page(&report).contains("other <b>"));

    let first = stream.iter().position(|(decision, _)| !decision.reasons.is_empty()).unwrap();
    let asked = stream[first].0.id.clone();
    let one = reported(&other, Settings::default(), &stream, |decision| decision.id == asked);
    assert_eq!(one.policies[0].figures.labels, 1);
    let prevalence = one.policies[0].figures.prevalence.unwrap();
    assert!(prevalence.low <= prevalence.value && prevalence.value <= prevalence.high, "{prevalence:?}");
    assert!(prevalence.high - prevalence.low > 0.5, "one label says little: {prevalence:?}");
}

#[test]
fn the_page_has_an_interval_for_each_figure_of_a_group_and_of_an_expert() {
    let policy = policy(0.5);
    let stream = stream(&policy, 14, 4_000);
    let page = page(&reported(&policy, Settings::default(), &stream, |_| true));
    for (title, first, figures) in [("Groups", "language de", 5), ("Experts", "a", 4)] {
        let table = page.split(&format!("<h2>{title}</h2>")).nth(1).unwrap();
        let row = table.split("<tr>").find(|row| row.starts_with(&format!("<td>{first}</td>"))).unwrap();
        let row = row.split("</tr>").next().unwrap();
        assert_eq!(row.matches(" to ").count(), figures, "{row}");
        let head = table.split("</thead>").next().unwrap();
        assert!(head.contains("<th>false positives</th>"), "{head}");
        assert_eq!(head.matches("<th>").count(), row.matches("<td>").count(), "{head} {row}");
    }
}

#[test]
fn requests_take_memory_and_other_decisions_do_not() {
    let policy = policy(0.001);
    let mut collector = Collector::new(policies(policy.clone()), Settings::default());
    let mut decision = decided(&policy, 0, 0.3, 0.0, false);
    decision.reasons.clear();
    // A million decisions, of which none is kept.
    for number in 0..1_000_000 {
        decision.id.event.clear();
        std::fmt::Write::write_fmt(&mut decision.id.event, format_args!("{number}")).unwrap();
        collector.add_decision(&decision);
    }
    assert_eq!(collector.kept(), 0);
    assert_eq!(collector.finish().policies[0].counts.decisions, 1_000_000);
}

#[test]
fn the_json_form_is_stable() {
    let policy = policy(1.0);
    let stream = stream(&policy, 12, 200);
    let settings = Settings {
        since: Some(100_000),
        until: Some(200_000),
        changes: Changes { threshold: Some(0.4), ..Changes::default() },
        ..Settings::default()
    };
    let report = serde_json::to_value(reported(&policy, settings, &stream, |_| true)).unwrap();
    let keys = |pointer: &str| -> String {
        let object = report.pointer(pointer).and_then(serde_json::Value::as_object);
        let mut keys: Vec<_> = object.unwrap_or_else(|| panic!("{pointer}")).keys().cloned().collect();
        keys.sort();
        keys.join(" ")
    };
    assert_eq!(report["format"], FORMAT);
    assert_eq!(keys(""), "before format min_labels outside policies since skipped until");
    let only = "/policies/0";
    assert_eq!(
        keys(only),
        "actions answered curve decisions experts figures flagged groups known lacks nothing_to_judge policy preview \
         recall_target requests response_rate threshold uncovered unrequested_labels"
    );
    let figures = "error_rate false_positive_rate labels precision prevalence recall";
    assert_eq!(keys(&format!("{only}/figures")), figures);
    assert_eq!(keys(&format!("{only}/figures/recall")), "effective high labels low unanswered value");
    assert_eq!(
        keys(&format!("{only}/groups/0")),
        "answered by decisions figures flagged name requests uncovered"
    );
    assert_eq!(keys(&format!("{only}/curve/0")), "figures flagged threshold");
    assert_eq!(
        keys(&format!("{only}/preview")),
        "changed changes figures other_versions threshold uncertain unchanged"
    );
    assert_eq!(
        keys(&format!("{only}/experts/0")),
        "agreement before drift expert figures mean_score not_counted votes"
    );
}
