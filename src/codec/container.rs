//! Avro's container files: a header with the schema and the codec, then blocks of records.
//!
//! The library's reader is not used: it fails on logical types that nothing here reads, does not say which block
//! is damaged, and repeats nothing of a codec that it does not have. Codecs and datums are the library's, xz's is a crate's.

use std::fmt;
use std::io::{self, ErrorKind, Read};

use apache_avro::error::Details;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::ResolvedSchema;
use apache_avro::types::Value;
use apache_avro::util::max_allocation_bytes;
use apache_avro::{Bzip2Settings, Codec, DeflateSettings, Schema, ZstandardSettings};

use super::skim::measure;
use super::{MAX_PREDICTOR, MAX_SCHEMA, foreign};

/// Greatest block, in bytes, packed and unpacked.
const MAX_BLOCK: usize = MAX_PREDICTOR;
/// Greatest number of entries in a header, and the greatest of each in bytes.
const MAX_ENTRIES: usize = 1_000;
/// Greatest memory of an xz decoder, in KiB: a file names the size of its dictionary, and `xz -9` takes 64 MiB.
const MAX_XZ: u32 = 65 << 10;
/// The longest name of a codec that an error repeats.
const MAX_NAME: usize = 32;

/// How a container file begins.
pub const CONTAINER_MAGIC: &[u8; 4] = b"Obj\x01";
const MARKER: usize = 16;

/// The codecs that are read, as errors list them.
const CODECS: &str = "null, deflate, snappy, zstandard, bzip2 and xz";

/// Why a container file cannot be read.
#[derive(Debug)]
pub enum ContainerError {
    /// It does not begin as one does.
    Foreign,
    /// Its header is damaged.
    Header(&'static str),
    /// Its codec is one that is not read.
    Codec(String),
    /// A block is damaged.
    Block {
        /// Its number, from 1.
        block: u64,
        /// The record in it, from 1, if one record is at fault.
        record: Option<u64>,
        /// What is wrong.
        why: &'static str,
    },
    /// The file cannot be read on.
    Io(io::Error),
}

impl fmt::Display for ContainerError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Foreign => to.write_str(
                "not an Avro container file: it does not begin with Obj and the byte 1; lines of JSON have another \
                 ending than .avro",
            ),
            Self::Header(why) => write!(to, "the header of the Avro container file is damaged: {why}"),
            Self::Codec(name) => {
                write!(to, "codec {name:?} is not supported: write the file with one of {CODECS}")
            }
            Self::Block { block, record, why } => {
                write!(to, "block {block} of the Avro container file is damaged: ")?;
                if let Some(record) = record {
                    write!(to, "its record {record} ")?;
                }
                let how = if *why == GREAT || *why == PACKED { "smaller blocks" } else { "the tool that made it" };
                write!(to, "{why}; write the file again with {how}")
            }
            Self::Io(error) => error.fmt(to),
        }
    }
}

impl std::error::Error for ContainerError {}

impl From<ContainerError> for io::Error {
    fn from(error: ContainerError) -> Self {
        match error {
            ContainerError::Io(error) => error,
            other => Self::new(ErrorKind::InvalidData, other.to_string()),
        }
    }
}

/// How blocks are packed.
#[derive(Debug, Clone, Copy)]
enum Packing {
    Library(Codec),
    Xz,
}

/// A container file that is being read.
#[derive(Debug)]
pub struct Container<R> {
    source: R,
    schema: Schema,
    packing: Packing,
    marker: [u8; MARKER],
    /// The number of the block that is read, from 1.
    block: u64,
    /// Its records, unpacked.
    bytes: Vec<u8>,
    /// How many of its bytes are read.
    read: usize,
    /// How many of its records are read, and how many there are.
    records: (u64, u64),
}

impl<R: Read> Container<R> {
    /// Reads the header.
    ///
    /// # Errors
    /// Returns a [`ContainerError`] if `source` is no container file, or one that cannot be read.
    pub fn new(mut source: R) -> Result<Self, ContainerError> {
        // Once for the process, as for other records: a length that a file names cannot ask for more.
        max_allocation_bytes(MAX_PREDICTOR);
        let mut magic = [0; CONTAINER_MAGIC.len()];
        let begun = exact(&mut source, &mut magic)?.is_some() && magic == *CONTAINER_MAGIC;
        begun.then_some(()).ok_or(ContainerError::Foreign)?;
        let (schema, codec) = header(&mut source)?;
        let mut marker = [0; MARKER];
        exact(&mut source, &mut marker)?.ok_or(CUT)?;
        let packing = packing(codec.as_deref())?;
        Ok(Self { source, schema, packing, marker, block: 0, bytes: Vec::new(), read: 0, records: (0, 0) })
    }

    /// Reads up to `most` records and gives each to `take`, until `take` returns `false`. Returns `false` at the end of
    /// the file.
    ///
    /// # Errors
    /// Returns a [`ContainerError`] if a block is damaged or ends early, or the source cannot be read.
    pub fn records(
        &mut self,
        most: usize,
        mut take: impl FnMut(Value) -> bool,
    ) -> Result<bool, ContainerError> {
        // Here and not in the structure: both borrow the schema.
        let schema = self.schema.clone();
        let names = ResolvedSchema::try_from(&schema).map_err(|_| ContainerError::Header(SCHEMA))?;
        let reader = GenericDatumReader::builder(&schema).human_readable(false).build();
        let reader = reader.map_err(|_| ContainerError::Header(SCHEMA))?;
        for _ in 0..most {
            while self.records.0 == self.records.1 {
                if self.read < self.bytes.len() {
                    return Err(self.bad("it goes on after its last record"));
                }
                if !self.next_block()? {
                    return Ok(false);
                }
            }
            self.records.0 += 1;
            let rest = self.bytes.get(self.read..).unwrap_or_default();
            // The library builds a tree of values: first it is counted what would come of these bytes.
            let length = measure(&schema, names.get_names(), rest).ok().filter(|length| *length > 0);
            let length = length.ok_or_else(|| self.misfit())?;
            let datum = rest.get(..length).unwrap_or_default();
            let value = reader.read_value(&mut &*datum).map_err(|_| self.misfit())?;
            self.read += length;
            if !take(value) {
                break;
            }
        }
        Ok(true)
    }

    /// Reads the next block. Returns `false` at the end of the file.
    fn next_block(&mut self) -> Result<bool, ContainerError> {
        self.block += 1;
        let count = long(&mut self.source, true).map_err(|error| self.at(error))?;
        let Some(count) = count else { return Ok(false) };
        let count = u64::try_from(count).map_err(|_| self.bad("it has a negative number of records"))?;
        (self.bytes, self.read, self.records) = (self.unpacked()?, 0, (0, count));
        Ok(true)
    }

    /// The bytes of the block's records, and the marker behind them read.
    fn unpacked(&mut self) -> Result<Vec<u8>, ContainerError> {
        let size = long(&mut self.source, false).map_err(|error| self.at(error))?.unwrap_or_default();
        let size = usize::try_from(size).map_err(|_| self.bad("it has a negative size"))?;
        if size > MAX_BLOCK {
            return Err(self.bad(PACKED));
        }
        let mut bytes = Vec::new();
        self.source.by_ref().take(size as u64).read_to_end(&mut bytes).map_err(ContainerError::Io)?;
        let mut marker = [0; MARKER];
        if bytes.len() < size || exact(&mut self.source, &mut marker)?.is_none() {
            return Err(self.bad(EARLY));
        }
        if marker != self.marker {
            return Err(self.bad("it does not end with the file's marker"));
        }
        if bytes.is_empty() {
            return Ok(bytes);
        }
        let unpacked = match self.packing {
            Packing::Xz => xz(&bytes),
            Packing::Library(codec) => match codec.decompress(&mut bytes) {
                Ok(()) => Ok(bytes),
                Err(error) if matches!(error.details(), Details::MemoryAllocation { .. }) => Err(GREAT),
                Err(_) => Err(UNPACKED),
            },
        };
        unpacked.map_err(|why| self.bad(why))
    }

    fn bad(&self, why: &'static str) -> ContainerError {
        ContainerError::Block { block: self.block, record: None, why }
    }

    /// The error of the record that is read.
    fn misfit(&self) -> ContainerError {
        let why = "does not fit the file's schema";
        ContainerError::Block { block: self.block, record: Some(self.records.0), why }
    }

    /// The same error of a number, said of this block.
    fn at(&self, error: ContainerError) -> ContainerError {
        match error {
            ContainerError::Header(why) => self.bad(why),
            other => other,
        }
    }
}

const EARLY: &str = "it ends early";
const CUT: ContainerError = ContainerError::Header(EARLY);
const SCHEMA: &str = "its schema cannot be read with";
const PACKED: &str = "it is greater than 16 MiB";
const GREAT: &str = "it unpacks to more than 16 MiB";
const UNPACKED: &str = "it cannot be unpacked";

/// Fills `bytes`; `None` if the source ends before.
fn exact(source: &mut impl Read, bytes: &mut [u8]) -> Result<Option<()>, ContainerError> {
    match source.read_exact(bytes) {
        Ok(()) => Ok(Some(())),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
        Err(error) => Err(ContainerError::Io(error)),
    }
}

/// A number; `None` at the end of the source, where it `may_end`.
fn long(source: &mut impl Read, may_end: bool) -> Result<Option<i64>, ContainerError> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let mut byte = [0];
        if exact(source, &mut byte)?.is_none() {
            return if may_end && shift == 0 { Ok(None) } else { Err(CUT) };
        }
        let [byte] = byte;
        value |= u64::from(byte & 0x7F) << shift;
        if byte & 0x80 == 0 {
            return Ok(Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed()));
        }
    }
    Err(ContainerError::Header("a number in it is too long"))
}

/// Bytes with their length before them, at most as many as a schema may have.
fn bytes(source: &mut impl Read) -> Result<Vec<u8>, ContainerError> {
    let length = long(source, false)?.unwrap_or_default();
    let length = usize::try_from(length).ok().filter(|length| *length <= MAX_SCHEMA);
    let length = length.ok_or(ContainerError::Header("an entry of it is greater than 256 KiB"))?;
    let mut bytes = vec![0; length];
    exact(source, &mut bytes)?.ok_or(CUT)?;
    Ok(bytes)
}

/// Reads the entries of a header: the schema, and the name of the codec.
fn header(source: &mut impl Read) -> Result<(Schema, Option<Vec<u8>>), ContainerError> {
    let (mut schema, mut codec, mut entries) = (None, None, 0_usize);
    loop {
        let count = long(source, false)?.unwrap_or_default();
        if count == 0 {
            break;
        }
        if count < 0 {
            // The entries' size in bytes stands before them.
            long(source, false)?;
        }
        for _ in 0..count.unsigned_abs() {
            entries += 1;
            if entries > MAX_ENTRIES {
                return Err(ContainerError::Header("it has too many entries"));
            }
            let (key, value) = (bytes(source)?, bytes(source)?);
            match key.as_slice() {
                b"avro.schema" => schema = Some(value),
                b"avro.codec" => codec = Some(value),
                _ => {}
            }
        }
    }
    let schema = schema.ok_or(ContainerError::Header("it has no schema"))?;
    let schema = std::str::from_utf8(&schema).ok().and_then(foreign::parse);
    Ok((schema.ok_or(ContainerError::Header("its schema is not an Avro schema"))?, codec))
}

fn packing(codec: Option<&[u8]>) -> Result<Packing, ContainerError> {
    let library = match codec {
        // A file without the entry is not packed, as the specification has it.
        None | Some(b"null" | b"") => Codec::Null,
        Some(b"deflate") => Codec::Deflate(DeflateSettings::default()),
        Some(b"snappy") => Codec::Snappy,
        Some(b"zstandard") => Codec::Zstandard(ZstandardSettings::default()),
        Some(b"bzip2") => Codec::Bzip2(Bzip2Settings::default()),
        Some(b"xz") => return Ok(Packing::Xz),
        Some(name) => {
            let name: String = String::from_utf8_lossy(name).chars().take(MAX_NAME).collect();
            return Err(ContainerError::Codec(name));
        }
    };
    Ok(Packing::Library(library))
}

fn xz(packed: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut unpacked = Vec::new();
    let reader = lzma_rust2::XzReader::new_mem_limit(packed, true, MAX_XZ);
    let read = reader.take(MAX_BLOCK as u64 + 1).read_to_end(&mut unpacked);
    match read {
        _ if unpacked.len() > MAX_BLOCK => Err(GREAT),
        Ok(_) => Ok(unpacked),
        Err(_) => Err(UNPACKED),
    }
}
