//! What the flows say in one line: each call records one thing that happened.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use metrics::{Counter, Histogram};

use super::list::{
    ABSTENTIONS, ACTIVE, BRIER, CACHED, CALIBRATION, COMMIT_SECONDS, CORRECTIONS, DEAD_LETTERS,
    DECISION_SECONDS, DECISIONS, DECISIONS_SKIPPED, DEGRADED, DISAGREEMENTS, END_TO_END_SECONDS,
    EXPERT_BRIER, EXPERT_MISTAKES, EXPERT_ROUNDS, FOLD_REWIND, FOLD_SECONDS, HIDDEN_TEXT, INDEX_ENTRIES,
    INDEX_RUNS, KAFKA_ERRORS, LABEL_DELAY, LABELS, LABELS_WAITING, LEDGER_OFFSET, LEDGER_RECORDS, MISTAKES,
    NOTHING_TO_JUDGE, PANEL_CURRENT, PANEL_RELOADS, PANEL_SHRUNK, PARTITIONS, POLICIES_CURRENT,
    POLICY_RELOADS, PREDICTOR_AGE, PREDICTOR_CURRENT, PREDICTOR_OFFSET, PREDICTORS, QUEUE_EVENTS,
    READING_GAIN, READING_ROUNDS, RECORDS_LOST, REGRET, REGRET_BOUND, REVIEWS, ROUNDS, SHADOW_VOTES, SPANS,
    STORE_BYTES, TOMBSTONES, TRANSACTION_RECORDS, TRANSACTIONS, TRUNCATED, VOTES, WEIGHT,
};
use crate::core::decision::{Decision, WeighedVote};
use crate::core::event::Millis;
use crate::core::learners::Tally;
use crate::core::learners::tally::Certificate;
use crate::core::predictor::Published;
use crate::core::vote::{Outcome, Vote};

/// Gauges and histograms are `f64`: exact to 2^53.
#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn float(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_precision_loss, reason = "for people to read")]
fn signed(number: i64) -> f64 {
    number as f64
}

/// How the outcome of an event is counted once it is committed: a unit that is given up counts nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Counted {
    /// A decision.
    Decision {
        /// Its policy. Policies and experts are configured ones, so their labels are bounded.
        policy: String,
        /// What is done: the action's word.
        action: &'static str,
        /// Why a person should look: the reason's word.
        review: Option<&'static str>,
        /// An expert of the panel abstained.
        degraded: bool,
        /// There was nothing to judge.
        nothing_to_judge: bool,
        /// The ways in which text was hidden: their words.
        hidden_text: Vec<&'static str>,
        /// Experts that voted lie on both sides of 0.5.
        disagreed: bool,
    },
    /// A dead letter, for the reason of that name.
    DeadLetter(&'static str),
}

impl Counted {
    /// How this decision is.
    #[must_use]
    pub fn decision(decision: &Decision) -> Self {
        let scores = || decision.votes.iter().filter_map(|weighed| weighed.vote.score());
        Self::Decision {
            policy: decision.id.policy.clone(),
            action: decision.action.word(),
            review: decision.review.map(|reason| reason.word()),
            degraded: decision.degraded,
            nothing_to_judge: decision.nothing_to_judge,
            hidden_text: decision.hidden_text.iter().map(|way| way.word()).collect(),
            disagreed: scores().any(|score| score >= 0.5) && scores().any(|score| score < 0.5),
        }
    }
}

/// The outcomes of a unit's events were committed.
pub fn outcomes(outcomes: &[Counted]) {
    // Most are like the one before them.
    for alike in outcomes.chunk_by(PartialEq::eq) {
        let count = alike.len() as u64;
        match alike.first() {
            Some(Counted::DeadLetter(reason)) => DEAD_LETTERS.with(["event", reason]).increment(count),
            Some(Counted::Decision {
                policy,
                action,
                review,
                degraded,
                nothing_to_judge,
                hidden_text,
                disagreed,
            }) => {
                DECISIONS.with([policy, action]).increment(count);
                if let Some(reason) = review {
                    REVIEWS.with([policy, reason]).increment(count);
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

/// What every event tells when it is decided, with the handles that it takes at hand.
pub struct Decided {
    seconds: Histogram,
    /// By the expert.
    votes: HashMap<String, Counter>,
}

impl Default for Decided {
    fn default() -> Self {
        Self { seconds: DECISION_SECONDS.with([]), votes: HashMap::new() }
    }
}

impl Decided {
    /// An event was decided: what its experts did, and how long it took. What is decided again after a unit that was
    /// given up has been voted on again as well.
    pub fn note(&mut self, decision: &Decision) {
        self.seconds.record(signed(decision.latency_micros) / 1e6);
        for WeighedVote { vote, .. } in &decision.votes {
            match &vote.outcome {
                Outcome::Voted { .. } => self.voted(&vote.expert),
                Outcome::Abstained(reason) => ABSTENTIONS.with([&vote.expert, reason.word()]).increment(1),
            }
            seldom(decision, vote);
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

/// What few votes are.
fn seldom(decision: &Decision, vote: &Vote) {
    if let (true, Some(score), Some(p)) = (vote.shadow, vote.score(), decision.probability) {
        let same = (score >= decision.threshold) == (p >= decision.threshold);
        let word = if same { "same" } else { "other" };
        SHADOW_VOTES.with([&decision.id.policy, &vote.expert, word]).increment(1);
    }
    if vote.truncated {
        TRUNCATED.with([&vote.expert]).increment(1);
    }
    if vote.cached {
        CACHED.with([&vote.expert]).increment(1);
    }
}

/// A dead letter from the side of `event`s or `label`s was committed.
pub fn dead_letter(side: &'static str, reason: &'static str) {
    DEAD_LETTERS.with([side, reason]).increment(1);
}

/// Records with a null value of `event`s or `label`s were passed over, and committed.
pub fn skipped(side: &'static str, count: u64) {
    if count > 0 {
        TOMBSTONES.with([side]).increment(count);
    }
}

/// A transaction (or what stands for one) of so many records was committed.
pub fn commit(role: &'static str, records: usize, took: Duration) {
    TRANSACTIONS.with([role, "committed"]).increment(1);
    TRANSACTION_RECORDS.with([role]).record(float(records as u64));
    COMMIT_SECONDS.with([role]).record(took);
}

/// A transaction was given up; `error` is the name of why.
pub fn aborted(role: &'static str, error: &'static str) {
    TRANSACTIONS.with([role, "aborted"]).increment(1);
    KAFKA_ERRORS.with([role, error]).increment(1);
}

/// Another process has taken over.
pub fn fenced(role: &'static str) {
    TRANSACTIONS.with([role, "fenced"]).increment(1);
}

/// What became of a label.
pub fn label(outcome: &'static str) {
    LABELS.with([outcome]).increment(1);
}

/// A label that is kept takes an earlier one's place: it `corrects` or `retracts` it.
pub fn correction(policy: &str, kind: &'static str) {
    CORRECTIONS.with([policy, kind]).increment(1);
}

/// A label came so long after its event.
pub fn label_delay(policy: &str, delay: Millis) {
    LABEL_DELAY.with([policy]).record(signed(delay) / 1e3);
}

/// A predictor is published; the tally is its fold's, where one is kept, with the experts in its order.
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

/// The predictor that scoring uses for a policy: the offset of its record, if one is used, how long ago it was
/// written, and whether it is the newest one.
pub fn predictor_in_use(policy: &str, offset: Option<i64>, age: Millis, current: bool) {
    PREDICTOR_OFFSET.with([policy]).set(signed(offset.unwrap_or(-1)));
    PREDICTOR_AGE.with([policy]).set(signed(age.max(0)) / 1e3);
    PREDICTOR_CURRENT.with([policy]).set(if current { 1.0 } else { 0.0 });
}

/// Each expert's own mean squared error.
pub fn expert_brier(policy: &str, brier: &BTreeMap<String, f64>) {
    for (expert, brier) in brier {
        EXPERT_BRIER.with([policy, expert]).set(*brier);
    }
}

/// The policies file had changed; whether it is in force now.
pub fn policies(taken: bool) {
    POLICY_RELOADS.with([if taken { "taken" } else { "refused" }]).increment(1);
    policies_current(taken);
}

/// Whether the policies in force are those of their file.
pub fn policies_current(current: bool) {
    POLICIES_CURRENT.with([]).set(if current { 1.0 } else { 0.0 });
}

/// The configuration asked for other experts; whether these are in force now.
pub fn panel(taken: bool) {
    PANEL_RELOADS.with([if taken { "taken" } else { "refused" }]).increment(1);
    panel_current(taken);
}

/// Whether the panel in force is the configuration's.
pub fn panel_current(current: bool) {
    PANEL_CURRENT.with([]).set(if current { 1.0 } else { 0.0 });
}

/// The greatest regret of a policy's learner, with its bound where one is proven.
pub fn certificate(policy: &str, certificate: &Certificate) {
    REGRET.with([policy]).set(certificate.regret);
    if let Some(bound) = certificate.bound {
        REGRET_BOUND.with([policy]).set(bound);
    }
}

/// So many partitions are read by this role in this process.
pub fn partitions(role: &'static str, count: usize) {
    PARTITIONS.with([role]).set(float(count as u64));
}

/// Sets the gauges of a role's work to 0 when dropped: those of a role that has ended say nothing.
#[derive(Debug)]
pub struct RoleMetrics(pub &'static str);

impl Drop for RoleMetrics {
    fn drop(&mut self) {
        role_ended(self.0);
    }
}

/// A role has ended: nothing is assigned to it, and it does nothing.
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

/// So many offsets of a partition were deleted before this process's group had read them.
pub fn lost(topic: &str, partition: i32, offsets: i64) {
    RECORDS_LOST.with([topic, &partition.to_string()]).increment(u64::try_from(offsets).unwrap_or(0));
}

/// So many decisions cannot be indexed, for this reason.
pub fn decisions_skipped(reason: &str, decisions: i64) {
    DECISIONS_SKIPPED.with([reason]).increment(u64::try_from(decisions).unwrap_or(0));
}

/// So many events are read and without a committed decision.
pub fn queue(events: usize) {
    QUEUE_EVENTS.with([]).set(float(events as u64));
}

/// So many labels of a policy wait for their event's decision.
pub fn waiting(policy: &str, labels: u64) {
    LABELS_WAITING.with([policy]).set(float(labels));
}

/// Events with these broker timestamps have a committed outcome at `now`.
pub fn end_to_end(now: Millis, came: &[Millis]) {
    let seconds = END_TO_END_SECONDS.with([]);
    for came in came {
        seconds.record(signed(now.saturating_sub(*came).max(0)) / 1e3);
    }
}

/// A stretch of a fold was done: how many rounds it had to go, and how long the stretch took.
pub fn folded(policy: &str, steps: usize, took: Duration) {
    FOLD_REWIND.with([policy]).record(float(steps as u64));
    FOLD_SECONDS.with([policy]).record(took.as_secs_f64());
}

/// Whether this process is the active learner.
pub fn active(active: bool) {
    ACTIVE.with([]).set(if active { 1.0 } else { 0.0 });
}

/// What became of so many spans.
pub fn spans(outcome: &'static str, spans: usize) {
    SPANS.with([outcome]).increment(spans as u64);
}

/// Sizes of the store.
pub fn store(ledger_records: u64, index_entries: u64, index_runs: usize, disk_bytes: u64) {
    LEDGER_RECORDS.with([]).set(float(ledger_records));
    INDEX_ENTRIES.with([]).set(float(index_entries));
    INDEX_RUNS.with([]).set(float(index_runs as u64));
    STORE_BYTES.with([]).set(float(disk_bytes));
}
