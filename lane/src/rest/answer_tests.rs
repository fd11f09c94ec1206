use super::super::proto::{put_bytes, put_length, put_number, put_varint};
use super::super::request::Wanted;
use super::*;
use proptest::prelude::*;

/// An output `o`, with its field for data as it stands in the message.
fn output(datatype: &str, shape: &[u64], contents: Option<(u32, &[u8])>) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, b"o");
    put_bytes(&mut out, 2, datatype.as_bytes());
    shape.iter().for_each(|size| put_number(&mut out, 3, *size));
    if let Some((field, data)) = contents {
        let mut inner = Vec::new();
        put_bytes(&mut inner, field, data);
        put_bytes(&mut out, 5, &inner);
    }
    out
}

fn message(outputs: &[Vec<u8>], buffers: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    put_bytes(&mut out, 1, b"m");
    outputs.iter().for_each(|output| put_bytes(&mut out, 5, output));
    buffers.iter().for_each(|buffer| put_bytes(&mut out, 6, buffer));
    out
}

fn text(message: &[u8], reply: &Reply) -> Known<(String, Option<usize>)> {
    write(message, reply).map(|body| (String::from_utf8_lossy(&body.bytes).into_owned(), body.json))
}

fn data(datatype: &str, count: u64, field: u32, data: &[u8]) -> Known<String> {
    let (text, _) = text(&message(&[output(datatype, &[count], Some((field, data)))], &[]), &Reply::default())?;
    let start = text.find("\"data\":").ok_or(Odd)?;
    Ok(text[start + 7..text.len() - 3].to_owned())
}

#[test]
fn typed_elements_are_written_as_json() {
    let mut numbers = Vec::new();
    [1u64, -1i64 as u64, 127].iter().for_each(|number| put_varint(&mut numbers, *number));
    assert_eq!(data("INT8", 3, 2, &numbers).as_deref(), Ok("[1,-1,127]"));
    assert_eq!(data("UINT64", 1, 5, &[0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1]).as_deref(), Ok("[18446744073709551615]"));
    assert_eq!(data("BOOL", 2, 1, &[1, 0]).as_deref(), Ok("[true,false]"));
    assert_eq!(data("FP32", 2, 6, &[0.1f32.to_le_bytes(), f32::NAN.to_le_bytes()].concat()).as_deref(), Ok("[0.1,\"NaN\"]"));
    assert_eq!(data("BYTES", 1, 8, "é\n".as_bytes()).as_deref(), Ok("[\"é\\n\"]"));
    assert_eq!(data("BYTES", 1, 8, &[0xFF]).as_deref(), Ok("[\"/w==\"]"));
}

#[test]
fn large_tensors_are_written_as_exact_doubles() {
    let raw = 0.1f32.to_le_bytes().repeat(number::SHORT + 1);
    assert!(data("FP32", number::SHORT as u64 + 1, 6, &raw).expect("an answer").starts_with("[0.10000000149011612,"));
}

#[test]
fn raw_outputs_follow_the_json_where_they_are_wanted() {
    let reply =
        Reply { outputs: [("o".to_owned(), Wanted { binary: Some(true), base64: false })].into_iter().collect(), ..Reply::default() };
    let answered = message(&[output("UINT16", &[2], None)], &[b"abcd"]);
    let json = r#"{"model_name":"m","outputs":[{"name":"o","datatype":"UINT16","shape":[2],"parameters":{"binary_data_size":4}}]}"#;
    assert_eq!(text(&answered, &reply), Ok((format!("{json}abcd"), Some(json.len()))));
    let json = r#"{"model_name":"m","outputs":[{"name":"o","datatype":"UINT16","shape":[2],"data":[25185,25699]}]}"#;
    assert_eq!(text(&answered, &Reply::default()), Ok((json.to_owned(), None)));
}

#[test]
fn an_answer_that_contradicts_itself_is_odd() {
    for broken in [
        message(&[output("UINT16", &[2], None)], &[b"abc"]),
        message(&[output("UINT16", &[2], None)], &[b"abcd", b""]),
        message(&[output("UINT16", &[2], None)], &[]),
        message(&[output("NEW", &[2], None)], &[b"abcd"]),
        message(&[output("FP16", &[1], Some((6, &[0; 4])))], &[]),
        message(&[output("UINT8", &[1], Some((4, &[0x80, 2])))], &[]),
        message(&[output("FP32", &[1], Some((6, &[0; 3])))], &[]),
        vec![0x0A, 1, 0xFF],
        vec![0x0A, 9],
    ] {
        assert_eq!(write(&broken, &Reply::default()), Err(Odd), "{broken:?}");
    }
}

proptest! {
    #[test]
    fn garbage_ends(bytes: Vec<u8>, binary: bool, base64: bool) {
        let reply = Reply { binary, base64, ..Reply::default() };
        let _ = write(&bytes, &reply);
        let mut nested = Vec::new();
        put_length(&mut nested, 5, bytes.len());
        nested.extend_from_slice(&bytes);
        let _ = write(&nested, &reply);
    }
}
