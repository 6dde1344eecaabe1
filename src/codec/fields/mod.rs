//! Records in JSON of another shape: the configuration says by JSON pointers (RFC 6901) where their fields are.

mod annotations;
mod chat;
mod event;
mod label;
mod pointer;

pub use annotations::Values;
pub(super) use chat::role;
pub use event::{EventFields, Speaker, default_event_id};
pub use label::{LabelFields, Source, Verdict};
pub use pointer::Pointer;
