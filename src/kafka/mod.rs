//! The edge to Kafka: records in, records out, and what commits together.
//!
//! Plain threads, no async: every call here blocks for at most the time that it is given. A [`Source`] is a
//! member of a group and an [`Outbox`] ends a unit of work: what it sends and the offsets that it consumed
//! count together or not at all. [`Follower`] and [`Lookup`] read topics that nobody shares. [`embedded`] is
//! a broker in process, [`topics`] creates and checks topics.

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
mod positions;
mod record;
mod record_ages;
mod reports;
mod round_trip;
mod source;
pub mod topics;
mod transaction;

pub use check_auth::check_auth;
pub use connection::{Connection, RefusedSetting};
pub use failure::{CommitError, SourceError};
pub use follower::{Followed, Follower, From};
pub use lookup::Lookup;
pub use membership::Membership;
pub use outbox::{Delivery, Outbox};
pub use positions::{at_time, committed};
pub use record::{Consumed, Offsets, Produced, TopicPartition};
pub use record_ages::RecordAges;
pub use reports::RecordPosition;
pub use round_trip::RoundTrip;
pub use source::{Health, Lost, Polled, Source, Start};
pub use transaction::Transaction;
