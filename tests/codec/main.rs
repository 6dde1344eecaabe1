//! The codec: records of people, tools and earlier versions, every error, and the round trip of any value.

mod chats;
mod cloud_events;
mod events;
mod examples;
mod fixtures;
mod foreign;
mod fuzz;
mod labels;
mod mapped;
mod mapped_labels;
mod properties;
mod records;
mod speed;
mod strategies;

use aegis::codec::{DecodeError, Defaults, decode_event, decode_label};
use aegis::core::event::Event;
use aegis::core::label::Label;

fn defaults() -> Defaults {
    Defaults { tenant: "home".to_owned(), policy: "plain".to_owned(), ..Defaults::default() }
}

fn event(record: impl AsRef<[u8]>) -> Result<Event, DecodeError> {
    decode_event(record.as_ref(), &defaults())
}

fn label(record: impl AsRef<[u8]>) -> Result<Label, DecodeError> {
    decode_label(record.as_ref(), &defaults())
}

fn refused<T: std::fmt::Debug>(result: Result<T, DecodeError>) -> String {
    let error = result.unwrap_err();
    match error {
        DecodeError::MissingField { field } | DecodeError::BadValue { field } => {
            format!("{} {field}", error.name())
        }
        _ => error.name().to_owned(),
    }
}
