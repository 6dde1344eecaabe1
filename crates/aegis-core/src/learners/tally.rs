//! The figures of a fold or a replay, summed round by round without allocation.

use super::log_loss::log_loss;
use super::majority::majority;
use super::{Against, Learner, LossKind, flagged};

/// The number of bins of the reliability plot.
const BINS: usize = 10;

/// The costs of a policy's two errors. They set a threshold and do not affect a learner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// The cost of a miss: unsafe and not flagged.
    pub miss: f64,
    /// The cost of a false alarm: safe and flagged.
    pub false_alarm: f64,
}

impl Costs {
    /// The least p that is flagged: `c_FP / (c_FP + c_FN)`.
    #[must_use]
    pub fn threshold(self) -> f64 {
        self.false_alarm / (self.false_alarm + self.miss)
    }
}

/// The record of one expert.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ExpertTally {
    /// The rounds in which it was awake.
    pub awake: u64,
    /// The rounds of these in which its vote and the target are on different sides of .5.
    pub mistakes: u64,
    /// The sum of |v - y| over these rounds.
    pub loss: f64,
    /// The expert's loss over these rounds, in the loss of the learner's regret.
    own: f64,
    /// The learner's loss over these rounds, in the same loss.
    ensemble: f64,
}

impl ExpertTally {
    /// The learner's regret against this expert: its loss minus the expert's over the rounds in which
    /// the expert was awake, in the learner's own loss.
    #[must_use]
    pub fn regret(&self) -> f64 {
        self.ensemble - self.own
    }
}

/// The effect of the features, over the rounds whose features the learner read.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Ablation {
    /// The number of these rounds.
    pub rounds: u64,
    /// The sum of (p - y)² over them.
    square: f64,
    /// The sum of (q - y)² over them, where q is the prediction without features.
    without_features: f64,
}

impl Ablation {
    /// The reduction of the mean of (p - y)² by the features; 0 before the first such round.
    #[must_use]
    pub fn gain(&self) -> f64 {
        (self.without_features - self.square) / self.rounds.max(1) as f64
    }
}

/// Rounds, predictions and targets in one of ten equal bins of p.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    /// The rounds whose p is in this tenth; 1 belongs to the last.
    pub rounds: u64,
    /// The sum of p.
    pub predicted: f64,
    /// The sum of the targets.
    pub observed: f64,
}

/// The greatest regret against an expert, and the proven bound on it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Certificate {
    /// The index of the expert against which the regret is greatest.
    pub expert: usize,
    /// The regret, over the rounds in which that expert was awake.
    pub regret: f64,
    /// The proven bound on it, if there is one.
    pub bound: Option<f64>,
}

/// The figures of a learner on a stream of rounds.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    kind: LossKind,
    costs: Option<Costs>,
    slept: bool,
    /// The number of rounds.
    pub rounds: u64,
    /// The sum of `sum w_i |v_i - y|` for a learner that plays weights, else of |p - y|.
    pub loss: f64,
    /// The sum of (p - y)².
    pub square: f64,
    /// The rounds in which p and y are on different sides of .5 (.5 counts as unsafe).
    pub mistakes: u64,
    /// The mistakes of plain majority, for which a tie is unsafe.
    pub majority_mistakes: u64,
    /// The sum of the costs of errors at the threshold that the costs set; 0 without costs.
    pub cost: f64,
    /// The reliability plot.
    pub bins: [Bin; BINS],
    /// The effect of the features.
    pub ablation: Ablation,
    /// The record of each expert, in the learner's order.
    pub experts: Vec<ExpertTally>,
}

impl Tally {
    /// An empty tally over `experts` experts, for a learner whose regret is in the loss `kind`.
    #[must_use]
    pub fn new(experts: usize, kind: LossKind, costs: Option<Costs>) -> Self {
        Self {
            kind,
            costs,
            slept: false,
            rounds: 0,
            loss: 0.0,
            square: 0.0,
            mistakes: 0,
            majority_mistakes: 0,
            cost: 0.0,
            bins: [Bin::default(); BINS],
            ablation: Ablation::default(),
            experts: vec![ExpertTally::default(); experts],
        }
    }

    /// Adds a round: the learner's prediction `p` before it learned the target, and the weights that it played,
    /// `None` if it plays a p of its own.
    pub fn add(&mut self, votes: &[f64], weights: Option<&[f64]>, p: f64, target: f64) {
        let off = (p - target).abs();
        let loss = weights.map_or(off, |weights| {
            let mut sum = 0.0;
            for (weight, vote) in weights.iter().zip(votes) {
                sum += if vote.is_nan() { 0.0 } else { weight * (vote - target).abs() };
            }
            sum
        });
        let wrong = flagged(p) != flagged(target);
        self.rounds += 1;
        self.loss += loss;
        self.square += off * off;
        self.mistakes += u64::from(wrong);
        self.majority_mistakes += u64::from(flagged(majority(votes)) != flagged(target));
        if let Some(costs) = self.costs {
            self.cost += match (p >= costs.threshold(), flagged(target)) {
                (true, false) => costs.false_alarm,
                (false, true) => costs.miss,
                _ => 0.0,
            };
        }
        let bin = &mut self.bins[((p * BINS as f64) as usize).min(BINS - 1)];
        bin.rounds += 1;
        bin.predicted += p;
        bin.observed += target;
        let ensemble = match self.kind {
            LossKind::Brier => off * off,
            LossKind::Absolute => loss,
            LossKind::Log => log_loss(p, target),
            LossKind::Mistakes => f64::from(u8::from(wrong)),
        };
        for (expert, vote) in self.experts.iter_mut().zip(votes) {
            if vote.is_nan() {
                self.slept = true;
                continue;
            }
            let off = (vote - target).abs();
            let wrong = flagged(*vote) != flagged(target);
            expert.awake += 1;
            expert.mistakes += u64::from(wrong);
            expert.loss += off;
            expert.ensemble += ensemble;
            expert.own += match self.kind {
                LossKind::Brier => off * off,
                LossKind::Absolute => off,
                LossKind::Log => log_loss(*vote, target),
                LossKind::Mistakes => f64::from(u8::from(wrong)),
            };
        }
    }

    /// Adds a round with features: the prediction `ablated` that the learner would have made without them, and
    /// its prediction `p`.
    pub fn add_ablated(&mut self, ablated: f64, p: f64, target: f64) {
        self.ablation.rounds += 1;
        self.ablation.square += (p - target) * (p - target);
        self.ablation.without_features += (ablated - target) * (ablated - target);
    }

    /// The mean of (p - y)²; 0 before the first round.
    #[must_use]
    pub fn brier(&self) -> f64 {
        self.square / self.rounds.max(1) as f64
    }

    /// The expected calibration error over the ten bins: the mean over rounds of the distance between a bin's
    /// mean target and its mean p.
    #[must_use]
    pub fn calibration_error(&self) -> f64 {
        let gaps = self.bins.iter().map(|bin| (bin.predicted - bin.observed).abs());
        gaps.sum::<f64>() / self.rounds.max(1) as f64
    }

    /// The expert with the fewest mistakes alone. A round in which it sleeps counts as a mistake, because alone
    /// it decides nothing there. Ties are broken by loss, then by order. `None` before the first round.
    #[must_use]
    pub fn best_expert(&self) -> Option<usize> {
        let alone = |expert: &ExpertTally| expert.mistakes + (self.rounds - expert.awake);
        let records = self.experts.iter().enumerate().filter(|(_, expert)| expert.awake > 0);
        let best = records.min_by(|(_, a), (_, b)| alone(a).cmp(&alone(b)).then(a.loss.total_cmp(&b.loss)));
        best.map(|(at, _)| at)
    }

    /// The record of the expert at this index, as [`Learner::bound`] takes it; `None` if there is no such
    /// expert.
    #[must_use]
    pub fn against(&self, expert: usize) -> Option<Against> {
        let record = self.experts.get(expert)?;
        let (awake, mistakes) = (record.awake, record.mistakes);
        Some(Against { expert, rounds: self.rounds, awake, mistakes, slept: self.slept })
    }

    /// The greatest regret against any expert, with the bound of `learner`, which predicted these rounds.
    /// `None` before the first round.
    #[must_use]
    pub fn certificate(&self, learner: &dyn Learner) -> Option<Certificate> {
        let records = self.experts.iter().enumerate().filter(|(_, expert)| expert.awake > 0);
        let (expert, record) =
            records.max_by(|(i, a), (j, b)| a.regret().total_cmp(&b.regret()).then(j.cmp(i)))?;
        Some(Certificate { expert, regret: record.regret(), bound: learner.bound(&self.against(expert)?) })
    }
}
