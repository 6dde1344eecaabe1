//! The decision whether experts that were not asked yet could change a decision.
//!
//! An expert that is expensive is asked only if its vote matters. [`decisive`] bounds the ruling (action, certain reasons
//! for a review, category rules, the probabilities of the draws that sample events for review) over everything that the
//! unasked experts may still answer: any score in \[0,1\], any score of the categories that they report, or an abstention.
//! If every outcome has the same ruling, none of them is needed, and that is a proof: the probability's interval comes
//! from [`Learner::range`](crate::learners::Learner::range), widened by [`SLACK`], and between two of the policy's
//! [boundaries](Policy::boundaries) the ruling is either the same, or differs between any two p.
//!
//! The numbers that are drawn are known, but are not used here: an expert that was asked only because its vote could
//! change what a number brings up would make the recorded probability depend on that number, and weighting by the
//! inverse of the probability would be biased. An interval that touches the slope of the uncertainty draw therefore always
//! needs the expert. The factor of the review budget multiplies both sides of a comparison, and is not needed either.
//!
//! Which experts abstain is enumerated, because weights are normalised over those that do not. The votes of the others
//! are a box, which is bisected while its interval has another ruling. A box whose centre has another ruling settles
//! the matter: an expert is needed. So does the end of the budget, which can only cause a question too many.

use super::learners::Interval;
use super::ledger::TextFeatures;
use super::policy::{Action, Policy};
use super::predictor::Predictor;
use super::ruling::{Ruling, greatest, rule, rule_categories, strictness};
use super::vote::Vote;

/// The slack on either side of an interval of p. It is far above the rounding of any learner, whose sums have relative
/// errors below 1e-12.
pub const SLACK: f64 = 1e-9;
/// The greatest number of unasked experts whose outcomes are examined together. With more, one is asked first. The budget
/// has room for an interval of each set of them.
pub const MAX_TOGETHER: usize = 6;
/// The greatest number of intervals that one call computes.
const BUDGET: usize = 96;
const _: () = assert!(1 << MAX_TOGETHER <= BUDGET);
/// A box whose widest vote is narrower than this is not bisected: p is then a boundary, or very near to one.
const NARROWEST: f64 = 1.0 / 512.0;

/// An expert that was not asked yet.
#[derive(Debug, Clone, PartialEq)]
pub struct Unasked<'a> {
    /// The id of the expert.
    pub expert: &'a str,
    /// The categories that it may report, by slug.
    pub categories: &'a [String],
    /// `true` if the expert is in shadow, so that its vote has no weight.
    pub shadow: bool,
    /// The cost of asking it, in any unit that is common to all. It orders the experts.
    pub cost: f64,
}

/// The need for an unasked expert.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Decisive {
    /// No outcome of the unasked experts changes the action, the reasons or the probability of a review, or category rules.
    No,
    /// An outcome may. The expert with this index among the unasked ones should be asked first: it is expected to settle
    /// most per unit of cost.
    Yes(usize),
}

/// The state of one call.
struct Search<'a> {
    predictor: &'a mut Predictor,
    policy: &'a Policy,
    event: &'a str,
    features: Option<&'a TextFeatures>,
    boundaries: Vec<f64>,
    /// The votes that are known, in the predictor's order.
    row: Vec<f64>,
    /// The number of known experts that are awake.
    awake: usize,
    /// The strictest action of the category rules that apply already.
    category: Action,
    budget: usize,
}

/// Decides whether any of the `unasked` experts could change the ruling on an event. `votes` are those that are known; none of
/// them is a vote of an unasked expert, but an abstention of it may be among them.
///
/// The event must have something to judge: otherwise no expert is asked.
pub fn decisive(
    predictor: &mut Predictor,
    policy: &Policy,
    event: &str,
    votes: &[Vote],
    features: Option<&TextFeatures>,
    unasked: &[Unasked<'_>],
) -> Decisive {
    let open: Vec<usize> = (0..unasked.len()).filter(|at| !unasked[*at].shadow).collect();
    let row = predictor.row(votes);
    let mut search = Search {
        boundaries: policy.boundaries(),
        row,
        awake: votes.iter().filter(|vote| vote.awake().is_some()).count(),
        category: rule_categories(policy, &greatest(votes)),
        budget: BUDGET,
        predictor,
        policy,
        event,
        features,
    };
    let open: Vec<Open<'_>> = open.into_iter().map(|at| search.open(at, &unasked[at])).collect();
    let changes = !open.is_empty() && (open.len() > MAX_TOGETHER || search.changes(&open));
    if changes { Decisive::Yes(search.first(&open)) } else { Decisive::No }
}

/// An unasked expert that is not in shadow.
struct Open<'a> {
    /// The index among the unasked experts.
    at: usize,
    unasked: &'a Unasked<'a>,
    /// The index in the predictor's row; `None` for an expert without weight in it.
    index: Option<usize>,
    /// The actions of category rules that it may cause, beyond those that apply already.
    actions: Vec<Action>,
}

impl Search<'_> {
    fn open<'b>(&self, at: usize, unasked: &'b Unasked<'b>) -> Open<'b> {
        let index = self.predictor.index(unasked.expert);
        let rules = unasked.categories.iter().filter_map(|slug| self.policy.categories.get(slug));
        let stricter =
            rules.map(|rule| rule.action).filter(|action| strictness(*action) > strictness(self.category));
        Open { at, unasked, index, actions: stricter.collect() }
    }

    /// Returns `true` if the experts could change the ruling that holds while all of them abstain.
    fn changes(&mut self, open: &[Open<'_>]) -> bool {
        let p = self.predictor.probability_of(self.event, &self.row, self.features);
        let ruling = rule(self.policy, p, self.awake, self.category);
        // The number says which of them are awake. All abstaining was examined just now.
        (1..1_usize << open.len()).any(|set| {
            let awake: Vec<&Open<'_>> =
                open.iter().enumerate().filter(|(at, _)| set >> at & 1 == 1).map(|(_, open)| open).collect();
            self.changes_awake(&awake, &ruling)
        })
    }

    /// Does the same for experts that are all awake.
    fn changes_awake(&mut self, open: &[&Open<'_>], ruling: &Ruling) -> bool {
        let awake = self.awake + open.len();
        let mut categories = vec![self.category];
        categories.extend(open.iter().flat_map(|open| &open.actions));
        let policy = self.policy;
        let differs =
            |p: Option<f64>| categories.iter().any(|category| rule(policy, p, awake, *category) != *ruling);
        let moving: Vec<usize> = open.iter().filter_map(|open| open.index).collect();
        if moving.is_empty() || awake < policy.min_awake {
            return differs(self.predictor.probability_of(self.event, &self.row, self.features));
        }
        let (mut least, mut greatest) = (self.row.clone(), self.row.clone());
        for index in &moving {
            (least[*index], greatest[*index]) = (0.0, 1.0);
        }
        let mut boxes = vec![(least, greatest)];
        while let Some((least, greatest)) = boxes.pop() {
            if self.budget == 0 {
                return true;
            }
            self.budget -= 1;
            let range = self.predictor.range(self.event, &least, &greatest, self.features);
            let Some(range) = range else { return true };
            if !self.touched(range).any(|p| differs(Some(p))) {
                continue;
            }
            let mut centre = least.clone();
            moving.iter().for_each(|at| centre[*at] = f64::midpoint(least[*at], greatest[*at]));
            let p = self.predictor.probability_of(self.event, &centre, self.features);
            let at = widest(&moving, &least, &greatest);
            if greatest[at] - least[at] < NARROWEST || differs(p) {
                return true;
            }
            let (mut upper, mut lower) = (least.clone(), greatest.clone());
            (upper[at], lower[at]) = (centre[at], centre[at]);
            boxes.extend([(least, lower), (upper, greatest)]);
        }
        false
    }

    /// Numbers that stand for everything in an interval of p: its ends, the boundaries in it, and a number between each
    /// two of them.
    fn touched(&self, range: Interval) -> impl Iterator<Item = f64> {
        let range = range.widened(SLACK);
        let inside = self.boundaries.iter().copied().filter(move |at| range.low < *at && *at < range.high);
        let points = std::iter::once(range.low).chain(inside).chain([range.high]);
        let mut last = range.low;
        points.flat_map(move |point| {
            let between = f64::midpoint(last, point);
            last = point;
            [between, point]
        })
    }

    /// The index among the unasked experts of the one that is expected to settle most per unit of cost: the width that
    /// its vote alone gives to p, and the whole width if it may cause a category's action.
    fn first(&mut self, open: &[Open<'_>]) -> usize {
        if let [only] = open {
            return only.at;
        }
        let mut best = (f64::NEG_INFINITY, open[0].at);
        for open in open {
            let settles = if open.actions.is_empty() { self.width(open) } else { 1.0 };
            let rate = settles / open.unasked.cost.max(f64::MIN_POSITIVE);
            if rate > best.0 {
                best = (rate, open.at);
            }
        }
        best.1
    }

    fn width(&mut self, open: &Open<'_>) -> f64 {
        let Some(index) = open.index else { return 0.0 };
        let (mut least, mut greatest) = (self.row.clone(), self.row.clone());
        (least[index], greatest[index]) = (0.0, 1.0);
        let range = self.predictor.range(self.event, &least, &greatest, self.features);
        range.map_or(0.0, Interval::width)
    }
}

/// The index of the vote whose interval is widest, the first of equal ones.
fn widest(moving: &[usize], least: &[f64], greatest: &[f64]) -> usize {
    let width = |at: usize| greatest[at] - least[at];
    let wider = |best, at| if width(at) > width(best) { at } else { best };
    moving.iter().copied().reduce(wider).expect("a vote moves")
}
