//! The default learner: Vovk's aggregating algorithm in Brier loss over *members*: every expert, as it is
//! and recalibrated, the twelve members of the Fixed-Share grid, five stackings, seven reading members, and
//! a joint stacking of stackings and readers. Without features the readers and the joint stacking sleep.
//!
//! Proven: the regret in Brier loss against every member, over the rounds in which that member was awake,
//! is at most ½ ln K for any number of rounds, where K is the number of members. A further member thus
//! costs at most its part of ½ ln K.

mod range;

use super::brier::Aggregation;
use super::grid::{self, Aggregates, Shares};
use super::interval::Interval;
use super::reading::{Inputs, Reader};
use super::recalibrated::Recalibrated;
use super::stacking::{Form, Margin, Stack, encode, width};
use super::{Against, BadState, Learner, LossKind, Mass, RoundInput, owned, shares};
use crate::math::{ln, sigmoid};
use range::RangeScratch;

/// The form of the votes and the memory γ of each stacking.
const STACKINGS: [(Form, f64); 5] = [
    (Form::Sign, 1.0),
    (Form::Sign, 0.9995),
    (Form::Sign, 0.998),
    (Form::LogOdds, 1.0),
    (Form::LogOdds, 0.9995),
];
/// The prior variance and the memory γ of the plain reading members.
const READERS: [(f64, f64); 4] = [(0.3, 1.0), (0.3, 0.9995), (1.0, 1.0), (1.0, 0.9995)];
/// The prior variance of the reading member that also reads votes times features.
const CROSSING: f64 = 3.0;
/// The memory γ of the reading member whose prior variances fall with the coordinate.
const LEADING: f64 = 0.9995;
/// The number of linear members: stackings, plain readers, and the crossing, pairing and leading readers.
const LINEAR: usize = STACKINGS.len() + READERS.len() + 3;
/// The number of members that sleep without features. They are the last ones.
const READING: usize = LINEAR - STACKINGS.len() + 1;
/// The stacking whose log-odds are the pairing reader's hint.
const HINT: usize = 3;

/// The inputs of the joint member, by index among the linear members, and the prior means of their weights:
/// it starts as a pool of the readers.
const JOINED: [(usize, f64); 7] = [(0, 0.0), (3, 0.0), (5, 0.1), (7, 0.1), (9, 0.2), (10, 0.4), (11, 0.4)];
/// The prior variance of the joint member's weights.
const JOINT_VARIANCE: f64 = 0.3;
/// The length of the joint member's padded input.
const JOINT_WIDTH: usize = (JOINED.len() + 2).next_multiple_of(2);
/// The log-odds of the joint member's inputs and the hint are clipped to ±7.
const MAX_LOG_ODDS: f64 = 7.0;

/// The prior means of the joint member's weights, that of the constant last.
fn joint_means() -> [f64; JOINED.len() + 1] {
    std::array::from_fn(|at| JOINED.get(at).map_or(0.0, |(_, mean)| *mean))
}

/// The number of members beside the experts and the recalibrated experts.
const INNER: usize = grid::MEMBERS + LINEAR + 1;

/// The default learner.
#[derive(Debug, Clone)]
pub struct Default {
    names: Vec<String>,
    recalibrated: Recalibrated,
    shares: Shares,
    stacks: Vec<(Form, Stack)>,
    readers: Vec<Reader>,
    /// The stacking of the readers and stackings on their log-odds. Each reader alone is too careful, and
    /// together they are better than any single one.
    joint: Stack,
    aggregation: Aggregation,
    signs: Vec<f64>,
    log_odds: Vec<f64>,
    inputs: Inputs,
    /// The prediction of each member for the current round, NaN if it sleeps: experts, recalibrated experts,
    /// grid, stackings, readers, joint stacking.
    predictions: Vec<f64>,
    scratch: RangeScratch,
}

impl Default {
    /// The default learner over `experts` before its first round, with a uniform prior over members.
    #[must_use]
    pub fn new(experts: &[&str]) -> Self {
        let n = experts.len();
        let members = 2 * n + INNER;
        let prior = vec![1.0 / members as f64; members];
        Self {
            names: owned(experts),
            recalibrated: Recalibrated::new(n),
            shares: Shares::new(n),
            stacks: STACKINGS.iter().map(|(form, gamma)| (*form, Stack::new(n, *gamma))).collect(),
            readers: READERS
                .iter()
                .map(|(variance, gamma)| Reader::new(n, *variance, *gamma))
                .chain([Reader::crossing(n, CROSSING), Reader::pairing(n), Reader::leading(n, LEADING)])
                .collect(),
            joint: Stack::with_prior(&joint_means(), JOINT_VARIANCE, 1.0),
            aggregation: Aggregation::new(&prior),
            signs: vec![0.0; width(n)],
            log_odds: vec![0.0; width(n)],
            inputs: Inputs::new(n),
            predictions: vec![f64::NAN; members],
            scratch: RangeScratch::new(n, members),
        }
    }

    /// The margins of the linear members; those of the readers are zero without features. If there is a target,
    /// the members also learn it here, while their weights are in cache.
    #[inline(always)]
    fn linear_margins(&mut self, round: &RoundInput<'_>, target: Option<f64>) -> [Margin; LINEAR] {
        let mut margins = [Margin::default(); LINEAR];
        let (stacked, read) = margins.split_at_mut(STACKINGS.len());
        for ((form, stack), margin) in self.stacks.iter_mut().zip(&mut *stacked) {
            let phi = match form {
                Form::Sign => &self.signs,
                Form::LogOdds => &self.log_odds,
            };
            *margin = stack.margin(phi);
            if let Some(target) = target {
                stack.learn(phi, *margin, sigmoid(margin.s), target);
            }
        }
        if let Some(features) = round.features {
            let hint = stacked[HINT].log_odds().clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS);
            self.inputs.fill(features, &self.signs, hint);
            for (reader, margin) in self.readers.iter_mut().zip(read) {
                *margin = reader.margin(&self.inputs);
                if let Some(target) = target {
                    reader.learn(&self.inputs, sigmoid(margin.s), target);
                }
            }
        }
        margins
    }

    /// The prediction of the joint member; NaN without features.
    #[inline(always)]
    fn predict_joint(&mut self, linear: &[f64; LINEAR], reads: bool, target: Option<f64>) -> f64 {
        if !reads {
            return f64::NAN;
        }
        let mut phi = [0.0; JOINT_WIDTH];
        phi[JOINED.len()] = 1.0;
        for (phi, (member, _)) in phi.iter_mut().zip(JOINED) {
            *phi = linear[member].clamp(-MAX_LOG_ODDS, MAX_LOG_ODDS);
        }
        let margin = self.joint.margin(&phi);
        if let Some(target) = target {
            self.joint.learn(&phi, margin, sigmoid(margin.s), target);
        }
        sigmoid(margin.log_odds())
    }

    /// Fills `predictions`. If there is a target, all members but the grid learn it.
    fn predict_members(&mut self, round: &RoundInput<'_>, target: Option<f64>) -> Aggregates {
        encode(Form::Sign, round.votes, &mut self.signs);
        encode(Form::LogOdds, round.votes, &mut self.log_odds);
        let aggregates = self.shares.aggregate(round.votes);
        let reads = round.features.is_some();
        let mut linear = self.linear_margins(round, target).map(Margin::log_odds);
        let joint = self.predict_joint(&linear, reads, target);
        linear.iter_mut().for_each(|x| *x = sigmoid(*x));
        if !reads {
            let readers = linear.iter_mut().skip(STACKINGS.len());
            readers.for_each(|p| *p = f64::NAN);
        }
        let n = round.votes.len();
        let (own, inner) = self.predictions.split_at_mut(2 * n);
        let (experts, recalibrated) = own.split_at_mut(n);
        experts.copy_from_slice(round.votes);
        self.recalibrated.predict(round.votes, &self.log_odds, recalibrated);
        if let Some(target) = target {
            self.recalibrated.learn(target);
        }
        let all = aggregates.predictions.iter().chain(&linear).chain([&joint]);
        inner.iter_mut().zip(all).for_each(|(prediction, x)| *prediction = *x);
        aggregates
    }

    /// The combined prediction with the members asleep that need features.
    fn combine_without_readers(&mut self) -> f64 {
        let mut readers = [f64::NAN; READING];
        let first = self.predictions.len() - READING;
        self.predictions[first..].swap_with_slice(&mut readers);
        let p = self.aggregation.combine(&self.predictions).p;
        self.predictions[first..].copy_from_slice(&readers);
        p
    }

    fn learn(&mut self, round: &RoundInput<'_>, aggregates: &Aggregates, target: f64) -> f64 {
        let prediction = self.aggregation.combine(&self.predictions);
        self.aggregation.learn(prediction, target);
        self.shares.learn(round.votes, aggregates, target);
        prediction.p
    }
}

impl Learner for Default {
    fn predict(&mut self, round: &RoundInput<'_>) -> f64 {
        self.predict_members(round, None);
        self.aggregation.combine(&self.predictions).p
    }

    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64 {
        let aggregates = self.predict_members(round, Some(target));
        self.learn(round, &aggregates, target)
    }

    fn step_ablated(&mut self, round: &RoundInput<'_>, target: f64) -> (f64, Option<f64>) {
        let aggregates = self.predict_members(round, Some(target));
        let without_features = round.features.map(|_| self.combine_without_readers());
        (self.learn(round, &aggregates, target), without_features)
    }

    fn range(&mut self, round: &RoundInput<'_>, greatest: &[f64]) -> Interval {
        self.member_ranges(round, greatest);
        let low = self.aggregation.combine(&self.predictions).p;
        Interval { low, high: self.aggregation.combine(&self.scratch.greatest).p }
    }

    fn weights(&self, _: &RoundInput<'_>, _: &mut [f64]) -> bool {
        false
    }

    fn masses(&self) -> Vec<Mass> {
        let stackings = STACKINGS.iter().map(|(form, gamma)| match form {
            Form::Sign => format!("stacking {gamma}"),
            Form::LogOdds => format!("log-odds stacking {gamma}"),
        });
        let readers = self.readers.iter().map(|reader| reader.name().to_owned());
        let names: Vec<_> = self
            .names
            .iter()
            .cloned()
            .chain(self.names.iter().map(|expert| format!("recalibrated {expert}")))
            .chain(grid::names())
            .chain(stackings)
            .chain(readers)
            .chain(["joint stacking".to_owned()])
            .collect();
        shares(&names, &self.aggregation.mix().masses())
    }

    fn save(&self, out: &mut Vec<f64>) {
        self.aggregation.save(out);
        self.recalibrated.save(out);
        self.shares.save(out);
        self.stacks.iter().for_each(|(_, stack)| stack.save(out));
        self.readers.iter().for_each(|reader| reader.save(out));
        self.joint.save(out);
    }

    fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        let lengths = std::iter::once(self.predictions.len())
            .chain([self.recalibrated.len(), self.shares.len()])
            .chain(self.stacks.iter().map(|(_, stack)| stack.len()))
            .chain(self.readers.iter().map(Reader::len))
            .chain([self.joint.len()]);
        let expected = lengths.sum();
        if state.len() != expected {
            return Err(BadState::Length { expected, found: state.len() });
        }
        let mut rest = state;
        let mut next = |length: usize| {
            let (part, after) = rest.split_at(length);
            rest = after;
            part
        };
        // All parts are checked before the first is loaded, so that a refused state leaves the learner unchanged.
        let losses = next(self.predictions.len());
        let recalibrated = next(self.recalibrated.len());
        let shares = next(self.shares.len());
        let stacks: Vec<_> = self.stacks.iter().map(|(_, stack)| next(stack.len())).collect();
        let readers: Vec<_> = self.readers.iter().map(|reader| next(reader.len())).collect();
        let joint = next(self.joint.len());
        self.recalibrated.check(recalibrated)?;
        self.shares.check(shares)?;
        self.joint.check(joint)?;
        self.stacks.iter().zip(&stacks).try_for_each(|((_, stack), part)| stack.check(part))?;
        self.readers.iter().zip(&readers).try_for_each(|(reader, part)| reader.check(part))?;
        self.aggregation.load(losses)?;
        self.recalibrated.load(recalibrated)?;
        self.shares.load(shares)?;
        self.stacks.iter_mut().zip(stacks).try_for_each(|((_, stack), part)| stack.load(part))?;
        self.readers.iter_mut().zip(readers).try_for_each(|(reader, part)| reader.load(part))?;
        self.joint.load(joint)
    }

    fn loss_kind(&self) -> LossKind {
        LossKind::Brier
    }

    fn bound(&self, _: &Against) -> Option<f64> {
        Some(0.5 * ln(self.predictions.len() as f64))
    }
}
