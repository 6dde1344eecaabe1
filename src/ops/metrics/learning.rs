//! Functions that record what learn does: labels, folds, published predictors and the store.

use std::collections::BTreeMap;
use std::time::Duration;

use super::list::{
    ACTIVE, BRIER, CALIBRATION, CORRECTIONS, DECISIONS_SKIPPED, EXPERT_BRIER, EXPERT_MISTAKES, EXPERT_ROUNDS,
    FOLD_REWIND, FOLD_SECONDS, INDEX_ENTRIES, INDEX_RUNS, LABEL_DELAY, LABELS, LABELS_WAITING, LEDGER_OFFSET,
    LEDGER_RECORDS, MISTAKES, PREDICTORS, READING_GAIN, READING_ROUNDS, REGRET, REGRET_BOUND, ROUNDS,
    STORE_BYTES, WEIGHT,
};
use super::{float, signed};
use crate::core::event::Millis;
use crate::core::learners::Tally;
use crate::core::learners::tally::Certificate;
use crate::core::predictor::Published;

/// Records if this process is the active learner.
pub fn active(active: bool) {
    ACTIVE.with([]).set(f64::from(active));
}

/// Records the number of decisions that cannot be indexed, with the reason.
pub fn decisions_skipped(reason: &str, decisions: i64) {
    DECISIONS_SKIPPED.with([reason]).increment(u64::try_from(decisions).unwrap_or(0));
}

/// Records the outcome of a label.
pub fn label(outcome: &'static str) {
    LABELS.with([outcome]).increment(1);
}

/// Records an accepted label that `corrects` or `retracts` an earlier one.
pub fn correction(policy: &str, kind: &'static str) {
    CORRECTIONS.with([policy, kind]).increment(1);
}

/// Records the delay between an event and its label.
pub fn label_delay(policy: &str, delay: Millis) {
    LABEL_DELAY.with([policy]).record(signed(delay) / 1e3);
}

/// Sets the number of a policy's labels that wait for their event's decision.
pub fn waiting(policy: &str, labels: u64) {
    LABELS_WAITING.with([policy]).set(float(labels));
}

/// Records a step of a fold: the rounds that it had to fold, and its duration.
pub fn folded(policy: &str, steps: usize, took: Duration) {
    FOLD_REWIND.with([policy]).record(float(steps as u64));
    FOLD_SECONDS.with([policy]).record(took.as_secs_f64());
}

/// Records a published predictor. `tally` is that of its fold, if there is one, with experts in the order of `experts`.
pub fn predictor(published: &Published, experts: &[String], tally: Option<&Tally>) {
    let policy = published.policy.as_str();
    PREDICTORS.with([policy]).increment(1);
    ROUNDS.with([policy]).set(float(published.rounds));
    LEDGER_OFFSET.with([]).set(signed(published.ledger_offset));
    for mass in &published.masses {
        WEIGHT.with([policy, &mass.member]).set(mass.mass);
    }
    if let Some(tally) = tally {
        BRIER.with([policy]).set(tally.brier());
        CALIBRATION.with([policy]).set(tally.calibration_error());
        READING_GAIN.with([policy]).set(tally.ablation.gain());
        READING_ROUNDS.with([policy]).set(float(tally.ablation.rounds));
        MISTAKES.with([policy, "ensemble"]).set(float(tally.mistakes));
        MISTAKES.with([policy, "majority"]).set(float(tally.majority_mistakes));
        for (expert, found) in experts.iter().zip(&tally.experts) {
            EXPERT_MISTAKES.with([policy, expert]).set(float(found.mistakes));
            EXPERT_ROUNDS.with([policy, expert]).set(float(found.awake));
        }
    }
}

/// Sets the mean squared error of each expert.
pub fn expert_brier(policy: &str, brier: &BTreeMap<String, f64>) {
    for (expert, brier) in brier {
        EXPERT_BRIER.with([policy, expert]).set(*brier);
    }
}

/// Sets the greatest regret of a policy's learner, and its bound if one is proven.
pub fn certificate(policy: &str, certificate: &Certificate) {
    REGRET.with([policy]).set(certificate.regret);
    if let Some(bound) = certificate.bound {
        REGRET_BOUND.with([policy]).set(bound);
    }
}

/// Sets the sizes of the store.
pub fn store(ledger_records: u64, index_entries: u64, index_runs: usize, disk_bytes: u64) {
    LEDGER_RECORDS.with([]).set(float(ledger_records));
    INDEX_ENTRIES.with([]).set(float(index_entries));
    INDEX_RUNS.with([]).set(float(index_runs as u64));
    STORE_BYTES.with([]).set(float(disk_bytes));
}
