//! Rows of files: JSON lines, JSON arrays, CSV, Parquet and Avro containers. Each row is handed on as one JSON object.
//!
//! A row that is too large or that cannot be read is an [`Item::Bad`], and reading continues with the next one. A file
//! whose structure is damaged is a [`RowsError`]. No error quotes a row. Memory is bounded by the largest row, and for
//! Parquet by the largest page.

mod avro;
mod csv;
mod json;
mod parquet;

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::{Path, PathBuf};

use thiserror::Error;

use crate::codec::MAX_EVENT;

/// The maximum size of a row, in bytes: that of an event.
pub const MAX_ROW: usize = MAX_EVENT;
/// The size of the buffer that files are read with, in bytes.
const READ_BYTES: usize = 1 << 20;

/// Returns `true` if both paths name one file that exists. Such a file must not be read and written.
#[must_use]
pub fn is_same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// JSON lines, or one JSON array of objects.
    Json,
    /// CSV with a header, separated by commas unless a delimiter is given.
    Csv,
    /// CSV separated by tabs.
    Tsv,
    /// Parquet.
    Parquet,
    /// An Avro container.
    Avro,
}

impl Format {
    /// Returns the format that the name of a file ends with, before `.gz` or `.zst`.
    #[must_use]
    pub fn of(path: &Path) -> Option<Self> {
        let name = path.file_name()?.to_str()?.to_ascii_lowercase();
        let name = name.strip_suffix(".gz").or_else(|| name.strip_suffix(".zst")).unwrap_or(&name);
        Self::named(name.rsplit_once('.')?.1)
    }

    /// Returns the format with this name, which is also an ending of files.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Some(match name {
            "json" | "jsonl" | "ndjson" => Self::Json,
            "csv" => Self::Csv,
            "tsv" => Self::Tsv,
            "parquet" => Self::Parquet,
            "avro" => Self::Avro,
            _ => return None,
        })
    }
}

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// The line at which it begins, or the number of the record in Parquet and Avro. Both count from 1.
    pub number: u64,
    /// The row as a JSON object. A line of a file of JSON lines is not parsed here, so that it may be anything.
    pub json: Vec<u8>,
}

/// A row that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BadRow {
    /// The line at which it begins, or the number of the record.
    pub number: u64,
    /// The name of the reason, in the style of dead-letter reasons.
    pub name: &'static str,
    /// The reason and what to do.
    pub message: String,
}

impl BadRow {
    /// A row that is larger than [`MAX_ROW`].
    fn too_large(number: u64, hint: &str) -> Self {
        let message = format!("the row is larger than {MAX_ROW} bytes{hint}");
        Self { number, name: "TooLarge", message }
    }

    /// A row that cannot be read for this reason.
    fn malformed(number: u64, message: impl Into<String>) -> Self {
        Self { number, name: "Malformed", message: message.into() }
    }
}

/// A row, or the reason for which it cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A row.
    Row(Row),
    /// A row that cannot be read.
    Bad(BadRow),
}

/// The reason for which a file cannot be read, or not to its end.
#[derive(Debug, Error)]
pub enum RowsError {
    /// The file cannot be opened or read.
    #[error("{}: {reason}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        reason: io::Error,
    },
    /// The name of the file does not tell its format.
    #[error(
        "{}: its name does not tell its format: name it with --format json, csv, tsv, parquet or avro",
        path.display()
    )]
    UnknownFormat {
        /// The file.
        path: PathBuf,
    },
    /// The structure of the file is damaged.
    #[error("{}: {why}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The problem and what to do.
        why: String,
    },
}

/// The problem of a file, without its path.
enum Problem {
    Io(io::Error),
    Damaged(String),
}

impl From<io::Error> for Problem {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            // The decompressors report a damaged file so.
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput | io::ErrorKind::UnexpectedEof => {
                Self::Damaged(format!("the file is damaged or cut off: {error}"))
            }
            _ => Self::Io(error),
        }
    }
}

/// A source of rows.
trait Source {
    fn next(&mut self) -> Result<Option<Item>, Problem>;
}

/// The rows of a file.
pub struct Rows {
    path: PathBuf,
    source: Box<dyn Source>,
}

/// Opens a file for reading; `-` is standard input. `.gz` and `.zst` are decompressed.
pub(crate) fn open(path: &Path) -> io::Result<Box<dyn Read + Send>> {
    if path.as_os_str() == "-" {
        return Ok(Box::new(io::stdin()));
    }
    let file = File::open(path)?;
    Ok(match path.extension().and_then(|ending| ending.to_str()) {
        Some("gz") => Box::new(flate2::read::MultiGzDecoder::new(BufReader::with_capacity(READ_BYTES, file))),
        Some("zst") => Box::new(zstd::stream::read::Decoder::new(file)?),
        _ => Box::new(file),
    })
}

impl Rows {
    /// Opens a file. Without a format, the name of the file tells it; standard input is then JSON. A delimiter is that of
    /// CSV.
    ///
    /// # Errors
    /// Returns a [`RowsError`] if the file cannot be opened, or is not of its format.
    pub fn open(path: &Path, format: Option<Format>, delimiter: Option<u8>) -> Result<Self, RowsError> {
        let stdin = path.as_os_str() == "-";
        let format = format.or_else(|| if stdin { Some(Format::Json) } else { Format::of(path) });
        let format = format.ok_or_else(|| RowsError::UnknownFormat { path: path.to_owned() })?;
        let at = |problem: Problem| named(path, problem);
        let compressed = path.extension().is_some_and(|ending| ending == "gz" || ending == "zst");
        if format == Format::Parquet && !stdin && !compressed {
            let file = File::open(path).map_err(|error| at(Problem::Io(error)))?;
            let source = parquet::ParquetRows::new(file).map_err(at)?;
            return Ok(Self { path: path.to_owned(), source: Box::new(source) });
        }
        let bytes = open(path).map_err(|error| at(Problem::Io(error)))?;
        Self::read(path, bytes, format, delimiter)
    }

    /// Reads rows from bytes. `path` is the name in errors.
    ///
    /// # Errors
    /// Returns a [`RowsError`] if the bytes are not of the format.
    pub fn read(
        path: &Path,
        bytes: impl Read + 'static,
        format: Format,
        delimiter: Option<u8>,
    ) -> Result<Self, RowsError> {
        let at = |problem: Problem| named(path, problem);
        let source: Box<dyn Source> = match format {
            Format::Parquet => {
                let why = "Parquet is read from its end: store it uncompressed in a file, and name the file";
                return Err(at(Problem::Damaged(why.to_owned())));
            }
            Format::Json => Box::new(json::JsonRows::new(BufReader::with_capacity(READ_BYTES, bytes))),
            Format::Avro => {
                Box::new(avro::AvroRows::new(BufReader::with_capacity(READ_BYTES, bytes)).map_err(at)?)
            }
            Format::Csv | Format::Tsv => {
                let delimiter = delimiter.unwrap_or(if format == Format::Tsv { b'\t' } else { b',' });
                let bytes = BufReader::with_capacity(READ_BYTES, bytes);
                Box::new(csv::CsvRows::new(bytes, delimiter).map_err(at)?)
            }
        };
        Ok(Self { path: path.to_owned(), source })
    }

    /// Returns the next row, or `None` at the end.
    ///
    /// # Errors
    /// Returns a [`RowsError`] if the file cannot be read further.
    pub fn next_row(&mut self) -> Result<Option<Item>, RowsError> {
        self.source.next().map_err(|problem| named(&self.path, problem))
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }
}

fn named(path: &Path, problem: Problem) -> RowsError {
    let path = path.to_owned();
    match problem {
        Problem::Io(reason) => RowsError::Io { path, reason },
        Problem::Damaged(why) => RowsError::Damaged { path, why },
    }
}
