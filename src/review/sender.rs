//! Writes labels to their topic, and waits until the brokers have them.

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
