//! Functions that record one occurrence each, for the flows.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use metrics::{Counter, Histogram};

use super::list::{
    ABSTENTIONS, ACTIVE, BRIER, CACHED, CALIBRATION, COMMIT_SECONDS, CORRECTIONS, DEAD_LETTERS,
    DECISION_SECONDS, DECISIONS, DECISIONS_SKIPPED, DEFERRED, DEGRADED, DISAGREEMENTS, END_TO_END_SECONDS,
    EXPERT_BRIER, EXPERT_MISTAKES, EXPERT_ROUNDS, FOLD_REWIND, FOLD_SECONDS, HIDDEN_TEXT, INDEX_ENTRIES,
    INDEX_RUNS, KAFKA_ERRORS, LABEL_DELAY, LABELS, LABELS_WAITING, LEDGER_OFFSET, LEDGER_RECORDS, MISTAKES,
    NOTHING_TO_JUDGE, PANEL_CURRENT, PANEL_RELOADS, PANEL_SHRUNK, PARTITIONS, POLICIES_CURRENT,
    POLICY_RELOADS, PREDICTOR_AGE, PREDICTOR_CURRENT, PREDICTOR_OFFSET, PREDICTORS, QUEUE_EVENTS,
    READING_GAIN, READING_ROUNDS, RECORDS_LOST, REGRET, REGRET_BOUND, REVIEW_DRAWS, REVIEWS, REVIEWS_THINNED,
    ROUNDS, SHADOW_VOTES, SPANS, STORE_BYTES, TOMBSTONES, TRANSACTION_RECORDS, TRANSACTIONS, TRUNCATED,
    VOTES, WEIGHT,
};
use crate::core::decision::{Decision, WeighedVote};
use crate::core::event::Millis;
use crate::core::learners::Tally;
use crate::core::learners::tally::Certificate;
use crate::core::predictor::Published;
use crate::core::vote::{Abstention, Outcome, Vote};

/// Converts to the type of gauges and histograms. Exact up to 2^53.
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn signed(number: i64) -> f64 {
    number as f64
}

/// The outcome of an event, to be counted once it is committed. Aborted batches are not counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counted {
    /// A decision.
    Decision {
        /// The policy. Policies and experts are configured, so their labels are bounded.
        policy: String,
        /// The name of the action.
        action: &'static str,
        /// The name of the first reason for review, if any.
        review: Option<&'static str>,
        /// The names of the draws that came up.
        draws: Vec<&'static str>,
        /// The review budget has withheld a request.
        withheld: bool,
        /// An expert of the panel abstained.
        degraded: bool,
        /// There was nothing to judge.
        nothing_to_judge: bool,
        /// The names of the techniques of hidden text.
        hidden_text: Vec<&'static str>,
        /// Votes lie on both sides of 0.5.
        disagreed: bool,
    },
    /// A dead letter, with the name of its reason.
    DeadLetter(&'static str),
}

impl Counted {
    /// Returns the outcome of this decision, and of the request that the review budget may have withheld.
    #[must_use]
    pub fn decision(decision: &Decision, withheld: bool) -> Self {
        let drawn = decision.reasons.iter().filter(|reason| !reason.is_certain());
        let scores = || decision.votes.iter().filter_map(|weighed| weighed.vote.score());
        Self::Decision {
            policy: decision.id.policy.clone(),
            action: decision.action.word(),
            review: decision.review().map(|reason| reason.word()),
            draws: drawn.map(|reason| reason.word()).collect(),
            withheld,
            degraded: decision.degraded,
            nothing_to_judge: decision.nothing_to_judge,
            hidden_text: decision.hidden_text.iter().map(|way| way.word()).collect(),
            disagreed: scores().any(|score| score >= 0.5) && scores().any(|score| score < 0.5),
        }
    }
}

/// Records the committed outcomes of a batch's events.
pub fn outcomes(outcomes: &[Counted]) {
    // Most outcomes equal the previous one.
    for alike in outcomes.chunk_by(PartialEq::eq) {
        let count = alike.len() as u64;
        match alike.first() {
            Some(Counted::DeadLetter(reason)) => DEAD_LETTERS.with(["event", reason]).increment(count),
            Some(Counted::Decision {
                policy,
                action,
                review,
                draws,
                withheld,
                degraded,
                nothing_to_judge,
                hidden_text,
                disagreed,
            }) => {
                DECISIONS.with([policy, action]).increment(count);
                if let Some(reason) = review {
                    REVIEWS.with([policy, reason]).increment(count);
                }
                for draw in draws {
                    REVIEW_DRAWS.with([policy.as_str(), draw]).increment(count);
                }
                if *withheld {
                    REVIEWS_THINNED.with([policy]).increment(count);
                }
                if *degraded {
                    DEGRADED.with([policy]).increment(count);
                }
                if *nothing_to_judge {
                    NOTHING_TO_JUDGE.with([policy]).increment(count);
                }
                for way in hidden_text {
                    HIDDEN_TEXT.with([policy.as_str(), way]).increment(count);
                }
                if *disagreed {
                    DISAGREEMENTS.with([policy]).increment(count);
                }
            }
            None => {}
        }
    }
}

/// Records decisions, with the handles that every event needs.
pub struct Decided {
    seconds: Histogram,
    /// The handles by expert.
    votes: HashMap<String, Counter>,
}

impl Default for Decided {
    fn default() -> Self {
        Self { seconds: DECISION_SECONDS.with([]), votes: HashMap::new() }
    }
}

impl Decided {
    /// Records a decision: its latency, votes and abstentions. An event that is decided again after an aborted batch is
    /// recorded again.
    pub fn note(&mut self, decision: &Decision) {
        self.seconds.record(signed(decision.latency_micros) / 1e6);
        for WeighedVote { vote, .. } in &decision.votes {
            match &vote.outcome {
                Outcome::Voted { .. } => self.voted(&vote.expert),
                Outcome::Abstained(reason) => ABSTENTIONS.with([&vote.expert, reason.word()]).increment(1),
            }
            rare_properties(decision, vote);
        }
    }

    fn voted(&mut self, expert: &str) {
        if let Some(votes) = self.votes.get(expert) {
            votes.increment(1);
        } else {
            let votes = VOTES.with([expert]);
            votes.increment(1);
            self.votes.insert(expert.to_owned(), votes);
        }
    }
}

/// Records the properties that few votes have.
fn rare_properties(decision: &Decision, vote: &Vote) {
    if let (true, Some(score), Some(p)) = (vote.shadow, vote.score(), decision.probability) {
        let same = (score >= decision.threshold) == (p >= decision.threshold);
        let word = if same { "same" } else { "other" };
        SHADOW_VOTES.with([&decision.id.policy, &vote.expert, word]).increment(1);
    }
    let deferred = match vote.outcome {
        Outcome::Abstained(Abstention::NotNeeded) => Some("not_needed"),
        _ if vote.explored => Some("explored"),
        _ => vote.decisive.then_some("asked"),
    };
    if let Some(outcome) = deferred {
        DEFERRED.with([&vote.expert, outcome]).increment(1);
    }
    if vote.truncated {
        TRUNCATED.with([&vote.expert]).increment(1);
    }
    if vote.cached {
        CACHED.with([&vote.expert]).increment(1);
    }
}

/// Records a committed dead letter, by its side (`event` or `label`).
pub fn dead_letter(side: &'static str, reason: &'static str) {
    DEAD_LETTERS.with([side, reason]).increment(1);
}

/// Records committed records with a null value that were skipped, by their side (`event` or `label`).
pub fn skipped(side: &'static str, count: u64) {
    if count > 0 {
        TOMBSTONES.with([side]).increment(count);
    }
}

/// Records the commit of a transaction, or of an at-least-once batch.
pub fn commit(role: &'static str, records: usize, took: Duration) {
    TRANSACTIONS.with([role, "committed"]).increment(1);
    TRANSACTION_RECORDS.with([role]).record(float(records as u64));
    COMMIT_SECONDS.with([role]).record(took);
}

/// Records an aborted transaction with the name of the error.
pub fn aborted(role: &'static str, error: &'static str) {
    TRANSACTIONS.with([role, "aborted"]).increment(1);
    KAFKA_ERRORS.with([role, error]).increment(1);
}

/// Records that another process has taken over.
pub fn fenced(role: &'static str) {
    TRANSACTIONS.with([role, "fenced"]).increment(1);
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

/// Sets the gauges of the predictor that scoring uses for a policy: the offset of its record, if one is used, its age, and
/// if it is the newest.
pub fn predictor_in_use(policy: &str, offset: Option<i64>, age: Millis, current: bool) {
    PREDICTOR_OFFSET.with([policy]).set(signed(offset.unwrap_or(-1)));
    PREDICTOR_AGE.with([policy]).set(signed(age.max(0)) / 1e3);
    PREDICTOR_CURRENT.with([policy]).set(if current { 1.0 } else { 0.0 });
}

/// Sets the mean squared error of each expert.
pub fn expert_brier(policy: &str, brier: &BTreeMap<String, f64>) {
    for (expert, brier) in brier {
        EXPERT_BRIER.with([policy, expert]).set(*brier);
    }
}

/// Records a change of the policies file, taken or refused.
pub fn policies(taken: bool) {
    POLICY_RELOADS.with([if taken { "taken" } else { "refused" }]).increment(1);
    policies_current(taken);
}

/// Records if the policies in force are those of the file.
pub fn policies_current(current: bool) {
    POLICIES_CURRENT.with([]).set(if current { 1.0 } else { 0.0 });
}

/// Records a change of the configured experts, taken or refused.
pub fn panel(taken: bool) {
    PANEL_RELOADS.with([if taken { "taken" } else { "refused" }]).increment(1);
    panel_current(taken);
}

/// Records if the panel in force is that of the configuration.
pub fn panel_current(current: bool) {
    PANEL_CURRENT.with([]).set(if current { 1.0 } else { 0.0 });
}

/// Sets the greatest regret of a policy's learner, and its bound if one is proven.
pub fn certificate(policy: &str, certificate: &Certificate) {
    REGRET.with([policy]).set(certificate.regret);
    if let Some(bound) = certificate.bound {
        REGRET_BOUND.with([policy]).set(bound);
    }
}

/// Sets the number of partitions that this role reads in this process.
pub fn partitions(role: &'static str, count: usize) {
    PARTITIONS.with([role]).set(float(count as u64));
}

/// Sets the gauges of a role's work to 0 when dropped, because a role that has ended does no work.
#[derive(Debug)]
pub struct RoleMetrics(pub &'static str);

impl Drop for RoleMetrics {
    fn drop(&mut self) {
        role_ended(self.0);
    }
}

/// Sets the gauges of a role that has ended to 0.
pub fn role_ended(role: &'static str) {
    partitions(role, 0);
    match role {
        "score" => {
            queue(0);
            PANEL_SHRUNK.with([]).set(0.0);
        }
        "learn" => active(false),
        _ => {}
    }
}

/// Records the number of a partition's offsets that were deleted before this group had read them.
pub fn lost(topic: &str, partition: i32, offsets: i64) {
    RECORDS_LOST.with([topic, &partition.to_string()]).increment(u64::try_from(offsets).unwrap_or(0));
}

/// Records the number of decisions that cannot be indexed, with the reason.
pub fn decisions_skipped(reason: &str, decisions: i64) {
    DECISIONS_SKIPPED.with([reason]).increment(u64::try_from(decisions).unwrap_or(0));
}

/// Sets the number of events that are read and have no committed decision.
pub fn queue(events: usize) {
    QUEUE_EVENTS.with([]).set(float(events as u64));
}

/// Sets the number of a policy's labels that wait for their event's decision.
pub fn waiting(policy: &str, labels: u64) {
    LABELS_WAITING.with([policy]).set(float(labels));
}

/// Records the latency of events with these broker timestamps, whose outcome was committed at `now`.
pub fn end_to_end(now: Millis, timestamps: &[Millis]) {
    let seconds = END_TO_END_SECONDS.with([]);
    for timestamp in timestamps {
        seconds.record(signed(now.saturating_sub(*timestamp).max(0)) / 1e3);
    }
}

/// Records a step of a fold: the rounds that it had to fold, and its duration.
pub fn folded(policy: &str, steps: usize, took: Duration) {
    FOLD_REWIND.with([policy]).record(float(steps as u64));
    FOLD_SECONDS.with([policy]).record(took.as_secs_f64());
}

/// Records if this process is the active learner.
pub fn active(active: bool) {
    ACTIVE.with([]).set(if active { 1.0 } else { 0.0 });
}

/// Records the outcome of a number of spans.
pub fn spans(outcome: &'static str, spans: usize) {
    SPANS.with([outcome]).increment(spans as u64);
}

/// Sets the sizes of the store.
pub fn store(ledger_records: u64, index_entries: u64, index_runs: usize, disk_bytes: u64) {
    LEDGER_RECORDS.with([]).set(float(ledger_records));
    INDEX_ENTRIES.with([]).set(float(index_entries));
    INDEX_RUNS.with([]).set(float(index_runs as u64));
    STORE_BYTES.with([]).set(float(disk_bytes));
}
