//! Reads the samples of labelled files, and counts the rows that give none.

use std::collections::BTreeMap;
use std::path::PathBuf;

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::EvaluateError;
use super::layout::{Layout, Sample, Skipped};
use crate::rows::{BadRow, Format, Item, Rows, RowsError};

/// The maximum number of samples.
const MAX_SAMPLES: usize = 1_000_000;
/// The maximum size of all texts together, in bytes.
const MAX_TEXT: usize = 256 << 20;
/// The number of bad rows that are named.
const NAMED: usize = 5;

/// The samples of all files, with the numbers of rows.
#[derive(Debug, Default)]
pub(super) struct Samples {
    pub(super) samples: Vec<Sample>,
    /// The number of rows in the files.
    pub(super) rows: u64,
    /// The number of rows that cannot be used.
    pub(super) bad: u64,
    /// The first bad rows, as `FILE:LINE: PROBLEM`.
    pub(super) named: Vec<String>,
    /// The numbers of rows that have no sample for a reason that is no error.
    pub(super) skipped: BTreeMap<Skipped, u64>,
    /// The number of samples that the limit left out.
    pub(super) left_out: u64,
}

/// The files, and how they are read.
pub(super) struct Files<'a> {
    pub(super) paths: &'a [PathBuf],
    pub(super) format: Option<Format>,
    pub(super) delimiter: Option<u8>,
    /// The number of samples that are kept, chosen by the hashes of their texts. `None` for all.
    pub(super) limit: Option<usize>,
    /// Stop at the first bad row.
    pub(super) strict: bool,
}

fn failed(error: RowsError) -> EvaluateError {
    match error {
        RowsError::Io { .. } => EvaluateError::Unavailable(error.to_string()),
        RowsError::Damaged { .. } => EvaluateError::Data(error.to_string()),
        RowsError::UnknownFormat { .. } => EvaluateError::Usage(error.to_string()),
    }
}

fn size(sample: &Sample) -> usize {
    sample.conversation.turns.iter().map(|turn| turn.text.len()).sum()
}

/// Keeps the samples with the smallest hashes, in the order of the files.
fn choose(samples: &mut Vec<Sample>, limit: usize) {
    let hash =
        |sample: &Sample| Sha256::digest(format!("{}\n{}", sample.conversation.judged_text(), sample.id));
    let mut numbered: Vec<(_, usize)> = samples.iter().map(hash).zip(0..).collect();
    numbered.sort_unstable();
    let mut chosen: Vec<usize> = numbered.into_iter().take(limit).map(|(_, at)| at).collect();
    chosen.sort_unstable();
    let mut at = 0;
    samples.retain(|_| {
        at += 1;
        chosen.binary_search(&(at - 1)).is_ok()
    });
}

impl Samples {
    /// Reads the files.
    ///
    /// # Errors
    /// Returns an error if a file cannot be read, if there are too many samples, if a row is bad and `strict` is set, or if
    /// most rows are bad: then the fields are probably wrong.
    pub(super) fn read(files: &Files<'_>, layout: &Layout) -> Result<Self, EvaluateError> {
        let mut all = Self::default();
        let mut bytes = 0;
        for path in files.paths {
            let name = path.display().to_string();
            let mut rows = Rows::open(path, files.format, files.delimiter).map_err(failed)?;
            while let Some(item) = rows.next_row().map_err(failed)? {
                all.rows += 1;
                let place = |number: u64| format!("{name}:{number}");
                let (number, found) = match item {
                    Item::Bad(BadRow { number, message, .. }) => (number, Err(message)),
                    Item::Row(row) => (row.number, samples(&row.json, layout, &place(row.number))),
                };
                match found {
                    Ok((found, skipped)) => {
                        if let (true, Some(why)) = (found.is_empty(), skipped) {
                            *all.skipped.entry(why).or_default() += 1;
                        }
                        bytes += found.iter().map(size).sum::<usize>();
                        all.samples.extend(found);
                    }
                    Err(why) => all.on_bad(format!("{}: {why}", place(number)), files.strict)?,
                }
                if let Some(limit) = files.limit.filter(|limit| all.samples.len() > limit.saturating_mul(2)) {
                    all.choose(limit);
                    bytes = all.samples.iter().map(size).sum();
                }
                if all.samples.len() > MAX_SAMPLES || bytes > MAX_TEXT {
                    return Err(EvaluateError::Data(format!(
                        "{name}: more than {MAX_SAMPLES} texts, or more than {MAX_TEXT} bytes of them: take a part with --texts"
                    )));
                }
            }
        }
        if let Some(limit) = files.limit {
            all.choose(limit);
        }
        all.check()?;
        Ok(all)
    }

    fn choose(&mut self, limit: usize) {
        let before = self.samples.len();
        choose(&mut self.samples, limit);
        self.left_out += (before - self.samples.len()) as u64;
    }

    fn on_bad(&mut self, problem: String, strict: bool) -> Result<(), EvaluateError> {
        if strict {
            return Err(EvaluateError::Data(problem));
        }
        self.bad += 1;
        if self.named.len() < NAMED {
            self.named.push(problem);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), EvaluateError> {
        let first = self.named.first().map(|first| format!(", the first: {first}")).unwrap_or_default();
        if 2 * self.bad > self.rows {
            return Err(EvaluateError::Data(format!(
                "{} of {} rows cannot be used{first}",
                self.bad, self.rows
            )));
        }
        if self.samples.is_empty() {
            return Err(EvaluateError::Data(format!(
                "none of {} rows has a text with a label: see --label and --preset",
                self.rows
            )));
        }
        Ok(())
    }
}

/// Returns the samples of a row.
fn samples(json: &[u8], layout: &Layout, place: &str) -> Result<(Vec<Sample>, Option<Skipped>), String> {
    // The library's message quotes the row.
    let row: Value = serde_json::from_slice(json)
        .map_err(|error| format!("the row is not JSON from column {} on", error.column()))?;
    layout.samples(&row, place)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::evaluate::presets::Preset;

    fn read(text: &str, limit: Option<usize>, strict: bool) -> Result<Samples, EvaluateError> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("rows.jsonl");
        std::fs::write(&path, text).unwrap();
        let paths = [path];
        let files = Files { paths: &paths, format: None, delimiter: None, limit, strict };
        Samples::read(&files, &Preset::ToxicChat.layout(1.0))
    }

    fn row(number: usize, label: &str) -> String {
        format!("{{\"conv_id\": \"c{number}\", \"user_input\": \"text {number}\", \"toxicity\": {label}}}\n")
    }

    #[test]
    fn bad_rows_are_counted_and_named() {
        let text = row(1, "1") + "{\"user_input\": 3,\n" + &row(2, "0") + &row(3, "null") + &row(4, "7");
        let found = read(&text, None, false).unwrap();
        assert_eq!((found.rows, found.bad, found.samples.len()), (5, 2, 2));
        assert_eq!(found.skipped[&Skipped::Unlabelled], 1);
        assert!(
            found.named[0].contains("rows.jsonl:2: ") && found.named[1].contains("\"toxicity\""),
            "{found:?}"
        );
        let refused = read(&text, None, true).unwrap_err().to_string();
        assert!(refused.contains(":2: the row is not JSON"), "{refused}");
        let refused = read(&row(1, "9").repeat(3), None, false).unwrap_err().to_string();
        assert!(refused.contains("3 of 3 rows"), "{refused}");
    }

    #[test]
    fn a_limit_chooses_the_same_texts_wherever_they_are() {
        let rows: Vec<String> = (0..40).map(|number| row(number, "1")).collect();
        let ids = |text: String| -> Vec<String> {
            let mut ids: Vec<String> =
                read(&text, Some(7), false).unwrap().samples.into_iter().map(|sample| sample.id).collect();
            assert_eq!(ids.len(), 7);
            ids.sort_unstable();
            ids
        };
        let backwards = rows.iter().rev().map(String::as_str).collect();
        assert_eq!(ids(rows.concat()), ids(backwards));
    }
}
