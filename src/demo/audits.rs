//! The estimates from the audits of the demo, beside the truth, which the demo knows from its sets.

use std::collections::{BTreeMap, HashMap};

use serde::Serialize;

use super::drive::{Outcomes, Played};
use crate::core::estimate::{Accumulator, Estimate, Estimates, Method, Observed, Review, Thresholds};
use crate::ops::stdout::outln;

/// The estimates from the audits. It is the content of `audits` in DIR/summary.json.
#[derive(Debug, Serialize)]
pub struct Audits {
    /// The decisions of events that reviewers have an opinion about.
    decisions: u64,
    /// The audits among them.
    requests: u64,
    /// The audits with a label that was not retracted.
    labels: u64,
    prevalence: Option<Figure>,
    recall: Option<Figure>,
    precision: Option<Figure>,
}

/// An estimate with its 95 % interval, and the figure with the labels of all events.
#[derive(Debug, Serialize)]
struct Figure {
    value: f64,
    low: f64,
    high: f64,
    truth: f64,
}

/// Estimates from the labels of audited events. `targets` are those of events with a label, `truth` the mean opinion of
/// the reviewers of every event.
pub fn estimate(outcomes: &Outcomes, targets: &HashMap<String, f64>, truth: &HashMap<String, f64>) -> Audits {
    let thresholds = Thresholds::new(&[]);
    let (mut sampled, mut known) = (Accumulator::new(&thresholds), Accumulator::new(&thresholds));
    // In the order of the ids, so that the sums are the same in every run.
    for (event, opinion) in truth.iter().collect::<BTreeMap<_, _>>() {
        let Some(played) = outcomes.played.get(event) else { continue };
        let review = match (played.audited, targets.get(event)) {
            (false, _) => Review::NotRequested,
            (true, None) => Review::Unanswered,
            (true, Some(target)) => Review::Answered(*target),
        };
        sampled.observe(&observed(played, played.audit, review));
        known.observe(&observed(played, 1.0, Review::Answered(*opinion)));
    }
    let (from, with) = (sampled.in_force(Method::Assisted), known.in_force(Method::Assisted));
    let figure = |of: fn(&Estimates) -> Option<Estimate>| {
        let (Estimate { value, low, high, .. }, truth) = (of(&from)?, of(&with)?.value);
        Some(Figure { value, low, high, truth })
    };
    Audits {
        decisions: from.decisions,
        requests: from.requests,
        labels: from.labels,
        prevalence: figure(|all| all.prevalence),
        recall: figure(|all| all.recall),
        precision: figure(|all| all.precision),
    }
}

fn observed(played: &Played, inclusion: f64, review: Review) -> Observed {
    let Played { probability, flagged, .. } = *played;
    Observed { probability, flagged, fixed: probability.is_none(), inclusion, review }
}

impl Audits {
    /// Prints the estimates in a table.
    pub fn print(&self) {
        let share = 100.0 * self.requests as f64 / self.decisions.max(1) as f64;
        outln!(
            "  {:>7} audits        {share:.0} % of the events, drawn whatever was decided; {} have a label",
            self.requests,
            self.labels
        );
        outln!("  estimated from them                    95 % interval   truth, from all labels");
        for (name, figure) in [
            ("unsafe events", &self.prevalence),
            ("of which were flagged (recall)", &self.recall),
            ("flagged events unsafe (precision)", &self.precision),
        ] {
            let Some(Figure { value, low, high, truth }) = figure else { continue };
            let [value, low, high, truth] = [value, low, high, truth].map(|share| 100.0 * share);
            outln!("  {value:>7.1} %  {name:<34} {low:>4.1} to {high:>4.1}    {truth:>5.1} %");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn audits_estimate_what_all_labels_say_and_other_reviews_do_not_count() {
        let mut outcomes = Outcomes::default();
        let (mut targets, mut truth) = (HashMap::new(), HashMap::new());
        let mut rng = fastrand::Rng::with_seed(2);
        for number in 0..4_000 {
            let (event, p) = (format!("e{number}"), rng.f64());
            let opinion = f64::from(u8::from(rng.f64() < p));
            let audited = rng.f64() < 0.1;
            let played = Played { probability: Some(p), flagged: p >= 0.5, audit: 0.1, audited };
            // Unsafe events are labelled twice as often by others: that would bias an estimate from all labels.
            if audited || rng.f64() < 0.2 + 0.2 * opinion {
                targets.insert(event.clone(), opinion);
            }
            truth.insert(event.clone(), opinion);
            outcomes.played.insert(event, played);
        }
        outcomes
            .played
            .insert("odd".into(), Played { probability: None, flagged: true, audit: 0.0, audited: false });
        let found = estimate(&outcomes, &targets, &truth);
        assert_eq!(found.decisions, 4_000, "an event without an opinion has no truth");
        assert!(found.requests == found.labels && (350..450).contains(&found.labels));
        for figure in [found.prevalence, found.recall, found.precision] {
            let Figure { value, low, high, truth } = figure.unwrap();
            assert!(low <= truth && truth <= high && low < value && value < high && high - low < 0.12);
        }
    }
}
