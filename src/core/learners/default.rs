//! The default: Vovk's aggregation in Brier loss over *members*: every expert, the twelve of the
//! Fixed-Share grid, five stackings and four reading members.
//!
//! Proven: regret in Brier against every member, over the rounds in which that member was awake, is at
//! most ½ ln K for any number of rounds, K the number of members. It holds for what is inside too:
//! no member can be added that costs more than its part of ½ ln K.

use super::super::math::{ln, sigmoid};
use super::brier::{Aggregation, Said};
use super::grid::{self, Heard, Shares};
use super::reading::{Reader, Text};
use super::stacking::{Form, Seen, Stack, look, width};
use super::{Against, BadState, Learner, LossKind, Mass, Sight, owned};

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
const LINEAR: usize = STACKINGS.len() + READERS.len();

/// Members beside the experts.
pub const INNER: usize = grid::MEMBERS + LINEAR;

/// The default learner.
#[derive(Debug, Clone)]
pub struct Default {
    names: Vec<String>,
    shares: Shares,
    stacks: Vec<(Form, Stack)>,
    readers: Vec<Reader>,
    aggregation: Aggregation,
    signs: Vec<f64>,
    log_odds: Vec<f64>,
    text: Text,
    /// What each member says of the round at hand, NaN where it sleeps: experts, grid, stackings, readers.
    said: Vec<f64>,
}

/// One round as seen by all members.
struct View {
    heard: Heard,
    seen: [Seen; LINEAR],
    said: Said,
}

impl Default {
    /// The default over experts, uniform prior over members.
    #[must_use]
    pub fn new(experts: &[&str]) -> Self {
        let n = experts.len();
        let members = n + INNER;
        let prior = vec![1.0 / members as f64; members];
        Self {
            names: owned(experts),
            shares: Shares::new(n),
            stacks: STACKINGS
                .iter()
                .map(|(form, gamma)| (*form, Stack::new(n, *gamma)))
                .collect(),
            readers: READERS
                .iter()
                .map(|(variance, gamma)| Reader::new(n, *variance, *gamma))
                .collect(),
            aggregation: Aggregation::new(&prior),
            signs: vec![0.0; width(n)],
            log_odds: vec![0.0; width(n)],
            text: Text::new(n),
            said: vec![f64::NAN; members],
        }
    }

    fn view(&mut self, round: &Sight<'_>) -> View {
        look(Form::Sign, round.votes, &mut self.signs);
        look(Form::LogOdds, round.votes, &mut self.log_odds);
        let heard = self.shares.hear(round.votes);
        let mut seen = [Seen::default(); LINEAR];
        let (stacked, read) = seen.split_at_mut(STACKINGS.len());
        for ((form, stack), seen) in self.stacks.iter_mut().zip(stacked) {
            *seen = stack.see(match form {
                Form::Sign => &self.signs,
                Form::LogOdds => &self.log_odds,
            });
        }
        if let Some(features) = round.features {
            self.text.read(features, &self.signs);
            for (reader, seen) in self.readers.iter().zip(read) {
                *seen = reader.see(&self.text);
            }
        }
        let mut linear = seen.map(Seen::log_odds);
        linear.iter_mut().for_each(|x| *x = sigmoid(*x));
        if round.features.is_none() {
            linear
                .iter_mut()
                .skip(STACKINGS.len())
                .for_each(|p| *p = f64::NAN);
        }
        let all = round.votes.iter().chain(&heard.said).chain(&linear);
        self.said
            .iter_mut()
            .zip(all)
            .for_each(|(said, x)| *said = *x);
        View {
            heard,
            seen,
            said: self.aggregation.combine(&self.said),
        }
    }
}

impl Learner for Default {
    fn predict(&mut self, round: &Sight<'_>) -> f64 {
        self.view(round).said.p
    }

    fn step(&mut self, round: &Sight<'_>, target: f64) -> f64 {
        let view = self.view(round);
        self.aggregation.learn(view.said, target);
        self.shares.learn(round.votes, &view.heard, target);
        let mut q = view.seen.map(|seen| seen.s);
        q.iter_mut().for_each(|s| *s = sigmoid(*s));
        for (((form, stack), seen), q) in self.stacks.iter_mut().zip(&view.seen).zip(&q) {
            let phi = match form {
                Form::Sign => &self.signs,
                Form::LogOdds => &self.log_odds,
            };
            stack.learn(phi, *seen, *q, target);
        }
        if round.features.is_some() {
            for (reader, q) in self.readers.iter_mut().zip(q.iter().skip(STACKINGS.len())) {
                reader.learn(&self.text, *q, target);
            }
        }
        view.said.p
    }

    fn weights(&self, _: &Sight<'_>, _: &mut [f64]) -> bool {
        false
    }

    fn masses(&self) -> Vec<Mass> {
        let stackings = STACKINGS.iter().map(|(form, gamma)| match form {
            Form::Sign => format!("stacking {gamma}"),
            Form::LogOdds => format!("log-odds stacking {gamma}"),
        });
        let readers = self.readers.iter().map(Reader::name);
        let names: Vec<_> = self
            .names
            .iter()
            .cloned()
            .chain(grid::names())
            .chain(stackings)
            .chain(readers)
            .collect();
        super::shares(&names, &self.aggregation.mix().masses())
    }

    fn save(&self, out: &mut Vec<f64>) {
        self.aggregation.save(out);
        self.shares.save(out);
        self.stacks.iter().for_each(|(_, stack)| stack.save(out));
        self.readers.iter().for_each(|reader| reader.save(out));
    }

    fn load(&mut self, state: &[f64]) -> Result<(), BadState> {
        let lengths = std::iter::once(self.said.len())
            .chain(std::iter::once(self.shares.len()))
            .chain(self.stacks.iter().map(|(_, stack)| stack.len()))
            .chain(self.readers.iter().map(Reader::len));
        let expected = lengths.sum();
        let wrong = || BadState::Length {
            expected,
            found: state.len(),
        };
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
        let shares = next(self.shares.len())?;
        let stacks = self
            .stacks
            .iter()
            .map(|(_, stack)| next(stack.len()))
            .collect::<Result<Vec<_>, _>>()?;
        let readers = self
            .readers
            .iter()
            .map(|reader| next(reader.len()))
            .collect::<Result<Vec<_>, _>>()?;
        self.shares.check(shares)?;
        self.stacks
            .iter()
            .zip(&stacks)
            .try_for_each(|((_, stack), part)| stack.check(part))?;
        self.readers
            .iter()
            .zip(&readers)
            .try_for_each(|(reader, part)| reader.check(part))?;
        self.aggregation.load(losses)?;
        self.shares.load(shares)?;
        self.stacks
            .iter_mut()
            .zip(stacks)
            .try_for_each(|((_, stack), part)| stack.load(part))?;
        self.readers
            .iter_mut()
            .zip(readers)
            .try_for_each(|(reader, part)| reader.load(part))
    }

    fn loss_kind(&self) -> LossKind {
        LossKind::Brier
    }

    fn bound(&self, _: &Against) -> Option<f64> {
        Some(0.5 * ln(self.said.len() as f64))
    }
}
