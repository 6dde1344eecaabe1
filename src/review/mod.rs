//! The review queue: requests that people answer, read from the topics and written to them. No HTTP.
//!
//! [`queue::Queue`] is a pure state machine: requests, labels and edits go in, and it says who has which request. Everything
//! else is an edge: `follow` reads the topics of requests, labels and the ledger, `texts` reads conversations when they are
//! shown, and `sender` writes labels. [`Reviews`] joins them for the console.

mod claim;
pub mod entry;
mod follow;
pub mod queue;
mod refusal;
mod reviews;
mod sender;
pub mod shelves;
#[cfg(test)]
mod tests;
mod texts;

pub use queue::{Next, Served};
pub use refusal::Refusal;
pub use reviews::{Failed, Following, ReviewError, Reviews, Verdict};
pub use sender::SendError;
pub use texts::TextError;
