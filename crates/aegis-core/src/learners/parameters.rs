//! The parameters of the learners: their names and ranges.

use std::fmt;
use std::str::FromStr;

/// The noise of Follow the Perturbed Leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Noise {
    /// Exponential, as in Kalai & Vempala.
    Exponential,
    /// Gumbel: the leader is then distributed exactly as Hedge's weights.
    #[default]
    Gumbel,
}

impl Noise {
    /// The name, `exponential` or `gumbel`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Exponential => "exponential",
            Self::Gumbel => "gumbel",
        }
    }
}

impl fmt::Display for Noise {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Noise {
    type Err = super::SpecError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "exponential" => Ok(Self::Exponential),
            "gumbel" => Ok(Self::Gumbel),
            _ => Err(super::SpecError::Unreadable { parameter: Parameter::Noise, found: text.to_owned() }),
        }
    }
}

/// A parameter of a learner.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Parameter {
    /// The step η of Hedge, FPL and Fixed Share; 1 - β for Weighted Majority.
    Eta,
    /// The factor β of Weighted Majority.
    Beta,
    /// The share α that Fixed Share redistributes.
    Alpha,
    /// The memory γ of stacking and of a reading member.
    Gamma,
    /// The prior variance p0 of a reading member's weights on the features.
    Variance,
    /// The noise of FPL.
    Noise,
    /// The secret of the keyed draws.
    Seed,
    /// The prior masses of the experts.
    Prior,
}

impl Parameter {
    /// The name, as in `--eta`, without the dashes.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Eta => "eta",
            Self::Beta => "beta",
            Self::Alpha => "alpha",
            Self::Gamma => "gamma",
            Self::Variance => "variance",
            Self::Noise => "noise",
            Self::Seed => "seed",
            Self::Prior => "prior",
        }
    }

    /// A description of its valid values, for error messages.
    #[must_use]
    pub fn expected(self) -> &'static str {
        match self {
            Self::Eta => "a number above 0 and at most 100 (below 1 for weighted-majority)",
            Self::Beta => "a number above 0 and below 1",
            Self::Alpha => "a number from 0 to below 1",
            Self::Gamma => "a number from 0.9 to 1",
            Self::Variance => "a number above 0 and at most 10",
            Self::Noise => "exponential or gumbel",
            Self::Seed => "any text",
            Self::Prior => "a number above 0 for every expert and no other, together 1",
        }
    }

    /// Returns `true` if the number is in range. Parameters that are not numbers accept any.
    pub(super) fn admits(self, x: f64) -> bool {
        match self {
            Self::Eta => x > 0.0 && x <= 100.0,
            Self::Beta => x > 0.0 && x < 1.0,
            Self::Alpha => (0.0..1.0).contains(&x),
            Self::Gamma => (0.9..=1.0).contains(&x),
            Self::Variance => x > 0.0 && x <= 10.0,
            Self::Noise | Self::Seed | Self::Prior => true,
        }
    }
}

impl fmt::Display for Parameter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The value of a parameter, as displayed and hashed.
#[derive(Debug, Clone, PartialEq)]
pub enum Value {
    /// A number, displayed in its shortest decimal form that parses to the same bits.
    Number(f64),
    /// A word.
    Text(String),
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(x) => write!(f, "{x}"),
            Self::Text(text) => f.write_str(text),
        }
    }
}
