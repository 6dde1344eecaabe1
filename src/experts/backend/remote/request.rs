//! Makes the requests about a conversation.

use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use super::RemoteExpert;
use super::api::{Body, Sizing};
use super::excerpt::Excerpt;
use crate::core::event::{Conversation, Turn};
use crate::core::text::is_blank;
use crate::experts::backend::result::RunError;

/// A request that is ready to be sent.
#[derive(Debug, Clone)]
pub(crate) struct RemoteRequest {
    /// The hash of the request. Equal requests share one response.
    pub(crate) ids: Arc<[u32]>,
    pub(super) body: Bytes,
    /// The conversation, of which less is sent if the server refuses the request.
    pub(super) conversation: Arc<Conversation>,
    /// A part of the conversation was left out.
    pub(crate) truncated: bool,
}

/// The requests about a conversation.
pub(crate) struct RemoteRequests {
    /// The request about the judged turn. A guard's shows the turns before it too, and says which one is judged.
    pub(crate) turn: RemoteRequest,
    /// If there is a history, and the API judges a text as a whole: the requests about the whole conversation, and about
    /// the history alone.
    pub(crate) with_history: Option<(RemoteRequest, RemoteRequest)>,
}

impl RemoteExpert {
    /// Prepares the requests about a conversation: the turns before the judged one, and that turn.
    ///
    /// An API that judges a text as a whole cannot tell the judged turn from the turns before it. It is also asked about
    /// the history alone, so that a bad old turn does not count again.
    ///
    /// # Errors
    /// Returns the error of a template that cannot be rendered.
    pub(crate) fn prepare(&self, mut history: Vec<Turn>, judged: Turn) -> Result<RemoteRequests, RunError> {
        if self.api.is_guard() {
            history.push(judged);
            return Ok(RemoteRequests { turn: self.request(history)?, with_history: None });
        }
        let Excerpt { conversation: shown, truncated } =
            Excerpt::of(&history, judged.clone(), self.max_chars);
        let mut turn = self.request(vec![judged])?;
        let mut history = shown.history().to_vec();
        while history.pop_if(|last| is_blank(&last.text)).is_some() {}
        if history.is_empty() {
            turn.truncated |= truncated;
            return Ok(RemoteRequests { turn, with_history: None });
        }
        let mut whole = self.request(shown.turns)?;
        whole.truncated |= truncated;
        Ok(RemoteRequests { turn, with_history: Some((whole, self.request(history)?)) })
    }

    /// Prepares the request about turns, of which the last is judged.
    pub(super) fn request(&self, turns: Vec<Turn>) -> Result<RemoteRequest, RunError> {
        let conversation = Conversation { judged: turns.len() - 1, turns };
        let Body { bytes, truncated } = self.api.request(self.max_chars, &conversation, Sizing::Ordinary)?;
        let mut hash = Sha256::new();
        hash.update(self.hash);
        hash.update(&bytes);
        let hash: [u8; 32] = hash.finalize().into();
        let id = |bytes: &[u8]| u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]);
        Ok(RemoteRequest {
            ids: hash.chunks_exact(4).map(id).collect(),
            body: bytes.into(),
            conversation: Arc::new(conversation),
            truncated,
        })
    }

    /// The body of a request that the server refused, with less of the conversation; `None` if there is no less.
    pub(super) fn reduced(&self, request: &RemoteRequest) -> Option<Bytes> {
        let body = self.api.request(self.max_chars, &request.conversation, Sizing::BytePerToken).ok()?;
        (body.bytes.len() < request.body.len()).then(|| body.bytes.into())
    }
}
