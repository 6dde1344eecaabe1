//! Human labels between files, labelling tools and topics, and the figures about the people who give them.
//!
//! [`import`] reads labels of files and of labelling tools: [`reader`] opens a file and finds its layout, [`tools`] reads the
//! rows of Label Studio and Argilla, and [`tally`] counts. [`tasks`] writes review requests as tasks for these tools.
//! [`annotators`] measures annotators on a ledger. [`appeal`] expresses the decision about an appeal as labels.

pub mod annotators;
pub mod appeal;
pub mod import;
pub mod open;
mod own;
pub mod reader;
pub mod tally;
pub mod tasks;
mod tools;
mod value;

pub use own::{Names, Reading};

/// The reason why a row, or an annotation of it, is not imported. It never quotes the row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The name of the reason, in the style of dead-letter reasons.
    pub name: &'static str,
    /// The reason and what to do.
    pub message: String,
}

impl Refusal {
    fn new(name: &'static str, message: impl Into<String>) -> Self {
        Self { name, message: message.into() }
    }
}

impl From<crate::codec::DecodeError> for Refusal {
    fn from(error: crate::codec::DecodeError) -> Self {
        Self::new(error.name(), error.to_string())
    }
}
