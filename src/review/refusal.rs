//! The reasons for which a request cannot be answered.

use thiserror::Error;

/// The reason for which an answer, an undo or a text is refused. The names are part of the HTTP interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum Refusal {
    /// Others have answered the request.
    #[error("other people have answered this request meanwhile: your answer is not needed")]
    Answered,
    /// Retention has deleted the text.
    #[error("the text of this request is no longer on the events topic: the request is closed")]
    Expired,
    /// The subject was erased.
    #[error("the data of this request's user was erased: the request is closed")]
    Erased,
    /// Another reviewer has the request.
    #[error("your time for this request ran out and another reviewer has it now")]
    Claimed,
    /// The claim is not known.
    #[error("this request is not assigned to you any more: it was released, or the console was restarted")]
    NotClaimed,
    /// The reviewer has answered with another verdict.
    #[error("you have answered this request: undo the answer to change it")]
    AlreadyAnswered,
    /// The request was dropped from a full queue.
    #[error("this request is no longer in the queue: the queue was full")]
    Dropped,
    /// The reviewer's labels do not count.
    #[error("your labels are in quarantine and do not count: talk to the operator of this system")]
    Quarantined,
    /// There is no answer to undo.
    #[error("there is no answer to undo")]
    NothingToUndo,
}

impl Refusal {
    /// The name of the reason.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Answered => "answered",
            Self::Expired => "expired",
            Self::Erased => "erased",
            Self::Claimed => "claimed",
            Self::NotClaimed => "not_claimed",
            Self::AlreadyAnswered => "already_answered",
            Self::Dropped => "dropped",
            Self::Quarantined => "quarantined",
            Self::NothingToUndo => "nothing_to_undo",
        }
    }
}
