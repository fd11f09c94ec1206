//! The vectors that both planes run, and what holds for any bytes.

use super::{Edit, Fault, find, put_varint, replace};
use proptest::prelude::*;
use serde_json::Value;

fn vectors(kind: &str) -> Vec<Value> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/vectors/splice.json");
    let text = std::fs::read_to_string(path).expect("the vectors are beside the tests");
    let all: Value = serde_json::from_str(&text).expect("the vectors are JSON");
    all[kind].as_array().expect("a list").clone()
}

fn bytes(value: &Value) -> Vec<u8> {
    let text = value.as_str().expect("hex");
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex")).collect()
}

fn path(vector: &Value) -> Vec<u32> {
    vector["path"].as_array().expect("a list").iter().map(|number| number.as_u64().expect("a number") as u32).collect()
}

fn whole(message: &[u8], edit: Option<Edit>) -> Vec<u8> {
    edit.map_or(message.to_vec(), |edit| {
        let made = [&edit.head[..], &message[edit.cut..]].concat();
        assert_eq!(made.len(), edit.total);
        made
    })
}

fn refused_at<T: std::fmt::Debug>(outcome: Result<T, Fault>, vector: &Value) {
    let Err(Fault::Broken { offset, .. }) = outcome else { panic!("{}: {outcome:?}", vector["name"]) };
    assert_eq!(offset as u64, vector["error_at"].as_u64().expect("an offset"), "{}", vector["name"]);
}

#[test]
fn reading_follows_the_vectors() {
    for vector in vectors("read") {
        let message = bytes(&vector["message"]);
        let outcome = find(&message, message.len(), &path(&vector));
        if vector.get("error_at").is_some() {
            refused_at(outcome, &vector);
        } else {
            let value = outcome.expect("readable").map(|span| message[span.start..span.end].to_vec());
            assert_eq!(value, (!vector["value"].is_null()).then(|| bytes(&vector["value"])), "{}", vector["name"]);
        }
    }
}

#[test]
fn replacing_follows_the_vectors() {
    for vector in vectors("replace") {
        let message = bytes(&vector["message"]);
        let outcome = replace(&message, message.len(), &path(&vector), &bytes(&vector["value"]));
        if vector.get("error_at").is_some() {
            refused_at(outcome, &vector);
        } else {
            assert_eq!(whole(&message, outcome.expect("replaceable")), bytes(&vector["result"]), "{}", vector["name"]);
        }
    }
}

/// A message of fields that are skipped, with the field wanted somewhere among them or not at all.
fn messages() -> impl Strategy<Value = Vec<u8>> {
    let field = (1u32..6, proptest::collection::vec(any::<u8>(), 0..200), 0u8..4).prop_map(|(number, value, kind)| {
        let mut out = Vec::new();
        match kind {
            0 => {
                put_varint(&mut out, (number as usize) << 3);
                put_varint(&mut out, value.len() * 1_000_003);
            }
            1 => {
                put_varint(&mut out, (number as usize + 10) << 3 | 1);
                out.extend_from_slice(&[7; 8]);
            }
            _ => {
                put_varint(&mut out, (number as usize + 10) << 3 | 2);
                put_varint(&mut out, value.len());
                out.extend_from_slice(&value);
            }
        }
        out
    });
    let wanted = proptest::collection::vec(any::<u8>(), 0..300).prop_map(|value| {
        let mut out = vec![7 << 3 | 2];
        put_varint(&mut out, value.len());
        out.extend_from_slice(&value);
        out
    });
    (proptest::collection::vec(field, 0..8), proptest::option::of(wanted), 0usize..9).prop_map(|(mut fields, wanted, at)| {
        if let Some(wanted) = wanted {
            fields.insert(at.min(fields.len()), wanted);
        }
        fields.concat()
    })
}

proptest! {
    #[test]
    fn a_replaced_value_is_found_and_the_old_one_put_back_gives_the_message(message in messages(), value in proptest::collection::vec(any::<u8>(), 0..300)) {
        let old = find(&message, message.len(), &[7]).expect("well formed").map(|span| message[span.start..span.end].to_vec());
        let made = whole(&message, replace(&message, message.len(), &[7], &value).expect("well formed"));
        let span = find(&made, made.len(), &[7]).expect("well formed").expect("it is there");
        prop_assert_eq!(&made[span.start..span.end], &value[..]);
        if let Some(old) = old {
            let back = whole(&made, replace(&made, made.len(), &[7], &old).expect("well formed"));
            prop_assert_eq!(back, message);
        } else {
            prop_assert_eq!(&made[..message.len()], &message[..]);
        }
    }

    #[test]
    fn the_first_bytes_tell_the_same_as_the_whole_or_that_they_are_too_few(message in messages(), cut in any::<prop::sample::Index>(), value in "[a-z]{0,200}") {
        let there = cut.index(message.len() + 1);
        let by_all = replace(&message, message.len(), &[7], value.as_bytes());
        match replace(&message[..there], message.len(), &[7], value.as_bytes()) {
            Err(Fault::Short) => prop_assert!(there < message.len()),
            by_some => prop_assert_eq!(by_some, by_all),
        }
    }

    #[test]
    fn any_bytes_are_read_or_refused(message in proptest::collection::vec(any::<u8>(), 0..64), path in proptest::collection::vec(1u32..4, 1..4)) {
        if let Ok(Some(span)) = find(&message, message.len(), &path) {
            prop_assert!(span.start <= span.end && span.end <= message.len());
            let made = whole(&message, replace(&message, message.len(), &path, b"id").expect("it was readable"));
            let found = find(&made, made.len(), &path).expect("still readable").expect("still there");
            prop_assert_eq!(&made[found.start..found.end], b"id");
        }
    }
}
