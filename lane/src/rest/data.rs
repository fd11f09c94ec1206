//! The elements of a tensor, from JSON to its raw form: little-endian, BYTES with a 4-byte length before each element.

use super::datatype::{Datatype, Family};
use super::json::{Kind, Number, Reader};
use super::number::{brain, half};
use super::{Known, Odd, proto, text};

/// Lists within each other that `data` may have.
const DEEPEST: usize = 32;

/// Elements and the lists that they stood in.
#[derive(Debug, PartialEq)]
pub struct Rows {
    pub raw: Vec<u8>,
    pub count: usize,
    /// The length that all lists at each depth have.
    pub dims: Vec<usize>,
}

/// Reads `data`, flat or nested; `base64`: strings of BYTES are that; `count`: elements that there should be, as far as is known.
pub fn read(reader: &mut Reader<'_>, kind: &Datatype, base64: bool, count: usize) -> Known<Rows> {
    // An element takes two characters at least.
    let mut raw = Vec::with_capacity(count.min(reader.left() / 2 + 1) * kind.size);
    let (count, dims) = match (kind.family, kind.name) {
        (Family::Bool, _) => rows(reader, |reader| {
            let truth = reader.kind()? == Kind::True;
            reader.word(if truth { "true" } else { "false" })?;
            raw.push(u8::from(truth));
            Ok(())
        }),
        (Family::Int, _) => rows(reader, |reader| {
            let bits = integer(reader.number()?, kind)?;
            raw.extend_from_slice(&bits.to_le_bytes()[..kind.size]);
            Ok(())
        }),
        (_, "FP32") => rows(reader, |reader| {
            raw.extend_from_slice(&(real(reader, kind)? as f32).to_le_bytes());
            Ok(())
        }),
        (_, "FP64") => rows(reader, |reader| {
            raw.extend_from_slice(&real(reader, kind)?.to_le_bytes());
            Ok(())
        }),
        (_, "FP16") => rows(reader, |reader| {
            raw.extend_from_slice(&half(real(reader, kind)?).to_le_bytes());
            Ok(())
        }),
        (Family::Float, _) => rows(reader, |reader| {
            raw.extend_from_slice(&brain(real(reader, kind)? as f32).to_le_bytes());
            Ok(())
        }),
        (Family::Bytes, _) => rows(reader, |reader| {
            let string = reader.string()?;
            if base64 { put_element(&mut raw, &text::of_base64(&string).ok_or(Odd)?) } else { put_element(&mut raw, string.as_bytes()) }
        }),
    }?;
    // Python takes lists of byte values for elements of BYTES, and flattens deep ones in a way of its own.
    if kind.family == Family::Bytes && (dims.len() > 2 || (dims.len() == 2 && count == 0)) {
        return Err(Odd);
    }
    Ok(Rows { raw, count, dims })
}

pub fn put_element(raw: &mut Vec<u8>, element: &[u8]) -> Known<()> {
    raw.extend_from_slice(&u32::try_from(element.len()).map_err(|_| Odd)?.to_le_bytes());
    raw.extend_from_slice(element);
    Ok(())
}

/// The bits of a whole number that a datatype holds.
fn integer(number: Number, kind: &Datatype) -> Known<u64> {
    let (value, bits) = match number {
        Number::Signed(value) => (i128::from(value), value as u64),
        Number::Unsigned(value) => (i128::from(value), value),
        Number::Real(_) => return Err(Odd),
    };
    if kind.low <= value && value <= kind.high { Ok(bits) } else { Err(Odd) }
}

#[inline]
fn real(reader: &mut Reader<'_>, kind: &Datatype) -> Known<f64> {
    if reader.peek()? == b'"' {
        return match &*reader.string()? {
            "NaN" => Ok(f64::from_bits(0x7FF8_0000_0000_0000)),
            "Infinity" => Ok(f64::INFINITY),
            "-Infinity" => Ok(f64::NEG_INFINITY),
            _ => Err(Odd),
        };
    }
    let value = match reader.decimal() {
        Some(value) => value,
        None => match reader.number()? {
            Number::Real(value) => value,
            Number::Signed(value) => value as f64,
            Number::Unsigned(value) => value as f64,
        },
    };
    if value.abs() <= kind.most { Ok(value) } else { Err(Odd) }
}

/// Reads lists within lists, all of the same length and depth; `element` reads what stands in the innermost.
fn rows<'a>(reader: &mut Reader<'a>, mut element: impl FnMut(&mut Reader<'a>) -> Known<()>) -> Known<(usize, Vec<usize>)> {
    // Of lists that ended, by depth; of those that are open, what was read of them.
    let (mut lengths, mut open): (Vec<Option<usize>>, Vec<usize>) = (Vec::new(), Vec::new());
    let mut leaves = None;
    let mut count = 0;
    loop {
        if reader.peek()? == b'[' {
            if leaves.is_some_and(|depth| depth <= open.len()) || open.len() == DEEPEST {
                return Err(Odd);
            }
            reader.pass();
            open.push(0);
            if open.len() > lengths.len() {
                lengths.push(None);
            }
            if reader.peek()? != b']' {
                continue;
            }
        } else {
            // Elements stand at one depth, and no list stands there.
            if open.is_empty() || lengths.len() > open.len() || leaves.is_some_and(|depth| depth != open.len()) {
                return Err(Odd);
            }
            leaves = Some(open.len());
            let read = elements(reader, &mut element)?;
            count += read;
            *open.last_mut().ok_or(Odd)? += read;
        }
        // Lists end here until another value follows.
        while reader.peek()? == b']' {
            reader.pass();
            let length = open.pop().ok_or(Odd)?;
            if *lengths[open.len()].get_or_insert(length) != length {
                return Err(Odd);
            }
            match open.last_mut() {
                Some(around) => *around += 1,
                None => return Ok((count, lengths.into_iter().flatten().collect())),
            }
        }
        if reader.peek()? != b',' {
            return Err(Odd);
        }
        reader.pass();
        // A comma announces a value.
        if matches!(reader.peek()?, b']' | b',') {
            return Err(Odd);
        }
    }
}

/// Elements up to the end of their list.
#[inline]
fn elements<'a>(reader: &mut Reader<'a>, element: &mut impl FnMut(&mut Reader<'a>) -> Known<()>) -> Known<usize> {
    let mut count = 0;
    loop {
        element(reader)?;
        count += 1;
        if reader.peek()? != b',' {
            return Ok(count);
        }
        reader.pass();
    }
}

/// A tensor's raw form as its typed field of `InferTensorContents`.
pub fn typed(kind: &Datatype, raw: &[u8]) -> Known<(Vec<u8>, usize)> {
    let mut out = Vec::new();
    match kind.family {
        _ if raw.is_empty() => {}
        Family::Bytes => elements_of(raw).ok_or(Odd)?.into_iter().for_each(|element| proto::put_bytes(&mut out, kind.field, element)),
        Family::Int => {
            let size: usize = raw.chunks_exact(kind.size).map(|element| proto::varint_size(widened(kind, element))).sum();
            proto::put_length(&mut out, kind.field, size);
            raw.chunks_exact(kind.size).for_each(|element| proto::put_varint(&mut out, widened(kind, element)));
        }
        // Packed, these are the raw form itself, which follows.
        Family::Bool | Family::Float => {
            proto::put_length(&mut out, kind.field, raw.len());
            return Ok((out, raw.len()));
        }
    }
    Ok((out, 0))
}

/// An integer of any size in 64 bits, its sign included.
pub fn widened(kind: &Datatype, element: &[u8]) -> u64 {
    let mut wide = [0; 8];
    wide[..element.len()].copy_from_slice(element);
    let (value, spare) = (u64::from_le_bytes(wide), 64 - 8 * element.len() as u32);
    if kind.signed() { ((value << spare) as i64 >> spare) as u64 } else { value }
}

/// The elements of raw BYTES; None if they do not end where the bytes do.
pub fn elements_of(mut raw: &[u8]) -> Option<Vec<&[u8]>> {
    let mut elements = Vec::new();
    while !raw.is_empty() {
        let (length, rest) = raw.split_first_chunk()?;
        let (element, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        elements.push(element);
        raw = rest;
    }
    Some(elements)
}

/// Whether raw bytes are as many elements.
pub fn fits(kind: &Datatype, raw: &[u8], count: usize) -> bool {
    match kind.family {
        Family::Bytes => elements_of(raw).is_some_and(|elements| elements.len() == count),
        _ => count.checked_mul(kind.size) == Some(raw.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::datatype;
    use super::*;

    fn read_as(name: &str, text: &str) -> Known<Rows> {
        let mut reader = Reader::new(text);
        let rows = read(&mut reader, datatype::of(name).expect("a datatype"), false, 0)?;
        reader.end().map(|()| rows)
    }

    fn dims(text: &str) -> Known<(usize, Vec<usize>)> {
        read_as("FP32", text).map(|rows| (rows.count, rows.dims))
    }

    #[test]
    fn lists_are_flattened_if_they_are_regular() {
        assert_eq!(dims("[1, 2,3]"), Ok((3, vec![3])));
        assert_eq!(dims("[ [1,2] , [3,4] ]"), Ok((4, vec![2, 2])));
        assert_eq!(dims("[[[1],[2]],[[3],[4]],[[5],[6]]]"), Ok((6, vec![3, 2, 1])));
        assert_eq!((dims("[]"), dims("[[],[]]"), dims("[[[]],[[]]]")), (Ok((0, vec![0])), Ok((0, vec![2, 0])), Ok((0, vec![2, 1, 0]))));
    }

    #[test]
    fn ragged_and_broken_lists_are_odd() {
        for text in [
            "1",
            "[1,]",
            "[,1]",
            "[1 2]",
            "[1",
            "[[1],2]",
            "[1,[2]]",
            "[[1],[2,3]]",
            "[[],[1]]",
            "[[[]],[1]]",
            "[[[]],[[],[]]]",
            "[[[],[]],[]]",
            "[[[]],[[1]]]",
            "[[1],[[2]]]",
            "[[],]",
            "[1],",
            "[null]",
            "[true]",
            "[{}]",
            "[]]",
        ] {
            assert_eq!(dims(text), Err(Odd), "{text}");
        }
        assert_eq!(dims(&"[".repeat(100)), Err(Odd));
    }

    #[test]
    fn elements_become_the_bytes_of_their_datatype() {
        let raw = |name, text| read_as(name, text).map(|rows| rows.raw);
        assert_eq!(raw("INT16", "[-2, 258]"), Ok(vec![0xFE, 0xFF, 2, 1]));
        assert_eq!(raw("UINT64", "[18446744073709551615]"), Ok(vec![0xFF; 8]));
        assert_eq!(raw("BOOL", "[true,false]"), Ok(vec![1, 0]));
        assert_eq!(raw("FP32", r#"[1, "NaN", "-Infinity"]"#), Ok(vec![0, 0, 0x80, 0x3F, 0, 0, 0xC0, 0x7F, 0, 0, 0x80, 0xFF]));
        assert_eq!(raw("FP16", "[1.5]"), Ok(vec![0, 0x3E]));
        assert_eq!(raw("BF16", "[1.5]"), Ok(vec![0xC0, 0x3F]));
        assert_eq!(raw("BYTES", r#"["a", ""]"#), Ok(vec![1, 0, 0, 0, b'a', 0, 0, 0, 0]));
        assert_eq!(raw("BYTES", "[]"), Ok(vec![]));
    }

    #[test]
    fn what_a_datatype_does_not_hold_is_odd() {
        for (name, text) in [
            ("INT8", "[128]"),
            ("UINT8", "[-1]"),
            ("INT32", "[1.0]"),
            ("INT64", "[9223372036854775808]"),
            ("BOOL", "[1]"),
            ("FP32", "[3.5e38]"),
            ("FP16", "[65505]"),
            ("FP32", "[\"1\"]"),
            ("FP64", "[NaN]"),
            ("BYTES", "[1]"),
            ("BYTES", "[[1]]"),
            ("BYTES", "[[],[]]"),
            ("BYTES", r#"[[["a"]]]"#),
            ("UINT64", "[18446744073709551616]"),
            ("BYTES", "[null]"),
        ] {
            assert_eq!(read_as(name, text), Err(Odd), "{name} {text}");
        }
    }

    #[test]
    fn integers_are_widened_with_their_sign() {
        let wide = |name, bytes: &[u8]| widened(datatype::of(name).expect("a datatype"), bytes) as i64;
        assert_eq!((wide("INT8", &[0xFF]), wide("UINT8", &[0xFF]), wide("INT32", &[0, 0, 0, 0x80])), (-1, 255, i32::MIN.into()));
    }
}
