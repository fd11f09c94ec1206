use super::super::proto::{Fields, Value, varint};
use super::*;
use proptest::prelude::*;

const NAMED: Named<'static> = Named { model: "m", version: "" };

fn whole(text: &str) -> Known<(Vec<u8>, Reply)> {
    let mut out = Vec::new();
    read(text.as_bytes(), text.len(), NAMED, &mut out).map(|reply| (out, reply))
}

/// The fields of a message with this number.
fn fields(message: &[u8], number: u32) -> Vec<Value<'_>> {
    let (mut found, mut fields) = (Vec::new(), Fields::of(message));
    while let Some((field, value)) = fields.next().expect("a message") {
        found.extend((field == number).then_some(value));
    }
    found
}

fn inner<'a>(message: &'a [u8], path: &[u32]) -> &'a [u8] {
    path.iter().fold(message, |message, number| fields(message, *number)[0].bytes().expect("a message"))
}

fn tensor(fields: &str) -> String {
    format!(r#"{{"inputs":[{{"name":"a",{fields}}}]}}"#)
}

#[test]
fn a_request_becomes_its_message() {
    let text = r#"{"id":"7","inputs":[{"name":"a","shape":[2,2],"datatype":"INT32","data":[[1,-1],[300,0]],"parameters":{"p":true}}],
        "parameters":{"binary_data_output":true},"outputs":[{"name":"o","parameters":{"binary_data":false}}], "unknown": {"x": [1.5, null]}}"#;
    let (message, reply) = whole(text).expect("a request");
    assert_eq!((inner(&message, &[1]), inner(&message, &[3]), inner(&message, &[6, 1])), (&b"m"[..], &b"7"[..], &b"o"[..]));
    assert_eq!((inner(&message, &[5, 1]), inner(&message, &[5, 2]), inner(&message, &[5, 3])), (&b"a"[..], &b"INT32"[..], &[2, 2][..]));
    let mut packed = inner(&message, &[5, 5, 2]);
    let values: Vec<i64> = (0..4).map(|_| varint(&mut packed).expect("a number") as i64).collect();
    assert_eq!((values, packed.is_empty()), (vec![1, -1, 300, 0], true));
    assert_eq!((reply.binary("o"), reply.binary("other"), reply.base64("o")), (false, true, false));
    assert!(fields(&message, 4).is_empty() && fields(&message, 7).is_empty());
}

#[test]
fn one_raw_tensor_makes_all_of_them_raw() {
    let json = r#"{"inputs":[{"name":"a","shape":[1],"datatype":"INT16","data":[258]},
        {"name":"b","shape":[3],"datatype":"UINT8","parameters":{"binary_data_size":3}}]}"#;
    let body = [json.as_bytes(), &[7, 8, 9]].concat();
    let mut out = Vec::new();
    read(&body, json.len(), NAMED, &mut out).expect("a request");
    assert_eq!(fields(&out, 7), [Value::Bytes(&[2, 1]), Value::Bytes(&[7, 8, 9])]);
    assert!(fields(inner(&out, &[5]), 5).is_empty());
    assert_eq!(read(&body[..body.len() - 1], json.len(), NAMED, &mut Vec::new()), Err(Odd));
    assert_eq!(read(&[&body[..], &[0]].concat(), json.len(), NAMED, &mut Vec::new()), Err(Odd));
}

#[test]
fn data_may_come_before_what_it_is() {
    let first =
        whole(&tensor(r#""data":["YQ=="],"shape":[1],"datatype":"BYTES","parameters":{"content_type":"base64"}"#)).expect("a request");
    assert_eq!(inner(&first.0, &[5, 5, 8]), b"a");
    let second = whole(&tensor(r#""data":[[1.5],[2]],"shape":[2,1],"datatype":"FP32""#)).expect("a request");
    assert_eq!(inner(&second.0, &[5, 5, 6]), [1.5f32.to_le_bytes(), 2f32.to_le_bytes()].concat());
}

#[test]
fn what_python_refuses_or_reads_in_another_way_is_odd() {
    for text in [
        "",
        "[]",
        "{}",
        r#"{"inputs":[]} x"#,
        r#"{"inputs":[],"inputs":[]}"#,
        r#"{"inputs":null}"#,
        r#"{"inputs":[1]}"#,
        r#"{"id":1,"inputs":[]}"#,
        r#"{"inputs":[],"raw_input_contents":[]}"#,
        r#"{"inputs":[],"x":NaN}"#,
        r#"{"inputs":[],"outputs":[{}]}"#,
        r#"{"inputs":[],"outputs":[{"name":"o"},{"name":"o"}]}"#,
        r#"{"inputs":[],"parameters":{"binary_data_output":1}}"#,
    ] {
        assert_eq!(whole(text), Err(Odd), "{text}");
    }
    for fields in [
        r#""shape":[1],"datatype":"INT32""#,
        r#""shape":[1],"data":[1]"#,
        r#""datatype":"INT32","data":[1]"#,
        r#""shape":[2],"datatype":"INT32","data":[1]"#,
        r#""shape":[2,1],"datatype":"INT32","data":[[1,2]]"#,
        r#""shape":[-1],"datatype":"INT32","data":[1]"#,
        r#""shape":[1.0],"datatype":"INT32","data":[1]"#,
        r#""shape":[1],"datatype":"INT32","data":null"#,
        r#""shape":[1],"datatype":"INT32","data":[1],"data":[1]"#,
        r#""shape":[1],"datatype":"INT32","data":[1],"contents":{}"#,
        r#""shape":[1],"datatype":"BYTES","data":["a"],"parameters":{"content_type":"base64"}"#,
        r#""shape":[0],"datatype":"INT32","data":[],"parameters":{"binary_data_size":0}"#,
        r#""shape":[1],"datatype":"INT","data":[1]"#,
    ] {
        assert_eq!(whole(&tensor(fields)), Err(Odd), "{fields}");
    }
}

#[test]
fn no_data_is_a_field_without_elements() {
    let (message, _) = whole(&tensor(r#""shape":[0,2],"datatype":"FP32","data":[]"#)).expect("a request");
    assert_eq!(inner(&message, &[5, 5]), b"");
}

proptest! {
    #[test]
    fn garbage_ends(text in r#"\{"inputs":\[\{["\[\]{}:,a-z0-9 \\.]{0,60}"#, cut in 0usize..80) {
        let _ = read(text.as_bytes(), cut.min(text.len()), NAMED, &mut Vec::new());
    }

    #[test]
    fn any_bytes_end(bytes: Vec<u8>) {
        prop_assert_eq!(read(&bytes, bytes.len(), NAMED, &mut Vec::new()), Err(Odd));
    }
}

#[test]
fn what_is_straight_and_what_is_pythons() {
    let vectors: serde_json::Value = serde_json::from_str(include_str!("../../../tests/vectors/rest.json")).expect("vectors");
    for case in vectors["requests"].as_array().expect("cases") {
        assert_eq!(whole(case["body"].as_str().expect("a text")).is_ok(), case["straight"] == true, "{}", case["what"]);
    }
}
