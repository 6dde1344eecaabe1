//! The cost of runs, and of asking a panel.

use std::time::Duration;

/// The cost of one run. For rules and for requests to remote experts only `experts` is set; tokens are zero for graphs that read text themselves.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RunCost {
    /// Texts in the batch.
    pub texts: usize,
    /// Tokens of the texts.
    pub real_tokens: usize,
    /// Tokens with their padding.
    pub padded_tokens: usize,
    /// Time in the encoder, without its heads.
    pub encoder: Duration,
    /// Time by the expert's place in [`Panel::experts`](super::Panel::experts).
    pub experts: Vec<(usize, Duration)>,
}

/// The cost of asking a panel about some texts.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct PanelCosts {
    /// Texts asked about.
    pub texts: usize,
    /// Batches run.
    pub batches: usize,
    /// Tokens of the texts in batches. Equal texts that are asked about at the same time run once.
    pub real_tokens: usize,
    /// Tokens of the batches with their padding.
    pub padded_tokens: usize,
    /// Time to tokenise.
    pub tokenise: Duration,
    /// Worker time in encoders, without their heads.
    pub encoder: Duration,
    /// Worker time by expert, in the order of [`Panel::experts`](super::Panel::experts).
    pub experts: Vec<Duration>,
    /// Time from the question to its answer.
    pub elapsed: Duration,
}

impl PanelCosts {
    pub(super) fn add(&mut self, run: &RunCost) {
        self.batches += usize::from(run.texts > 0);
        self.real_tokens += run.real_tokens;
        self.padded_tokens += run.padded_tokens;
        self.encoder += run.encoder;
        for (expert_index, time) in &run.experts {
            self.experts[*expert_index] += *time;
        }
    }
}
