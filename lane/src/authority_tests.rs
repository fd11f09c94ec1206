use super::*;
use proptest::prelude::*;

fn text(text: &[u8]) -> Vec<u8> {
    assert!(text.len() < 127);
    [&[text.len() as u8], text].concat()
}

fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
    let size = (payload.len() as u32).to_be_bytes();
    [&size[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
}

/// A block with an authority by the index of its name, one by the name itself, and fields that only look like one.
fn block(authority: &[u8]) -> Vec<u8> {
    [
        &[0x83, 0x86, 0x3f, 0xe1, 0x1f, 0x41][..],
        &text(authority),
        &[0x40],
        &text(NAME),
        &text(authority),
        &[0x04],
        &text(b"/a%2Cb,c"),
        &[0x00],
        &text(b":authorita"),
        &text(b"x,y"),
        &[0x0f, 0x28],
        &text(b"a,b"),
        &[0x40, 0x00],
        &text(b"1,2"),
    ]
    .concat()
}

fn connection(authority: &[u8]) -> Vec<u8> {
    let whole = block(authority);
    let (one, other) = whole.split_at(9);
    let padded = [&[3, 0, 0, 0, 0, 16][..], one, b"%,%"].concat();
    [
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        frame(4, 0, &[]),
        frame(HEADERS, PADDED | PRIORITY, &padded),
        frame(CONTINUATION, 4, other),
        frame(0, 1, b"a%2C,b"),
        frame(HEADERS, 4, &whole),
    ]
    .concat()
}

fn mended(authority: &str, cuts: &[usize]) -> Vec<u8> {
    let mut bytes = connection(authority.as_bytes());
    let (mut names, mut rest) = (Authorities::default(), &mut bytes[..]);
    for cut in cuts {
        let cut = (*cut).min(rest.len());
        let (piece, after) = std::mem::take(&mut rest).split_at_mut(cut);
        names.pass(piece);
        rest = after;
    }
    names.pass(rest);
    bytes
}

#[test]
fn several_addresses_become_one_that_is_taken() {
    for (sent, became) in [
        ("127.0.0.1:8033", "127.0.0.1:8033"),
        ("[::1]:8033", "[::1]:8033"),
        ("[fe80::1%25eth0]:8033", "[fe80::1%25eth0]:8033"),
        ("a_b.svc:8033", "a_b.svc:8033"),
        ("127.0.0.1:1,127.0.0.2:2", "127.0.0.1:1-127.0.0.2-2"),
        ("127.0.0.1:1%2C127.0.0.2:2", "127.0.0.1:1-2C127.0.0.2-2"),
        ("[::1]:1,[::2]:2", "[::1]:1----2--2"),
        ("%5B::1%5D:1", "-5B--1-5D-1"),
        ("", ""),
    ] {
        assert!(sent == became || became.parse::<http::uri::Authority>().is_ok(), "{became}");
        assert_eq!(mended(sent, &[]), connection(became.as_bytes()), "{sent}");
    }
}

#[test]
fn what_is_in_huffmans_code_stays() {
    let coded = [0x41, 0x82, b'%', b','];
    let mut bytes = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), frame(HEADERS, 4, &coded)].concat();
    let before = bytes.clone();
    Authorities::default().pass(&mut bytes);
    assert_eq!(bytes, before);
}

proptest! {
    #[test]
    fn however_it_arrives_it_becomes_the_same(cuts in proptest::collection::vec(0usize..40, 0..40)) {
        prop_assert_eq!(mended("127.0.0.1:1,[::2]:2", &cuts), mended("127.0.0.1:1,[::2]:2", &[]));
    }

    #[test]
    fn any_bytes_pass(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let mut passed = bytes.clone();
        Authorities::default().pass(&mut passed);
        prop_assert_eq!(passed.len(), bytes.len());
    }
}
