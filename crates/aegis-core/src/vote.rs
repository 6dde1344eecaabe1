//! The vote of an expert on one judged text.

/// The score of one category of the taxonomy.
#[derive(Debug, Clone, PartialEq)]
pub struct CategoryScore {
    /// The slug of the category, e.g. `self-harm`.
    pub category: String,
    /// P(this harm), in \[0,1\].
    pub score: f64,
}

/// The reason for which an expert did not vote. The names are metric labels and part of decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Abstention {
    /// The judged text is empty, or only white space and invisible characters.
    EmptyText,
    /// The expert could not be loaded.
    NotLoaded,
    /// The expert failed on this text.
    Failed,
    /// The expert did not answer in time.
    TimedOut,
    /// The answer was NaN or infinite.
    NotFinite,
    /// The answer had another shape than in the manifest.
    WrongShape,
    /// The expert was left out under load.
    Overload,
    /// The run was stopped because the process exceeded its memory limit.
    OutOfMemory,
    /// The expert's tokenizer or rules know no part of the text.
    NothingRead,
    /// The expert does not judge turns of this role.
    WrongRole,
    /// A guard's answer is neither of its two verdicts.
    OffTemplate,
    /// The expert was not asked, because no vote of it could have changed the decision.
    NotNeeded,
    /// The expert does not read the language of the judged text.
    Language,
}

impl Abstention {
    /// All reasons, in the schema's order.
    pub const ALL: [Self; 13] = [
        Self::EmptyText,
        Self::NotLoaded,
        Self::Failed,
        Self::TimedOut,
        Self::NotFinite,
        Self::WrongShape,
        Self::Overload,
        Self::OutOfMemory,
        Self::NothingRead,
        Self::WrongRole,
        Self::OffTemplate,
        Self::NotNeeded,
        Self::Language,
    ];

    /// The name of the reason in records and metrics.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::EmptyText => "empty_text",
            Self::NotLoaded => "not_loaded",
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::NotFinite => "not_finite",
            Self::WrongShape => "wrong_shape",
            Self::Overload => "overload",
            Self::OutOfMemory => "out_of_memory",
            Self::NothingRead => "nothing_read",
            Self::WrongRole => "wrong_role",
            Self::OffTemplate => "off_template",
            Self::NotNeeded => "not_needed",
            Self::Language => "language",
        }
    }
}

/// The outcome of an expert on one text.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// The expert voted.
    Voted {
        /// P(unsafe), finite and in \[0,1\].
        score: f64,
        /// The scores of categories; empty if the expert gives none.
        categories: Vec<CategoryScore>,
    },
    /// The expert abstained.
    Abstained(Abstention),
}

/// The greatest size of [`Vote::revision`], in bytes.
pub const MAX_REVISION: usize = 256;

/// An expert's vote on one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Vote {
    /// The id of the expert.
    pub expert: String,
    /// SHA-256 of the expert's model or rule file; `None` if it could not be loaded.
    pub model: Option<[u8; 32]>,
    /// The vote or abstention.
    pub outcome: Outcome,
    /// `true` for a shadow vote, which is recorded and evaluated but has no weight. It is folded as asleep.
    pub shadow: bool,
    /// `true` if the expert read only the beginning of the text.
    pub truncated: bool,
    /// `true` if the answer is that to an equal text, and the expert's graph did not run again.
    pub cached: bool,
    /// The number of windows in which the expert read the text. The scores are the greatest over all windows.
    pub windows: usize,
    /// `true` if the expert was drawn to be asked about this event whether or not its vote could matter.
    pub explored: bool,
    /// `true` if the expert was asked only because its vote could change the decision. Such votes do not count for its
    /// quality, which would be that on difficult events.
    pub decisive: bool,
    /// The model, its revision and the prompt's version, of an expert without a file of its own. At most
    /// [`MAX_REVISION`] bytes.
    pub revision: Option<String>,
}

impl Vote {
    /// A vote. A score that is not finite becomes an abstention, and one outside \[0,1\] is clipped.
    #[must_use]
    pub fn scored(expert: &str, model: [u8; 32], score: f64, categories: Vec<CategoryScore>) -> Self {
        let outcome = if score.is_finite() {
            Outcome::Voted { score: score.clamp(0.0, 1.0), categories }
        } else {
            Outcome::Abstained(Abstention::NotFinite)
        };
        Self { model: Some(model), outcome, ..Self::abstained(expert, None, Abstention::NotFinite) }
    }

    /// An abstention.
    #[must_use]
    pub fn abstained(expert: &str, model: Option<[u8; 32]>, reason: Abstention) -> Self {
        Self {
            expert: expert.to_owned(),
            model,
            outcome: Outcome::Abstained(reason),
            shadow: false,
            truncated: false,
            cached: false,
            windows: 1,
            explored: false,
            decisive: false,
            revision: None,
        }
    }

    /// P(unsafe) of a vote, of a shadow vote too; `None` for an abstention.
    #[must_use]
    pub fn score(&self) -> Option<f64> {
        match self.outcome {
            Outcome::Voted { score, .. } => Some(score),
            Outcome::Abstained(_) => None,
        }
    }

    /// The reason for which the expert did not vote; `None` if it voted.
    #[must_use]
    pub fn abstention(&self) -> Option<Abstention> {
        match self.outcome {
            Outcome::Voted { .. } => None,
            Outcome::Abstained(reason) => Some(reason),
        }
    }

    /// P(unsafe) as the learner's input: `None` for abstentions and shadow votes.
    #[must_use]
    pub fn awake(&self) -> Option<f64> {
        if self.shadow { None } else { self.score() }
    }
}
