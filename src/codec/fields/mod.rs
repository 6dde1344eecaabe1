//! Records in JSON of another layout. The configuration gives the positions of their fields as JSON pointers (RFC 6901).

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
