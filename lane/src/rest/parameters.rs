//! Parameters of requests, answers and tensors: JSON values and `InferParameter` messages.

use super::json::{Kind, Number, Reader};
use super::proto::{self, Fields, Value};
use super::{Known, Odd, number, text};
use std::borrow::Cow;

/// So many at most are looked through for one that comes twice.
const MOST: usize = 64;

/// Parameter of an input or of an answered output: bytes of its raw form.
pub const SIZE: &str = "binary_data_size";
/// Parameter of a requested output: whether it is answered raw.
pub const WANTED: &str = "binary_data";
/// Parameter of a request: whether outputs are answered raw unless they say otherwise.
pub const WANTED_ALL: &str = "binary_data_output";
pub const CONTENT_TYPE: &str = "content_type";
pub const BASE64: &str = "base64";

/// What a request says in one `parameters` object.
#[derive(Debug, Default, PartialEq)]
pub struct Read {
    /// The others as entries of a protobuf map.
    pub entries: Vec<u8>,
    /// The value of the one that is the door's own.
    pub own: Option<Own>,
    /// Strings of BYTES are base64.
    pub base64: bool,
}

/// The value of `binary_data_size`, `binary_data` or `binary_data_output`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Own {
    Truth(bool),
    Count(usize),
}

/// Reads an object of parameters, or null; `field` is the number of the map, `own` the parameter that does not travel.
pub fn read(reader: &mut Reader<'_>, field: u32, own: &str) -> Known<Read> {
    let mut found = Read::default();
    if reader.kind()? == Kind::Null {
        reader.word("null")?;
        return Ok(found);
    }
    let mut names: Vec<Cow<'_, str>> = Vec::new();
    reader.object(|reader, name| {
        if names.len() == MOST || names.contains(&name) {
            return Err(Odd);
        }
        if name == own {
            found.own = Some(match reader.kind()? {
                Kind::True => reader.word("true").map(|()| Own::Truth(true))?,
                Kind::False => reader.word("false").map(|()| Own::Truth(false))?,
                _ => match reader.number()? {
                    Number::Signed(count) => Own::Count(usize::try_from(count).map_err(|_| Odd)?),
                    _ => return Err(Odd),
                },
            });
        } else {
            let mut value = Vec::new();
            read_value(reader, &mut value, |string| found.base64 |= name == CONTENT_TYPE && says_base64(string))?;
            let mut entry = Vec::new();
            proto::put_text(&mut entry, 1, &name);
            proto::put_bytes(&mut entry, 2, &value);
            proto::put_bytes(&mut found.entries, field, &entry);
        }
        names.push(name);
        Ok(())
    })?;
    Ok(found)
}

fn read_value(reader: &mut Reader<'_>, out: &mut Vec<u8>, mut string: impl FnMut(&str)) -> Known<()> {
    match reader.kind()? {
        Kind::Null => reader.word("null")?,
        Kind::True => {
            reader.word("true")?;
            proto::put_number(out, 1, 1);
        }
        Kind::False => {
            reader.word("false")?;
            proto::put_number(out, 1, 0);
        }
        Kind::Text => {
            let text = reader.string()?;
            string(&text);
            proto::put_bytes(out, 3, text.as_bytes());
        }
        Kind::Number => match reader.number()? {
            Number::Signed(value) => proto::put_number(out, 2, value as u64),
            Number::Unsigned(value) => proto::put_number(out, 5, value),
            Number::Real(value) => proto::put_double(out, 4, value),
        },
        Kind::Object | Kind::List => return Err(Odd),
    }
    Ok(())
}

fn says_base64(value: &str) -> bool {
    value.eq_ignore_ascii_case(BASE64) || value.eq_ignore_ascii_case("b64")
}

/// One parameter of an answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Parameter<'a> {
    Nothing,
    Truth(bool),
    Signed(i64),
    Text(&'a str),
    Double(f64),
    Unsigned(u64),
}

/// The parameters of an answer or an output, by name.
#[derive(Debug, Default)]
pub struct Parameters<'a>(Vec<(&'a str, Parameter<'a>)>);

impl<'a> Parameters<'a> {
    /// Takes an entry of a map as it came.
    pub fn take(&mut self, entry: &'a [u8]) -> Known<()> {
        let (mut name, mut value, mut fields) = ("", &[][..], Fields::of(entry));
        let mut values = 0;
        while let Some((field, found)) = fields.next()? {
            match field {
                1 => name = found.text()?,
                2 => {
                    value = found.bytes()?;
                    values += 1;
                }
                // Protobuf's parsers differ in what they make of an entry with more in it.
                _ => return Err(Odd),
            }
        }
        // Two messages in one place would have to be merged.
        if values > 1 || self.0.len() == MOST {
            return Err(Odd);
        }
        self.set(name, of_message(value)?);
        Ok(())
    }

    pub fn set(&mut self, name: &'a str, value: Parameter<'a>) {
        match self.0.binary_search_by_key(&name, |known| known.0) {
            Ok(at) => self.0[at].1 = value,
            Err(at) => self.0.insert(at, (name, value)),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether strings of BYTES are base64.
    pub fn says_base64(&self) -> bool {
        self.0.iter().any(|(name, value)| *name == CONTENT_TYPE && matches!(value, Parameter::Text(text) if says_base64(text)))
    }

    /// Writes them as an object.
    pub fn put(&self, out: &mut Vec<u8>) {
        out.push(b'{');
        for (number, (name, value)) in self.0.iter().enumerate() {
            if number > 0 {
                out.push(b',');
            }
            text::put_string(out, name);
            out.push(b':');
            match value {
                Parameter::Nothing => out.extend_from_slice(b"null"),
                Parameter::Truth(true) => out.extend_from_slice(b"true"),
                Parameter::Truth(false) => out.extend_from_slice(b"false"),
                Parameter::Signed(value) => number::put_integer(out, *value),
                Parameter::Unsigned(value) => number::put_count(out, *value),
                Parameter::Double(value) => number::put_double(out, *value),
                Parameter::Text(value) => text::put_string(out, value),
            }
        }
        out.push(b'}');
    }
}

fn of_message(message: &[u8]) -> Known<Parameter<'_>> {
    let (mut parameter, mut fields) = (Parameter::Nothing, Fields::of(message));
    while let Some((field, value)) = fields.next()? {
        parameter = match field {
            1 => Parameter::Truth(value.varint()? != 0),
            2 => Parameter::Signed(value.varint()? as i64),
            3 => Parameter::Text(value.text()?),
            4 => match value {
                Value::Fixed64(bytes) => Parameter::Double(f64::from_le_bytes(bytes)),
                _ => return Err(Odd),
            },
            5 => Parameter::Unsigned(value.varint()?),
            _ => parameter,
        };
    }
    Ok(parameter)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What a request's parameters are as those of an answer.
    fn through(text: &str) -> Known<String> {
        let read = read(&mut Reader::new(text), 4, SIZE)?;
        let (mut fields, mut parameters) = (Fields::of(&read.entries), Parameters::default());
        while let Some((4, entry)) = fields.next()? {
            parameters.take(entry.bytes()?)?;
        }
        let mut out = Vec::new();
        parameters.put(&mut out);
        Ok(String::from_utf8(out).expect("text"))
    }

    #[test]
    fn values_come_back_by_name() {
        let text = r#"{"z":null,"b":true,"a":-1,"c":18446744073709551615,"d":0.5,"":"x\n","binary_data_size":7}"#;
        assert_eq!(through(text).as_deref(), Ok(r#"{"":"x\n","a":-1,"b":true,"c":18446744073709551615,"d":0.5,"z":null}"#));
        assert_eq!(through("null").as_deref(), Ok("{}"));
    }

    #[test]
    fn the_doors_own_does_not_travel() {
        let own = |text: &str| read(&mut Reader::new(text), 4, SIZE).map(|read| (read.own, read.base64));
        assert_eq!(own(r#"{"binary_data_size":7,"content_type":"B64"}"#), Ok((Some(Own::Count(7)), true)));
        assert_eq!(own(r#"{"binary_data_size":true}"#), Ok((Some(Own::Truth(true)), false)));
    }

    #[test]
    fn what_is_no_parameter_is_odd() {
        for text in
            [r#"{"a":[]}"#, r#"{"a":{}}"#, r#"{"a":1,"a":1}"#, r#"{"binary_data_size":-1}"#, r#"{"binary_data_size":"1"}"#, "[]", "1"]
        {
            assert_eq!(through(text), Err(Odd), "{text}");
        }
        let more_than_name_and_value = b"\x0a\x01a\x48\x03";
        assert_eq!(Parameters::default().take(more_than_name_and_value), Err(Odd));
    }
}
