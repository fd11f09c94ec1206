//! Messages keep their bounds however their bytes come.

use super::{Addressing, Messages, PREFIX, Refusal};
use bytes::Bytes;
use proptest::prelude::*;

fn framed(messages: &[Vec<u8>]) -> Vec<u8> {
    messages.iter().flat_map(|one| [&[0][..], &(one.len() as u32).to_be_bytes(), one].concat()).collect()
}

fn infer(name: &str, rest: &[u8]) -> Vec<u8> {
    let mut out = vec![0x0a, name.len() as u8];
    out.extend_from_slice(name.as_bytes());
    if !rest.is_empty() {
        out.extend_from_slice(&[0x12, (rest.len() % 128) as u8]);
        out.extend_from_slice(&rest[..rest.len() % 128]);
    }
    out
}

fn addressing(inject: &[u32], extract: &[u32], limit: usize) -> Messages {
    Messages::new(Addressing { inject: inject.into(), extract: extract.into(), model: "digits-v2".into(), called: "digits".into(), limit })
}

fn fed(messages: &mut Messages, body: &[u8], pieces: &[usize]) -> Result<Vec<u8>, Refusal> {
    let (mut out, mut at) = (Vec::new(), 0);
    for piece in pieces.iter().copied().chain([body.len()]) {
        let end = (at + piece).min(body.len());
        messages.feed(Bytes::copy_from_slice(&body[at..end]), &mut out)?;
        at = end;
    }
    out.push(messages.rest());
    Ok(out.concat())
}

proptest! {
    #[test]
    fn each_message_names_the_concrete_model_however_its_bytes_are_cut(
        tails in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..100), 1..5),
        pieces in proptest::collection::vec(1usize..40, 0..30),
    ) {
        let body = framed(&tails.iter().map(|tail| infer("digits", tail)).collect::<Vec<_>>());
        let wanted = framed(&tails.iter().map(|tail| infer("digits-v2", tail)).collect::<Vec<_>>());
        prop_assert_eq!(fed(&mut addressing(&[1], &[1], 1 << 20), &body, &pieces), Ok(wanted));
    }

    #[test]
    fn a_model_that_no_message_names_is_added_at_the_end_of_each(
        sizes in proptest::collection::vec(0usize..120, 1..4),
        pieces in proptest::collection::vec(1usize..40, 0..30),
    ) {
        let plain: Vec<Vec<u8>> = sizes.iter().map(|size| [&[0x12, *size as u8][..], &vec![9; *size]].concat()).collect();
        let named: Vec<Vec<u8>> = plain.iter().map(|one| [&one[..], &infer("digits-v2", &[])].concat()).collect();
        prop_assert_eq!(fed(&mut addressing(&[1], &[1], 1 << 20), &framed(&plain), &pieces), Ok(framed(&named)));
    }

    #[test]
    fn without_a_field_every_byte_passes(body in proptest::collection::vec(any::<u8>(), 0..300), pieces in proptest::collection::vec(1usize..40, 0..9)) {
        if let Ok(passed) = fed(&mut addressing(&[], &[], usize::MAX), &body, &pieces) {
            prop_assert_eq!(passed, body);
        }
    }
}

#[test]
fn a_large_message_is_passed_on_from_its_first_bytes() {
    let mut messages = addressing(&[1], &[1], 1 << 30);
    let mut start = vec![0];
    start.extend_from_slice(&(1_000_000u32).to_be_bytes());
    start.extend_from_slice(&infer("digits", &[]));
    start.extend_from_slice(&[0x3a, 0xb0, 0x84, 0x3d]);
    let mut out = Vec::new();
    messages.feed(start.into(), &mut out).expect("passes");
    let sent = out.concat();
    assert_eq!(sent[1..PREFIX], 1_000_003u32.to_be_bytes());
    assert_eq!(&sent[PREFIX..], [&infer("digits-v2", &[])[..], &[0x3a, 0xb0, 0x84, 0x3d]].concat());
}

#[test]
fn a_later_message_may_not_name_another_model() {
    let body = framed(&[infer("digits", b""), infer("digits-v2", b""), infer("", b""), infer("letters", b"")]);
    let refused = fed(&mut addressing(&[1], &[1], 100), &body, &[]);
    assert_eq!(
        refused,
        Err(Refusal::Malformed("a message of this stream names model 'letters', but the stream is for 'digits'".to_owned()))
    );
}

#[test]
fn a_message_beyond_the_limit_is_refused_by_its_length() {
    let refused = fed(&mut addressing(&[], &[], 10), &[0, 0, 0, 0, 11], &[]);
    assert_eq!(refused, Err(Refusal::TooLarge { size: 11, limit: 10 }));
}

#[test]
fn a_compressed_message_cannot_be_addressed() {
    assert_eq!(fed(&mut addressing(&[1], &[], 10), &[1, 0, 0, 0, 1, 7], &[]), Err(Refusal::Compressed));
}

#[test]
fn garbage_is_refused_in_the_words_of_the_python_door() {
    let refused = fed(&mut addressing(&[1], &[], 10), &framed(&[vec![8]]), &[]);
    let Err(Refusal::Malformed(text)) = refused else { panic!("{refused:?}") };
    assert!(
        text.starts_with("field 1 of the request message cannot be found: wire type 0 instead of 2 for field 1 at byte 0 of 1;"),
        "{text}"
    );
}
