//! Files of labels: opened, their layout found, and read row by row in bounded memory.

use std::io::{self, Cursor, Read};
use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::own::{self, Reading};
use super::tools::{self, Found};
use super::{Refusal, value};
use crate::codec::{CONTAINER_MAGIC, Received};
use crate::rows::{self, Format, Item, Rows, RowsError};

/// The number of bytes that tell what a file is.
const SNIFFED: usize = 4 << 10;

/// The layout of the rows of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Layout {
    /// Aegis's own field names: one label in a row.
    Own,
    /// The fields of the section `[label_fields]`.
    Mapped,
    /// Tasks of Label Studio's JSON export.
    LabelStudio,
    /// Rows of Label Studio's JSON_MIN or CSV export.
    LabelStudioMin,
    /// Records of Argilla.
    Argilla,
}

impl Layout {
    /// The name of the layout.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::Own => "labels",
            Self::Mapped => "fields",
            Self::LabelStudio => "label-studio",
            Self::LabelStudioMin => "label-studio-min",
            Self::Argilla => "argilla",
        }
    }

    /// Returns the layout with this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        let all = [Self::Own, Self::Mapped, Self::LabelStudio, Self::LabelStudioMin, Self::Argilla];
        all.into_iter().find(|layout| layout.word() == name)
    }

    /// Returns the layout that the fields of a row tell.
    fn of(row: &Map<String, Value>, reading: &Reading) -> Self {
        let has = |name: &str| row.contains_key(name);
        let is_list = |name: &str| row.get(name).is_some_and(Value::is_array);
        if has("data") && is_list("annotations") {
            Self::LabelStudio
        } else if has("annotation_id") && has("annotator") {
            Self::LabelStudioMin
        } else if has(&format!("{}.responses", reading.names.verdict))
            || (has("responses") && (has("fields") || has("metadata")))
        {
            Self::Argilla
        } else if reading.defaults.label_fields.is_some() {
            Self::Mapped
        } else {
            Self::Own
        }
    }
}

/// The labels and refusals of one row.
pub struct RowLabels {
    /// The line at which the row begins, or the number of the record in Parquet and Avro.
    pub line: u64,
    /// The number of the row, from 1. Many exports are one line.
    pub row: u64,
    /// The row as it was read, if it could be.
    pub json: Option<Vec<u8>>,
    /// One item for each annotation, or one for the row.
    pub found: Vec<Found>,
}

/// A file of labels.
pub struct LabelFile {
    rows: Rows,
    layout: Option<Layout>,
    /// The number of rows that were read.
    count: u64,
}

impl LabelFile {
    /// Opens a file; `-` is standard input. Without a format, the first bytes tell it; without a layout, the first row does.
    ///
    /// # Errors
    /// Returns a [`RowsError`] if the file cannot be opened, or is neither UTF-8 nor one of the formats.
    pub fn open(
        path: &Path,
        format: Option<Format>,
        layout: Option<Layout>,
        delimiter: Option<u8>,
    ) -> Result<Self, RowsError> {
        let failed = |reason| RowsError::Io { path: path.to_owned(), reason };
        let mut bytes = rows::open(path).map_err(failed)?;
        let start = sniff(&mut bytes).map_err(failed)?;
        let format = match format {
            Some(format) => format,
            None => found_format(&start).map_err(|why| RowsError::Damaged { path: path.to_owned(), why })?,
        };
        let rows = match format {
            // It is read from its end.
            Format::Parquet => Rows::open(path, Some(format), delimiter)?,
            _ => Rows::read(path, Cursor::new(start).chain(bytes), format, delimiter)?,
        };
        Ok(Self { rows, layout, count: 0 })
    }

    /// The layout, once it is given or the first row has told it.
    #[must_use]
    pub fn layout(&self) -> Option<Layout> {
        self.layout
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.rows.path().to_owned()
    }

    /// Reads the next row. Returns `None` at the end.
    ///
    /// # Errors
    /// Returns a [`RowsError`] if the file cannot be read further.
    pub fn next_row(&mut self, reading: &Reading) -> Result<Option<RowLabels>, RowsError> {
        let Some(item) = self.rows.next_row()? else { return Ok(None) };
        self.count += 1;
        Ok(Some(match item {
            Item::Bad(bad) => {
                let refusal = Refusal::new(bad.name, bad.message);
                let found = vec![Found::Refused(None, refusal)];
                RowLabels { line: bad.number, row: self.count, json: None, found }
            }
            Item::Row(row) => {
                let found = self.labels(&row.json, reading);
                let found = found.unwrap_or_else(|refusal| vec![Found::Refused(None, refusal)]);
                RowLabels { line: row.number, row: self.count, json: Some(row.json), found }
            }
        }))
    }

    fn labels(&mut self, json: &[u8], reading: &Reading) -> Result<Vec<Found>, Refusal> {
        if self.layout == Some(Layout::Mapped) {
            return mapped(json, reading);
        }
        let Value::Object(row) = value::parse(json)? else {
            return Err(Refusal::new(
                "BadJson",
                "the row is not an object: write one object in each line, or an array of them",
            ));
        };
        let layout = *self.layout.get_or_insert_with(|| Layout::of(&row, reading));
        Ok(match layout {
            Layout::Own => vec![Found::Label(Box::new(own::label(&row, reading)?))],
            Layout::Mapped => return mapped(json, reading),
            Layout::LabelStudio => tools::task(&row, reading),
            Layout::LabelStudioMin => tools::task_min(&row, reading),
            Layout::Argilla => tools::argilla(&row, reading),
        })
    }
}

/// Reads a row by the pointers of the configuration, as a record of the labels topic is read.
fn mapped(json: &[u8], reading: &Reading) -> Result<Vec<Found>, Refusal> {
    let labels = Received::plain(json).labels(&reading.defaults)?;
    if labels.is_empty() {
        return Ok(vec![Found::LeftOut]);
    }
    Ok(labels.into_iter().map(|label| Found::Label(Box::new(label))).collect())
}

/// Reads the first bytes.
fn sniff(from: &mut impl Read) -> io::Result<Vec<u8>> {
    let mut start = Vec::with_capacity(SNIFFED);
    from.take(SNIFFED as u64).read_to_end(&mut start)?;
    Ok(start)
}

/// Returns the format that the first bytes of a file tell.
fn found_format(start: &[u8]) -> Result<Format, String> {
    if start.starts_with(b"PAR1") {
        return Ok(Format::Parquet);
    }
    if start.starts_with(CONTAINER_MAGIC) {
        return Ok(Format::Avro);
    }
    if start.starts_with(b"\xff\xfe")
        || start.starts_with(b"\xfe\xff")
        || start.iter().take(64).any(|byte| *byte == 0)
    {
        return Err("the file is not UTF-8 (perhaps UTF-16): convert it with iconv -t UTF-8".to_owned());
    }
    let text = start.strip_prefix(b"\xef\xbb\xbf").unwrap_or(start).trim_ascii_start();
    if text.is_empty() || matches!(text.first(), Some(b'{' | b'[')) {
        return Ok(Format::Json);
    }
    let line = text.split(|byte| *byte == b'\n').next().unwrap_or_default();
    Ok(if line.contains(&b'\t') && !line.contains(&b',') { Format::Tsv } else { Format::Csv })
}
