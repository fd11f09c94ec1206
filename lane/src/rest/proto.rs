//! Fields of serialised protobuf messages, written and read.

use super::{Known, Odd};

const VARINT: u64 = 0;
const FIXED64: u64 = 1;
const BYTES: u64 = 2;
const FIXED32: u64 = 5;

pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Bytes that a varint takes.
pub fn varint_size(value: u64) -> usize {
    (70 - (value | 1).leading_zeros() as usize) / 7
}

/// A field with a varint.
pub fn put_number(out: &mut Vec<u8>, field: u32, value: u64) {
    put_varint(out, u64::from(field) << 3 | VARINT);
    put_varint(out, value);
}

pub fn put_double(out: &mut Vec<u8>, field: u32, value: f64) {
    put_varint(out, u64::from(field) << 3 | FIXED64);
    out.extend_from_slice(&value.to_le_bytes());
}

/// The beginning of a field of so many bytes.
pub fn put_length(out: &mut Vec<u8>, field: u32, length: usize) {
    put_varint(out, u64::from(field) << 3 | BYTES);
    put_varint(out, length as u64);
}

pub fn put_bytes(out: &mut Vec<u8>, field: u32, value: &[u8]) {
    put_length(out, field, value.len());
    out.extend_from_slice(value);
}

/// The same, but an empty value is left out, as proto3 does.
pub fn put_text(out: &mut Vec<u8>, field: u32, value: &str) {
    if !value.is_empty() {
        put_bytes(out, field, value.as_bytes());
    }
}

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(&'a [u8]),
    Fixed32([u8; 4]),
}

impl<'a> Value<'a> {
    pub fn bytes(self) -> Known<&'a [u8]> {
        if let Self::Bytes(bytes) = self { Ok(bytes) } else { Err(Odd) }
    }

    pub fn text(self) -> Known<&'a str> {
        std::str::from_utf8(self.bytes()?).map_err(|_| Odd)
    }

    pub fn varint(self) -> Known<u64> {
        if let Self::Varint(value) = self { Ok(value) } else { Err(Odd) }
    }
}

/// The fields of a message, in their order.
pub struct Fields<'a>(&'a [u8]);

impl<'a> Fields<'a> {
    pub fn of(message: &'a [u8]) -> Self {
        Self(message)
    }

    /// The next field's number and value; groups are odd.
    pub fn next(&mut self) -> Known<Option<(u32, Value<'a>)>> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let tag = varint(&mut self.0)?;
        let number = u32::try_from(tag >> 3).map_err(|_| Odd)?;
        if number == 0 || number >= 1 << 29 {
            return Err(Odd);
        }
        let value = match tag & 7 {
            VARINT => Value::Varint(varint(&mut self.0)?),
            FIXED64 => Value::Fixed64(self.chunk()?),
            BYTES => {
                let length = usize::try_from(varint(&mut self.0)?).map_err(|_| Odd)?;
                let (value, rest) = self.0.split_at_checked(length).ok_or(Odd)?;
                self.0 = rest;
                Value::Bytes(value)
            }
            FIXED32 => Value::Fixed32(self.chunk()?),
            _ => return Err(Odd),
        };
        Ok(Some((number, value)))
    }

    fn chunk<const SIZE: usize>(&mut self) -> Known<[u8; SIZE]> {
        let (chunk, rest) = self.0.split_first_chunk().ok_or(Odd)?;
        self.0 = rest;
        Ok(*chunk)
    }
}

/// Takes a varint off the front.
pub fn varint(data: &mut &[u8]) -> Known<u64> {
    let mut value = 0u64;
    for (number, byte) in data.iter().enumerate().take(10) {
        if number == 9 && *byte > 1 {
            return Err(Odd);
        }
        value |= u64::from(byte & 0x7F) << (7 * number);
        if *byte < 0x80 {
            *data = &data[number + 1..];
            return Ok(value);
        }
    }
    Err(Odd)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(number in 1u32..1000, value: u64, real: f64, text in ".{0,40}") {
            let mut out = Vec::new();
            put_number(&mut out, number, value);
            put_double(&mut out, number + 1, real);
            put_bytes(&mut out, number + 2, text.as_bytes());
            let mut fields = Fields::of(&out);
            prop_assert_eq!(fields.next(), Ok(Some((number, Value::Varint(value)))));
            prop_assert_eq!(fields.next(), Ok(Some((number + 1, Value::Fixed64(real.to_le_bytes())))));
            prop_assert_eq!(fields.next(), Ok(Some((number + 2, Value::Bytes(text.as_bytes())))));
            prop_assert_eq!(fields.next(), Ok(None));
        }

        #[test]
        fn sizes_are_those_of_what_is_written(value: u64, shift in 0u32..64) {
            let mut out = Vec::new();
            put_varint(&mut out, value >> shift);
            prop_assert_eq!(out.len(), varint_size(value >> shift));
        }

        #[test]
        fn garbage_ends(bytes: Vec<u8>) {
            let mut fields = Fields::of(&bytes);
            while let Ok(Some(_)) = fields.next() {}
        }
    }
}
