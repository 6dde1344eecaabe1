//! The keys of ledger records: JSON arrays of strings. Equal keys have equal bytes.

use serde_json::Value;

use super::error::DecodeError;
use super::json;
use super::ledger::check_round;
use crate::core::event::{MAX_ID, check_id};
use crate::core::ledger::{Key, RoundId};

/// The maximum size of a key, in bytes: five ids with every byte escaped.
const MAX_KEY: usize = 5 * 6 * MAX_ID + 64;

/// Writes a key as `[tenant, policy, event, "judged"]`, `[tenant, policy, event, "label", id, annotator]`, the same without an
/// annotator, or `["edit", id]`.
#[must_use]
pub fn encode_key(key: &Key) -> Vec<u8> {
    let parts: Vec<&str> = match key {
        Key::Round(round) => vec![&round.tenant, &round.policy, &round.event, "judged"],
        Key::Label(round, id, annotator) => {
            let parts = [&round.tenant, &round.policy, &round.event, "label", id].map(|part: &str| part);
            parts.into_iter().chain(annotator.as_deref()).collect()
        }
        Key::Edit(id) => vec!["edit", id],
    };
    Value::from(parts).to_string().into_bytes()
}

/// Reads a key.
///
/// # Errors
/// Returns a [`DecodeError`] if `bytes` are not a key.
pub fn decode_key(bytes: &[u8]) -> Result<Key, DecodeError> {
    if bytes.is_empty() {
        return Err(DecodeError::Empty);
    }
    if bytes.len() > MAX_KEY {
        return Err(DecodeError::TooLarge { bytes: bytes.len(), bound: MAX_KEY });
    }
    let text = std::str::from_utf8(bytes).map_err(|_| DecodeError::NotJson)?;
    let parts: Vec<String> = json::parse(text)?;
    let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
    let round = |tenant: &str, policy: &str, event: &str| {
        let id = RoundId { tenant: tenant.to_owned(), policy: policy.to_owned(), event: event.to_owned() };
        check_round(&id).map(|()| id)
    };
    match *parts {
        [tenant, policy, event, "judged"] => Ok(Key::Round(round(tenant, policy, event)?)),
        [tenant, policy, event, "label", id, ref annotator @ ..] if annotator.len() <= 1 => {
            check_id("id", id)?;
            let annotator = annotator.first().copied();
            annotator.map_or(Ok(()), |annotator| check_id("annotator", annotator))?;
            Ok(Key::Label(round(tenant, policy, event)?, id.to_owned(), annotator.map(str::to_owned)))
        }
        ["edit", id] => {
            check_id("id", id)?;
            Ok(Key::Edit(id.to_owned()))
        }
        _ => Err(DecodeError::BadValue { field: "key" }),
    }
}
