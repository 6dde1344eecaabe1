//! Reads the topics back and verifies the guarantees on them: every consumed event has exactly one outcome, in order;
//! each decision that asks for a review has its request; and each predictor is the fold of the ledger.
//!
//! The modules `outcomes`, `requests` and [`refold`] do the checks and are pure. [`Verify`] feeds them from the brokers, with
//! read_committed, up to the ends that the topics have at the start. Events that the group has not committed yet are
//! open, not missing, so that a running system has no violations.

mod offset_set;
mod outcome_reader;
mod outcomes;
pub mod refold;
mod report;
mod requests;
mod run;
mod topic_reader;
pub mod violations;

use std::time::Duration;

pub use outcomes::Counts;
pub use report::Report;
pub use requests::RequestCounts;
pub use run::Verify;

use crate::kafka::SourceError;
use crate::registry::RegistryError;

/// The time that the brokers have to answer a request.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// An error that prevents the verification.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// A topic cannot be read.
    #[error(transparent)]
    Source(#[from] SourceError),
    /// The registry does not provide a schema of decisions or review requests.
    #[error(transparent)]
    Registry(#[from] RegistryError),
    /// A topic delivers no records although it has more.
    #[error("{topic} has been silent for half a minute before its end: are its brokers up?")]
    Silent {
        /// The topic's name.
        topic: String,
    },
}
