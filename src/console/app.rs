//! The state that all handlers share.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::access::Access;
use super::feed::Feed;
use crate::config::{Config, Live};
use crate::kafka::Connection;
use crate::review::Reviews;

/// The state of the console.
pub struct App {
    /// The settings.
    pub config: Arc<Config>,
    /// The policies in force.
    pub policies: Live,
    /// The connection to the brokers.
    pub connection: Connection,
    /// Users and sessions.
    pub access: Access,
    /// The state read from the topics.
    pub feed: Arc<Feed>,
    /// The review queue.
    pub reviews: Arc<Reviews>,
    /// The operations of reviewers that may run at the same time. Each has a thread, and can wait for the brokers.
    pub review_work: Arc<Semaphore>,
    /// The pages that may follow the console's state at the same time.
    pub live_pages: Arc<Semaphore>,
}
