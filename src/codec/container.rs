//! Avro's container files: a header with the schema and the codec, then blocks of records.
//!
//! The library's reader of container files is not used: it fails on logical types that nothing here reads, does not say
//! which block is damaged, and does not name a codec that it lacks. Codecs and datums are the library's; xz is the crate
//! `lzma-rust2`'s.

use std::fmt;
use std::io::{self, ErrorKind, Read};

use apache_avro::error::Details;
use apache_avro::reader::datum::GenericDatumReader;
use apache_avro::schema::ResolvedSchema;
use apache_avro::types::Value;
use apache_avro::util::max_allocation_bytes;
use apache_avro::{Bzip2Settings, Codec, DeflateSettings, Schema, ZstandardSettings};
use integer_encoding::VarInt;

use super::datum_size::measure;
use super::{MAX_PREDICTOR, MAX_SCHEMA, writer_schema};

/// The maximum size of a block, compressed and decompressed, in bytes.
const MAX_BLOCK: usize = MAX_PREDICTOR;
/// The maximum number of entries in a header.
const MAX_ENTRIES: usize = 1_000;
/// The maximum memory of an xz decoder, in KiB. A file sets the size of its dictionary; that of `xz -9` is 64 MiB.
const MAX_XZ_MEMORY: u32 = 65 << 10;
/// The maximum length of a codec's name in an error, in characters.
const MAX_CODEC_NAME: usize = 32;

/// The first bytes of a container file.
pub const CONTAINER_MAGIC: &[u8; 4] = b"Obj\x01";
/// The size of the marker that ends the header and every block, in bytes.
const MARKER: usize = 16;

/// The maximum size of a number, in bytes.
const MAX_NUMBER: usize = 10;

/// The supported codecs, as errors list them.
const CODECS: &str = "null, deflate, snappy, zstandard, bzip2 and xz";

const EARLY: &str = "it ends early";
const SCHEMA: &str = "its schema cannot be read with";
const TOO_LARGE: &str = "it is greater than 16 MiB";
const UNPACKED_TOO_LARGE: &str = "it unpacks to more than 16 MiB";
const NOT_UNPACKED: &str = "it cannot be unpacked";

/// An error of a container file that cannot be read.
#[derive(Debug)]
pub enum ContainerError {
    /// The file does not begin with [`CONTAINER_MAGIC`].
    NotAContainer,
    /// The header is damaged.
    Header(&'static str),
    /// The codec is not supported.
    Codec(String),
    /// A block is damaged.
    Block {
        /// The number of the block, from 1.
        block: u64,
        /// The number of the damaged record in the block, from 1, if it is known.
        record: Option<u64>,
        /// The problem.
        why: &'static str,
    },
    /// The file cannot be read.
    Io(io::Error),
}

impl fmt::Display for ContainerError {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAContainer => to.write_str(
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
                let is_size = *why == UNPACKED_TOO_LARGE || *why == TOO_LARGE;
                let fix = if is_size { "smaller blocks" } else { "the tool that made it" };
                write!(to, "{why}; write the file again with {fix}")
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

/// The compression of blocks.
#[derive(Debug, Clone, Copy)]
enum Compression {
    Library(Codec),
    Xz,
}

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
        let compression = compression(codec.as_deref())?;
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
        let names = ResolvedSchema::try_from(&schema).map_err(|_| ContainerError::Header(SCHEMA))?;
        let reader = GenericDatumReader::builder(&schema).human_readable(false).build();
        let reader = reader.map_err(|_| ContainerError::Header(SCHEMA))?;
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
        let unpacked = match self.compression {
            Compression::Xz => unpack_xz(&bytes),
            Compression::Library(codec) => match codec.decompress(&mut bytes) {
                Ok(()) => Ok(bytes),
                Err(error) if matches!(error.details(), Details::MemoryAllocation { .. }) => {
                    Err(UNPACKED_TOO_LARGE)
                }
                Err(_) => Err(NOT_UNPACKED),
            },
        };
        unpacked.map_err(|why| self.damaged(why))
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

/// Fills `bytes`. Returns `false` if the source ends before.
fn fill(source: &mut impl Read, bytes: &mut [u8]) -> Result<bool, ContainerError> {
    match source.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(ContainerError::Io(error)),
    }
}

/// Reads a number. The crate's own reader is not used: it reports a number that is too long as the end of the source, and
/// does not repeat a read that was interrupted.
fn long(source: &mut impl Read) -> Result<i64, ContainerError> {
    const TOO_LONG: ContainerError = ContainerError::Header("a number in it is too long");
    let mut bytes = [0; MAX_NUMBER];
    for end in 1..=MAX_NUMBER {
        if !fill(source, &mut bytes[end - 1..end])? {
            return Err(ContainerError::Header(EARLY));
        }
        if bytes[end - 1] & 0x80 == 0 {
            return i64::decode_var(&bytes[..end]).map(|(number, _)| number).ok_or(TOO_LONG);
        }
    }
    Err(TOO_LONG)
}

/// Reads a number. Returns `None` if the source ends before it.
fn long_or_end(source: &mut impl Read) -> Result<Option<i64>, ContainerError> {
    let mut first = [0];
    if !fill(source, &mut first)? {
        return Ok(None);
    }
    long(&mut first.chain(source)).map(Some)
}

/// Reads bytes with their length before them. Their maximum is that of a schema.
fn bytes(source: &mut impl Read) -> Result<Vec<u8>, ContainerError> {
    let length = usize::try_from(long(source)?).ok().filter(|length| *length <= MAX_SCHEMA);
    let length = length.ok_or(ContainerError::Header("an entry of it is greater than 256 KiB"))?;
    let mut bytes = vec![0; length];
    if fill(source, &mut bytes)? { Ok(bytes) } else { Err(ContainerError::Header(EARLY)) }
}

/// Reads the entries of a header: the schema, and the name of the codec.
fn header(source: &mut impl Read) -> Result<(Schema, Option<Vec<u8>>), ContainerError> {
    let (mut schema, mut codec, mut entries) = (None, None, 0_usize);
    loop {
        let count = long(source)?;
        if count == 0 {
            break;
        }
        if count < 0 {
            // The size of the entries in bytes, which is not needed.
            long(source)?;
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
    let schema = std::str::from_utf8(&schema).ok().and_then(writer_schema::parse);
    Ok((schema.ok_or(ContainerError::Header("its schema is not an Avro schema"))?, codec))
}

fn compression(codec: Option<&[u8]>) -> Result<Compression, ContainerError> {
    let library = match codec {
        // By the specification a file without the entry is not compressed.
        None | Some(b"null" | b"") => Codec::Null,
        Some(b"deflate") => Codec::Deflate(DeflateSettings::default()),
        Some(b"snappy") => Codec::Snappy,
        Some(b"zstandard") => Codec::Zstandard(ZstandardSettings::default()),
        Some(b"bzip2") => Codec::Bzip2(Bzip2Settings::default()),
        Some(b"xz") => return Ok(Compression::Xz),
        Some(name) => {
            let name: String = String::from_utf8_lossy(name).chars().take(MAX_CODEC_NAME).collect();
            return Err(ContainerError::Codec(name));
        }
    };
    Ok(Compression::Library(library))
}

fn unpack_xz(packed: &[u8]) -> Result<Vec<u8>, &'static str> {
    let mut unpacked = Vec::new();
    let reader = lzma_rust2::XzReader::new_mem_limit(packed, true, MAX_XZ_MEMORY);
    let read = reader.take(MAX_BLOCK as u64 + 1).read_to_end(&mut unpacked);
    match read {
        _ if unpacked.len() > MAX_BLOCK => Err(UNPACKED_TOO_LARGE),
        Ok(_) => Ok(unpacked),
        Err(_) => Err(NOT_UNPACKED),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A source whose first read fails with an error of this kind.
    struct FailsOnce<'a>(Option<ErrorKind>, &'a [u8]);

    impl Read for FailsOnce<'_> {
        fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
            match self.0.take() {
                Some(kind) => Err(kind.into()),
                None => self.1.read(to),
            }
        }
    }

    fn problem(mut source: &[u8]) -> &'static str {
        match long(&mut source) {
            Err(ContainerError::Header(why)) => why,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn numbers_are_read_up_to_their_last_byte() {
        for number in [0, 1, -1, 63, -65, i64::from(i32::MAX), i64::MAX, i64::MIN] {
            let mut bytes = number.encode_var_vec();
            bytes.push(7);
            let mut rest = &bytes[..];
            assert_eq!(long(&mut rest).unwrap(), number);
            assert_eq!(rest, [7]);
        }
    }

    #[test]
    fn a_number_without_an_end_is_too_long() {
        assert_eq!(problem(&[0xFF; MAX_NUMBER]), "a number in it is too long");
        assert_eq!(problem(&[0xFF; MAX_NUMBER + 9]), "a number in it is too long");
    }

    #[test]
    fn a_number_that_is_cut_ends_early() {
        for length in 0..MAX_NUMBER {
            assert_eq!(problem(&[0xFF; MAX_NUMBER][..length]), EARLY);
        }
        assert!(matches!(long_or_end(&mut &[][..]), Ok(None)));
        assert!(matches!(long_or_end(&mut &[0xFF][..]), Err(ContainerError::Header(EARLY))));
    }

    #[test]
    fn an_interrupted_read_is_repeated() {
        assert_eq!(long(&mut FailsOnce(Some(ErrorKind::Interrupted), &[0x90, 0x03])).unwrap(), 200);
    }

    #[test]
    fn an_error_of_the_source_is_returned() {
        let read = long(&mut FailsOnce(Some(ErrorKind::InvalidData), &[2]));
        assert!(matches!(read, Err(ContainerError::Io(error)) if error.kind() == ErrorKind::InvalidData));
    }
}
