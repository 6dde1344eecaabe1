//! The figures of a replay, added up round by round without allocating.

use super::log_loss::log_loss;
use super::majority::majority;
use super::{Against, Learner, LossKind, flagged};

const BINS: usize = 10;

/// Costs of the two errors of a policy; they set a threshold and never touch a learner.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Costs {
    /// Cost of a miss: unsafe, and not flagged.
    pub miss: f64,
    /// Cost of a false alarm: safe, and flagged.
    pub false_alarm: f64,
}

impl Costs {
    /// Flag iff p is at least this: `c_FP / (c_FP + c_FN)`.
    #[must_use]
    pub fn threshold(self) -> f64 {
        self.false_alarm / (self.false_alarm + self.miss)
    }
}

/// One expert's record.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ExpertTally {
    /// Rounds in which it was awake.
    pub awake: u64,
    /// Rounds of these in which its vote and the target are on different sides of .5.
    pub mistakes: u64,
    /// Sum of |v - y| over these rounds.
    pub loss: f64,
    /// Its loss over these rounds, as the learner's regret counts it.
    own: f64,
    /// The learner's loss over these rounds.
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

/// What the members that read text add, over the rounds whose features they saw.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct ReadTally {
    /// These rounds.
    pub rounds: u64,
    /// Sum of (p - y)² over them.
    square: f64,
    /// The same of what the learner would have said with those members asleep.
    unread: f64,
}

impl ReadTally {
    /// How much less the mean of (p - y)² is for them; 0 before the first such round.
    #[must_use]
    pub fn gain(&self) -> f64 {
        (self.unread - self.square) / self.rounds.max(1) as f64
    }
}

/// Rounds, predictions and targets in one of ten equal bins of p.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bin {
    /// Rounds whose p is in this tenth (1 belongs to the last).
    pub rounds: u64,
    /// Sum of p.
    pub predicted: f64,
    /// Sum of targets.
    pub observed: f64,
}

/// The greatest regret against an expert, and the bound that is proven for it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Certificate {
    /// The expert against which regret is greatest.
    pub expert: usize,
    /// The regret, over the rounds in which that expert was awake.
    pub regret: f64,
    /// What was proven for it, where something is.
    pub bound: Option<f64>,
}

/// What a learner did on a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Tally {
    kind: LossKind,
    costs: Option<Costs>,
    slept: bool,
    /// Rounds counted.
    pub rounds: u64,
    /// Sum of `sum w_i |v_i - y|` for a learner that plays weights, of |p - y| for another.
    pub loss: f64,
    /// Sum of (p - y)².
    pub square: f64,
    /// Rounds in which p and y are on different sides of .5 (.5 counts as unsafe).
    pub mistakes: u64,
    /// Mistakes of plain majority, a tie counting as unsafe.
    pub majority_mistakes: u64,
    /// Sum of the costs of errors at the costs' own threshold; 0 without costs.
    pub cost: f64,
    /// The reliability plot.
    pub bins: [Bin; BINS],
    /// What the members that read text add.
    pub read: ReadTally,
    /// One record per expert, in the learner's order.
    pub experts: Vec<ExpertTally>,
}

impl Tally {
    /// An empty tally over `experts` experts, for a learner with this kind of regret.
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
            read: ReadTally::default(),
            experts: vec![ExpertTally::default(); experts],
        }
    }

    /// Adds a round: what the learner said, before it learned the target, and the weights that it
    /// played (`None` where it plays a p of its own).
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
        let bin = ((p * BINS as f64) as usize).min(BINS - 1);
        if let Some(bin) = self.bins.get_mut(bin) {
            bin.rounds += 1;
            bin.predicted += p;
            bin.observed += target;
        }
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

    /// Adds to a round with features what the learner would have said with the members asleep that read them.
    pub fn add_unread(&mut self, unread: f64, p: f64, target: f64) {
        self.read.rounds += 1;
        self.read.square += (p - target) * (p - target);
        self.read.unread += (unread - target) * (unread - target);
    }

    /// Mean of (p - y)²; 0 before the first round.
    #[must_use]
    pub fn brier(&self) -> f64 {
        self.square / self.rounds.max(1) as f64
    }

    /// Expected calibration error over the ten bins: the mean over rounds of how far a bin's mean
    /// target is from its mean p.
    #[must_use]
    pub fn calibration_error(&self) -> f64 {
        let gaps = self.bins.iter().map(|bin| (bin.predicted - bin.observed).abs());
        gaps.sum::<f64>() / self.rounds.max(1) as f64
    }

    /// The expert that makes the fewest mistakes alone, a round that it sleeps through counted as one:
    /// alone, it decides nothing there. Ties by loss, then by order. `None` before the first round.
    #[must_use]
    pub fn best_expert(&self) -> Option<usize> {
        let alone = |expert: &ExpertTally| expert.mistakes + (self.rounds - expert.awake);
        let records = self.experts.iter().enumerate().filter(|(_, expert)| expert.awake > 0);
        let best = records.min_by(|(_, a), (_, b)| alone(a).cmp(&alone(b)).then(a.loss.total_cmp(&b.loss)));
        best.map(|(at, _)| at)
    }

    /// The expert's record as a bound reads it.
    #[must_use]
    pub fn against(&self, expert: usize) -> Option<Against> {
        let record = self.experts.get(expert)?;
        let (awake, mistakes) = (record.awake, record.mistakes);
        Some(Against { expert, rounds: self.rounds, awake, mistakes, slept: self.slept })
    }

    /// The greatest regret against any expert, with the bound that `learner`, which played these
    /// rounds, proves for it. `None` before the first round.
    #[must_use]
    pub fn certificate(&self, learner: &dyn Learner) -> Option<Certificate> {
        let records = self.experts.iter().enumerate().filter(|(_, expert)| expert.awake > 0);
        let (expert, record) =
            records.max_by(|(i, a), (j, b)| a.regret().total_cmp(&b.regret()).then(j.cmp(i)))?;
        Some(Certificate { expert, regret: record.regret(), bound: learner.bound(&self.against(expert)?) })
    }
}
