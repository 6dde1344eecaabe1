//! The default: Vovk's aggregation in Brier loss over *members*: every expert, as it is and recalibrated,
//! the twelve of the Fixed-Share grid, five stackings, seven reading members, and a joint stacking of
//! stackings and readers. Without features the readers and the joint stacking sleep.
//!
//! Proven: regret in Brier against every member, over the rounds in which that member was awake, is at
//! most ½ ln K for any number of rounds, K the number of members. It holds for what is inside too:
//! no member can be added that costs more than its part of ½ ln K.

use super::super::math::{ln, sigmoid};
use super::brier::Aggregation;
use super::grid::{self, Heard, Shares};
use super::reading::{Reader, Text};
use super::recalibrated::Recalibrated;
use super::stacking::{Form, Seen, Stack, look, width};
use super::{Against, BadState, Learner, LossKind, Mass, RoundInput, owned};

/// Memories of the stackings on 2v - 1, then of those on log-odds.
const STACKINGS: [(Form, f64); 5] = [
    (Form::Sign, 1.0),
    (Form::Sign, 0.9995),
    (Form::Sign, 0.998),
    (Form::LogOdds, 1.0),
    (Form::LogOdds, 0.9995),
];
/// Prior variance and memory of the reading members.
const READERS: [(f64, f64); 4] = [(0.3, 1.0), (0.3, 0.9995), (1.0, 1.0), (1.0, 0.9995)];
/// Prior variance of the one that reads votes times text as well.
const CROSSING: f64 = 3.0;
/// Memory of the one that expects most of the first coordinates.
const LEADING: f64 = 0.9995;
/// These two, and the one that reads pairs.
const LINEAR: usize = STACKINGS.len() + READERS.len() + 3;
/// Members that sleep without features, the last of all.
const READING: usize = LINEAR - STACKINGS.len() + 1;
/// The stacking whose log-odds the one that reads pairs starts from.
const HINT: usize = 3;

/// What the joint member stacks, by place among the linear members, and the prior means of their
/// weights: a pool of the readers, which it starts from.
const JOINED: [(usize, f64); 7] = [(0, 0.0), (3, 0.0), (5, 0.1), (7, 0.1), (9, 0.2), (10, 0.4), (11, 0.4)];
/// Prior variance of the joint member's weights.
const JOINT_VARIANCE: f64 = 0.3;
const JOINT_WIDTH: usize = (JOINED.len() + 2).next_multiple_of(2);
/// Log-odds of its inputs, and the hint, are cut to within ±7.
const SUREST: f64 = 7.0;

/// The prior means of the joint member's weights, the constant's last.
fn joint_means() -> [f64; JOINED.len() + 1] {
    std::array::from_fn(|at| JOINED.get(at).map_or(0.0, |(_, mean)| *mean))
}

/// Members beside the experts and the recalibrated ones.
pub const INNER: usize = grid::MEMBERS + LINEAR + 1;

/// The default learner.
#[derive(Debug, Clone)]
pub struct Default {
    names: Vec<String>,
    recalibrated: Recalibrated,
    shares: Shares,
    stacks: Vec<(Form, Stack)>,
    readers: Vec<Reader>,
    /// Stacking of the readers and stackings themselves, on their log-odds: each reader alone is too
    /// careful, and together they know more than one.
    joint: Stack,
    aggregation: Aggregation,
    signs: Vec<f64>,
    log_odds: Vec<f64>,
    text: Text,
    /// What each member says of the round at hand, NaN where it sleeps: experts, the same recalibrated,
    /// grid, stackings, readers, joint stacking.
    said: Vec<f64>,
}

impl Default {
    /// The default over experts, uniform prior over members.
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
            text: Text::new(n),
            said: vec![f64::NAN; members],
        }
    }

    /// What the linear members see, and, where there is a target, learn at once: a reader's weights
    /// are then still at hand.
    #[inline(always)]
    fn see(&mut self, round: &RoundInput<'_>, target: Option<f64>) -> [Seen; LINEAR] {
        let mut seen = [Seen::default(); LINEAR];
        let (stacked, read) = seen.split_at_mut(STACKINGS.len());
        for ((form, stack), seen) in self.stacks.iter_mut().zip(&mut *stacked) {
            let phi = match form {
                Form::Sign => &self.signs,
                Form::LogOdds => &self.log_odds,
            };
            *seen = stack.see(phi);
            if let Some(target) = target {
                stack.learn(phi, *seen, sigmoid(seen.s), target);
            }
        }
        if let Some(features) = round.features {
            let hint = stacked.get(HINT).map_or(0.0, |seen| seen.log_odds().clamp(-SUREST, SUREST));
            self.text.read(features, &self.signs, hint);
            for (reader, seen) in self.readers.iter_mut().zip(read) {
                *seen = reader.see(&self.text);
                if let Some(target) = target {
                    reader.learn(&self.text, sigmoid(seen.s), target);
                }
            }
        }
        seen
    }

    /// What the joint member says; NaN without features.
    #[inline(always)]
    fn join(&mut self, linear: &[f64; LINEAR], reads: bool, target: Option<f64>) -> f64 {
        if !reads {
            return f64::NAN;
        }
        let mut phi = [0.0; JOINT_WIDTH];
        phi[JOINED.len()] = 1.0;
        for (phi, (member, _)) in phi.iter_mut().zip(JOINED) {
            *phi = linear[member].clamp(-SUREST, SUREST);
        }
        let seen = self.joint.see(&phi);
        if let Some(target) = target {
            self.joint.learn(&phi, seen, sigmoid(seen.s), target);
        }
        sigmoid(seen.log_odds())
    }

    /// What the members say.
    fn hear(&mut self, round: &RoundInput<'_>, target: Option<f64>) -> Heard {
        look(Form::Sign, round.votes, &mut self.signs);
        look(Form::LogOdds, round.votes, &mut self.log_odds);
        let heard = self.shares.hear(round.votes);
        let reads = round.features.is_some();
        let mut linear = self.see(round, target).map(Seen::log_odds);
        let joint = self.join(&linear, reads, target);
        linear.iter_mut().for_each(|x| *x = sigmoid(*x));
        if !reads {
            let readers = linear.iter_mut().skip(STACKINGS.len());
            readers.for_each(|p| *p = f64::NAN);
        }
        let n = round.votes.len();
        let (own, inner) = self.said.split_at_mut(2 * n);
        let (experts, recalibrated) = own.split_at_mut(n);
        experts.copy_from_slice(round.votes);
        self.recalibrated.hear(round.votes, &self.log_odds, recalibrated);
        if let Some(target) = target {
            self.recalibrated.learn(target);
        }
        let all = heard.said.iter().chain(&linear).chain([&joint]);
        inner.iter_mut().zip(all).for_each(|(said, x)| *said = *x);
        heard
    }

    /// What all say together while those sleep that read.
    fn unread(&mut self) -> f64 {
        let mut readers = [f64::NAN; READING];
        let at = self.said.len().saturating_sub(READING);
        self.said.iter_mut().skip(at).zip(&mut readers).for_each(|(said, kept)| std::mem::swap(said, kept));
        let p = self.aggregation.combine(&self.said).p;
        self.said.iter_mut().skip(at).zip(readers).for_each(|(said, kept)| *said = kept);
        p
    }

    fn learn(&mut self, round: &RoundInput<'_>, heard: &Heard, target: f64) -> f64 {
        let said = self.aggregation.combine(&self.said);
        let p = said.p;
        self.aggregation.learn(said, target);
        self.shares.learn(round.votes, heard, target);
        p
    }
}

impl Learner for Default {
    fn predict(&mut self, round: &RoundInput<'_>) -> f64 {
        self.hear(round, None);
        self.aggregation.combine(&self.said).p
    }

    fn step(&mut self, round: &RoundInput<'_>, target: f64) -> f64 {
        let heard = self.hear(round, Some(target));
        self.learn(round, &heard, target)
    }

    fn step_unread(&mut self, round: &RoundInput<'_>, target: f64) -> (f64, Option<f64>) {
        let heard = self.hear(round, Some(target));
        let unread = round.features.map(|_| self.unread());
        (self.learn(round, &heard, target), unread)
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
        super::shares(&names, &self.aggregation.mix().masses())
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
        let lengths = std::iter::once(self.said.len())
            .chain([self.recalibrated.len(), self.shares.len()])
            .chain(self.stacks.iter().map(|(_, stack)| stack.len()))
            .chain(self.readers.iter().map(Reader::len))
            .chain([self.joint.len()]);
        let expected = lengths.sum();
        let wrong = || BadState::Length { expected, found: state.len() };
        if state.len() != expected {
            return Err(wrong());
        }
        let mut rest = state;
        let mut next = |length: usize| {
            let (part, after) = rest.split_at_checked(length).ok_or_else(wrong)?;
            rest = after;
            Ok(part)
        };
        // All parts are checked before the first is taken: a refused state leaves the learner as it was.
        let losses = next(self.said.len())?;
        let recalibrated = next(self.recalibrated.len())?;
        let shares = next(self.shares.len())?;
        let stacks = self.stacks.iter().map(|(_, stack)| next(stack.len())).collect::<Result<Vec<_>, _>>()?;
        let readers = self.readers.iter().map(|reader| next(reader.len())).collect::<Result<Vec<_>, _>>()?;
        let joint = next(self.joint.len())?;
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
        Some(0.5 * ln(self.said.len() as f64))
    }
}
