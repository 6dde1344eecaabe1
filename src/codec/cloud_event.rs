//! CloudEvents 1.0 whose data is a conversation event, in both modes of their Kafka binding.
//!
//! In binary mode the record's value is the data, and headers named `ce_…` have the attributes. In structured mode the
//! value is a JSON object with the attributes and the data. The attributes `id` and `time` are the event's if its data
//! has none. Aegis writes no CloudEvents.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::Deserialize;
use serde::de::MapAccess;
use serde::de::value::MapAccessDeserializer;

use super::MAX_EVENT;
use super::confluent::Received;
use super::error::DecodeError;
use super::event::{EventForm, EventJson, EventParts, from_avro};
use super::json::{self, Loose, Nested, Scalar};
use super::schema::kinds;
use crate::core::event::{Millis, Role, Turn};

/// The headers of a record.
type Headers = [(String, Option<Vec<u8>>)];

/// The header with the media type of the value.
const CONTENT_TYPE: &str = "content-type";
/// The beginning of the names of headers with attributes.
const PREFIX: &str = "ce_";
/// The beginning of the media types of structured events.
const MEDIA_TYPE: &str = "application/cloudevents";
/// The version of the specification that is read.
const VERSION: &str = "1.0";

/// The mode of a record that is a CloudEvent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    /// The value is the data, and the attributes are headers.
    Binary,
    /// The value is a JSON object with attributes and data.
    Structured,
}

fn refused(why: &'static str) -> DecodeError {
    DecodeError::BadCloudEvent { why }
}

/// Returns the value of the last header with this name. Case is ignored, because HTTP bridges change it.
fn header<'a>(headers: &'a Headers, name: &str) -> Option<&'a [u8]> {
    headers
        .iter()
        .rev()
        .find(|(one, _)| one.eq_ignore_ascii_case(name))
        .and_then(|(_, value)| value.as_deref())
}

/// Returns a media type without its parameters, in lower case.
fn media_type(value: &str) -> String {
    value.split(';').next().unwrap_or_default().trim().to_ascii_lowercase()
}

fn content_type(headers: &Headers) -> String {
    header(headers, CONTENT_TYPE)
        .map_or_else(String::new, |value| media_type(&String::from_utf8_lossy(value)))
}

/// Returns the mode of a record with these headers, or `None` if they are not those of a CloudEvent.
///
/// # Errors
/// Returns an error if the record is a CloudEvent in a format that is not read.
pub(super) fn mode(headers: &Headers) -> Result<Option<Mode>, DecodeError> {
    if let Some(format) = content_type(headers).strip_prefix(MEDIA_TYPE) {
        return match format {
            "+json" => Ok(Some(Mode::Structured)),
            "-batch+json" => {
                Err(refused("is a batch, which Kafka's binding does not have: send each event as a record"))
            }
            _ => Err(refused(
                "has a format other than application/cloudevents+json: send it as JSON or in binary mode",
            )),
        };
    }
    Ok(header(headers, "ce_specversion").map(|_| Mode::Binary))
}

/// Removes the headers that make a record a CloudEvent: they describe the event's value, and not a decision's.
pub fn remove_headers(headers: &mut Vec<(String, Option<Vec<u8>>)>) {
    if !matches!(mode(headers), Ok(None)) {
        let describes = |name: &str| {
            name.eq_ignore_ascii_case(CONTENT_TYPE)
                || name.get(..PREFIX.len()).is_some_and(|start| start.eq_ignore_ascii_case(PREFIX))
        };
        headers.retain(|(name, _)| !describes(name));
    }
}

/// The attributes that an event takes from its CloudEvent.
pub(super) struct Attributes {
    id: String,
    time: Option<(&'static str, Scalar)>,
}

impl Attributes {
    /// Checks the attributes that every CloudEvent has: each with its name for errors.
    fn check(
        version: Option<&str>,
        [id, source, kind]: [(&'static str, Option<String>); 3],
        time: Option<(&'static str, Scalar)>,
    ) -> Result<Self, DecodeError> {
        if version != Some(VERSION) {
            return Err(refused("has another specversion than 1.0: have its producer write that version"));
        }
        let present = |(field, value): (&'static str, Option<String>)| {
            value.filter(|value| !value.is_empty()).ok_or(DecodeError::MissingField { field })
        };
        present(source)?;
        present(kind)?;
        Ok(Self { id: present(id)?, time })
    }

    /// Reads the attributes from the headers of a record in binary mode.
    fn from_headers(headers: &Headers) -> Result<Self, DecodeError> {
        let text = |field: &'static str| match header(headers, field).map(std::str::from_utf8) {
            None => Ok((field, None)),
            Some(Ok(value)) => Ok((field, Some(value.to_owned()))),
            Some(Err(_)) => Err(DecodeError::BadValue { field }),
        };
        let (_, version) = text("ce_specversion")?;
        let (field, time) = text("ce_time")?;
        let required = [text("ce_id")?, text("ce_source")?, text("ce_type")?];
        Self::check(version.as_deref(), required, time.map(|time| (field, Scalar::Text(time))))
    }

    /// Returns the event's id.
    pub(super) fn id(&self) -> String {
        self.id.clone()
    }

    /// Returns the time, if there is one.
    pub(super) fn time(self) -> Result<Option<Millis>, DecodeError> {
        self.time.map_or(Ok(None), |(field, time)| time.millis(field))
    }
}

/// The JSON object of structured mode. Other attributes are passed over.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Envelope {
    specversion: Scalar,
    id: Scalar,
    source: Scalar,
    #[serde(rename = "type")]
    kind: Scalar,
    time: Scalar,
    datacontenttype: Scalar,
    data: Loose<Data>,
    data_base64: Scalar,
}

/// The data of structured mode.
#[derive(Debug)]
enum Data {
    Object(Box<EventJson>),
    Text(String),
}

impl<'de> Nested<'de> for Data {
    fn text(text: &str) -> Loose<Self> {
        Loose::Found(Self::Text(text.to_owned()))
    }

    fn object<A: MapAccess<'de>>(from: A) -> Result<Loose<Self>, A::Error> {
        EventJson::deserialize(MapAccessDeserializer::new(from))
            .map(|value| Loose::Found(Self::Object(Box::new(value))))
    }
}

/// Returns `true` for the media types of text that people read.
fn is_text(media_type: &str) -> bool {
    media_type == "text/plain"
}

/// Returns the event of a text: one turn of the user.
fn of_text(text: String, attributes: Attributes, replaced: usize) -> Result<EventParts, DecodeError> {
    let turns = vec![Turn { role: Role::User, text }];
    Ok(EventParts::of_turns(attributes.id(), attributes.time()?, turns, replaced))
}

/// Reads data that is the whole value of a record, or that stood in base64.
fn of_bytes(
    data: &Received<'_>,
    media_type: &str,
    attributes: Attributes,
) -> Result<EventParts, DecodeError> {
    if is_text(media_type) {
        let (bytes, bound) = (data.payload.len(), MAX_EVENT);
        if bytes == 0 {
            return Err(DecodeError::Empty);
        }
        if bytes > bound {
            return Err(DecodeError::TooLarge { bytes, bound });
        }
        let text = std::str::from_utf8(data.payload)
            .map_err(|_| refused("has a text that is not UTF-8: encode it as UTF-8"))?;
        return of_text(text.to_owned(), attributes, 0);
    }
    let avro = |form| Ok(from_avro(form));
    let json = |text: &str| {
        let (raw, replaced): (EventJson, usize) = json::read(text)?;
        raw.parts(replaced, Some(attributes))
    };
    kinds().event.decode_either(data, avro, json)
}

impl Received<'_> {
    /// Reads a CloudEvent in binary mode.
    pub(super) fn binary_cloud_event(&self) -> Result<EventParts, DecodeError> {
        of_bytes(self, &content_type(self.headers), Attributes::from_headers(self.headers)?)
    }

    /// Reads a CloudEvent in structured mode.
    pub(super) fn structured_cloud_event(&self) -> Result<EventParts, DecodeError> {
        let avro =
            |_: EventForm<'_>| Err(refused("is Avro, but its content-type says JSON: correct the producer"));
        kinds().event.decode_either(self, avro, |text| self.envelope(text))
    }

    /// Reads the JSON object of structured mode.
    pub(super) fn envelope(&self, text: &str) -> Result<EventParts, DecodeError> {
        let (raw, replaced): (Envelope, usize) = json::read(text)?;
        let required = [
            ("id", raw.id.id("id")?),
            ("source", raw.source.text("source")?),
            ("type", raw.kind.text("type")?),
        ];
        let version = raw.specversion.text("specversion")?;
        let attributes = Attributes::check(version.as_deref(), required, Some(("time", raw.time)))?;
        let kind = media_type(&raw.datacontenttype.text("datacontenttype")?.unwrap_or_default());
        match (raw.data.found("data")?, raw.data_base64.text("data_base64")?) {
            (Some(_), Some(_)) => Err(refused("has both data and data_base64: send one of them")),
            (None, None) => Err(DecodeError::MissingField { field: "data" }),
            (Some(Data::Object(event)), None) => event.parts(replaced, Some(attributes)),
            (Some(Data::Text(text)), None) if is_text(&kind) => of_text(text, attributes, replaced),
            (Some(Data::Text(_)), None) => Err(refused(
                "has a string as data: send a JSON object, or a text with the datacontenttype text/plain",
            )),
            (None, Some(encoded)) => {
                let bad = |_| DecodeError::BadValue { field: "data_base64" };
                let bytes = STANDARD.decode(encoded).map_err(bad)?;
                let data = Received { payload: &bytes, schema_id: None, headers: &[], ..*self };
                of_bytes(&data, &kind, attributes)
            }
        }
    }
}
