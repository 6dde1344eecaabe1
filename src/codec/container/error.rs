//! The errors of container files.

use std::fmt;
use std::io::{self, ErrorKind};

/// The supported codecs, as errors list them.
const CODECS: &str = "null, deflate, snappy, zstandard, bzip2 and xz";

pub(super) const EARLY: &str = "it ends early";
pub(super) const TOO_LARGE: &str = "it is greater than 16 MiB";
pub(super) const UNPACKED_TOO_LARGE: &str = "it unpacks to more than 16 MiB";

/// An error of a container file that cannot be read.
#[derive(Debug)]
pub enum ContainerError {
    /// The file does not begin with [`CONTAINER_MAGIC`](super::CONTAINER_MAGIC).
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
