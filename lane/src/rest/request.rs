//! A request in JSON made a `ModelInferRequest` (`mesh/doors/rest/body_v2.py`).

use super::data::{self, Rows};
use super::datatype::{self, Datatype};
use super::json::{Kind, Reader};
use super::parameters::{self, Own, Read, SIZE, WANTED, WANTED_ALL};
use super::proto::{put_bytes, put_length, put_text, put_varint};
use super::{Known, Odd};
use foldhash::HashMap;
use std::borrow::Cow;

/// How the caller wants an output written; what it says nothing of is as for all.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Wanted {
    pub binary: Option<bool>,
    pub base64: bool,
}

/// How the caller wants outputs written: as raw bytes behind the JSON, or BYTES as base64; by name, or all.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Reply {
    pub outputs: HashMap<String, Wanted>,
    pub binary: bool,
    pub base64: bool,
}

impl Reply {
    pub fn binary(&self, output: &str) -> bool {
        self.outputs.get(output).and_then(|wanted| wanted.binary).unwrap_or(self.binary)
    }

    pub fn base64(&self, output: &str) -> bool {
        self.base64 || self.outputs.get(output).is_some_and(|wanted| wanted.base64)
    }
}

/// What the path of a request names.
#[derive(Clone, Copy, Debug)]
pub struct Named<'a> {
    pub model: &'a str,
    pub version: &'a str,
}

struct Input<'a> {
    name: Cow<'a, str>,
    kind: &'static Datatype,
    shape: Vec<u64>,
    parameters: Vec<u8>,
    raw: Cow<'a, [u8]>,
    /// It came as raw bytes.
    binary: bool,
}

/// Appends the message of a body to `out`; `json` is the length of the part before raw tensors.
pub fn read(body: &[u8], json: usize, named: Named<'_>, out: &mut Vec<u8>) -> Known<Reply> {
    let (part, mut tail) = body.split_at_checked(json).ok_or(Odd)?;
    let text = std::str::from_utf8(part).map_err(|_| Odd)?;
    let (mut id, mut inputs, mut top, mut reply) = (None, None, None, None);
    let mut wanted = Vec::new();
    let mut reader = Reader::new(text);
    reader.object(|reader, key| match &*key {
        "id" => once(&mut id, text_or_null(reader)?),
        "inputs" => {
            let mut read = Vec::new();
            reader.list(|reader| {
                read.push(input(reader, &mut tail)?);
                Ok(())
            })?;
            once(&mut inputs, read)
        }
        "outputs" => once(&mut reply, outputs(reader, &mut wanted)?),
        "parameters" => once(&mut top, parameters::read(reader, 4, WANTED_ALL)?),
        // The proto3 JSON form.
        "raw_input_contents" | "rawInputContents" => Err(Odd),
        _ => reader.skip(),
    })?;
    reader.end()?;
    let inputs = inputs.ok_or(Odd)?;
    if !tail.is_empty() {
        return Err(Odd);
    }
    let (top, mut reply) = (top.unwrap_or_default(), reply.unwrap_or_default());
    (reply.binary, reply.base64) = (truth(&top)?.unwrap_or(false), top.base64);
    put_text(out, 1, named.model);
    put_text(out, 2, named.version);
    put_text(out, 3, &id.unwrap_or_default());
    out.extend_from_slice(&top.entries);
    put_inputs(out, &inputs)?;
    out.extend_from_slice(&wanted);
    if raw(&inputs) {
        inputs.iter().for_each(|input| put_bytes(out, 7, &input.raw));
    }
    Ok(reply)
}

/// Keeps a value; a second one in its place is odd.
fn once<T>(place: &mut Option<T>, value: T) -> Known<()> {
    if place.replace(value).is_some() { Err(Odd) } else { Ok(()) }
}

/// One input that needs raw bytes makes all of them raw: a message does not mix the two.
fn raw(inputs: &[Input<'_>]) -> bool {
    inputs.iter().any(|input| input.binary || input.kind.field == 0)
}

fn put_inputs(out: &mut Vec<u8>, inputs: &[Input<'_>]) -> Known<()> {
    let raw = raw(inputs);
    for input in inputs {
        let mut head = Vec::with_capacity(64 + input.parameters.len());
        put_text(&mut head, 1, &input.name);
        put_text(&mut head, 2, input.kind.name);
        if !input.shape.is_empty() {
            let mut shape = Vec::with_capacity(10 * input.shape.len());
            input.shape.iter().for_each(|size| put_varint(&mut shape, *size));
            put_bytes(&mut head, 3, &shape);
        }
        head.extend_from_slice(&input.parameters);
        if raw {
            put_bytes(out, 5, &head);
            continue;
        }
        let (contents, follows) = data::typed(input.kind, &input.raw)?;
        put_length(&mut head, 5, contents.len() + follows);
        head.extend_from_slice(&contents);
        put_length(out, 5, head.len() + follows);
        out.extend_from_slice(&head);
        out.extend_from_slice(&input.raw[..follows]);
    }
    Ok(())
}

/// Reads one input; raw bytes are taken off the front of `tail`.
fn input<'a>(reader: &mut Reader<'a>, tail: &mut &'a [u8]) -> Known<Input<'a>> {
    let (mut name, mut kind, mut shape, mut read, mut data) = (None, None, None, None, None);
    reader.object(|reader, key| match &*key {
        "name" => once(&mut name, reader.string()?),
        "datatype" => once(&mut kind, datatype::of(&reader.string()?).ok_or(Odd)?),
        "shape" => once(&mut shape, sizes(reader)?),
        "parameters" => once(&mut read, parameters::read(reader, 4, SIZE)?),
        "data" => once(&mut data, Data::begin(reader, kind, shape.as_deref())?),
        "contents" => Err(Odd),
        _ => reader.skip(),
    })?;
    let (name, kind, shape) = (name.filter(|name| !name.is_empty()).ok_or(Odd)?, kind.ok_or(Odd)?, shape.ok_or(Odd)?);
    let read = read.unwrap_or_default();
    let count = datatype::count(&shape).ok_or(Odd)?;
    let raw = match (read.own, data) {
        (Some(Own::Count(size)), None | Some(Data::Null)) => {
            let (raw, rest) = tail.split_at_checked(size).ok_or(Odd)?;
            *tail = rest;
            if !data::fits(kind, raw, count) {
                return Err(Odd);
            }
            Cow::Borrowed(raw)
        }
        (None, Some(data)) => {
            let rows = data.rows(kind, read.base64)?;
            let agrees =
                rows.dims.len() != shape.len() || shape.len() < 2 || rows.dims.iter().map(|size| *size as u64).eq(shape.iter().copied());
            if rows.count != count || !agrees {
                return Err(Odd);
            }
            Cow::Owned(rows.raw)
        }
        _ => return Err(Odd),
    };
    Ok(Input { name, kind, shape, parameters: read.entries, raw, binary: read.own.is_some() })
}

/// The `data` of an input: read at once where its datatype is known by then, else when the whole input is.
enum Data<'a> {
    Null,
    Later(&'a str),
    Rows(Rows),
}

impl<'a> Data<'a> {
    fn begin(reader: &mut Reader<'a>, kind: Option<&Datatype>, shape: Option<&[u64]>) -> Known<Self> {
        if reader.kind()? == Kind::Null {
            return reader.word("null").map(|()| Self::Null);
        }
        match kind {
            // Whether strings are base64 stands in the parameters.
            Some(kind) if kind.family != datatype::Family::Bytes => {
                let count = shape.and_then(datatype::count).unwrap_or(0);
                data::read(reader, kind, false, count).map(Self::Rows)
            }
            _ => reader.span().map(Self::Later),
        }
    }

    fn rows(self, kind: &Datatype, base64: bool) -> Known<Rows> {
        match self {
            Self::Null => Err(Odd),
            Self::Rows(rows) => Ok(rows),
            Self::Later(text) => {
                let mut reader = Reader::new(text);
                let rows = data::read(&mut reader, kind, base64, 0)?;
                reader.end().map(|()| rows)
            }
        }
    }
}

fn sizes(reader: &mut Reader<'_>) -> Known<Vec<u64>> {
    let mut sizes = Vec::new();
    reader.list(|reader| match reader.number()? {
        super::json::Number::Signed(size @ 0..) => {
            sizes.push(size as u64);
            Ok(())
        }
        _ => Err(Odd),
    })?;
    Ok(sizes)
}

/// Reads what is wanted of outputs; `out` gets their fields.
fn outputs(reader: &mut Reader<'_>, out: &mut Vec<u8>) -> Known<Reply> {
    let mut reply = Reply::default();
    if reader.kind()? == Kind::Null {
        return reader.word("null").map(|()| reply);
    }
    reader.list(|reader| {
        let (mut name, mut read) = (None, None);
        reader.object(|reader, key| match &*key {
            "name" => once(&mut name, reader.string()?),
            "parameters" => once(&mut read, parameters::read(reader, 2, WANTED)?),
            _ => reader.skip(),
        })?;
        let (name, read) = (name.filter(|name| !name.is_empty()).ok_or(Odd)?, read.unwrap_or_default());
        put_length(out, 6, field_size(name.len()) + read.entries.len());
        put_bytes(out, 1, name.as_bytes());
        out.extend_from_slice(&read.entries);
        let wanted = Wanted { binary: truth(&read)?, base64: read.base64 };
        // Of an output that is named twice Python takes parts of both.
        if reply.outputs.insert(name.into_owned(), wanted).is_some() { Err(Odd) } else { Ok(()) }
    })?;
    Ok(reply)
}

/// Bytes of a field below 16 with so many bytes in it.
fn field_size(length: usize) -> usize {
    1 + super::proto::varint_size(length as u64) + length
}

fn truth(read: &Read) -> Known<Option<bool>> {
    match read.own {
        None => Ok(None),
        Some(Own::Truth(truth)) => Ok(Some(truth)),
        Some(Own::Count(_)) => Err(Odd),
    }
}

fn text_or_null<'a>(reader: &mut Reader<'a>) -> Known<Cow<'a, str>> {
    if reader.kind()? == Kind::Null { reader.word("null").map(|()| Cow::Borrowed("")) } else { reader.string() }
}

#[cfg(test)]
#[path = "request_tests.rs"]
mod tests;
