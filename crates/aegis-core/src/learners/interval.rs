//! Intervals that contain a prediction for every vote that an expert may still give.
//!
//! Most learners are monotone in each vote while the same experts are awake, so the predictions at the least and at the
//! greatest votes bound all others ([`Learner::range`](super::Learner::range)). Linear members are not: their log-odds
//! are s / √(1 + πu/8), where s is linear and u quadratic in the inputs. This file bounds them.

use super::stacking::Margin;

/// The relative slack of a sum, which covers its rounding: fewer than a thousand terms, each rounded to 2^-53.
const ROUNDING: f64 = 1e-12;

/// A closed interval.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Interval {
    /// The least number.
    pub low: f64,
    /// The greatest number.
    pub high: f64,
}

impl Interval {
    /// The interval between two numbers in any order.
    #[must_use]
    pub fn of(a: f64, b: f64) -> Self {
        Self { low: a.min(b), high: a.max(b) }
    }

    /// The least interval that contains both.
    #[must_use]
    pub fn hull(self, other: Self) -> Self {
        Self { low: self.low.min(other.low), high: self.high.max(other.high) }
    }

    /// The interval with `slack` on either side.
    #[must_use]
    pub fn widened(self, slack: f64) -> Self {
        Self { low: self.low - slack, high: self.high + slack }
    }

    /// The distance from the least to the greatest number.
    #[must_use]
    pub fn width(self) -> f64 {
        self.high - self.low
    }
}

/// The effect on a margin of one input that moves by a distance d with |d| <= `reach`: s changes by `slope`·d and u by
/// 2·`bend`·d + `curve`·d².
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Move {
    pub(super) reach: f64,
    pub(super) slope: f64,
    pub(super) bend: f64,
    pub(super) curve: f64,
}

impl Move {
    /// The interval of the change of u. A parabola has its extremes at the ends or at its vertex.
    fn change(&self) -> Interval {
        let at = |d: f64| (2.0 * self.bend + self.curve * d) * d;
        let ends = Interval::of(at(-self.reach), at(self.reach));
        let vertex = -self.bend / self.curve;
        if vertex.abs() < self.reach { ends.hull(Interval::of(at(vertex), at(vertex))) } else { ends }
    }
}

/// The sizes of the terms that a margin was summed from, by which its rounding is bounded.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Magnitude {
    pub(super) s: f64,
    pub(super) u: f64,
}

/// A margin at the centre of a box of inputs, and its moves inside of the box.
#[derive(Debug, Clone, Default)]
pub(super) struct Spread {
    margin: Margin,
    moves: usize,
    last: Move,
    /// The sum of reach·|slope|.
    s: f64,
    /// The sum of the changes of u.
    u: [f64; 2],
    /// A bound on the products of different moves in u.
    cross: f64,
    magnitude: Magnitude,
}

impl Spread {
    pub(super) fn new(margin: Margin, magnitude: Magnitude) -> Self {
        Self { margin, magnitude, ..Self::default() }
    }

    /// Adds the move of one input. The products with the other moves are added by [`cross`](Self::cross).
    #[inline]
    pub(super) fn push(&mut self, part: Move) {
        let change = part.change();
        self.moves += 1;
        self.last = part;
        self.s += part.reach * part.slope.abs();
        self.u = [self.u[0] + change.low, self.u[1] + change.high];
        self.magnitude.s += part.reach * part.slope.abs();
        self.magnitude.u += part.reach * (2.0 * part.bend.abs() + part.curve.abs() * part.reach);
    }

    /// Adds the greatest size of a product of two moves in u.
    #[inline]
    pub(super) fn cross(&mut self, product: f64) {
        self.cross += product.abs();
        self.magnitude.u += product.abs();
    }

    /// The interval of the log-odds.
    pub(super) fn log_odds(&self) -> Interval {
        let found = if self.moves == 1 && self.cross == 0.0 { self.on_a_line() } else { self.in_a_box() };
        let greatest = found.low.abs().max(found.high.abs());
        // The log-odds change by less than s does, and by less than |log-odds| times the change of u.
        found.widened(ROUNDING * (self.magnitude.s + greatest * (1.0 + self.magnitude.u)))
    }

    /// One input moves. The derivative of s(d) / √(1 + k·u(d)) has the sign of a function that is linear in d, so there
    /// is at most one extreme between the ends.
    fn on_a_line(&self) -> Interval {
        const K: f64 = super::stacking::EIGHTH_PI;
        let (Margin { s, u }, part) = (self.margin, self.last);
        let at = |d: f64| {
            let u = u + (2.0 * part.bend + part.curve * d) * d;
            Margin { s: s + part.slope * d, u: u.max(0.0) }.log_odds()
        };
        let ends = Interval::of(at(-part.reach), at(part.reach));
        let level = part.slope * (1.0 + K * u) - K * s * part.bend;
        let tilt = K * (part.slope * part.bend - s * part.curve);
        let extreme = -level / tilt;
        if extreme.abs() < part.reach { ends.hull(Interval::of(at(extreme), at(extreme))) } else { ends }
    }

    /// Several inputs move. s and u are bounded apart from each other.
    fn in_a_box(&self) -> Interval {
        let Margin { s, u } = self.margin;
        let (least, greatest) =
            ((u + self.u[0] - self.cross).max(0.0), (u + self.u[1] + self.cross).max(0.0));
        let shrunk = |s: f64, towards: f64, away: f64| {
            Margin { s, u: if s >= 0.0 { towards } else { away } }.log_odds()
        };
        Interval { low: shrunk(s - self.s, greatest, least), high: shrunk(s + self.s, least, greatest) }
    }
}

/// A box of inputs: their centres, and how far each may be from it. Inputs that cannot move have the reach 0 and their
/// exact value.
#[derive(Debug, Clone)]
pub(super) struct InputBox {
    pub(super) centre: Vec<f64>,
    pub(super) reach: Vec<f64>,
    low: Vec<f64>,
    /// The indices of the inputs that move.
    pub(super) moving: Vec<usize>,
}

impl InputBox {
    pub(super) fn new(width: usize) -> Self {
        let zeros = vec![0.0; width];
        Self { centre: zeros.clone(), reach: zeros.clone(), low: zeros, moving: Vec::with_capacity(width) }
    }

    /// Sets the box by functions that write the least and the greatest inputs.
    pub(super) fn fill(&mut self, least: impl FnOnce(&mut [f64]), greatest: impl FnOnce(&mut [f64])) {
        least(&mut self.low);
        greatest(&mut self.centre);
        self.moving.clear();
        let sides = self.centre.iter_mut().zip(&mut self.reach).zip(&self.low);
        for (at, ((centre, reach), low)) in sides.enumerate() {
            let high = *centre;
            if high == *low {
                *reach = 0.0;
                continue;
            }
            *centre = 0.5 * (high + *low);
            // Rounding must not leave an end outside.
            *reach = 0.5 * (high - *low).abs() + ROUNDING * (high.abs() + low.abs());
            self.moving.push(at);
        }
    }
}
