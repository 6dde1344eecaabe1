//! Backends: the code that runs experts on texts.
//!
//! Each way to run experts has one file here that implements [`Backend`]: `onnx` for graphs and `rules` for rule files. The
//! scheduler and the workers see the backends of models only by the trait. All rules of a panel are one backend, which
//! reads whole texts in jobs of its own. `remote` has no backend: its requests are tasks that wait for sockets, which the
//! scheduler starts without a worker (`scheduler/remote`).
//!
//! # A new kind of expert
//!
//! A kind that needs another backend needs these additions, in the order of loading:
//!
//! | place | addition |
//! |---|---|
//! | `manifest`: `Kind`, `Body`, `raw` | the kind, its settings, and the keys of its tables |
//! | `manifest/validate`: `body`, `forbid_tables` | the keys that it requires, and those that it must not have |
//! | `info`: `ExpertInfo::of` | the hash that identifies it in votes, its provider and its categories |
//! | `loader`: `load_part` | a branch that calls the builder |
//! | `loader/build`: `PanelBuilder` | a method that adds a `Model`, with one backend for each worker |
//! | a file here | the backend itself |
//!
//! The matches over `Kind` and `Body` are exhaustive, so the compiler lists most of these places. The scheduler, the
//! workers and the learner need no change. The types do not check these conditions:
//!
//! * A backend that reads text itself gets it as [`Form::Characters`], because the cache and the batches compare slices of
//!   numbers: it needs `ModelTokenizer::Characters` as its tokenizer.
//! * `PanelBuilder::mark_not_loaded` expects a graph. A kind without one must count as loaded, and abstain while it does
//!   not work.
//! * A run occupies its worker until it returns. One that waits must register with [`InFlightRun::on_cancel`], and
//!   [`Profile::max_in_flight`] bounds the number of workers that wait. The backend `Waits` in the tests of `worker` is an
//!   example.

pub(crate) mod guard;
pub(crate) mod onnx;
pub(crate) mod remote;
pub(crate) mod result;
pub(crate) mod rules;
pub(crate) mod run;

use result::{RunTimes, TextResult};
use run::InFlightRun;

use crate::core::vote::Abstention;
use crate::experts::manifest::{Padding, TextInput};

/// The greatest accepted difference between a text's score alone and in a batch, unless a backend has another one.
pub const TOLERANCE: f64 = 1e-4;

/// The form in which a backend reads a text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Form {
    /// Token ids of the tokenizer that its manifest names.
    TokenIds,
    /// The text's characters, because the backend tokenises them itself. For a graph, each text counts as one token.
    Characters,
    /// The whole text, which the backend folds itself.
    Text,
}

/// The properties of a backend that its scheduler needs. All sessions of a model have the same profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Profile {
    /// The form in which it reads a text.
    pub(crate) reads: Form,
    /// The number of tokens that every text counts as: the length to which it is padded, or 1 for text that a graph
    /// tokenises itself. `None` if a text counts as its length, because texts are padded to the longest of their batch.
    pub(crate) padded_to: Option<usize>,
    /// The tokens that are read before each text, because the model has no cache of them.
    pub(crate) prefix: usize,
    /// The greatest number of runs at a time; `None` if only the number of workers bounds it.
    pub(crate) max_in_flight: Option<usize>,
}

impl Profile {
    /// Returns the profile of a graph that reads token ids.
    pub(crate) fn of_tokens(padding: Padding) -> Self {
        // Each worker has a session, which runs one batch at a time.
        Self { reads: Form::TokenIds, padded_to: padding.to, prefix: 0, max_in_flight: None }
    }

    /// Returns the profile of a classifier's graph.
    pub(crate) fn of_input(input: &TextInput) -> Self {
        let reads = match input {
            TextInput::Tokens(_) => Form::TokenIds,
            TextInput::Text { .. } => Form::Characters,
        };
        Self { reads, ..Self::of_tokens(input.padding()) }
    }

    /// Returns the cost of a text of this length that runs alone: [`padded_to`](Self::padded_to), or its length, which is
    /// at least 1; and the prefix. Budgets of batches are in the same unit.
    pub(crate) fn cost(&self, length: usize) -> usize {
        self.prefix + self.padded_to.unwrap_or(length.max(1))
    }

    /// Returns `true` if another run may begin. `in_flight` counts the runs that are under way; it is called only if
    /// there is a bound.
    pub(crate) fn has_room(&self, in_flight: impl FnOnce() -> usize) -> bool {
        self.max_in_flight.is_none_or(|limit| in_flight() < limit)
    }
}

/// The results that are wanted of a run.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wanted<'a> {
    /// Only features.
    Features,
    /// Features and votes, except those of some experts, which abstain with the given reasons.
    Votes { except: &'a [(usize, Abstention)] },
}

/// One session of experts that run together. A worker thread owns it.
pub(crate) trait Backend: Send {
    /// A text in the form that the backend reads: `[u32]` for token ids and characters, `RulesText` for whole texts.
    type Text: ?Sized;

    /// The backend's properties.
    fn profile(&self) -> Profile;

    /// The greatest accepted difference between a text's score alone and in a batch.
    fn tolerance(&self) -> f64 {
        TOLERANCE
    }

    /// Runs the experts on texts and returns one result for each, in the texts' order. The time goes to `times`.
    ///
    /// A failure costs votes, never the worker. A backend that can be stopped registers with
    /// [`InFlightRun::on_cancel`]; one that works in small steps polls [`InFlightRun::is_over`] instead.
    fn run(
        &mut self,
        texts: &[&Self::Text],
        wanted: Wanted<'_>,
        run: &InFlightRun,
        times: &mut RunTimes,
    ) -> Vec<TextResult>;
}

/// A session of a model: a classifier, or an encoder with its heads.
pub(crate) type ModelBackend = Box<dyn Backend<Text = [u32]>>;

/// The backend of a model that could not be loaded, on which all of its experts abstain. A remote expert has it too, and
/// it never runs.
pub(crate) struct NotLoaded {
    pub(crate) experts: Vec<usize>,
    pub(crate) profile: Profile,
}

impl Backend for NotLoaded {
    type Text = [u32];

    fn profile(&self) -> Profile {
        self.profile
    }

    fn run(&mut self, texts: &[&[u32]], _: Wanted<'_>, _: &InFlightRun, _: &mut RunTimes) -> Vec<TextResult> {
        let result = TextResult::abstained(self.experts.iter().copied(), Abstention::NotLoaded);
        vec![result; texts.len()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Its cost is not known before the graph has tokenised it, so only the number of rows bounds a batch.
    #[test]
    fn a_text_that_a_graph_tokenises_itself_counts_as_one_token() {
        let profile = Profile::of_input(&TextInput::Text { input: "text".to_owned(), max_chars: 4000 });
        assert_eq!((profile.reads, profile.cost(4000)), (Form::Characters, 1));
    }
}
