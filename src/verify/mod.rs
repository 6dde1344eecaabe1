//! Reads the topics back and checks the promises on them: every consumed event has exactly one outcome, in
//! order, each decision that asks for a review has its request, and each predictor is the fold of the ledger.
//!
//! [`outcomes`], [`requests`] and [`refold`] check and are pure; `read` feeds them from the brokers, with read_committed, up to
//! the ends that the topics have at the start. A system at work is no fault: events that the group has not
//! committed are open, not missing.

mod offset_set;
pub mod outcomes;
mod read;
mod reader;
pub mod refold;
mod report;
pub mod requests;
pub mod violations;

pub use read::{Verify, VerifyError};
pub use report::Report;
