//! Estimates from reviews stay unbiased although experts are skipped.

use aegis_core::decision::ReviewReason;
use aegis_core::decisive::{Decisive, Unasked, decisive};
use aegis_core::learners::LearnerSpec;
use aegis_core::policy::Policy;
use aegis_core::predictor::Predictor;
use aegis_core::sampling::AuditRates;
use aegis_core::vote::{Abstention, Vote};
use fastrand::Rng;

use crate::{EXPERTS, LEARNERS, decided, plain, predictor};

/// The sums over events of the draws that came up, each weighted by the inverse of its probability, minus 1.
#[derive(Debug, Default)]
struct Weighted {
    events: f64,
    excess: f64,
    variance: f64,
}

impl Weighted {
    fn add(&mut self, came_up: bool, probability: f64) {
        // The weighting is for events that can be in the sample.
        if probability > 0.0 {
            self.events += 1.0;
            self.excess += f64::from(u8::from(came_up)) / probability - 1.0;
            self.variance += 1.0 / probability - 1.0;
        }
    }

    /// The distance of the mean weight from 1, in standard errors.
    fn errors(&self) -> f64 {
        self.excess / self.variance.sqrt()
    }
}

/// A predictor in which the last expert has two fifths of the weight.
fn heavy_last() -> Predictor {
    let experts = EXPERTS.map(str::to_owned);
    let weight = |id: &String| if *id == experts[5] { 0.4 } else { 0.12 };
    let prior = experts.iter().map(|id| (id.clone(), weight(id))).collect();
    let hedge = "hedge".parse().unwrap();
    let learner = LearnerSpec { prior: Some(prior), eta: Some(0.5), ..LearnerSpec::new(hedge) };
    Predictor::prior(&learner, "p", &experts).unwrap()
}

/// The rule by which an expert is asked.
#[derive(Clone, Copy)]
enum Rule {
    /// If it may change the ruling.
    Decisive,
    /// Wrong: if a review would be requested without it.
    Drawn,
}

/// Decides events of which an expert is asked by `rule`. Returns the weights of the two draws and of all requests, those of the
/// requests of skipped events, and the number of these events.
fn simulated(rule: Rule) -> ([Weighted; 4], usize) {
    let mut rng = Rng::with_seed(5);
    let mut all: [Weighted; 4] = Default::default();
    let mut skipped = 0;
    for block in 0..6 {
        let policy = Policy {
            review_margin: 0.03,
            review_slope: 0.25,
            audit_rates: AuditRates { allow: 0.05, block: 0.2, review: 1.0 },
            learner: LEARNERS[block % LEARNERS.len()].parse().unwrap(),
            ..plain()
        };
        let mut predictor =
            if block % 3 == 0 { heavy_last() } else { predictor(&mut rng, &policy.learner, 60) };
        for number in 0..1_500 {
            let event = format!("{block}-{number}");
            let target = f64::from(u8::from(rng.bool()));
            let last = EXPERTS.len() - 1;
            // The last expert contradicts the others, so that its vote moves p towards the threshold.
            let score =
                |rng: &mut Rng, at| 0.5 * if at == last { 1.0 - target } else { target } + 0.5 * rng.f64();
            let answered: Vec<Vote> = EXPERTS
                .iter()
                .enumerate()
                .map(|(at, id)| Vote::scored(id, [1; 32], score(&mut rng, at), Vec::new()))
                .collect();
            let mut votes = answered.clone();
            votes[last] = Vote::abstained(EXPERTS[last], None, Abstention::NotNeeded);
            let open = Unasked { expert: EXPERTS[last], categories: &[], shadow: false, cost: 1.0 };
            let is_asked = match rule {
                Rule::Decisive => {
                    decisive(&mut predictor, &policy, &event, &votes, None, &[open]) != Decisive::No
                }
                Rule::Drawn => {
                    let made = decided(&event, &mut predictor, &policy, votes.clone(), None, 0.6);
                    !made.reasons.is_empty()
                }
            };
            let made =
                decided(&event, &mut predictor, &policy, if is_asked { answered } else { votes }, None, 0.6);
            let came_up = |reason| made.reasons.contains(&reason);
            all[0].add(came_up(ReviewReason::Audit), made.sampling.audit);
            all[1].add(came_up(ReviewReason::NearThreshold), made.sampling.uncertainty);
            all[2].add(!made.reasons.is_empty(), made.review_probability);
            if !is_asked {
                skipped += 1;
                all[3].add(!made.reasons.is_empty(), made.review_probability);
            }
        }
    }
    (all, skipped)
}

/// The mean of inclusion / probability is 1, with and without the skipped expert. A rule that depends on what is drawn shows
/// that the simulation finds a bias.
#[test]
fn weights_by_inverse_probability_are_unbiased_although_experts_are_skipped() {
    let (all, skipped) = simulated(Rule::Decisive);
    println!("{skipped} of 9000 events skipped: {:?}", all.iter().map(Weighted::errors).collect::<Vec<_>>());
    assert!((900..8_100).contains(&skipped), "{skipped}");
    for weighted in &all {
        assert!(weighted.errors().abs() < 3.0, "{weighted:?}");
    }
    let (biased, _) = simulated(Rule::Drawn);
    println!("asked if a review is drawn: {:?}", biased.iter().map(Weighted::errors).collect::<Vec<_>>());
    assert!(biased[2].errors() < -6.0, "{biased:?}");
}
