//! Writes labels to their topic, and waits until the brokers have them.

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::codec::{EncodeError, Encoding, encode_label};
use crate::core::label::Label;
use crate::kafka::{CommitError, Connection, Delivery, Outbox, Produced};

/// The reason for which a label was not written, or not certainly.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A field is out of its bounds.
    #[error("the label cannot be written: {0}")]
    Encode(#[from] EncodeError),
    /// The brokers have not confirmed it. Sending it again is safe, because it keeps its id.
    #[error("the brokers have not confirmed the label: {0}")]
    Commit(#[from] CommitError),
    /// Earlier labels are still being written.
    #[error("the label was not written: the brokers have not confirmed earlier ones yet")]
    Busy,
}

/// Writes labels, one after the other.
pub struct Sender {
    connection: Connection,
    topic: std::sync::Arc<str>,
    outbox: Option<Outbox>,
}

impl Sender {
    /// Writes to `topic`. The connection is opened by the first label.
    #[must_use]
    pub fn new(connection: &Connection, topic: &str) -> Self {
        Self { connection: connection.clone(), topic: topic.into(), outbox: None }
    }

    /// Writes a label. When this returns, all replicas in sync have it.
    ///
    /// The encoding is always Avro: JSON would be read with the pointers of `[label_fields]`, which describe another tool.
    ///
    /// # Errors
    /// Returns a [`SendError`] if the brokers do not confirm it in time.
    pub fn send(&mut self, label: &Label) -> Result<(), SendError> {
        let payload = encode_label(label, Encoding::Avro)?;
        let record = Produced {
            topic: std::sync::Arc::clone(&self.topic),
            partition: None,
            // Labels of one event stay in order.
            key: Some(label.event.as_bytes().to_vec()),
            payload: Some(payload),
            headers: Vec::new(),
            timestamp: None,
        };
        let mut outbox = match self.outbox.take() {
            Some(outbox) => outbox,
            None => Outbox::open(&self.connection, Delivery::AtLeastOnce)?,
        };
        outbox.commit(&[record], None)?;
        // After an error a new producer is opened.
        self.outbox = Some(outbox);
        Ok(())
    }
}

/// A sender that one thread uses at a time.
pub struct Shared {
    free: Mutex<Option<Sender>>,
    given_back: Condvar,
}

impl Shared {
    /// Shares a sender.
    #[must_use]
    pub fn new(sender: Sender) -> Self {
        Self { free: Mutex::new(Some(sender)), given_back: Condvar::new() }
    }

    /// Takes the sender, waiting at most `timeout` until it is free.
    ///
    /// # Errors
    /// Returns [`SendError::Busy`] if it is not free in time.
    pub fn take(&self, timeout: Duration) -> Result<Taken<'_>, SendError> {
        let waited = self.given_back.wait_timeout_while(self.lock(), timeout, |free| free.is_none());
        let (mut free, _) = waited.unwrap_or_else(PoisonError::into_inner);
        let sender = free.take().ok_or(SendError::Busy)?;
        Ok(Taken { shared: self, sender: Some(sender) })
    }

    fn lock(&self) -> MutexGuard<'_, Option<Sender>> {
        self.free.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The right to send. The sender is free again when this is dropped.
pub struct Taken<'a> {
    shared: &'a Shared,
    sender: Option<Sender>,
}

impl Taken<'_> {
    /// As [`Sender::send`].
    ///
    /// # Errors
    /// As [`Sender::send`].
    pub fn send(&mut self, label: &Label) -> Result<(), SendError> {
        self.sender.as_mut().map_or(Err(SendError::Busy), |sender| sender.send(label))
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        *self.shared.lock() = self.sender.take();
        self.shared.given_back.notify_one();
    }
}
