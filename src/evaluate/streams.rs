//! The held-out sets as label streams for `aegis replay`, with votes, verdicts and features, and without text.

use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

use serde_json::{Value, json};

use super::ask::{Answers, Votes};
use super::sets::{Set, Text};
use super::{EvaluateError, unavailable};
use crate::core::features::EncoderId;
use crate::core::hash::hex;
use crate::replay::write;

/// The number of characters of a text's hash that are its event's id.
const ID_LENGTH: usize = 32;

/// Returns the line of a labelled round. The vote of an expert that abstained is null. `label` is `true` for unsafe, or a
/// target from 0 to 1.
pub(super) fn line(
    experts: &[&str],
    encoder: Option<&EncoderId>,
    id: &str,
    label: &Value,
    votes: &Votes,
) -> Value {
    let cast = experts.iter().zip(&votes.votes);
    let cast: serde_json::Map<String, Value> =
        cast.map(|(id, vote)| ((*id).to_owned(), vote.is_finite().then_some(*vote).into())).collect();
    let mut line = json!({ "event_id": id, "votes": cast, "unsafe": label });
    if let (Some(encoder), Some(features), Some(line)) = (encoder, &votes.features, line.as_object_mut()) {
        line.insert("encoder".into(), hex(encoder).into());
        line.insert("features".into(), write::base64(&**features).into());
    }
    line
}

/// Returns the id of a text's event.
fn id(text: &Text) -> String {
    hex(&text.hash).chars().take(ID_LENGTH).collect()
}

/// Writes each set into a file of its name, in the order of its texts. Of equal texts only the first is written.
///
/// # Errors
/// Returns an error if a file cannot be written.
pub(super) fn write(
    folder: &Path,
    sets: &[Set],
    experts: &[&str],
    encoder: Option<&EncoderId>,
    answers: &Answers,
) -> Result<(), EvaluateError> {
    std::fs::create_dir_all(folder).map_err(|error| unavailable(folder, &error))?;
    for set in sets {
        let path = folder.join(set.name.to_lowercase()).with_extension("jsonl");
        let (mut out, mut written) = (Vec::new(), HashSet::new());
        for text in set.texts.iter().filter(|text| written.insert(text.hash)) {
            if let Some(votes) = answers.get(&text.text) {
                writeln!(out, "{}", line(experts, encoder, &id(text), &text.is_unsafe.into(), votes))
                    .expect("writing to memory cannot fail");
            }
        }
        std::fs::write(&path, out).map_err(|error| unavailable(&path, &error))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::features::DIMENSIONS;

    #[test]
    fn a_line_has_votes_and_verdict_and_no_text() {
        let text = Text::of("how to pick a lock", true);
        let mut votes = Votes { votes: vec![0.25, f64::NAN], features: None };
        let line_of = |votes: &Votes| line(&["a", "b"], Some(&[1; 32]), &id(&text), &true.into(), votes);
        let without = line_of(&votes);
        assert_eq!(without["votes"], json!({ "a": 0.25, "b": null }));
        assert_eq!((&without["unsafe"], &without["encoder"]), (&json!(true), &Value::Null));
        votes.features = Some(Box::new([0; DIMENSIONS]));
        let with = line_of(&votes);
        assert_eq!(with["features"].as_str().map(str::len), Some(DIMENSIONS / 3 * 4));
        assert!(!with.to_string().contains("lock"));
    }
}
