//! Decisions and labels of files.

use std::io::{BufReader, Read, Write};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Collector;
use crate::codec::{
    CONTAINER_MAGIC, Container, ContainerError, DecodeError, Defaults, Received, decode_decision,
    decode_decision_value,
};
use crate::rows::{BadRow, Format, Item, Rows, RowsError, open};

/// The number of records of a container file that are read at a time.
const RECORDS: usize = 256;
/// The kind of rows of a file of decisions.
const DECISION: &str = "decision";
/// The reason of rows that are too large or damaged.
const DAMAGED: &str = "rows that cannot be read";
/// The number of refused rows of a file that are described. Further ones are only counted.
const DESCRIBED: u64 = 5;

/// The reason for which a file cannot be read, or not to its end.
#[derive(Debug, Error)]
pub enum FileError {
    /// The rows cannot be read.
    #[error(transparent)]
    Rows(#[from] RowsError),
    /// The container file cannot be read.
    #[error("{}: {reason}", path.display())]
    Container {
        /// The file.
        path: PathBuf,
        /// The problem and what to do.
        reason: ContainerError,
    },
    /// No row of the file is a decision or a label.
    #[error("{}: none of its {rows} rows is a {kind}: the first is refused, because {reason}{}", path.display(), hint(kind))]
    None {
        /// The file.
        path: PathBuf,
        /// The number of rows.
        rows: u64,
        /// The kind of rows that was expected.
        kind: &'static str,
        /// The reason for which the first row is refused.
        reason: String,
    },
}

/// The advice for a file of another kind.
fn hint(kind: &str) -> &'static str {
    if kind == DECISION {
        "; a stream of votes becomes decisions with `aegis replay STREAM --decisions FILE`, and a file of events with `aegis score`"
    } else {
        ""
    }
}

/// The rows of a file of one kind.
struct Reading<'a> {
    path: &'a Path,
    kind: &'static str,
    notes: &'a mut dyn Write,
    rows: u64,
    refused: u64,
    /// The reason for which the first refused row is refused.
    first: Option<String>,
}

impl<'a> Reading<'a> {
    fn new(path: &'a Path, kind: &'static str, notes: &'a mut dyn Write) -> Self {
        Self { path, kind, notes, rows: 0, refused: 0, first: None }
    }

    /// Counts a row. Returns its content unless it is refused.
    fn row<T>(&mut self, number: u64, read: Result<T, DecodeError>, collector: &mut Collector) -> Option<T> {
        self.rows += 1;
        match read {
            Ok(read) => Some(read),
            Err(error) => {
                collector.skip(&format!("{}s that cannot be read: {}", self.kind, error.name()));
                self.refuse(number, &error.to_string());
                None
            }
        }
    }

    /// Counts a row that is too large or damaged.
    fn bad(&mut self, row: &BadRow, collector: &mut Collector) {
        self.rows += 1;
        collector.skip(DAMAGED);
        self.refuse(row.number, &row.message);
    }

    /// Describes a refused row, without any of its content.
    fn refuse(&mut self, number: u64, reason: &str) {
        self.refused += 1;
        // A closed standard error does not stop the report.
        if self.refused <= DESCRIBED {
            let _ = writeln!(self.notes, "{}:{number}: not a {}: {reason}", self.path.display(), self.kind);
        }
        if self.refused == DESCRIBED + 1 {
            let _ = writeln!(self.notes, "{}: further rows like these are only counted", self.path.display());
        }
        self.first.get_or_insert_with(|| reason.to_owned());
    }

    /// A file without a single decision or label is another file than was meant.
    fn end(self) -> Result<(), FileError> {
        match self.first {
            Some(reason) if self.refused == self.rows => {
                Err(FileError::None { path: self.path.into(), rows: self.rows, kind: self.kind, reason })
            }
            _ => Ok(()),
        }
    }
}

/// Adds the decisions of a file: lines of JSON as `aegis score` and `aegis replay` write them, or an Avro container of
/// decisions. `.gz` and `.zst` are decompressed; `-` is standard input. The first refused rows are described in `notes`.
///
/// # Errors
/// Returns a [`FileError`] if the file cannot be read to its end, or has rows of another kind only.
pub fn add_decisions(path: &Path, collector: &mut Collector, notes: &mut dyn Write) -> Result<(), FileError> {
    let io = |reason| RowsError::Io { path: path.into(), reason };
    let mut bytes = BufReader::with_capacity(1 << 20, open(path).map_err(io)?);
    let mut start = Vec::new();
    let length = CONTAINER_MAGIC.len() as u64;
    bytes.by_ref().take(length).read_to_end(&mut start).map_err(io)?;
    let is_container = start == CONTAINER_MAGIC;
    let bytes = std::io::Cursor::new(start).chain(bytes);
    if is_container {
        return add_container(path, bytes, collector, notes);
    }
    let mut rows = Rows::read(path, bytes, Format::Json, None)?;
    let mut reading = Reading::new(path, DECISION, notes);
    while let Some(item) = rows.next_row()? {
        match item {
            Item::Row(row) => {
                if let Some(decision) = reading.row(row.number, decode_decision(&row.json), collector) {
                    collector.add_decision(&decision);
                }
            }
            Item::Bad(row) => reading.bad(&row, collector),
        }
    }
    reading.end()
}

fn add_container(
    path: &Path,
    bytes: impl Read,
    collector: &mut Collector,
    notes: &mut dyn Write,
) -> Result<(), FileError> {
    let failed = |reason| FileError::Container { path: path.into(), reason };
    let mut container = Container::new(bytes).map_err(failed)?;
    let mut reading = Reading::new(path, DECISION, notes);
    let mut number = 0;
    loop {
        let more = container.records(RECORDS, |value| {
            number += 1;
            if let Some(decision) = reading.row(number, decode_decision_value(value), collector) {
                collector.add_decision(&decision);
            }
            true
        });
        if !more.map_err(failed)? {
            return reading.end();
        }
    }
}

/// Adds the labels of a file: JSON lines, CSV, Parquet or an Avro container of the records of the labels topic, read with the
/// same fields and defaults. The first refused rows are described in `notes`.
///
/// # Errors
/// Returns a [`FileError`] if the file cannot be read to its end, or has rows of another kind only.
pub fn add_labels(
    path: &Path,
    defaults: &Defaults,
    collector: &mut Collector,
    notes: &mut dyn Write,
) -> Result<(), FileError> {
    let mut rows = Rows::open(path, None, None)?;
    let mut reading = Reading::new(path, "label", notes);
    while let Some(item) = rows.next_row()? {
        match item {
            Item::Row(row) => {
                let labels = Received::plain(&row.json).labels(defaults);
                let labels = reading.row(row.number, labels, collector);
                labels.into_iter().flatten().for_each(|label| collector.add_label(label));
            }
            Item::Bad(row) => reading.bad(&row, collector),
        }
    }
    reading.end()
}
