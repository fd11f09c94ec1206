use super::*;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;

fn hex(text: &str) -> Vec<u8> {
    let digits: String = text.split_whitespace().collect();
    (0..digits.len()).step_by(2).map(|at| u8::from_str_radix(&digits[at..at + 2], 16).expect("a byte")).collect()
}

/// What a block says, with the names of pseudo-headers that no answer has.
fn read(decoder: &mut Decoder, block: &[u8]) -> Result<Vec<(String, Vec<u8>)>, Fault> {
    let mut out = Vec::new();
    decoder.decode(block, |field| {
        let name = match &field.name {
            Name::Status => ":status".to_owned(),
            Name::Wrong(bytes) => String::from_utf8_lossy(bytes).into_owned(),
            Name::Header(name) => name.to_string(),
        };
        out.push((name, field.value.as_ref().map_or_else(Vec::new, |value| value.as_bytes().to_vec())));
    })?;
    Ok(out)
}

fn fields(list: &[(&str, &str)]) -> Vec<(String, Vec<u8>)> {
    list.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect()
}

#[test]
fn the_examples_of_the_standard_are_read() {
    // RFC 7541, C.3: requests; C.4 are the same in Huffman's code.
    let first = fields(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]);
    let mut second = first.clone();
    second.extend(fields(&[("cache-control", "no-cache")]));
    let third = fields(&[
        (":method", "GET"),
        (":scheme", "https"),
        (":path", "/index.html"),
        (":authority", "www.example.com"),
        ("custom-key", "custom-value"),
    ]);
    let plain = [
        "8286 8441 0f77 7777 2e65 7861 6d70 6c65 2e63 6f6d",
        "8286 84be 5808 6e6f 2d63 6163 6865",
        "8287 85bf 400a 6375 7374 6f6d 2d6b 6579 0c63 7573 746f 6d2d 7661 6c75 65",
    ];
    let coded = [
        "8286 8441 8cf1 e3c2 e5f2 3a6b a0ab 90f4 ff",
        "8286 84be 5886 a8eb 1064 9cbf",
        "8287 85bf 4088 25a8 49e9 5ba9 7d7f 8925 a849 e95b b8e8 b4bf",
    ];
    for blocks in [plain, coded] {
        let mut decoder = Decoder::default();
        for (block, said) in blocks.iter().zip([&first, &second, &third]) {
            assert_eq!(read(&mut decoder, &hex(block)).as_ref(), Ok(said));
        }
    }
}

#[test]
fn the_examples_of_the_standard_with_a_table_that_is_full_are_read() {
    // RFC 7541, C.6: answers in Huffman's code, where the table takes 256 bytes, which is told first here.
    let (early, late) = ("Mon, 21 Oct 2013 20:13:21 GMT", "Mon, 21 Oct 2013 20:13:22 GMT");
    let beside = [("cache-control", "private"), ("date", early), ("location", "https://www.example.com")];
    let cookie = "foo=ASDJKHQKBZXOQWEOPIUAXQWEOIU; max-age=3600; version=1";
    let said = [
        fields(&[(":status", "302"), beside[0], beside[1], beside[2]]),
        fields(&[(":status", "307"), beside[0], beside[1], beside[2]]),
        fields(&[(":status", "200"), beside[0], ("date", late), beside[2], ("content-encoding", "gzip"), ("set-cookie", cookie)]),
    ];
    let blocks = [
        "3fe101 4882 6402 5885 aec3 771a 4b61 96d0 7abe 9410 54d4 44a8 2005 9504 0b81 66e0 82a6 2d1b ff6e 919d 29ad 1718 63c7 8f0b 97c8 e9ae \
         82ae 43d3",
        "4883 640e ffc1 c0bf",
        "88c1 6196 d07a be94 1054 d444 a820 0595 040b 8166 e084 a62d 1bff c05a 839b d9ab 77ad 94e7 821d d7f2 e6c7 b335 dfdf cd5b 3960 d5af \
         2708 7f36 72c1 ab27 0fb5 291f 9587 3160 65c0 03ed 4ee5 b106 3d50 07",
    ];
    let mut decoder = Decoder::default();
    for (block, said) in blocks.iter().zip(&said) {
        assert_eq!(read(&mut decoder, &hex(block)).as_ref(), Ok(said));
    }
}

#[test]
fn what_is_no_block_is_a_fault() {
    for block in [
        "80",                // index 0
        "be",                // an empty table's first
        "ff80808080808001",  // a number without end
        "3fe21f",            // a table larger than was allowed
        "8220",              // a size after a field
        "00",                // no name
        "0001",              // a name that is not there
        "000161",            // no value
        "0001610561",        // a value that is not there
        "00016181 00",       // Huffman's code with padding of a whole symbol
        "00016182 ffff",     // and one of more than seven bits
        "00016184 ffffffff", // the end's symbol
        "00016181 1e",       // and padding that is not ones
    ] {
        assert_eq!(read(&mut Decoder::default(), &hex(block)), Err(Fault), "{block}");
    }
}

#[test]
fn what_nobody_may_index_stays_so() {
    let mut found = Vec::new();
    let _ =
        Decoder::default().decode(&hex("1001610162 0001610162"), |field| found.extend(field.value.as_ref().map(HeaderValue::is_sensitive)));
    assert_eq!(found, [true, false]);
}

/// A request of the lane, as its encoder writes it and this decoder, which others' encoders proved, reads it.
fn written(encoder: &mut Encoder, decoder: &mut Decoder, path: &str, headers: &HeaderMap) -> (usize, Vec<(String, Vec<u8>)>) {
    let mut out = Vec::new();
    encoder.encode(&Head { method: "POST", scheme: "http", authority: "mesh", path, headers }, &mut out);
    let read = read(decoder, &out).expect("a block");
    (out.len(), read)
}

fn map(list: &[(&'static str, &str)]) -> HeaderMap {
    list.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).expect("a value"))).collect()
}

#[test]
fn a_kind_of_calls_becomes_one_byte_a_header() {
    let (mut encoder, mut decoder) = Default::default();
    let headers = map(&[("te", "trailers"), ("content-type", "application/grpc"), ("user-agent", "lane"), ("mm-model-id", "m")]);
    let sizes: Vec<usize> = (0..4).map(|_| written(&mut encoder, &mut decoder, "/a/B", &headers).0).collect();
    assert_eq!(sizes[2..], [8, 8], "{sizes:?}");
}

#[test]
fn what_differs_is_written_out_and_changes_no_table() {
    let (mut encoder, mut decoder) = Default::default();
    for number in 0..10_000 {
        let id = number.to_string();
        let headers = map(&[("te", "trailers"), ("x-request-id", &id), ("grpc-timeout", &id), ("authorization", "secret")]);
        let (size, said) = written(&mut encoder, &mut decoder, "/a/B", &headers);
        assert_eq!(said.len(), 8);
        assert!(number < 3 || size < 70, "{size}");
    }
    // Method and scheme are fixed; authority, path and `te` got in once, and the first id, which nobody knew to differ, not at all.
    assert_eq!(decoder.changes(), 3);
}

#[test]
fn secrets_are_never_indexed() {
    let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
    let mut headers = map(&[("authorization", "a"), ("cookie", "b"), ("x-plain", "c"), ("x-secret", "d")]);
    headers.get_mut("x-secret").expect("it is there").set_sensitive(true);
    for _ in 0..3 {
        let (mut out, mut secret) = (Vec::new(), Vec::new());
        encoder.encode(&Head { method: "POST", scheme: "http", authority: "mesh", path: "/", headers: &headers }, &mut out);
        let taken = decoder.decode(&out, |field| {
            if let (Name::Header(name), Some(true)) = (&field.name, field.value.as_ref().map(HeaderValue::is_sensitive)) {
                secret.push(name.to_string());
            }
        });
        assert_eq!(taken, Ok(()));
        assert_eq!(secret, ["authorization", "cookie", "x-secret"]);
    }
}

fn name() -> impl Strategy<Value = HeaderName> {
    // Few, so that they come again; some are in the static table.
    prop_oneof![Just("te"), Just("content-type"), Just("x-a"), Just("x-b"), Just("cookie"), Just("grpc-timeout"), Just("vary")]
        .prop_map(HeaderName::from_static)
}

fn value() -> impl Strategy<Value = HeaderValue> {
    prop_oneof![Just(Vec::new()), Just(b"gzip, deflate".to_vec()), vec(b'a'..=b'c', 0..3), vec(32u8..127, 0..1500)]
        .prop_map(|bytes| HeaderValue::from_maybe_shared(Bytes::from(bytes)).expect("a value"))
}

proptest! {
    #[test]
    fn any_requests_are_read_as_they_were_written(
        calls in vec((0usize..3, vec((name(), value()), 0..8), any::<bool>(), prop::option::weighted(0.1, 0usize..9000)), 1..60)
    ) {
        let (mut encoder, mut decoder) = (Encoder::default(), Decoder::default());
        let mut last = HeaderMap::new();
        for (path, list, same, table) in calls {
            if let Some(size) = table {
                encoder.resize(size);
            }
            // Mostly a kind that came before, with some other value.
            let headers = if same { last.clone() } else { list.into_iter().collect::<HeaderMap>() };
            last.clone_from(&headers);
            let path = ["/", "/a/B", "/index.html"][path];
            let (_, said) = written(&mut encoder, &mut decoder, path, &headers);
            let mut found: Vec<_> = said[4..].to_vec();
            let mut sent: Vec<_> = headers.iter().map(|(name, value)| (name.to_string(), value.as_bytes().to_vec())).collect();
            // The order of different names means nothing, that of values of one name does.
            found.sort_by(|one, other| one.0.cmp(&other.0));
            sent.sort_by(|one, other| one.0.cmp(&other.0));
            prop_assert_eq!(found, sent);
            prop_assert_eq!(&said[..4], &fields(&[(":method", "POST"), (":scheme", "http"), (":authority", "mesh"), (":path", path)])[..]);
        }
    }

    #[test]
    fn any_text_in_huffmans_code_is_read(text in vec(any::<u8>(), 0..200)) {
        let mut out = Vec::new();
        prop_assert_eq!(huffman::decoded(&huffman::encoded(&text), &mut out), Ok(()));
        prop_assert_eq!(out, text);
    }

    #[test]
    fn a_number_is_read_as_it_was_written(value in 0usize..200_000_000, bits in 1u32..=8) {
        let mut out = Vec::new();
        integer::put(&mut out, value, bits, 0);
        let mut rest = &out[..];
        prop_assert_eq!(integer::read(&mut rest, bits), Ok(value));
        prop_assert!(rest.is_empty());
    }

    #[test]
    fn garbage_harms_nobody(blocks in vec(vec(any::<u8>(), 0..300), 1..5)) {
        let mut decoder = Decoder::default();
        for block in blocks {
            let _ = read(&mut decoder, &block);
        }
    }
}
