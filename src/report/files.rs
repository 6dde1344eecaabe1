//! Decisions and labels of files.

use std::io::{BufReader, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use super::Collector;
use crate::codec::{
    CONTAINER_MAGIC, Container, ContainerError, DecodeError, Defaults, Received, decode_decision,
    decode_decision_value,
};
use crate::rows::{Format, Item, Rows, RowsError, open};

/// The number of records of a container file that are read at a time.
const RECORDS: usize = 256;
/// The reason of rows that are too large or damaged.
const DAMAGED: &str = "rows that cannot be read";

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
    #[error("{}: none of its {rows} rows is a {kind}: the first is refused, because {reason}", path.display())]
    None {
        /// The file.
        path: PathBuf,
        /// The number of rows.
        rows: u64,
        /// The kind of rows that was expected.
        kind: &'static str,
        /// The reason for which the first row is refused.
        reason: DecodeError,
    },
}

/// The rows of a file of one kind.
struct Reading<'a> {
    path: &'a Path,
    kind: &'static str,
    rows: u64,
    refused: u64,
    first: Option<DecodeError>,
}

impl<'a> Reading<'a> {
    fn new(path: &'a Path, kind: &'static str) -> Self {
        Self { path, kind, rows: 0, refused: 0, first: None }
    }

    /// Counts a row. Returns its content unless it is refused.
    fn row<T>(&mut self, read: Result<T, DecodeError>, collector: &mut Collector) -> Option<T> {
        self.rows += 1;
        match read {
            Ok(read) => Some(read),
            Err(error) => {
                self.refused += 1;
                collector.skip(&format!("{}s that cannot be read: {}", self.kind, error.name()));
                self.first.get_or_insert(error);
                None
            }
        }
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

/// Adds the decisions of a file: lines of JSON as `aegis score` writes them, or an Avro container of decisions. `.gz` and
/// `.zst` are decompressed; `-` is standard input.
///
/// # Errors
/// Returns a [`FileError`] if the file cannot be read to its end, or has rows of another kind only.
pub fn add_decisions(path: &Path, collector: &mut Collector) -> Result<(), FileError> {
    let io = |reason| RowsError::Io { path: path.into(), reason };
    let mut bytes = BufReader::with_capacity(1 << 20, open(path).map_err(io)?);
    let mut start = Vec::new();
    let length = CONTAINER_MAGIC.len() as u64;
    bytes.by_ref().take(length).read_to_end(&mut start).map_err(io)?;
    let is_container = start == CONTAINER_MAGIC;
    let bytes = std::io::Cursor::new(start).chain(bytes);
    if is_container {
        return add_container(path, bytes, collector);
    }
    let mut rows = Rows::read(path, bytes, Format::Json, None)?;
    let mut reading = Reading::new(path, "decision");
    while let Some(item) = rows.next_row()? {
        match item {
            Item::Row(row) => {
                if let Some(decision) = reading.row(decode_decision(&row.json), collector) {
                    collector.add_decision(&decision);
                }
            }
            Item::Bad(_) => collector.skip(DAMAGED),
        }
    }
    reading.end()
}

fn add_container(path: &Path, bytes: impl Read, collector: &mut Collector) -> Result<(), FileError> {
    let failed = |reason| FileError::Container { path: path.into(), reason };
    let mut container = Container::new(bytes).map_err(failed)?;
    let mut reading = Reading::new(path, "decision");
    loop {
        let more = container.records(RECORDS, |value| {
            if let Some(decision) = reading.row(decode_decision_value(value), collector) {
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
/// same fields and defaults.
///
/// # Errors
/// Returns a [`FileError`] if the file cannot be read to its end, or has rows of another kind only.
pub fn add_labels(path: &Path, defaults: &Defaults, collector: &mut Collector) -> Result<(), FileError> {
    let mut rows = Rows::open(path, None, None)?;
    let mut reading = Reading::new(path, "label");
    while let Some(item) = rows.next_row()? {
        match item {
            Item::Row(row) => {
                let labels = reading.row(Received::plain(&row.json).labels(defaults), collector);
                labels.into_iter().flatten().for_each(|label| collector.add_label(label));
            }
            Item::Bad(_) => collector.skip(DAMAGED),
        }
    }
    reading.end()
}
