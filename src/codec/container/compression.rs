//! The compression of blocks. The codecs are the library's, except xz, which is the crate `lzma-rust2`'s.

use std::io::Read;

use apache_avro::error::Details;
use apache_avro::{Bzip2Settings, Codec, DeflateSettings, ZstandardSettings};

use super::MAX_BLOCK;
use super::error::{ContainerError, UNPACKED_TOO_LARGE};

/// The maximum memory of an xz decoder, in KiB. A file sets the size of its dictionary; that of `xz -9` is 64 MiB.
const MAX_XZ_MEMORY: u32 = 65 << 10;
/// The maximum length of a codec's name in an error, in characters.
const MAX_CODEC_NAME: usize = 32;

const NOT_UNPACKED: &str = "it cannot be unpacked";

/// The compression of blocks.
#[derive(Debug, Clone, Copy)]
pub(super) enum Compression {
    Library(Codec),
    Xz,
}

impl Compression {
    /// Returns the compression that a header names.
    pub(super) fn named(codec: Option<&[u8]>) -> Result<Self, ContainerError> {
        let library = match codec {
            // By the specification a file without the entry is not compressed.
            None | Some(b"null" | b"") => Codec::Null,
            Some(b"deflate") => Codec::Deflate(DeflateSettings::default()),
            Some(b"snappy") => Codec::Snappy,
            Some(b"zstandard") => Codec::Zstandard(ZstandardSettings::default()),
            Some(b"bzip2") => Codec::Bzip2(Bzip2Settings::default()),
            Some(b"xz") => return Ok(Self::Xz),
            Some(name) => {
                let name: String = String::from_utf8_lossy(name).chars().take(MAX_CODEC_NAME).collect();
                return Err(ContainerError::Codec(name));
            }
        };
        Ok(Self::Library(library))
    }

    /// Decompresses a block.
    ///
    /// # Errors
    /// Returns the problem of the block.
    pub(super) fn unpack(self, mut block: Vec<u8>) -> Result<Vec<u8>, &'static str> {
        match self {
            Self::Xz => unpack_xz(&block),
            Self::Library(codec) => match codec.decompress(&mut block) {
                Ok(()) => Ok(block),
                Err(error) if matches!(error.details(), Details::MemoryAllocation { .. }) => {
                    Err(UNPACKED_TOO_LARGE)
                }
                Err(_) => Err(NOT_UNPACKED),
            },
        }
    }
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
