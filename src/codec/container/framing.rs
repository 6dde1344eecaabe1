//! Reads what a container file has around its records: numbers, and the entries of the header.

use std::io::{ErrorKind, Read};

use apache_avro::Schema;
use integer_encoding::VarInt;

use super::error::{ContainerError, EARLY};
use crate::codec::{MAX_SCHEMA, writer_schema};

/// The maximum number of entries in a header.
const MAX_ENTRIES: usize = 1_000;
/// The maximum size of a number, in bytes.
const MAX_NUMBER: usize = 10;

/// Fills `bytes`. Returns `false` if the source ends before.
pub(super) fn fill(source: &mut impl Read, bytes: &mut [u8]) -> Result<bool, ContainerError> {
    match source.read_exact(bytes) {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(false),
        Err(error) => Err(ContainerError::Io(error)),
    }
}

/// Reads a number. The crate's own reader is not used: it reports a number that is too long as the end of the source, and
/// does not repeat a read that was interrupted.
pub(super) fn long(source: &mut impl Read) -> Result<i64, ContainerError> {
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
pub(super) fn long_or_end(source: &mut impl Read) -> Result<Option<i64>, ContainerError> {
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
pub(super) fn header(source: &mut impl Read) -> Result<(Schema, Option<Vec<u8>>), ContainerError> {
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

#[cfg(test)]
mod tests {
    use std::io;

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
