//! The panel: experts asked for their votes.
//!
//! Each expert is a folder with a manifest (docs/adding-an-expert.md). [`Panel::open`] checks all of
//! them and loads their graphs, once for each worker thread; [`Panel::ask`] takes a window of texts and
//! gives each its votes and, where the panel has an encoder, its reading.
//!
//! A text's way: `tokenize` reads it once for each tokenizer, and it waits at the `desk`. A free `worker` takes
//! a batch of texts of like length ([`batch`], `queue`) and runs it on a `station`; `scores` makes votes of the
//! numbers. [`rules`] read [`fold`]ed text instead. What fails on the way abstains, with its reason.
//! [`Panel::ask`] brings a window and waits; a [`Stream`] takes texts as they come and gives answers as they
//! are done.

mod backend;
mod batch_invariance;
pub mod batcher;
mod breaker;
mod cache;
mod check;
mod error;
pub mod external;
mod files;
mod fit;
pub mod fold;
mod info;
mod load;
mod making;
mod manifest;
mod panel;
mod pending;
mod reload;
pub mod rules;
mod scheduler;
mod scores;
mod tokenize;
mod worker;

pub use backend::onnx::session::{Provider, environment};
pub use batch_invariance::TOLERANCE;
pub use error::PanelError;
pub use info::{EncoderInfo, ExpertInfo, LaneInfo, State};
pub use manifest::Kind;
pub use panel::ask::UnderLoad;
pub use panel::stream::Stream;
pub use panel::{Answer, Examined, Panel, PanelConfig, PanelCosts, RunCost};
pub use pending::RunSpan;
