//! The Kafka clients: consumers, producers, and transactions of outputs and consumed offsets.
//!
//! Nothing here is async: every call blocks for at most its time-out. A [`Source`] is a consumer in a group. An [`Outbox`]
//! commits a [`Transaction`]: the records that it sends and the offsets that were consumed for them count together or not
//! at all. A [`Follower`] reads a whole topic without a group, and a [`Lookup`] fetches single records. [`embedded`] is a
//! broker in this process, and [`topics`] creates and checks topics.

mod check_auth;
mod connection;
mod context;
mod delivery_failure;
pub mod embedded;
mod failure;
mod follower;
mod group_protocol;
mod leave;
mod lookup;
mod membership;
mod outbox;
mod positions;
mod record;
mod record_ages;
mod refused_setting;
mod reports;
mod round_trip;
mod source;
pub mod topics;
mod transaction;

pub use check_auth::check_auth;
pub use connection::Connection;
pub use failure::{CommitError, SourceError};
pub use follower::{Followed, Follower, From};
pub use group_protocol::GroupProtocol;
pub use lookup::Lookup;
pub use membership::Membership;
pub use outbox::{Delivery, Outbox};
pub use positions::{at_time, bounds, committed};
pub use record::{Consumed, Offsets, Produced, TopicPartition};
pub use record_ages::RecordAges;
pub use refused_setting::RefusedSetting;
pub use reports::RecordPosition;
pub use round_trip::RoundTrip;
pub use source::{Health, Lost, Polled, Source, Start};
pub use transaction::Transaction;
