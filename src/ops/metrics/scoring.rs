//! Functions that record what score does: outcomes of events, the predictor in use and the panel.

use std::collections::HashMap;

use metrics::{Counter, Histogram};

use super::list::{
    ABSTENTIONS, CACHED, DEAD_LETTERS, DECISION_SECONDS, DECISIONS, DEFERRED, DEGRADED, DISAGREEMENTS,
    END_TO_END_SECONDS, HIDDEN_TEXT, LANGUAGES, NOTHING_TO_JUDGE, PANEL_CURRENT, PANEL_RELOADS,
    PREDICTOR_AGE, PREDICTOR_CURRENT, PREDICTOR_OFFSET, PREDICTOR_PIN_AGE, PREDICTOR_PINNED,
    PREDICTOR_ROUNDS_BEHIND, QUEUE_EVENTS, REVIEW_DRAWS, REVIEWS, REVIEWS_THINNED, SHADOW_VOTES, TRUNCATED,
    VOTES,
};
use super::{float, signed};
use crate::core::decision::{Decision, WeighedVote};
use crate::core::event::Millis;
use crate::core::vote::{Abstention, Outcome, Vote};

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
        /// The code of the judged text's language. The detector has a fixed list of them.
        language: &'static str,
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
            language: decision.language.code(),
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
                language,
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
                LANGUAGES.with([policy.as_str(), language]).increment(count);
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

/// Sets the number of events that are read and have no committed decision.
pub fn queue(events: usize) {
    QUEUE_EVENTS.with([]).set(float(events as u64));
}

/// Records the latency of events with these broker timestamps, whose outcome was committed at `now`.
pub fn end_to_end(now: Millis, timestamps: &[Millis]) {
    let seconds = END_TO_END_SECONDS.with([]);
    for timestamp in timestamps {
        seconds.record(signed(now.saturating_sub(*timestamp).max(0)) / 1e3);
    }
}

/// Sets the gauges of the predictor that scoring uses for a policy: the offset of its record, if one is used, its age, and
/// if it is the newest.
pub fn predictor_in_use(policy: &str, offset: Option<i64>, age: Millis, current: bool) {
    PREDICTOR_OFFSET.with([policy]).set(signed(offset.unwrap_or(-1)));
    PREDICTOR_AGE.with([policy]).set(signed(age.max(0)) / 1e3);
    PREDICTOR_CURRENT.with([policy]).set(f64::from(current));
}

/// Sets the gauges of the pin of a policy: the age of the pin, or `None` if no predictor is pinned, and the number of rounds
/// that the newest predictor has beyond the one in use.
pub fn predictor_pinned(policy: &str, age: Option<Millis>, rounds_behind: u64) {
    PREDICTOR_PINNED.with([policy]).set(f64::from(age.is_some()));
    PREDICTOR_PIN_AGE.with([policy]).set(signed(age.unwrap_or(0).max(0)) / 1e3);
    PREDICTOR_ROUNDS_BEHIND.with([policy]).set(float(rounds_behind));
}

/// Records a change of the configured experts, taken or refused.
pub fn panel(taken: bool) {
    PANEL_RELOADS.with([if taken { "taken" } else { "refused" }]).increment(1);
    panel_current(taken);
}

/// Records if the panel in force is that of the configuration.
pub fn panel_current(current: bool) {
    PANEL_CURRENT.with([]).set(f64::from(current));
}
