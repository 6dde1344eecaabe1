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
    let rules = root().join("deploy/prometheus/alerts.yml");
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
