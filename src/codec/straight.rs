//! A record's Avro datum written straight from its form. A decision is written for every message, and the library's
//! writer, which looks each field up in the schema, was a sixth of what a message cost.
//!
//! The form is trusted to be what its schema says: the same fields in the same order, every union one of null with
//! something, every run of bytes of a fixed size. A property has the library read what is written here; a form with
//! anything else in it (a map, a variant with content, a single float) is refused.

use std::fmt;

use serde::Serialize;
use serde::ser::{Error, Impossible, SerializeSeq, SerializeStruct, Serializer};

/// Writes the datum of `form` behind what `out` holds.
pub(super) fn write(form: &impl Serialize, out: &mut Vec<u8>) -> Result<(), Refused> {
    form.serialize(Straight(out))
}

/// The form holds what cannot be written this way.
#[derive(Debug)]
pub(super) struct Refused;

impl fmt::Display for Refused {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str("a form that cannot be written straight")
    }
}

impl std::error::Error for Refused {}

impl Error for Refused {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

type Written = Result<(), Refused>;

struct Straight<'a>(&'a mut Vec<u8>);

impl Straight<'_> {
    /// A whole number: zigzag, seven bits a byte, the lowest first.
    fn long(&mut self, value: i64) -> Written {
        let mut rest = ((value << 1) ^ (value >> 63)).cast_unsigned();
        loop {
            let [lowest, ..] = rest.to_le_bytes();
            rest >>= 7;
            if rest == 0 {
                self.0.push(lowest);
                return Ok(());
            }
            self.0.push(lowest | 0x80);
        }
    }

    fn size(&mut self, size: usize) -> Written {
        self.long(i64::try_from(size).map_err(Refused::custom)?)
    }
}

/// Kinds of values that no form written straight has.
macro_rules! refused {
    ($($name:ident: $kind:ty),*) => {$(
        fn $name(self, _: $kind) -> Written {
            Err(Refused)
        }
    )*};
}

impl<'a> Serializer for Straight<'a> {
    type Ok = ();
    type Error = Refused;
    type SerializeSeq = Array<'a>;
    type SerializeStruct = Fields<'a>;
    type SerializeTuple = Impossible<(), Refused>;
    type SerializeTupleStruct = Impossible<(), Refused>;
    type SerializeTupleVariant = Impossible<(), Refused>;
    type SerializeMap = Impossible<(), Refused>;
    type SerializeStructVariant = Impossible<(), Refused>;

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

    /// Of a fixed size, which the schema says.
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

    fn serialize_unit_variant(mut self, _: &'static str, place: u32, _: &'static str) -> Written {
        self.long(place.into())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(self, _: &'static str, value: &T) -> Written {
        value.serialize(self)
    }

    /// In one block, with an empty one behind it.
    fn serialize_seq(mut self, len: Option<usize>) -> Result<Array<'a>, Refused> {
        let count = len.ok_or(Refused)?;
        if count > 0 {
            self.size(count)?;
        }
        Ok(Array(self))
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields<'a>, Refused> {
        Ok(Fields(self))
    }

    refused!(
        serialize_i8: i8, serialize_i16: i16, serialize_u8: u8, serialize_u16: u16, serialize_u32: u32,
        serialize_u64: u64, serialize_f32: f32, serialize_char: char
    );

    fn serialize_unit(self) -> Written {
        Err(Refused)
    }

    fn serialize_unit_struct(self, _: &'static str) -> Written {
        Err(Refused)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Written {
        Err(Refused)
    }

    fn serialize_tuple(self, _: usize) -> Result<Self::SerializeTuple, Refused> {
        Err(Refused)
    }

    fn serialize_tuple_struct(
        self,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Refused> {
        Err(Refused)
    }

    fn serialize_tuple_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Refused> {
        Err(Refused)
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, Refused> {
        Err(Refused)
    }

    fn serialize_struct_variant(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Refused> {
        Err(Refused)
    }
}

struct Array<'a>(Straight<'a>);

impl SerializeSeq for Array<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Written {
        value.serialize(Straight(self.0.0))
    }

    fn end(mut self) -> Written {
        self.0.long(0)
    }
}

struct Fields<'a>(Straight<'a>);

impl SerializeStruct for Fields<'_> {
    type Ok = ();
    type Error = Refused;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, _: &'static str, value: &T) -> Written {
        value.serialize(Straight(self.0.0))
    }

    fn end(self) -> Written {
        Ok(())
    }
}
