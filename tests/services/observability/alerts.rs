//! Alerts on conditions that do not occur in the running flow: Prometheus's own tests of rules, on series that are
//! written here.

use std::fs;

use super::prometheus::test_rules;
use super::root;

/// A counter that appears with its first increment fires at once, a single lost offset is assumed to be a transaction's
/// marker, a refused predictor fires after a minute, and recall fires if even its upper bound is below the target.
#[test]
fn the_first_loss_fires() {
    let folder = tempfile::tempdir().unwrap();
    let rules = root().join("deploy/helm/aegis/files/alerts.yml");
    let series = |name: &str, labels: &str, values: &str| {
        format!("      - {{series: '{name}{{{labels}}}', values: '{values}'}}\n")
    };
    let lost = |partition: u32, values: &str| {
        let labels = format!("topic=\"events\",partition=\"{partition}\",instance=\"a\"");
        series("aegis_records_lost_total", &labels, values)
    };
    let recall = |policy: &str, bound: &str, values: &str| {
        let labels = format!("policy=\"{policy}\",figure=\"recall\",bound=\"{bound}\",instance=\"a\"");
        series("aegis_report_estimate", &labels, values)
    };
    let requests = |outcome: &str, values: &str| {
        let labels = format!("endpoint=\"moderations\",outcome=\"{outcome}\",instance=\"a\"");
        series("aegis_http_requests_total", &labels, values)
    };
    let expert = |expert: &str, values: [u8; 3]| {
        let metrics = ["aegis_expert_loaded", "aegis_expert_down", "aegis_expert_disabled"];
        let labels = format!("expert=\"{expert}\",instance=\"a\"");
        let of = |(name, value): (&str, u8)| series(name, &labels, &format!("{value}x40"));
        metrics.into_iter().zip(values).map(of).collect::<String>()
    };
    // The input begins after eight samples, at two minutes.
    let input = [
        lost(0, "_x8 7x20"),
        lost(1, "_x8 1x20"),
        lost(2, "0x28"),
        series("aegis_decisions_skipped_total", "reason=\"NotAvro\",instance=\"a\"", "_x8 1x20"),
        series("aegis_decisions_skipped_total", "reason=\"Deleted\",instance=\"a\"", "0x28"),
        series("aegis_predictor_current", "policy=\"house\",instance=\"a\"", "1x8 0x20"),
        series("aegis_predictor_current", "policy=\"other\",instance=\"a\"", "1x28"),
        series("aegis_report_recall_target", "policy=\"house\",instance=\"a\"", "0.9x100"),
        series("aegis_report_recall_target", "policy=\"other\",instance=\"a\"", "0x100"),
        recall("house", "high", "0.8x100"),
        recall("other", "high", "0.1x100"),
        series("aegis_report_alarm", "policy=\"house\",watched=\"mean_p\",instance=\"a\"", "0x8 1x20"),
        series("aegis_report_current", "instance=\"a\"", "0x200"),
        series("aegis_report_current", "instance=\"b\"", "1x20 0x180"),
        // A pin that is older than 14 days, with and without a newer predictor, and a younger one.
        series("aegis_predictor_pin_age_seconds", "policy=\"house\",instance=\"a\"", "1216000x60"),
        series("aegis_predictor_rounds_behind", "policy=\"house\",instance=\"a\"", "5x60"),
        series("aegis_predictor_pin_age_seconds", "policy=\"other\",instance=\"a\"", "1216000x60"),
        series("aegis_predictor_rounds_behind", "policy=\"other\",instance=\"a\"", "0x60"),
        series("aegis_predictor_pin_age_seconds", "policy=\"young\",instance=\"a\"", "1000x60"),
        series("aegis_predictor_rounds_behind", "policy=\"young\",instance=\"a\"", "5x60"),
        // Two of a hundred requests get no decision.
        requests("answered", "0+98x40"),
        requests("full", "0+1x40"),
        requests("late", "0+1x40"),
        series("aegis_http_records_total", "outcome=\"written\",instance=\"a\"", "0+9x40"),
        series("aegis_http_records_total", "outcome=\"lost\",instance=\"a\"", "_x8 3x20"),
        series("aegis_http_records_total", "outcome=\"too_large\",instance=\"a\"", "0x28"),
        // Loaded, down, disabled.
        expert("gone", [0, 1, 0]),
        expert("hung", [1, 1, 0]),
        expert("stuck", [1, 1, 1]),
        expert("well", [1, 0, 0]),
    ]
    .concat();
    let page = "docs/runbook.md#";
    let alert = |time: &str, name: &str, labels: &str, summary: &str| {
        let found = if labels.is_empty() {
            "[]".to_owned()
        } else {
            let url = format!("{page}{}", name.to_lowercase());
            format!(
                "[{{exp_labels: {{{labels}}}, exp_annotations: {{summary: \"{summary}\", runbook_url: \"{url}\"}}}}]"
            )
        };
        format!("      - {{eval_time: {time}, alertname: {name}, exp_alerts: {found}}}\n")
    };
    let expected = [
        alert("1m", "AegisEventsLost", "", ""),
        alert("1m", "AegisDecisionsSkipped", "", ""),
        alert(
            "3m",
            "AegisEventsLost",
            "severity: page, topic: events, partition: '0'",
            "7 offsets of events partition 0 were deleted before they were read",
        ),
        alert(
            "3m",
            "AegisDecisionsSkipped",
            "severity: ticket, reason: NotAvro",
            "The learner cannot index decisions: NotAvro",
        ),
        alert("2m45s", "AegisPredictorRejected", "", ""),
        alert(
            "4m",
            "AegisPredictorRejected",
            "severity: ticket, policy: house",
            "A scorer cannot use the newest predictor of house",
        ),
        alert("14m45s", "AegisRecall", "", ""),
        alert(
            "16m",
            "AegisRecall",
            "severity: ticket, policy: house",
            "house catches at most 80% of what is unsafe, less than its target",
        ),
        alert("1m", "AegisDrift", "", ""),
        alert(
            "3m",
            "AegisDrift",
            "severity: ticket, policy: house, watched: mean_p",
            "The mean_p of house has changed within the last day",
        ),
        alert("30m", "AegisReportStalled", "", ""),
        alert(
            "36m",
            "AegisReportStalled",
            "severity: ticket",
            "No learner keeps the estimates of recall and precision up to date",
        ),
        alert("9m45s", "AegisPredictorHeld", "", ""),
        alert(
            "10m",
            "AegisPredictorHeld",
            "severity: ticket, policy: house",
            "house has been held on one predictor for 14d 1h 46m 40s, and newer ones wait",
        ),
        alert("5m", "AegisRequestsRefused", "", ""),
        alert(
            "6m",
            "AegisRequestsRefused",
            "severity: page",
            "2% of the requests over HTTP get no decision: they are answered with 503 or 504",
        ),
        alert("1m", "AegisRequestRecordsLost", "", ""),
        alert(
            "3m",
            "AegisRequestRecordsLost",
            "severity: page, outcome: lost",
            "3 requests that may have been answered over HTTP are not on the topic of events: lost",
        ),
        alert(
            "1m",
            "AegisExpertNotLoaded",
            "severity: page, expert: gone",
            "gone is not loaded and abstains from every event",
        ),
        alert("4m45s", "AegisExpertDown", "", ""),
        alert(
            "5m",
            "AegisExpertDown",
            "severity: page, expert: hung, instance: a",
            "hung of a has hung or kept failing for five minutes and abstains",
        ),
        alert(
            "1m",
            "AegisExpertDisabled",
            "severity: page, expert: stuck, instance: a",
            "a has disabled stuck: its runs hang and cannot be stopped",
        ),
    ]
    .concat();
    let tests = folder.path().join("tests.yml");
    let text = format!(
        "rule_files: ['{}']\nevaluation_interval: 15s\ntests:\n  - interval: 15s\n    input_series:\n{input}    \
         alert_rule_test:\n{expected}",
        rules.display()
    );
    fs::write(&tests, text).unwrap();
    let output = test_rules(&tests);
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{said}");
}
