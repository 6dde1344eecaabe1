//! Measures a datum of another writer's schema before the library builds its values. An array of nulls is a few bytes long
//! and could contain a billion values.

use apache_avro::Schema;
use apache_avro::schema::{InnerDecimalSchema, NamesRef, ResolvedSchema, UuidSchema};
use integer_encoding::VarInt;

use super::error::DecodeError;

/// The maximum number of values in a record of another layout: three times as many as the maximum number of turns with
/// three values each.
pub(super) const MAX_VALUES: usize = 100_000;
/// The maximum nesting depth of values.
const MAX_DEPTH: usize = 64;

/// Checks that `datum` is a complete datum of `schema` with at most [`MAX_VALUES`] values.
pub(super) fn check_size(schema: &Schema, datum: &[u8]) -> Result<(), DecodeError> {
    let names = ResolvedSchema::try_from(schema)
        .map_err(|_| DecodeError::Malformed { why: "does not fit its schema" })?;
    let length = measure(schema, names.get_names(), datum)?;
    if length == datum.len() { Ok(()) } else { Err(DecodeError::Malformed { why: "goes on after its end" }) }
}

/// Returns the length of the datum at the front of `bytes`, which is complete and has at most [`MAX_VALUES`] values.
pub(super) fn measure(schema: &Schema, names: &NamesRef<'_>, bytes: &[u8]) -> Result<usize, DecodeError> {
    let mut walk = Walk { rest: bytes, names, left: MAX_VALUES };
    walk.value(schema, 0)?;
    Ok(bytes.len() - walk.rest.len())
}

struct Walk<'a> {
    rest: &'a [u8],
    names: &'a NamesRef<'a>,
    left: usize,
}

const EARLY: DecodeError = DecodeError::Malformed { why: "ends too early" };
const UNFIT: DecodeError = DecodeError::Malformed { why: "does not fit its schema" };
const TOO_MANY: DecodeError = DecodeError::Malformed { why: "holds too many values" };

impl<'a> Walk<'a> {
    fn take(&mut self, bytes: usize) -> Result<&'a [u8], DecodeError> {
        let (taken, rest) = self.rest.split_at_checked(bytes).ok_or(EARLY)?;
        self.rest = rest;
        Ok(taken)
    }

    fn long(&mut self) -> Result<i64, DecodeError> {
        let Some((value, length)) = i64::decode_var(self.rest) else {
            // A number takes at most ten bytes.
            return Err(if self.rest.len() < 10 { EARLY } else { UNFIT });
        };
        self.take(length)?;
        Ok(value)
    }

    fn bytes(&mut self) -> Result<&'a [u8], DecodeError> {
        let length = usize::try_from(self.long()?).map_err(|_| UNFIT)?;
        self.take(length)
    }

    fn text(&mut self) -> Result<(), DecodeError> {
        std::str::from_utf8(self.bytes()?).map(|_| ()).map_err(|_| UNFIT)
    }

    /// Reads the blocks of an array or a map.
    fn blocks(
        &mut self,
        mut item: impl FnMut(&mut Self) -> Result<(), DecodeError>,
    ) -> Result<(), DecodeError> {
        loop {
            let count = self.long()?;
            if count == 0 {
                return Ok(());
            }
            if count < 0 {
                // The size of the block in bytes, which is not used.
                self.long()?;
            }
            for _ in 0..count.unsigned_abs() {
                item(self)?;
            }
        }
    }

    fn value(&mut self, schema: &Schema, depth: usize) -> Result<(), DecodeError> {
        self.left = self.left.checked_sub(1).ok_or(TOO_MANY)?;
        if depth > MAX_DEPTH {
            return Err(TOO_MANY);
        }
        let deeper = depth + 1;
        match schema {
            Schema::Null => Ok(()),
            Schema::Boolean => self.take(1).map(|_| ()),
            Schema::Float => self.take(4).map(|_| ()),
            Schema::Double => self.take(8).map(|_| ()),
            Schema::Int
            | Schema::Date
            | Schema::TimeMillis
            | Schema::Long
            | Schema::TimeMicros
            | Schema::TimestampMillis
            | Schema::TimestampMicros
            | Schema::TimestampNanos
            | Schema::LocalTimestampMillis
            | Schema::LocalTimestampMicros
            | Schema::LocalTimestampNanos
            | Schema::Enum(_) => self.long().map(|_| ()),
            Schema::String | Schema::Uuid(UuidSchema::String) => self.text(),
            Schema::Bytes | Schema::BigDecimal | Schema::Uuid(UuidSchema::Bytes) => self.bytes().map(|_| ()),
            Schema::Decimal(decimal) => match &decimal.inner {
                InnerDecimalSchema::Bytes => self.bytes().map(|_| ()),
                InnerDecimalSchema::Fixed(fixed) => self.take(fixed.size).map(|_| ()),
            },
            Schema::Fixed(fixed) | Schema::Duration(fixed) | Schema::Uuid(UuidSchema::Fixed(fixed)) => {
                self.take(fixed.size).map(|_| ())
            }
            Schema::Array(array) => self.blocks(|walk| walk.value(&array.items, deeper)),
            Schema::Map(map) => self.blocks(|walk| {
                walk.text()?;
                walk.value(&map.types, deeper)
            }),
            Schema::Union(union) => {
                let branch = usize::try_from(self.long()?).map_err(|_| UNFIT)?;
                self.value(union.variants().get(branch).ok_or(UNFIT)?, deeper)
            }
            Schema::Record(record) => {
                record.fields.iter().try_for_each(|field| self.value(&field.schema, deeper))
            }
            Schema::Ref { name } => {
                let names = self.names;
                self.value(names.get(name).ok_or(UNFIT)?, deeper)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(schema: &str, datum: &[u8]) -> Result<(), &'static str> {
        match check_size(&Schema::parse_str(schema).unwrap(), datum) {
            Ok(()) => Ok(()),
            Err(DecodeError::Malformed { why }) => Err(why),
            Err(other) => panic!("{other}"),
        }
    }

    const EVERYTHING: &str = r#"{"type":"record","name":"All","namespace":"n","fields":[
        {"name":"a","type":"boolean"}, {"name":"b","type":"int"}, {"name":"c","type":"float"},
        {"name":"d","type":"double"}, {"name":"e","type":"bytes"}, {"name":"f","type":"string"},
        {"name":"g","type":{"type":"fixed","name":"F","size":3}},
        {"name":"h","type":{"type":"enum","name":"E","symbols":["x","y"]}},
        {"name":"i","type":["null","F"]},
        {"name":"j","type":{"type":"array","items":"E"}},
        {"name":"k","type":{"type":"map","values":"long"}}]}"#;

    #[test]
    fn a_complete_datum_passes_and_every_prefix_of_it_is_refused() {
        let datum = [
            &[1][..],
            &[0x80, 2],
            &[0; 4],
            &[0; 8],
            b"\x04ab",
            "\x04é".as_bytes(),
            b"FFF",
            &[2],
            b"\x02FFF",
            &[4, 0, 2, 0],
            &[1, 6, 2, b'k', 8, 0],
        ]
        .concat();
        assert_eq!(check(EVERYTHING, &datum), Ok(()));
        for end in 0..datum.len() {
            assert_eq!(check(EVERYTHING, &datum[..end]), Err("ends too early"), "{end}");
        }
        assert_eq!(check(EVERYTHING, &[&datum[..], &[0]].concat()), Err("goes on after its end"));
    }

    #[test]
    fn data_that_would_fill_the_memory_is_refused() {
        let nulls = r#"{"type":"array","items":"null"}"#;
        assert_eq!(check(nulls, b"\x06\0"), Ok(()));
        // 2^62 nulls in ten bytes, once as they are and once with a block size.
        let count = b"\xfe\xff\xff\xff\xff\xff\xff\xff\x7f";
        assert_eq!(check(nulls, count), Err("holds too many values"));
        let negative = b"\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01\0";
        assert_eq!(check(nulls, negative), Err("holds too many values"));
        assert_eq!(check(r#""bytes""#, b"\xfe\xff\xff\xff\x0f"), Err("ends too early"));
        assert_eq!(check(r#""string""#, b"\x01"), Err("does not fit its schema"));
        assert_eq!(check(r#""string""#, b"\x02\xff"), Err("does not fit its schema"));
        assert_eq!(check(r#"["null","int"]"#, b"\x04"), Err("does not fit its schema"));
        let chain = r#"{"type":"record","name":"Node","fields":[{"name":"next","type":["null","Node"]}]}"#;
        assert_eq!(check(chain, b"\x02\x02\0"), Ok(()));
        assert_eq!(check(chain, &[2; 60_000]), Err("holds too many values"));
    }
}
