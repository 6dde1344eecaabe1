//! The experts: the same figures as for the ensemble, as if each of them alone decided.
//!
//! Only votes that were asked whatever they might be are counted: those of experts that are always asked, or, if an expert
//! is asked only when it is decisive, those that were explored. Every event has the same chance to be explored, so that
//! the explored events are a sample of all of them. A vote that was asked because it could change the decision is a vote on
//! a difficult event.

use std::collections::HashMap;

use super::estimates::{in_force, inclusion, is_requested, review};
use super::figures::{Change, ExpertPeriod, ExpertReport, Figure};
use super::keys::{Keys, RoundKey};
use super::tally::{Answers, SubjectKey, subject_key};
use crate::core::decision::{Decision, WeighedVote};
use crate::core::estimate::{Accumulator, Observed, Review, Thresholds};

/// The greatest number of experts of a policy. The votes of further ones are not counted.
const MAX_EXPERTS: usize = 1_024;

/// The period of a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Period {
    /// The period of the report.
    Current,
    /// The period before, of the same length.
    Before,
}

/// A vote on a decision that was requested.
#[derive(Debug, Clone, Copy)]
struct RequestedVote {
    /// The number of the expert.
    expert: u16,
    explored: bool,
    score: f64,
}

/// The votes that count on a decision that was requested.
#[derive(Debug)]
struct RequestedVotes {
    key: RoundKey,
    subject: Option<SubjectKey>,
    /// The probability with which the decision was requested.
    inclusion: f64,
    threshold: f64,
    votes: Box<[RequestedVote]>,
}

/// The votes of one expert: those that were explored, or the others.
#[derive(Debug, Clone)]
struct Votes {
    count: u64,
    sum: f64,
    /// Those on decisions that were not requested; at the end, all of them.
    unrequested: Accumulator,
}

/// The votes of one expert in one period.
#[derive(Debug, Clone)]
struct ExpertTally {
    always: Votes,
    explored: Votes,
    decisive: u64,
}

/// The votes of one period.
#[derive(Debug, Default)]
struct PeriodTally {
    /// By the experts' numbers.
    experts: Vec<ExpertTally>,
    requested: Vec<RequestedVotes>,
}

/// The experts of one policy.
#[derive(Debug)]
pub(super) struct ExpertTallies {
    thresholds: Thresholds,
    names: Vec<String>,
    numbers: HashMap<String, u16>,
    current: PeriodTally,
    before: PeriodTally,
    /// The votes of experts beyond [`MAX_EXPERTS`].
    pub(super) refused: u64,
}

impl ExpertTally {
    fn new(thresholds: &Thresholds) -> Self {
        let votes = Votes { count: 0, sum: 0.0, unrequested: Accumulator::new(thresholds) };
        Self { always: votes.clone(), explored: votes, decisive: 0 }
    }

    fn votes(&mut self, explored: bool) -> &mut Votes {
        if explored { &mut self.explored } else { &mut self.always }
    }

    /// The figures of the explored votes if there are any, else those of all votes.
    fn figures(&self) -> ExpertPeriod {
        let (counted, left) =
            if self.explored.count > 0 { (&self.explored, self.always.count) } else { (&self.always, 0) };
        #[expect(clippy::cast_precision_loss, reason = "counts of votes are far below 2^52")]
        let mean_score = (counted.count > 0).then(|| counted.sum / counted.count as f64);
        let figures = in_force(&counted.unrequested).1;
        let agreement = figures.error_rate.map(opposite);
        ExpertPeriod {
            votes: counted.count,
            not_counted: self.decisive + left,
            mean_score,
            figures,
            agreement,
        }
    }
}

impl ExpertTallies {
    pub(super) fn new(thresholds: &Thresholds) -> Self {
        Self {
            thresholds: thresholds.clone(),
            names: Vec::new(),
            numbers: HashMap::new(),
            current: PeriodTally::default(),
            before: PeriodTally::default(),
            refused: 0,
        }
    }

    /// Adds the votes of a decision.
    pub(super) fn add(&mut self, period: Period, decision: &Decision, keys: &Keys) {
        let mut requested = Vec::new();
        for WeighedVote { vote, .. } in &decision.votes {
            let Some(score) = vote.score() else { continue };
            let Some(expert) = self.number(&vote.expert) else {
                self.refused += 1;
                continue;
            };
            let tally = self.tally(period, expert);
            // An explored vote is asked in any case, even if it could also have changed the decision.
            if vote.decisive && !vote.explored {
                tally.decisive += 1;
                continue;
            }
            let votes = tally.votes(vote.explored);
            votes.count += 1;
            votes.sum += score;
            if is_requested(decision) {
                requested.push(RequestedVote { expert, explored: vote.explored, score });
            } else {
                let inclusion = inclusion(decision);
                votes.unrequested.observe(&alone(score, decision.threshold, inclusion, Review::NotRequested));
            }
        }
        if !requested.is_empty() {
            let votes = RequestedVotes {
                key: keys.of(&decision.id),
                subject: subject_key(decision, keys),
                inclusion: inclusion(decision),
                threshold: decision.threshold,
                votes: requested.into(),
            };
            self.period(period).requested.push(votes);
        }
    }

    fn period(&mut self, period: Period) -> &mut PeriodTally {
        match period {
            Period::Current => &mut self.current,
            Period::Before => &mut self.before,
        }
    }

    fn tally(&mut self, period: Period, expert: u16) -> &mut ExpertTally {
        let (number, thresholds) = (usize::from(expert), self.thresholds.clone());
        let experts = &mut self.period(period).experts;
        experts.resize_with(experts.len().max(number + 1), || ExpertTally::new(&thresholds));
        &mut experts[number]
    }

    fn number(&mut self, expert: &str) -> Option<u16> {
        if let Some(number) = self.numbers.get(expert) {
            return Some(*number);
        }
        let number =
            u16::try_from(self.names.len()).ok().filter(|number| usize::from(*number) < MAX_EXPERTS)?;
        self.names.push(expert.to_owned());
        self.numbers.insert(expert.to_owned(), number);
        Some(number)
    }

    /// The figures of all experts, by id. `compares` is `true` if the report has a period before.
    pub(super) fn report(mut self, compares: bool, answers: &Answers<'_>) -> Vec<ExpertReport> {
        let number = self.names.len();
        let (current, before) = (self.current.figures(answers, number), self.before.figures(answers, number));
        let reports = self.names.into_iter().zip(current).zip(before);
        let mut reports: Vec<ExpertReport> = reports
            .map(|((expert, period), before)| {
                let drift = change(period.figures.error_rate, before.figures.error_rate);
                ExpertReport { expert, period, before: compares.then_some(before), drift }
            })
            .collect();
        reports.sort_by(|a, b| a.expert.cmp(&b.expert));
        reports
    }
}

impl PeriodTally {
    /// The figures of the experts with numbers below `number`.
    fn figures(&mut self, answers: &Answers<'_>, number: usize) -> Vec<ExpertPeriod> {
        for RequestedVotes { key, subject, inclusion, threshold, votes } in &self.requested {
            if subject.is_some_and(answers.erased) {
                continue;
            }
            let review = review((answers.target)(*key));
            for vote in votes {
                let observed = alone(vote.score, *threshold, *inclusion, review);
                self.experts[usize::from(vote.expert)].votes(vote.explored).unrequested.observe(&observed);
            }
        }
        let mut figures: Vec<ExpertPeriod> = self.experts.iter().map(ExpertTally::figures).collect();
        figures.resize_with(number, ExpertPeriod::default);
        figures
    }
}

/// The decision that an expert alone would have made.
fn alone(score: f64, threshold: f64, inclusion: f64, review: Review) -> Observed {
    Observed { probability: Some(score), flagged: score >= threshold, fixed: false, inclusion, review }
}

/// One minus a figure.
fn opposite(figure: Figure) -> Figure {
    let (least, greatest) = figure.unanswered;
    Figure {
        value: 1.0 - figure.value,
        low: 1.0 - figure.high,
        high: 1.0 - figure.low,
        unanswered: (1.0 - greatest, 1.0 - least),
        ..figure
    }
}

/// The change between two independent estimates, with the interval that squares and adds their distances to their bounds
/// (R. G. Newcombe, "Interval estimation for the difference between independent proportions", Statistics in Medicine 17,
/// 1998, method 10).
fn change(now: Option<Figure>, before: Option<Figure>) -> Option<Change> {
    let (now, before) = (now?, before?);
    let value = now.value - before.value;
    let low = value - (now.value - now.low).hypot(before.high - before.value);
    let high = value + (now.high - now.value).hypot(before.value - before.low);
    Some(Change { value, low, high })
}
