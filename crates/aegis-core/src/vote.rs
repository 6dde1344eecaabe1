//! What an expert says about one judged text.

/// A score of one category of the taxonomy.
#[derive(Debug, Clone, PartialEq)]
pub struct CategoryScore {
    /// The category's slug, e.g. `self-harm`.
    pub category: String,
    /// P(this harm), in \[0,1\].
    pub score: f64,
}

/// Why an expert did not vote. The names are metric labels and stand in decisions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Abstention {
    /// There is nothing to judge: the judged text is empty, or only white space and invisible characters.
    EmptyText,
    /// The expert could not be loaded.
    NotLoaded,
    /// It failed on this text.
    Failed,
    /// It did not answer in time.
    TimedOut,
    /// Its answer was NaN or infinite.
    NotFinite,
    /// Its answer had another shape than its manifest says.
    WrongShape,
    /// The panel was shrunk under load.
    Overload,
    /// Its run was stopped: the process had more memory than it may.
    OutOfMemory,
    /// Nothing of the text is known to its tokenizer, or to its rules.
    NothingRead,
}

impl Abstention {
    /// All reasons, in the schema's order.
    pub const ALL: [Self; 9] = [
        Self::EmptyText,
        Self::NotLoaded,
        Self::Failed,
        Self::TimedOut,
        Self::NotFinite,
        Self::WrongShape,
        Self::Overload,
        Self::OutOfMemory,
        Self::NothingRead,
    ];

    /// The reason's word in records and metrics.
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
        }
    }
}

/// What came of asking an expert.
#[derive(Debug, Clone, PartialEq)]
pub enum Outcome {
    /// It voted.
    Voted {
        /// P(unsafe), finite and in \[0,1\].
        score: f64,
        /// Scores per category, where the expert has them.
        categories: Vec<CategoryScore>,
    },
    /// It abstained.
    Abstained(Abstention),
}

/// An expert's vote on one event.
#[derive(Debug, Clone, PartialEq)]
pub struct Vote {
    /// The expert's id.
    pub expert: String,
    /// SHA-256 of its model or rule file; `None` where nothing could be loaded.
    pub model: Option<[u8; 32]>,
    /// Vote or abstention.
    pub outcome: Outcome,
    /// It votes and is scored, and weighs nothing: the learner folds it as asleep.
    pub shadow: bool,
    /// The expert read only the beginning of the text.
    pub truncated: bool,
    /// The answer is that to another, equal text: the expert's graph did not run again.
    pub cached: bool,
    /// Windows that the expert read the text in, where it votes: the scores are the greatest of theirs.
    pub windows: usize,
}

impl Vote {
    /// A vote; a score that is not finite becomes an abstention, one outside \[0,1\] is clipped.
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
        }
    }

    /// P(unsafe) where the expert voted, shadow or not.
    #[must_use]
    pub fn score(&self) -> Option<f64> {
        match self.outcome {
            Outcome::Voted { score, .. } => Some(score),
            Outcome::Abstained(_) => None,
        }
    }

    /// P(unsafe) as the learner sees it: `None` for abstentions and shadow votes.
    #[must_use]
    pub fn awake(&self) -> Option<f64> {
        if self.shadow { None } else { self.score() }
    }
}
