//! The import of labels: rows of files become records of the labels topic, and every row that cannot be used is told.
//!
//! A label without an id of its own has one that follows from its event and annotator or from the tool's annotation, and
//! no time is invented. The same file imported twice therefore gives the same labels, which change nothing in the ledger.

use std::path::Path;
use std::sync::Arc;

use serde::Serialize;
use serde_json::Value;

use super::Refusal;
use super::own::Reading;
use super::reader::{LabelFile, RowLabels};
use super::tally::Tally;
use super::tools::Found;
use crate::codec::{Encoding, encode_label};
use crate::core::label::Label;
use crate::kafka::Produced;
use crate::rows::RowsError;

/// The number of labels that are sent together, and the number of bytes after which no further one is added.
const BATCH_LABELS: usize = 1_000;
const BATCH_BYTES: usize = 1 << 20;

/// A row with its refusals.
#[derive(Debug, Serialize)]
pub struct RefusedRow {
    /// The file.
    pub file: String,
    /// The line at which the row begins, or the number of the record in Parquet and Avro.
    pub line: u64,
    /// The number of the row, from 1.
    pub row: u64,
    /// The reasons, at least one.
    pub refused: Vec<Reason>,
    /// The row as it was read, for the file of rejected rows only: it may contain the text of users.
    #[serde(skip)]
    json: Option<Vec<u8>>,
}

/// The reason of a refusal.
#[derive(Debug, Serialize)]
pub struct Reason {
    /// The number of the annotation, from 1; `None` if the whole row is refused.
    pub annotation: Option<usize>,
    /// The name of the reason.
    pub reason: &'static str,
    /// The reason and what to do. It never quotes the row.
    pub message: String,
}

impl RefusedRow {
    /// Returns the line for the file of rejected rows: the reasons, and the row as it was read.
    #[must_use]
    pub fn with_value(&self) -> String {
        #[derive(Serialize)]
        struct Whole<'a> {
            #[serde(flatten)]
            row: &'a RefusedRow,
            value: Option<&'a Value>,
        }
        let text = self.json.as_deref().map(String::from_utf8_lossy);
        // A row that is JSON is written as it is, any other one as a text.
        let value =
            text.map(|text| serde_json::from_str(&text).unwrap_or_else(|_| Value::from(text.into_owned())));
        serde_json::to_string(&Whole { row: self, value: value.as_ref() }).unwrap_or_default()
    }
}

/// The reason for which an import ends early.
#[derive(Debug, thiserror::Error)]
pub enum ImportError<E> {
    /// A file cannot be read, or not to its end. The labels before are sent.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// Labels could not be sent, or a refusal not be reported.
    #[error("{0}")]
    Sink(E),
}

/// The receiver of labels and refusals.
pub trait Sink {
    /// An error that ends the import.
    type Error;
    /// Sends records and returns after all of them are acknowledged.
    ///
    /// # Errors
    /// Returns an error if one is not.
    fn send(&mut self, records: &[Produced]) -> Result<(), Self::Error>;
    /// Reports a row that is refused, wholly or in part.
    ///
    /// # Errors
    /// Returns an error if it cannot be reported.
    fn refuse(&mut self, row: &RefusedRow) -> Result<(), Self::Error>;
    /// Reports the number of rows read so far.
    fn progress(&mut self, _rows: u64) {}
}

/// An import of files.
pub struct Import<'a, S> {
    /// The settings by which rows become labels.
    pub reading: &'a Reading,
    /// Returns `true` if a policy of this name is configured.
    pub is_policy: &'a dyn Fn(&str) -> bool,
    /// The labels topic.
    pub topic: Arc<str>,
    /// The receiver.
    pub sink: S,
    /// If `true`, labels are only counted.
    pub dry_run: bool,
    /// The counts so far.
    pub tally: Tally,
}

impl<S: Sink> Import<'_, S> {
    /// Imports one file.
    ///
    /// # Errors
    /// Returns an error if the file cannot be read to its end, or if the sink fails. Labels that were sent stay sent.
    pub fn file(&mut self, mut file: LabelFile) -> Result<LabelFile, ImportError<S::Error>> {
        let path = file.path();
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let ended = loop {
            let row = match file.next_row(self.reading) {
                Ok(Some(row)) => row,
                Ok(None) => break Ok(()),
                Err(error) => break Err(error.into()),
            };
            self.tally.rows += 1;
            self.sink.progress(self.tally.rows);
            for record in self.row(&path, row)? {
                bytes += record.payload.as_ref().map_or(0, Vec::len);
                batch.push(record);
            }
            if batch.len() >= BATCH_LABELS || bytes >= BATCH_BYTES {
                self.send(&mut batch)?;
                bytes = 0;
            }
        };
        // The labels before the damage of a file are good.
        self.send(&mut batch)?;
        ended.map(|()| file)
    }

    fn send(&mut self, batch: &mut Vec<Produced>) -> Result<(), ImportError<S::Error>> {
        if !self.dry_run && !batch.is_empty() {
            self.sink.send(batch).map_err(ImportError::Sink)?;
            self.tally.sent += batch.len() as u64;
        }
        batch.clear();
        Ok(())
    }

    /// Counts what a row has become, reports its refusals, and returns its records.
    fn row(&mut self, path: &Path, row: RowLabels) -> Result<Vec<Produced>, ImportError<S::Error>> {
        let (mut records, mut refused) = (Vec::new(), Vec::new());
        let is_one = row.found.len() == 1;
        for (found, number) in row.found.into_iter().zip(1..) {
            let refusal = match found {
                Found::LeftOut => {
                    self.tally.left_out += 1;
                    continue;
                }
                Found::Refused(annotation, refusal) => (annotation, refusal),
                Found::Label(label) => match self.record(&label) {
                    Ok(record) => {
                        self.tally.label(&label);
                        records.push(record);
                        continue;
                    }
                    Err(refusal) => ((!is_one).then_some(number), refusal),
                },
            };
            let (annotation, Refusal { name, message }) = refusal;
            self.tally.refusal(name);
            refused.push(Reason { annotation, reason: name, message });
        }
        if !refused.is_empty() {
            let file = path.display().to_string();
            let row = RefusedRow { file, line: row.line, row: row.row, refused, json: row.json };
            self.sink.refuse(&row).map_err(ImportError::Sink)?;
        }
        Ok(records)
    }

    /// Returns the record of a label. Records are Avro: the pointers of `[label_fields]` would not fit JSON.
    fn record(&self, label: &Label) -> Result<Produced, Refusal> {
        if !(self.is_policy)(&label.policy) {
            let message = "the label names a policy that the policies file does not have: add it, or set defaults.policy";
            return Err(Refusal::new("UnknownPolicy", message));
        }
        record(&self.topic, label)
    }
}

/// Returns the record of a label. The key is the event's id, so that the labels of an event stay in their order.
///
/// # Errors
/// Returns a [`Refusal`] if the label is out of its bounds.
pub fn record(topic: &Arc<str>, label: &Label) -> Result<Produced, Refusal> {
    let payload = encode_label(label, Encoding::Avro);
    let payload = payload.map_err(|error| Refusal::new(error.name(), error.to_string()))?;
    Ok(Produced {
        topic: Arc::clone(topic),
        partition: None,
        key: Some(label.event.as_bytes().to_vec()),
        payload: Some(payload),
        headers: Vec::new(),
        timestamp: None,
    })
}

#[cfg(test)]
mod tests;
