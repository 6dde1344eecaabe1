//! The results of a run, text by text, and the errors of a run.

use std::sync::Arc;
use std::time::Duration;

use crate::core::vote::Abstention;
use crate::experts::features::EncoderFeatures;
use crate::experts::scores::ExpertScore;
use crate::panics::contain;

/// The result of one text.
#[derive(Debug, Clone, Default)]
pub(crate) struct TextResult {
    /// Each expert's judgement or abstention, with its index in the panel.
    pub(crate) outcomes: Vec<(usize, Result<ExpertScore, Abstention>)>,
    /// The features that the backend computed, if it is an encoder that gives them.
    pub(crate) features: Option<EncoderFeatures>,
    /// The backend itself read only the beginning of the text.
    pub(crate) truncated: bool,
    /// Votes lack categories that could not be determined. They count as truncated, and the result is not cached.
    pub(crate) incomplete: bool,
    /// The revision of a remote expert's vote.
    pub(crate) revision: Option<Arc<str>>,
}

impl TextResult {
    /// A result in which each of these experts abstains.
    pub(crate) fn abstained(experts: impl Iterator<Item = usize>, reason: Abstention) -> Self {
        let outcomes = experts.map(|expert_index| (expert_index, Err(reason))).collect();
        Self { outcomes, ..Self::default() }
    }
}

/// The time that a run took.
#[derive(Debug, Default)]
pub(crate) struct RunTimes {
    /// Time in the encoder, without its heads.
    pub(crate) encoder: Duration,
    /// Time by the expert's index in the panel.
    pub(crate) experts: Vec<(usize, Duration)>,
}

/// The reason why a run gave no result.
#[derive(Debug)]
pub(crate) struct RunError {
    /// The reason with which the experts abstain.
    pub(crate) reason: Abstention,
    /// The error's text, for the log.
    pub(crate) detail: String,
}

impl RunError {
    /// The run failed.
    pub(crate) fn failed(error: impl std::fmt::Display) -> Self {
        Self { reason: Abstention::Failed, detail: error.to_string() }
    }

    /// The run gave an output of a wrong shape or type.
    pub(crate) fn shape(detail: String) -> Self {
        Self { reason: Abstention::WrongShape, detail }
    }
}

/// Runs `work` and turns a panic in it into a [`RunError`].
pub(crate) fn catch_panic<T>(work: impl FnOnce() -> Result<T, RunError>) -> Result<T, RunError> {
    contain(work).unwrap_or_else(|_| Err(RunError::failed("it panicked")))
}

/// Logs the errors of one expert: the first, the second, the fourth, the eighth and so on.
#[derive(Default)]
pub(crate) struct ErrorLog(u64);

impl ErrorLog {
    /// Counts an error, and logs it if its number is a power of two.
    pub(crate) fn note(&mut self, expert: &str, error: &RunError) {
        self.0 += 1;
        if self.0.is_power_of_two() {
            let (reason, detail, times) = (error.reason.word(), error.detail.as_str(), self.0);
            tracing::warn!(expert, reason, detail, times, "an expert could not judge; it abstains");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error() {
        let error = catch_panic::<()>(|| panic!("on purpose")).unwrap_err();
        assert_eq!(error.reason, Abstention::Failed);
        assert_eq!(catch_panic(|| Ok(1)).unwrap(), 1);
    }
}
