//! When an expert is asked.

use serde::Deserialize;

use super::Kind;

/// When an expert is asked about an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Ask {
    /// With all others.
    Always,
    /// After the others, and only if its vote could change the decision (docs/asking.md).
    WhenDecisive,
}

impl Ask {
    /// The name in manifests.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Always => "always",
            Self::WhenDecisive => "when_decisive",
        }
    }

    /// The choice of a manifest that makes none.
    pub(super) fn default_of(kind: Kind) -> Self {
        match kind {
            Kind::Encoder | Kind::Head | Kind::Classifier | Kind::Rules => Self::Always,
            Kind::Guard | Kind::Remote => Self::WhenDecisive,
        }
    }
}
