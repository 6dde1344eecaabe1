//! A serializer that writes Avro datums without looking fields up in a schema.
//!
//! A decision is written for every message, and the library's writer took a sixth of the time that a message takes
//! without a model (decision 0006).
//!
//! The form must match its schema: the same fields in the same order, unions of null and one other type, and bytes of a
//! fixed size. A property test reads the output with the library. A form that contains anything else (a map, a variant
//! with content, a single-precision float) is refused.

use std::fmt;

use integer_encoding::VarInt;
use serde::Serialize;
use serde::ser::{Error, Impossible, SerializeSeq, SerializeStruct, Serializer};

/// Appends the datum of `form` to `out`.
///
/// # Errors
/// Returns [`Unsupported`] if the form contains a type that this writer does not support.
pub(super) fn write(form: &impl Serialize, out: &mut Vec<u8>) -> Result<(), Unsupported> {
    form.serialize(DatumWriter(out))
}

/// The form contains a type that this writer does not support.
#[derive(Debug, thiserror::Error)]
#[error("a form that cannot be written without its schema")]
pub(super) struct Unsupported;

impl Error for Unsupported {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

type Written = Result<(), Unsupported>;

struct DatumWriter<'a>(&'a mut Vec<u8>);

impl DatumWriter<'_> {
    fn long(&mut self, value: i64) -> Written {
        let mut bytes = [0; 10];
        let length = value.encode_var(&mut bytes);
        self.0.extend_from_slice(&bytes[..length]);
        Ok(())
    }

    fn size(&mut self, size: usize) -> Written {
        self.long(i64::try_from(size).map_err(Unsupported::custom)?)
    }
}

macro_rules! unsupported {
    ($($name:ident($($argument:ty),*) -> $ok:ty),* $(,)?) => {$(
        fn $name(self $(, _: $argument)*) -> Result<$ok, Unsupported> {
            Err(Unsupported)
        }
    )*};
}

impl<'a> Serializer for DatumWriter<'a> {
    type Ok = ();
    type Error = Unsupported;
    type SerializeSeq = Array<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeTuple = Impossible<(), Unsupported>;
    type SerializeTupleStruct = Impossible<(), Unsupported>;
    type SerializeTupleVariant = Impossible<(), Unsupported>;
    type SerializeMap = Impossible<(), Unsupported>;
    type SerializeStructVariant = Impossible<(), Unsupported>;

    fn is_human_readable(&self) -> bool {
        false
    }

    fn serialize_bool(self, value: bool) -> Written {
        self.0.push(u8::from(value));
        Ok(())
    }

    fn serialize_i32(mut self, value: i32) -> Written {
        self.long(value.into())
    }

    fn serialize_i64(mut self, value: i64) -> Written {
        self.long(value)
    }

    fn serialize_f64(self, value: f64) -> Written {
        self.0.extend_from_slice(&value.to_le_bytes());
        Ok(())
    }

    fn serialize_str(mut self, value: &str) -> Written {
        self.size(value.len())?;
        self.0.extend_from_slice(value.as_bytes());
        Ok(())
    }

    /// Writes bytes whose number the schema fixes.
    fn serialize_bytes(self, value: &[u8]) -> Written {
        self.0.extend_from_slice(value);
        Ok(())
    }

    fn serialize_none(mut self) -> Written {
        self.long(0)
    }

    fn serialize_some<T: Serialize + ?Sized>(mut self, value: &T) -> Written {
        self.long(1)?;
        value.serialize(self)
    }

    fn serialize_unit_variant(mut self, _: &'static str, index: u32, _: &'static str) -> Written {
        self.long(index.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Written {
        value.serialize(self)
    }

    /// Writes an array as one block. An empty block, which [`Array::end`] writes, ends it.
    fn serialize_seq(mut self, len: Option<usize>) -> Result<Array<'a>, Unsupported> {
        let count = len.ok_or(Unsupported)?;
        if count > 0 {
            self.size(count)?;
        }
        Ok(Array(self))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields<'a>, Unsupported> {
        Ok(Fields(self))
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Written {
        Err(Unsupported)
    }

    unsupported!(
        serialize_i8(i8) -> (),
        serialize_i16(i16) -> (),
        serialize_u8(u8) -> (),
        serialize_u16(u16) -> (),
        serialize_u32(u32) -> (),
        serialize_u64(u64) -> (),
        serialize_f32(f32) -> (),
        serialize_char(char) -> (),
        serialize_unit() -> (),
        serialize_unit_struct(&'static str) -> (),
        serialize_tuple(usize) -> Self::SerializeTuple,
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct,
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant,
        serialize_map(Option<usize>) -> Self::SerializeMap,
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant,
    );
}

struct Array<'a>(DatumWriter<'a>);

impl SerializeSeq for Array<'_> {
    type Ok = ();
    type Error = Unsupported;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(DatumWriter(self.0.0))
    }

    fn end(mut self) -> Written {
        self.0.long(0)
    }
}

struct Fields<'a>(DatumWriter<'a>);

impl SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = Unsupported;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Written {
        value.serialize(DatumWriter(self.0.0))
    }

    fn end(self) -> Written {
        Ok(())
    }
}
