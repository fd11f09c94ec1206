//! One length-delimited field of a serialised protobuf message, found or replaced without decoding the message.
//!
//! A path is the field numbers from the message down to the field. Only the first occurrence of each field in wire order counts. The
//! message need not be there whole: what its first bytes do not tell is `Fault::Short`. `tests/vectors/splice.json` pins every rule,
//! for this and for `mesh/wire/fields.py`.

const LENGTH_DELIMITED: u64 = 2;
const LONGEST_VARINT: usize = 10;
const LARGEST_TAG: u128 = (1 << 32) - 1;
/// The nesting that protobuf's own parsers accept.
const DEEPEST_GROUP: usize = 100;

/// Offsets of one length-delimited field: its length varint, its value, the value's end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    pub length: usize,
    pub start: usize,
    pub end: usize,
}

/// Why a field cannot be told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Fault {
    /// More of the message is needed.
    Short,
    /// The bytes are no protobuf message, or the field is of another type.
    Broken { offset: usize, reason: String },
}

/// The first bytes of a message whose field was replaced.
#[derive(Debug, PartialEq, Eq)]
pub struct Edit {
    /// What stands in the place of the first `cut` bytes.
    pub head: Vec<u8>,
    pub cut: usize,
    /// Bytes of the whole message after it.
    pub total: usize,
}

/// The value of the field at `path`, as offsets; None if it, or a message around it, is absent.
///
/// `data` is what is there of a message of `total` bytes.
pub fn find(data: &[u8], total: usize, path: &[u32]) -> Result<Option<Span>, Fault> {
    if let Some(span) = usual(data, path) {
        return Ok(Some(span));
    }
    let chain = locate(data, total, path)?;
    Ok(if chain.len() == path.len() { chain.last().copied() } else { None })
}

/// The message with `value` as the field at `path`; None if it has that value already.
///
/// An absent field, with the messages around it that are absent too, is appended at the end of the innermost message that is there.
/// The lengths of all messages around the field are put right; every other byte stays as it was.
pub fn replace(data: &[u8], total: usize, path: &[u32], value: &[u8]) -> Result<Option<Edit>, Fault> {
    if let Some(span) = usual(data, path) {
        if &data[span.start..span.end] == value {
            return Ok(None);
        }
        let mut head = Vec::with_capacity(span.length + LONGEST_VARINT + value.len());
        head.extend_from_slice(&data[..span.length]);
        put_varint(&mut head, value.len());
        head.extend_from_slice(value);
        let total = total - span.end + head.len();
        return Ok(Some(Edit { head, cut: span.end, total }));
    }
    if let Some(span) = find(data, total, path)?
        && &data[span.start..span.end] == value
    {
        return Ok(None);
    }
    let mut chain = locate(data, total, path)?;
    let mut middle = Vec::with_capacity(value.len() + 16);
    let (mut start, cut);
    if chain.len() == path.len() {
        let field = chain.pop().unwrap_or(Span { length: 0, start: 0, end: 0 });
        put_varint(&mut middle, value.len());
        middle.extend_from_slice(value);
        (start, cut) = (field.length, field.end);
    } else {
        middle.extend_from_slice(value);
        for number in path[chain.len()..].iter().rev() {
            let mut around = Vec::with_capacity(middle.len() + 16);
            put_varint(&mut around, (*number as usize) << 3 | 2);
            put_varint(&mut around, middle.len());
            around.append(&mut middle);
            middle = around;
        }
        start = chain.last().map_or(total, |span| span.end);
        cut = start;
        if cut > data.len() {
            return Err(Fault::Short);
        }
    }
    let mut growth = middle.len() as i64 - (cut - start) as i64;
    let mut tail = middle;
    for around in chain.iter().rev() {
        let size = (around.end - around.start) as i64 + growth;
        let mut part = Vec::with_capacity(tail.len() + start - around.start + LONGEST_VARINT);
        put_varint(&mut part, size as usize);
        growth += part.len() as i64 - (around.start - around.length) as i64;
        part.extend_from_slice(&data[around.start..start]);
        part.append(&mut tail);
        tail = part;
        start = around.length;
    }
    let mut head = Vec::with_capacity(start + tail.len());
    head.extend_from_slice(&data[..start]);
    head.append(&mut tail);
    Ok(Some(Edit { head, cut, total: (total as i64 + growth) as usize }))
}

/// The field where it mostly is: the first of the message, of less than 128 bytes, which are there. None if it may be elsewhere.
fn usual(data: &[u8], path: &[u32]) -> Option<Span> {
    let ([number], [tag, size, ..]) = (path, data) else { return None };
    let end = 2 + usize::from(*size);
    let here = *tag < 0x80 && *size < 0x80 && u32::from(*tag) == (number << 3 | 2) && end <= data.len();
    here.then_some(Span { length: 1, start: 2, end })
}

/// The fields of `path` that are there, outermost first; fewer than the path has if one is absent.
fn locate(data: &[u8], total: usize, path: &[u32]) -> Result<Vec<Span>, Fault> {
    let mut chain = Vec::with_capacity(path.len());
    let (mut start, mut end) = (0, total);
    for number in path {
        let Some(found) = first(data, start, end, *number)? else { return Ok(chain) };
        chain.push(found);
        (start, end) = (found.start, found.end);
    }
    // The value itself has to be there.
    if end > data.len() { Err(Fault::Short) } else { Ok(chain) }
}

/// The first occurrence of field `wanted` in the message from `at` to `end`.
fn first(data: &[u8], mut at: usize, end: usize, wanted: u32) -> Result<Option<Span>, Fault> {
    while at < end {
        let (tag, after) = tag(data, at, end)?;
        if tag >> 3 != u64::from(wanted) {
            at = skip(data, at, end)?;
            continue;
        }
        if tag & 7 != LENGTH_DELIMITED {
            return broken(at, format!("wire type {} instead of {LENGTH_DELIMITED} for field {wanted}", tag & 7));
        }
        let (start, stop) = length(data, after, end)?;
        return Ok(Some(Span { length: after, start, end: stop }));
    }
    Ok(None)
}

/// The offset after the field that begins at `at`; groups are skipped with what is in them.
fn skip(data: &[u8], mut at: usize, end: usize) -> Result<usize, Fault> {
    let mut groups: Vec<u64> = Vec::new();
    loop {
        let (tag, mut after) = tag(data, at, end)?;
        let (number, kind) = (tag >> 3, tag & 7);
        match kind {
            0 => after = varint(data, after, end)?.1,
            LENGTH_DELIMITED => after = length(data, after, end)?.1,
            1 | 5 => {
                after += if kind == 1 { 8 } else { 4 };
                if after > end {
                    return broken(at, format!("truncated field {number}"));
                }
            }
            3 => {
                if groups.len() == DEEPEST_GROUP {
                    return broken(at, format!("more than {DEEPEST_GROUP} groups within each other"));
                }
                groups.push(number);
            }
            4 => {
                if groups.pop() != Some(number) {
                    return broken(at, format!("end of group {number} which is not open"));
                }
            }
            _ => return broken(at, format!("unknown wire type {kind}")),
        }
        let Some(open) = groups.last() else { return Ok(after) };
        if after >= end {
            return broken(after, format!("group {open} without an end"));
        }
        at = after;
    }
}

fn tag(data: &[u8], at: usize, end: usize) -> Result<(u64, usize), Fault> {
    let (tag, after) = varint(data, at, end)?;
    if !(8..=LARGEST_TAG).contains(&tag) {
        return broken(at, format!("field number {}, which does not exist,", tag >> 3));
    }
    Ok((tag as u64, after))
}

/// Start and end of the value whose length is at `at`.
fn length(data: &[u8], at: usize, end: usize) -> Result<(usize, usize), Fault> {
    let (size, start) = varint(data, at, end)?;
    if size > (end - start) as u128 {
        return broken(at, format!("length {size} beyond the end"));
    }
    Ok((start, start + size as usize))
}

/// The number at `at`, and the offset after it. Bits beyond the 64th are kept, so that no bad length looks like a good one.
fn varint(data: &[u8], at: usize, end: usize) -> Result<(u128, usize), Fault> {
    let mut value = 0u128;
    for index in 0..LONGEST_VARINT {
        if at + index >= end {
            return broken(at, "truncated number".to_owned());
        }
        let byte = *data.get(at + index).ok_or(Fault::Short)?;
        value |= u128::from(byte & 0x7f) << (7 * index);
        if byte < 0x80 {
            return Ok((value, at + index + 1));
        }
    }
    broken(at, format!("number of more than {LONGEST_VARINT} bytes"))
}

fn put_varint(out: &mut Vec<u8>, mut value: usize) {
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

fn broken<T>(offset: usize, reason: String) -> Result<T, Fault> {
    Err(Fault::Broken { offset, reason })
}

#[cfg(test)]
#[path = "splice_tests.rs"]
mod tests;
