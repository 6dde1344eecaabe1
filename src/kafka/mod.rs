//! The edge to Kafka: records in, records out, and what commits together.
//!
//! Plain threads, no async: every call here blocks for at most the time that it is given. A [`Source`] is a
//! member of a group and an [`Outbox`] ends a unit of work: what it sends and the offsets that it consumed
//! count together or not at all. [`Follower`] and [`Lookup`] read topics that nobody shares. [`embedded`] is
//! a broker in process, [`topics`] creates and checks topics.

mod ages;
mod check_auth;
mod connection;
mod context;
mod delivery_failure;
pub mod embedded;
mod failure;
mod follower;
mod lookup;
mod membership;
mod outbox;
mod pace;
mod positions;
mod record;
mod reports;
mod source;
pub mod topics;
mod unit;

pub use ages::Ages;
pub use check_auth::check_auth;
pub use connection::{Connection, RefusedSetting};
pub use failure::{CommitError, SourceError};
pub use follower::{Followed, Follower, From};
pub use lookup::Lookup;
pub use membership::Membership;
pub use outbox::{Delivery, Outbox};
pub use pace::RoundTrip;
pub use positions::{at_time, committed};
pub use record::{Consumed, Offsets, Produced, TopicPartition};
pub use reports::Place;
pub use source::{Health, Lost, Polled, Source, Start};
pub use unit::Unit;
