//! Metrics are stable: docs/metrics.md matches the code, and /metrics serves all of them.

use std::collections::BTreeSet;
use std::path::Path;

use aegis::core::learners::{LearnerSpec, LossKind, Name, Tally};
use aegis::core::predictor::Published;
use aegis::ops::metrics::{self, Kind};

#[test]
fn the_page_matches_the_code() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/metrics.md");
    if std::env::var_os("AEGIS_WRITE_DOCS").is_some() {
        std::fs::write(&path, metrics::document()).expect("written");
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == metrics::document(),
        "docs/metrics.md differs from the code. Names are a contract: change them with a line in the changelog, then \
         run AEGIS_WRITE_DOCS=1 cargo test --test ops"
    );
}

#[test]
fn names_follow_the_conventions() {
    let mut seen = BTreeSet::new();
    for metric in metrics::all() {
        let name = metric.name;
        assert!(seen.insert(name), "{name} is defined twice");
        // The other names are those of client libraries and lag exporters.
        let known = ["aegis_", "kafka_consumergroup_lag", "process_open_fds", "process_max_fds"];
        assert!(known.iter().any(|known| name.starts_with(known)), "{name}");
        assert!(name.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'), "{name}");
        assert_eq!(name.ends_with("_total"), metric.kind == Kind::Counter, "{name}");
        for word in ["_millis", "_ms", "_micros", "_minutes", "_percent", "_kb", "_mb"] {
            assert!(!name.contains(word), "{name} is not in a base unit");
        }
        for unit in ["seconds", "bytes"] {
            assert_eq!(
                metric.unit == unit,
                name.ends_with(&format!("_{unit}")),
                "{name} is in {}",
                metric.unit
            );
        }
        assert!(metric.help.ends_with('.') && !metric.help.contains('|'), "{name}");
        if let Kind::Histogram(buckets) = metric.kind {
            assert!(buckets.is_sorted_by(|a, b| a < b), "{name}");
        }
    }
}

/// Gauges of a role's work do not stay at their last value when the role has ended.
#[test]
fn gauges_of_an_ended_role_are_zero() {
    let recorder = metrics::builder().expect("a builder").build_recorder();
    let lines = [
        r#"aegis_partitions_assigned{role="score"}"#,
        r#"aegis_partitions_assigned{role="learn"}"#,
        "aegis_queue_events",
        "aegis_learner_active",
        "aegis_panel_shrunk",
    ];
    let values = || {
        let page = recorder.handle().render();
        let value = |line: &str| {
            page.lines().find_map(|found| found.strip_prefix(&format!("{line} ")).map(str::to_owned))
        };
        lines.map(|line| value(line).unwrap_or_default())
    };
    ::metrics::with_local_recorder(&recorder, || {
        let roles = [metrics::RoleMetrics("score"), metrics::RoleMetrics("learn")];
        metrics::partitions("score", 3);
        metrics::partitions("learn", 2);
        metrics::queue(7);
        metrics::active(true);
        metrics::PANEL_SHRUNK.with([]).set(1.0);
        assert_eq!(values(), ["3", "2", "7", "1", "1"]);
        drop(roles);
        assert_eq!(values(), ["0"; 5]);
    });
}

/// Metrics are rendered with their help, labels and buckets.
#[test]
fn recorded_metrics_are_rendered() {
    let recorder = metrics::builder().expect("a builder").build_recorder();
    ::metrics::with_local_recorder(&recorder, || {
        metrics::describe_all();
        metrics::DECISIONS.with(["default", "block"]).increment(3);
        metrics::LAG.with(["aegis-score", "moderation.events", "4"]).set(17.0);
        metrics::COMMIT_SECONDS.with(["score"]).record(0.02);
        metrics::correction("house", "corrects");
        metrics::label_delay("house", 90_000);
        metrics::waiting("house", 5);
    });
    let page = recorder.handle().render();
    for line in [
        "# HELP aegis_decisions_total Decisions committed, by action (`allow`, `block`, `review`). Decisions of aborted batches are not counted.",
        "# TYPE aegis_decisions_total counter",
        r#"aegis_decisions_total{policy="default",action="block"} 3"#,
        r#"kafka_consumergroup_lag{consumergroup="aegis-score",topic="moderation.events",partition="4"} 17"#,
        r#"aegis_commit_seconds_bucket{role="score",le="0.01"} 0"#,
        r#"aegis_commit_seconds_bucket{role="score",le="0.025"} 1"#,
        "# TYPE aegis_commit_seconds histogram",
        r#"aegis_label_corrections_total{policy="house",kind="corrects"} 1"#,
        r#"aegis_label_delay_seconds_bucket{policy="house",le="60"} 0"#,
        r#"aegis_label_delay_seconds_bucket{policy="house",le="600"} 1"#,
        r#"aegis_labels_waiting{policy="house"} 5"#,
    ] {
        assert!(page.lines().any(|found| found == line), "{line} is not in\n{page}");
    }
    assert!(page.contains("aegis_build_info{version="));
}

/// A published predictor is recorded with the figures of its fold, including the gain of the members that read text.
#[test]
fn a_predictor_is_recorded_with_its_figures() {
    let mut tally = Tally::new(1, LossKind::Brier, None);
    tally.add(&[0.9], None, 0.9, 1.0);
    tally.add_ablated(0.5, 0.9, 1.0);
    tally.add(&[0.5], None, 0.5, 0.0);
    let published = Published {
        learner: LearnerSpec::new(Name::Default),
        experts: vec!["a".into()],
        rounds: 2,
        ledger_offset: 7,
        ..Published::example("house")
    };
    let recorder = metrics::builder().expect("a builder").build_recorder();
    ::metrics::with_local_recorder(&recorder, || {
        metrics::predictor(&published, &published.experts, Some(&tally));
    });
    let page = recorder.handle().render();
    let value = |name: &str| -> f64 {
        let line = page.lines().find(|line| line.starts_with(&format!("{name}{{policy=\"house\"}}")));
        line.unwrap_or_else(|| panic!("{name} is not in\n{page}"))
            .rsplit(' ')
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    assert_eq!((value("aegis_rounds"), value("aegis_policy_reading_rounds")), (2.0, 1.0));
    assert!((value("aegis_policy_reading_gain") - 0.24).abs() < 1e-12);
    assert!((value("aegis_policy_brier") - 0.13).abs() < 1e-12);
}
