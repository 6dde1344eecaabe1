//! Pins: the predictors that people have chosen. They are on the topic of predictors, under keys of their own.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::confluent::Received;
use super::error::{DecodeError, EncodeError};
use super::schema::kinds;
use super::wire::RawBytes;
use super::{Encoding, check_time};
use crate::core::event::{Millis, check_id};
use crate::core::predictor::{MAX_PIN_REASON, Pin};

/// The header of an unpinning tombstone with the name of the person.
pub const PIN_BY_HEADER: &str = "aegis.by";
/// The header of an unpinning tombstone with the reason.
pub const PIN_REASON_HEADER: &str = "aegis.reason";

/// The beginning of the key of a pin. Its first byte occurs in no UTF-8 text, so that no policy can have such a name.
const PREFIX: &[u8] = b"\xFFpin:";

/// Returns the key under which a policy's pin is written.
#[must_use]
pub fn pin_key(policy: &str) -> Vec<u8> {
    [PREFIX, policy.as_bytes()].concat()
}

/// Returns the policy of the key of a pin, or `None` if the key is that of a predictor.
#[must_use]
pub fn pin_policy(key: &[u8]) -> Option<Cow<'_, str>> {
    key.strip_prefix(PREFIX).map(String::from_utf8_lossy)
}

/// A pin with the fields of its schema.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename = "Pin")]
struct PinForm<'a> {
    policy: Cow<'a, str>,
    predictor: RawBytes<'a>,
    offset: i64,
    published: Option<Millis>,
    by: Cow<'a, str>,
    reason: Cow<'a, str>,
    time: Millis,
}

fn check(pin: &Pin) -> Result<(), DecodeError> {
    check_id("policy", &pin.policy)?;
    check_id("by", &pin.by)?;
    if pin.reason.is_empty() || pin.reason.len() > MAX_PIN_REASON {
        return Err(DecodeError::BadValue { field: "reason" });
    }
    if pin.offset < 0 {
        return Err(DecodeError::BadValue { field: "offset" });
    }
    pin.published.map_or(Ok(()), |time| check_time("published", time))?;
    check_time("time", pin.time)
}

/// Reads a pin in Avro or JSON. [`super::decode_published`] reads the predictor in it.
///
/// # Errors
/// Returns a [`DecodeError`] if `payload` is not a pin.
pub fn decode_pin(payload: &[u8]) -> Result<Pin, DecodeError> {
    let form: PinForm<'_> = kinds().pin.decode(&Received::plain(payload))?;
    let pin = Pin {
        policy: form.policy.into_owned(),
        predictor: form.predictor.0.into_owned(),
        offset: form.offset,
        published: form.published,
        by: form.by.into_owned(),
        reason: form.reason.into_owned(),
        time: form.time,
    };
    check(&pin)?;
    Ok(pin)
}

/// Writes a pin.
///
/// # Errors
/// Returns an [`EncodeError`] if [`decode_pin`] would refuse the record.
pub fn encode_pin(pin: &Pin, encoding: Encoding) -> Result<Vec<u8>, EncodeError> {
    check(pin)?;
    let form = PinForm {
        policy: Cow::Borrowed(&pin.policy),
        predictor: RawBytes(Cow::Borrowed(&pin.predictor)),
        offset: pin.offset,
        published: pin.published,
        by: Cow::Borrowed(&pin.by),
        reason: Cow::Borrowed(&pin.reason),
        time: pin.time,
    };
    kinds().pin.encode(&form, encoding)
}
