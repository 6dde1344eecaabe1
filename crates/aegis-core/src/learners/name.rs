//! The names of the learners, and the parameters that each takes.

use super::{Parameter, SpecError};
use std::fmt;
use std::str::FromStr;

/// The name of a learner. `docs/learning.md` describes each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "each has its file, and a section of docs/learning.md")]
pub enum Name {
    WeightedMajority,
    Hedge,
    Fpl,
    AdaHedge,
    Squint,
    AdaNormalHedge,
    FixedShare,
    FixedShareGrid,
    LogLoss,
    Brier,
    Stacking,
    Reading,
    Default,
    Majority,
}

impl Name {
    /// All names, in the order of the tables.
    pub const ALL: [Self; 14] = [
        Self::WeightedMajority,
        Self::Hedge,
        Self::Fpl,
        Self::AdaHedge,
        Self::Squint,
        Self::AdaNormalHedge,
        Self::FixedShare,
        Self::FixedShareGrid,
        Self::LogLoss,
        Self::Brier,
        Self::Stacking,
        Self::Reading,
        Self::Default,
        Self::Majority,
    ];

    /// The name as a string, as in `--learner`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::WeightedMajority => "weighted-majority",
            Self::Hedge => "hedge",
            Self::Fpl => "fpl",
            Self::AdaHedge => "adahedge",
            Self::Squint => "squint",
            Self::AdaNormalHedge => "adanormalhedge",
            Self::FixedShare => "fixed-share",
            Self::FixedShareGrid => "fixed-share-grid",
            Self::LogLoss => "log-loss",
            Self::Brier => "brier",
            Self::Stacking => "stacking",
            Self::Reading => "reading",
            Self::Default => "default",
            Self::Majority => "majority",
        }
    }

    /// The parameters that the learner takes. Any other is refused.
    #[must_use]
    pub fn takes(self) -> &'static [Parameter] {
        use Parameter::{Alpha, Beta, Eta, Gamma, Noise, Prior, Seed, Variance};
        match self {
            Self::WeightedMajority => &[Eta, Beta],
            Self::Hedge => &[Eta, Prior],
            Self::Fpl => &[Eta, Noise, Seed],
            Self::Squint | Self::AdaNormalHedge | Self::LogLoss | Self::Brier => &[Prior],
            Self::FixedShare => &[Eta, Alpha, Prior],
            Self::Stacking => &[Gamma],
            Self::Reading => &[Variance, Gamma],
            Self::AdaHedge | Self::FixedShareGrid | Self::Default | Self::Majority => &[],
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Name {
    type Err = SpecError;

    fn from_str(text: &str) -> Result<Self, SpecError> {
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == text)
            .ok_or_else(|| SpecError::Unknown(text.to_owned()))
    }
}
