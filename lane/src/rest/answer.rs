//! A `ModelInferResponse` made JSON (`mesh/doors/rest/body_v2.py: write`).

use super::data;
use super::datatype::{self, Datatype, Family};
use super::number;
use super::parameters::{BASE64, CONTENT_TYPE, Parameter, Parameters, SIZE};
use super::proto::{Fields, Value, varint};
use super::request::Reply;
use super::text::{put_base64, put_string};
use super::{Known, Odd};
use std::borrow::Cow;

/// Characters that a byte of an answer becomes at most, mostly: those of a float32 that are its exact double. Room that is not used costs nothing,
/// and to move a large answer into a larger room costs more than to write it.
const LONGEST: usize = 5;

/// An answer's body.
#[derive(Debug, PartialEq, Eq)]
pub struct Body {
    pub bytes: Vec<u8>,
    /// The length of the JSON, if raw tensors follow it.
    pub json: Option<usize>,
}

#[derive(Default)]
struct Answer<'a> {
    model: &'a str,
    version: &'a str,
    id: &'a str,
    parameters: Parameters<'a>,
    outputs: Vec<Output<'a>>,
    buffers: Vec<&'a [u8]>,
}

#[derive(Default)]
struct Output<'a> {
    name: &'a str,
    datatype: &'a str,
    shape: Vec<i64>,
    parameters: Parameters<'a>,
    contents: Option<&'a [u8]>,
}

/// The body that says what a runtime answered, in the form that the caller wants.
pub fn write(message: &[u8], reply: &Reply) -> Known<Body> {
    let mut answer = Answer::read(message)?;
    if !answer.buffers.is_empty() && answer.buffers.len() != answer.outputs.len() {
        return Err(Odd);
    }
    let mut out = Vec::with_capacity(256 + message.len() * LONGEST);
    out.extend_from_slice(b"{\"model_name\":");
    put_string(&mut out, answer.model);
    for (key, value) in [(",\"model_version\":", answer.version), (",\"id\":", answer.id)] {
        if !value.is_empty() {
            out.extend_from_slice(key.as_bytes());
            put_string(&mut out, value);
        }
    }
    put_parameters(&mut out, &answer.parameters);
    out.extend_from_slice(b",\"outputs\":[");
    let mut blobs: Option<Vec<u8>> = None;
    for (number, output) in answer.outputs.iter_mut().enumerate() {
        if number > 0 {
            out.push(b',');
        }
        let buffer = answer.buffers.get(number).copied();
        if reply.binary(output.name) {
            let blobs = blobs.get_or_insert_default();
            let before = blobs.len();
            blobs.extend_from_slice(&output.raw(buffer)?);
            output.parameters.set(SIZE, Parameter::Unsigned((blobs.len() - before) as u64));
            output.put_head(&mut out);
        } else {
            output.put_with_data(&mut out, buffer, reply)?;
        }
        out.push(b'}');
    }
    out.extend_from_slice(b"]}");
    let json = blobs.as_ref().map(|_| out.len());
    out.extend_from_slice(&blobs.unwrap_or_default());
    Ok(Body { bytes: out, json })
}

fn put_parameters(out: &mut Vec<u8>, parameters: &Parameters<'_>) {
    if !parameters.is_empty() {
        out.extend_from_slice(b",\"parameters\":");
        parameters.put(out);
    }
}

impl<'a> Answer<'a> {
    fn read(message: &'a [u8]) -> Known<Self> {
        let (mut answer, mut fields) = (Self::default(), Fields::of(message));
        while let Some((field, value)) = fields.next()? {
            match field {
                1 => answer.model = value.text()?,
                2 => answer.version = value.text()?,
                3 => answer.id = value.text()?,
                4 => answer.parameters.take(value.bytes()?)?,
                5 => answer.outputs.push(Output::read(value.bytes()?)?),
                6 => answer.buffers.push(value.bytes()?),
                _ => {}
            }
        }
        Ok(answer)
    }
}

impl<'a> Output<'a> {
    fn read(message: &'a [u8]) -> Known<Self> {
        let (mut output, mut fields) = (Self::default(), Fields::of(message));
        while let Some((field, value)) = fields.next()? {
            match (field, value) {
                (1, _) => output.name = value.text()?,
                (2, _) => output.datatype = value.text()?,
                (3, Value::Varint(size)) => output.shape.push(size as i64),
                (3, _) => {
                    let mut sizes = value.bytes()?;
                    while !sizes.is_empty() {
                        output.shape.push(varint(&mut sizes)? as i64);
                    }
                }
                (4, _) => output.parameters.take(value.bytes()?)?,
                // Two messages in one place would have to be merged.
                (5, _) if output.contents.is_some() => return Err(Odd),
                (5, _) => output.contents = Some(value.bytes()?),
                _ => {}
            }
        }
        Ok(output)
    }

    /// All but the data, and the closing brace.
    fn put_head(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b"{\"name\":");
        put_string(out, self.name);
        out.extend_from_slice(b",\"datatype\":");
        put_string(out, self.datatype);
        out.extend_from_slice(b",\"shape\":[");
        list(out, &self.shape, |out, size| number::put_integer(out, *size));
        out.push(b']');
        put_parameters(out, &self.parameters);
    }

    fn put_with_data(&mut self, out: &mut Vec<u8>, buffer: Option<&'a [u8]>, reply: &Reply) -> Known<()> {
        let kind = datatype::of(self.datatype).ok_or(Odd)?;
        let raw = self.raw(buffer)?;
        if kind.family != Family::Bytes {
            self.put_head(out);
            out.extend_from_slice(b",\"data\":[");
            put_numbers(out, kind, &raw);
        } else {
            let elements = data::elements_of(&raw).ok_or(Odd)?;
            let texts = if reply.base64(self.name) && !self.parameters.says_base64() { None } else { texts(&elements) };
            if texts.is_none() {
                self.parameters.set(CONTENT_TYPE, Parameter::Text(BASE64));
            }
            self.put_head(out);
            out.extend_from_slice(b",\"data\":[");
            match texts {
                Some(texts) => list(out, &texts, |out, text| put_string(out, text)),
                None => list(out, &elements, |out, bytes| put_base64(out, bytes)),
            }
        }
        out.push(b']');
        Ok(())
    }

    /// Its elements in their raw form.
    fn raw(&self, buffer: Option<&'a [u8]>) -> Known<Cow<'a, [u8]>> {
        let kind = datatype::of(self.datatype);
        let Some(buffer) = buffer else { return self.packed(kind.filter(|kind| kind.field > 0).ok_or(Odd)?) };
        if self.contents.is_some_and(|contents| !contents.is_empty()) {
            return Err(Odd);
        }
        // Of a datatype that nobody knows the bytes can be passed on all the same.
        if let Some(kind) = kind {
            let count = self.count()?;
            if !data::fits(kind, buffer, count) {
                return Err(Odd);
            }
        }
        Ok(Cow::Borrowed(buffer))
    }

    fn count(&self) -> Known<usize> {
        let shape: Result<Vec<u64>, _> = self.shape.iter().map(|size| u64::try_from(*size)).collect();
        datatype::count(&shape.map_err(|_| Odd)?).ok_or(Odd)
    }

    /// The typed elements as raw ones; those that their datatype does not hold are odd.
    fn packed(&self, kind: &Datatype) -> Known<Cow<'a, [u8]>> {
        let mut raw = Cow::Borrowed(&[][..]);
        let mut fields = Fields::of(self.contents.unwrap_or_default());
        while let Some((field, value)) = fields.next()? {
            if field != kind.field {
                return Err(Odd);
            }
            match (kind.family, value) {
                (Family::Bytes, Value::Bytes(bytes)) => data::put_element(raw.to_mut(), bytes)?,
                (Family::Float, Value::Bytes(bytes)) if bytes.len() % kind.size == 0 => {
                    if raw.is_empty() {
                        raw = Cow::Borrowed(bytes);
                    } else {
                        raw.to_mut().extend_from_slice(bytes);
                    }
                }
                (Family::Float, Value::Fixed32(bytes)) if kind.size == 4 => raw.to_mut().extend_from_slice(&bytes),
                (Family::Float, Value::Fixed64(bytes)) if kind.size == 8 => raw.to_mut().extend_from_slice(&bytes),
                (Family::Bool | Family::Int, Value::Varint(value)) => put_varint_element(raw.to_mut(), kind, value)?,
                (Family::Bool | Family::Int, Value::Bytes(mut bytes)) => {
                    let raw = raw.to_mut();
                    raw.reserve(bytes.len() * kind.size);
                    while !bytes.is_empty() {
                        put_varint_element(raw, kind, varint(&mut bytes)?)?;
                    }
                }
                _ => return Err(Odd),
            }
        }
        if raw.is_empty() && self.count()? != 0 {
            return Err(Odd);
        }
        Ok(raw)
    }
}

fn put_varint_element(raw: &mut Vec<u8>, kind: &Datatype, value: u64) -> Known<()> {
    if kind.family == Family::Bool {
        raw.push(u8::from(value != 0));
        return Ok(());
    }
    let meant = if kind.signed() { i128::from(value as i64) } else { i128::from(value) };
    if meant < kind.low || meant > kind.high {
        return Err(Odd);
    }
    raw.extend_from_slice(&value.to_le_bytes()[..kind.size]);
    Ok(())
}

fn texts<'a>(elements: &[&'a [u8]]) -> Option<Vec<&'a str>> {
    elements.iter().map(|element| std::str::from_utf8(element).ok()).collect()
}

fn put_numbers(out: &mut Vec<u8>, kind: &Datatype, raw: &[u8]) {
    match kind.name {
        "BOOL" => list(out, raw, |out, truth| out.extend_from_slice(if *truth == 0 { b"false" } else { b"true" })),
        "FP32" if raw.len() / 4 <= number::SHORT => chunks(out, raw, |out, bytes| number::put_short(out, f32::from_le_bytes(bytes))),
        "FP32" => chunks(out, raw, |out, bytes| number::put_double(out, f32::from_le_bytes(bytes).into())),
        "FP64" => chunks(out, raw, |out, bytes| number::put_double(out, f64::from_le_bytes(bytes))),
        "FP16" => chunks(out, raw, |out, bytes| number::put_double(out, number::of_half(u16::from_le_bytes(bytes)))),
        "BF16" => chunks(out, raw, |out, bytes| number::put_double(out, number::of_brain(u16::from_le_bytes(bytes)))),
        _ if kind.signed() => {
            each(out, raw.chunks_exact(kind.size), |out, bytes| number::put_integer(out, data::widened(kind, bytes) as i64))
        }
        _ => each(out, raw.chunks_exact(kind.size), |out, bytes| number::put_count(out, data::widened(kind, bytes))),
    }
}

fn chunks<const SIZE: usize>(out: &mut Vec<u8>, raw: &[u8], put: impl Fn(&mut Vec<u8>, [u8; SIZE])) {
    each(out, raw.chunks_exact(SIZE), |out, bytes| put(out, bytes.try_into().unwrap_or([0; SIZE])));
}

fn list<T>(out: &mut Vec<u8>, items: &[T], put: impl Fn(&mut Vec<u8>, &T)) {
    each(out, items.iter(), put);
}

fn each<T>(out: &mut Vec<u8>, items: impl Iterator<Item = T>, put: impl Fn(&mut Vec<u8>, T)) {
    for (number, item) in items.enumerate() {
        if number > 0 {
            out.push(b',');
        }
        put(out, item);
    }
}

#[cfg(test)]
#[path = "answer_tests.rs"]
mod tests;
