//! Avro's container files: a header with the schema and the codec, then blocks of records.
//!
//! The library's reader of container files is not used: it fails on logical types that nothing here reads, does not say
//! which block is damaged, and does not name a codec that it lacks. Codecs and datums are the library's.

mod compression;
mod error;
mod framing;

use std::io::Read;

use apache_avro::Schema;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::ResolvedSchema;
use apache_avro::types::Value;
use apache_avro::util::max_allocation_bytes;

use super::MAX_PREDICTOR;
use super::datum_size::measure;
use compression::Compression;
pub use error::ContainerError;
use error::{EARLY, TOO_LARGE};
use framing::{fill, header, long, long_or_end};

/// The maximum size of a block, compressed and decompressed, in bytes.
const MAX_BLOCK: usize = MAX_PREDICTOR;

/// The first bytes of a container file.
pub const CONTAINER_MAGIC: &[u8; 4] = b"Obj\x01";
/// The size of the marker that ends the header and every block, in bytes.
const MARKER: usize = 16;

const UNUSABLE_SCHEMA: &str = "its schema cannot be read with";

/// A container file that is being read.
#[derive(Debug)]
pub struct Container<R> {
    source: R,
    schema: Schema,
    compression: Compression,
    marker: [u8; MARKER],
    /// The number of the current block, from 1.
    block: u64,
    /// The decompressed records of the current block.
    bytes: Vec<u8>,
    /// The number of bytes of the current block that are read.
    offset: usize,
    /// The number of records of the current block that are read.
    record: u64,
    /// The number of records in the current block.
    record_count: u64,
}

impl<R: Read> Container<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// Returns a [`ContainerError`] if `source` is not a container file, or one that cannot be read.
    pub fn new(mut source: R) -> Result<Self, ContainerError> {
        // The limit is the process's: a length in a file cannot make the library allocate more.
        max_allocation_bytes(MAX_PREDICTOR);
        let mut magic = [0; CONTAINER_MAGIC.len()];
        if !fill(&mut source, &mut magic)? || magic != *CONTAINER_MAGIC {
            return Err(ContainerError::NotAContainer);
        }
        let (schema, codec) = header(&mut source)?;
        let mut marker = [0; MARKER];
        if !fill(&mut source, &mut marker)? {
            return Err(ContainerError::Header(EARLY));
        }
        let compression = Compression::named(codec.as_deref())?;
        let (bytes, offset, record, record_count) = (Vec::new(), 0, 0, 0);
        Ok(Self { source, schema, compression, marker, block: 0, bytes, offset, record, record_count })
    }

    /// Reads up to `max` records and calls `take` with each, until `take` returns `false`. Returns `false` at the end of
    /// the file.
    ///
    /// # Errors
    /// Returns a [`ContainerError`] if a block is damaged or ends early, or the source cannot be read.
    pub fn records(
        &mut self,
        max: usize,
        mut take: impl FnMut(Value) -> bool,
    ) -> Result<bool, ContainerError> {
        // The reader and the names borrow the schema, so that they cannot be fields beside it.
        let schema = self.schema.clone();
        let names = ResolvedSchema::try_from(&schema).map_err(|_| ContainerError::Header(UNUSABLE_SCHEMA))?;
        let reader = GenericDatumReader::builder(&schema).human_readable(false).build();
        let reader = reader.map_err(|_| ContainerError::Header(UNUSABLE_SCHEMA))?;
        for _ in 0..max {
            while self.record == self.record_count {
                if self.offset < self.bytes.len() {
                    return Err(self.damaged("it goes on after its last record"));
                }
                if !self.next_block()? {
                    return Ok(false);
                }
            }
            self.record += 1;
            let rest = &self.bytes[self.offset..];
            // The library builds a tree of values, so its size is checked first.
            let length = measure(&schema, names.get_names(), rest).ok().filter(|length| *length > 0);
            let length = length.ok_or_else(|| self.misfit())?;
            let value = reader.read_value(&mut &rest[..length]).map_err(|_| self.misfit())?;
            self.offset += length;
            if !take(value) {
                break;
            }
        }
        Ok(true)
    }

    /// Reads the next block. Returns `false` at the end of the file.
    fn next_block(&mut self) -> Result<bool, ContainerError> {
        self.block += 1;
        let Some(count) = long_or_end(&mut self.source).map_err(|error| self.in_block(error))? else {
            return Ok(false);
        };
        let count = u64::try_from(count).map_err(|_| self.damaged("it has a negative number of records"))?;
        (self.bytes, self.offset, self.record, self.record_count) = (self.read_block()?, 0, 0, count);
        Ok(true)
    }

    /// Reads and decompresses the records of a block, and reads the marker after them.
    fn read_block(&mut self) -> Result<Vec<u8>, ContainerError> {
        let size = long(&mut self.source).map_err(|error| self.in_block(error))?;
        let size = usize::try_from(size).map_err(|_| self.damaged("it has a negative size"))?;
        if size > MAX_BLOCK {
            return Err(self.damaged(TOO_LARGE));
        }
        let mut bytes = Vec::new();
        self.source.by_ref().take(size as u64).read_to_end(&mut bytes).map_err(ContainerError::Io)?;
        let mut marker = [0; MARKER];
        if bytes.len() < size || !fill(&mut self.source, &mut marker)? {
            return Err(self.damaged(EARLY));
        }
        if marker != self.marker {
            return Err(self.damaged("it does not end with the file's marker"));
        }
        if bytes.is_empty() {
            return Ok(bytes);
        }
        self.compression.unpack(bytes).map_err(|why| self.damaged(why))
    }

    /// Returns the error of the current block.
    fn damaged(&self, why: &'static str) -> ContainerError {
        ContainerError::Block { block: self.block, record: None, why }
    }

    /// Returns the error of the current record.
    fn misfit(&self) -> ContainerError {
        let why = "does not fit the file's schema";
        ContainerError::Block { block: self.block, record: Some(self.record), why }
    }

    /// Turns a header's error into the current block's.
    fn in_block(&self, error: ContainerError) -> ContainerError {
        match error {
            ContainerError::Header(why) => self.damaged(why),
            other => other,
        }
    }
}
