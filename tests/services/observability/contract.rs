//! Compares /metrics with its description: exactly these metrics, with their kinds and labels, and bounded label
//! values.

use std::collections::{BTreeMap, BTreeSet};

use aegis::core::language::Language;
use aegis::core::learners::Name;
use aegis::ops::metrics::{self, Kind};

/// Metrics that this scenario does not produce, with the reason. All others are served.
pub const UNPROVOKED: &[(&str, &str)] = &[
    ("aegis_kafka_errors_total", "no transaction fails here"),
    ("aegis_store_rebuilds_total", "the store is never lost here"),
    ("aegis_store_errors_total", "the store never fails here"),
    ("aegis_policy_reloads_total", "the policies file stays as it is: tests/cli/reload.rs"),
    ("aegis_shadow_votes_total", "no expert is in shadow here: tests/cli/reload.rs"),
    ("aegis_tombstones_total", "no record has a null value here: tests/flow/roles/surges.rs"),
    ("aegis_predictor_rejected_total", "both roles are of one version: tests/faults/learner/predictors.rs"),
    ("aegis_records_lost_total", "nothing is deleted here: tests/faults/learner/retention.rs"),
    ("aegis_decisions_skipped_total", "every decision can be read here: tests/faults/learner/retention.rs"),
    ("aegis_spans_total", "nothing is traced here: tests/services/traces"),
    ("aegis_report_failures_total", "the watch never fails here: src/report/watch/tests.rs"),
    ("aegis_report_alarms_total", "nothing changes here: src/report/watch/tests.rs"),
    ("aegis_http_requests_total", "no request comes here: tests/http"),
    ("aegis_http_request_seconds", "no request comes here: tests/http"),
    ("aegis_http_waiting_texts", "no request comes here: tests/http"),
    ("aegis_http_records_total", "no request comes here: tests/http"),
    ("aegis_review_open_requests", "no console runs here: tests/console/review.rs"),
    ("aegis_review_oldest_age_seconds", "no console runs here"),
    ("aegis_review_claims", "no console runs here"),
    ("aegis_review_answered_total", "no console runs here"),
    ("aegis_review_skipped_total", "no console runs here"),
    ("aegis_review_claims_expired_total", "no console runs here"),
    ("aegis_review_expired_total", "no console runs here"),
    ("aegis_review_dropped_total", "no console runs here"),
    ("aegis_review_unreadable_total", "no console runs here"),
    ("aegis_reviews_thinned_total", "no policy has a review budget here: tests/flow/sampling.rs"),
    ("aegis_review_thinning_ratio", "no policy has a review budget here: tests/flow/sampling.rs"),
];

/// Metrics that may be absent, with the reason.
const SOMETIMES: &[(&str, &str)] = &[
    (
        "aegis_review_draws_total",
        "a draw may come up for none of the few events here: tests/flow/sampling.rs",
    ),
    ("aegis_policy_regret_bound", "something is proven as long as no expert has slept"),
    ("aegis_panel_shrunk", "told once load has changed it"),
];

/// The beginnings of the names of learners inside the default one. An expert's id or parameters follow.
const MEMBERS: &[&str] = &[
    "cross reading",
    "joint stacking",
    "leading reading",
    "log-odds stacking",
    "pair reading",
    "reading",
    "recalibrated",
    "share",
    "stacking",
];

/// The values that labels may have besides configured names. None of them comes from a record.
const WORDS: &[(&str, &[&str])] = &[
    ("action", &["allow", "block", "review"]),
    ("bound", &["value", "low", "high"]),
    ("figure", &["prevalence", "precision", "recall", "false_positive_rate", "error_rate"]),
    ("watched", &["block_rate", "mean_p", "disagreement", "expert_error"]),
    ("by", &["ensemble", "majority"]),
    ("draw", &["near_threshold", "audit"]),
    (
        "kind",
        &[
            "corrects",
            "retracts",
            "tag_characters",
            "variation_selectors",
            "invisible_characters",
            "bidi_controls",
        ],
    ),
    ("role", &["score", "learn"]),
    ("side", &["event", "label", "same", "other"]),
    ("version", &[env!("CARGO_PKG_VERSION")]),
    (
        "outcome",
        &[
            "committed",
            "aborted",
            "fenced",
            "accepted",
            "waiting",
            "too_late",
            "waited_accepted",
            "waited_too_late",
            "expired",
            "duplicate",
            "vanished",
            "taken",
            "refused",
            "sent",
            "full",
            "failed",
            "stopped",
            "asked",
            "explored",
            "not_needed",
        ],
    ),
    (
        "reason",
        &[
            // The reasons of abstentions, of reviews and of dead letters.
            "empty_text",
            "not_loaded",
            "failed",
            "timed_out",
            "not_finite",
            "wrong_shape",
            "overload",
            "out_of_memory",
            "nothing_read",
            "wrong_role",
            "language",
            "off_template",
            "not_needed",
            "nothing_to_judge",
            "too_few_awake",
            "near_threshold",
            "audit",
            "category",
            "flagged",
            "NotAvro",
            "WrongSchema",
            "NotJson",
            "BadJson",
            "BadValue",
            "MissingField",
            "NoVerdict",
            "UnknownPolicy",
            "TooLate",
            "DecisionVanished",
        ],
    ),
    (
        "condition",
        &[
            "score: running",
            "score: experts loaded",
            "score: experts answering",
            "score: weights followed",
            "score: predictors usable",
            "score: partitions assigned",
            "score: broker seen",
            "score: committing",
            "learn: running",
            "learn: broker seen",
            "learn: committing",
            "learn: ledger restored",
            "learn: labels assigned",
            "learn: decisions indexed",
            "learn: elected or standing by",
        ],
    ),
];

/// The configured names of the process that serves the page.
pub struct Configured {
    pub policies: Vec<String>,
    pub experts: Vec<String>,
    pub topics: Vec<String>,
    pub groups: Vec<String>,
    pub partitions: usize,
}

/// A sample: its name and labels.
type Sample<'a> = (&'a str, Vec<(&'a str, &'a str)>);

fn sample(line: &str) -> Sample<'_> {
    let Some((name, rest)) = line.split_once('{') else {
        return (line.split(' ').next().unwrap(), Vec::new());
    };
    let (labels, _) = rest.rsplit_once('}').unwrap();
    // No value of ours contains a comma or a quotation mark, which is part of the check.
    let labels = labels.split("\",").map(|label| {
        let (name, value) = label.split_once("=\"").unwrap_or((label, "no label"));
        (name, value.trim_end_matches('"'))
    });
    (name, labels.collect())
}

fn sometimes(name: &str) -> bool {
    SOMETIMES.iter().any(|(one, _)| *one == name)
}

/// Returns all differences between the page and the contract.
pub fn breaches(page: &str, configured: &Configured) -> Vec<String> {
    let mut wrong = Vec::new();
    let mut kinds: BTreeMap<&str, &str> = BTreeMap::new();
    for line in page.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        kinds.insert(name, kind);
    }
    let contract: BTreeSet<&str> = metrics::all().map(|metric| metric.name).collect();
    let served: BTreeSet<&str> = kinds.keys().copied().collect();
    let unprovoked: BTreeSet<&str> = UNPROVOKED.iter().map(|(name, _)| *name).collect();
    let missing: BTreeSet<&str> = contract.difference(&served).copied().collect();
    wrong.extend(served.difference(&contract).map(|name| format!("{name} is not in the contract")));
    wrong.extend(
        missing
            .difference(&unprovoked)
            .filter(|name| !sometimes(name))
            .map(|name| format!("{name} is not served")),
    );
    wrong.extend(unprovoked.difference(&missing).map(|name| format!("{name} is served all the same")));
    for line in page.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let (name, labels) = sample(line);
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        let found = |name: &str| metrics::all().find(|metric| metric.name == name);
        let Some(metric) = found(name).or_else(|| base.and_then(found)) else {
            wrong.push(format!("{name} belongs to no metric of the contract"));
            continue;
        };
        let kind = match metric.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        if kinds.get(metric.name) != Some(&kind) {
            wrong.push(format!("{} is a {:?} and not a {kind}", metric.name, kinds.get(metric.name)));
        }
        let names: Vec<_> = labels.iter().map(|(name, _)| *name).filter(|name| *name != "le").collect();
        if names != metric.labels {
            wrong.push(format!("{line}: its labels are not {:?}", metric.labels));
        }
        for (label, value) in labels {
            if label != "le" && !configured.knows(label, value) {
                wrong.push(format!("{line}: nobody here configured the {label} {value}"));
            }
        }
    }
    wrong.sort_unstable();
    wrong.dedup();
    wrong
}

impl Configured {
    fn knows(&self, label: &str, value: &str) -> bool {
        let among = |names: &[String]| names.iter().any(|name| name == value);
        match label {
            "policy" => among(&self.policies),
            // Weights have a row for each learner inside the aggregation, too.
            "expert" => among(&self.experts) || self.is_member(value),
            "topic" => among(&self.topics),
            "consumergroup" => among(&self.groups),
            "language" => value == "unknown" || value.parse::<Language>().is_ok(),
            "partition" => value.parse::<usize>().is_ok_and(|number| number < self.partitions),
            _ => WORDS.iter().any(|(name, words)| *name == label && words.contains(&value)),
        }
    }
}

impl Configured {
    /// Returns `true` for a learner inside the default one: a word of the list with parameters, or with an expert's id.
    fn is_member(&self, value: &str) -> bool {
        Name::ALL.iter().any(|name| name.to_string() == value)
            || MEMBERS.iter().filter_map(|word| value.strip_prefix(word)).any(|rest| {
                let parameters = rest.chars().all(|letter| matches!(letter, '0'..='9' | '.' | '/' | ' '));
                parameters || self.experts.iter().any(|expert| rest.strip_prefix(' ') == Some(expert))
            })
    }
}

/// The check itself detects violations.
#[test]
fn breaches_are_seen() {
    let configured = Configured {
        policies: vec!["house".into()],
        experts: vec!["a".into()],
        topics: Vec::new(),
        groups: Vec::new(),
        partitions: 1,
    };
    for (page, breach) in [
        ("# TYPE aegis_more counter\n", "aegis_more is not in the contract"),
        ("# TYPE aegis_votes_total gauge\naegis_votes_total{expert=\"a\"} 1\n", "and not a counter"),
        ("# TYPE aegis_votes_total counter\naegis_votes_total{expert=\"b\"} 1\n", "configured the expert b"),
        ("# TYPE aegis_votes_total counter\naegis_votes_total{policy=\"house\"} 1\n", "are not [\"expert\"]"),
        ("", "aegis_votes_total is not served"),
        ("# TYPE aegis_spans_total counter\n", "aegis_spans_total is served all the same"),
        (
            "# TYPE aegis_dead_letters_total counter\naegis_dead_letters_total{side=\"event\",reason=\"evil\"} 1\n",
            "configured the reason evil",
        ),
    ] {
        let found = breaches(page, &configured);
        assert!(found.iter().any(|line| line.contains(breach)), "{page}: {found:#?}");
    }
    let well = "# TYPE aegis_label_corrections_total counter\n\
                aegis_label_corrections_total{policy=\"house\",kind=\"corrects\"} 1\n";
    assert!(!breaches(well, &configured).iter().any(|line| line.contains("aegis_label_corrections_total")));
}
