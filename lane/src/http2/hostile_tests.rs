//! The client with a server that says byte for byte what it is told to, right or wrong.

use super::frames::{Frame, HEAD, PREFACE, Settings, flag, kind};
use super::tests::{begun, head, link, story};
use super::*;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::collection::vec;
use proptest::prelude::*;
use std::rc::Rc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use tokio::task::{spawn_local, yield_now};
use tokio::time::timeout;

/// `:status: 200`, and `grpc-status: 0` without a place in the table.
const OK: &[u8] = &[0x88];
const STATUS: &[u8] = b"\x00\x0bgrpc-status\x010";
const END: u8 = flag::END_STREAM;
const WHOLE: u8 = flag::END_HEADERS;

fn frame(kind: u8, flags: u8, stream: u32, content: &[u8]) -> Vec<u8> {
    [&Frame { length: content.len(), kind, flags, stream }.bytes()[..], content].concat()
}

fn settings(settings: &Settings) -> Vec<u8> {
    frame(kind::SETTINGS, 0, 0, &settings.bytes())
}

fn hello() -> Vec<u8> {
    settings(&Settings::default())
}

fn number(value: u32) -> [u8; 4] {
    value.to_be_bytes()
}

/// Answers of one exchange, for stream 1 unless another is told.
fn answer(stream: u32) -> Vec<u8> {
    [frame(kind::HEADERS, WHOLE, stream, OK), frame(kind::DATA, 0, stream, b"body"), frame(kind::HEADERS, WHOLE | END, stream, STATUS)]
        .concat()
}

/// The next frame that the client sent.
async fn next(there: &mut DuplexStream) -> Option<(Frame, Vec<u8>)> {
    let mut head = [0; HEAD];
    there.read_exact(&mut head).await.ok()?;
    let frame = Frame::read(&head)?;
    let mut content = vec![0; frame.length];
    there.read_exact(&mut content).await.ok()?;
    Some((frame, content))
}

/// The next frame of a kind.
async fn next_of(there: &mut DuplexStream, kind: u8) -> Option<(Frame, Vec<u8>)> {
    loop {
        let (frame, content) = next(there).await?;
        if frame.kind == kind {
            return Some((frame, content));
        }
    }
}

async fn greeted(there: &mut DuplexStream) {
    let mut preface = vec![0; PREFACE.len()];
    there.read_exact(&mut preface).await.expect("a preface");
    assert_eq!(preface, PREFACE);
}

/// The body of an answer, if it comes to its end.
async fn body(exchange: &Exchange) -> Result<Vec<u8>, Broken> {
    exchange.head().await?;
    let mut all = Vec::new();
    while let Some(piece) = exchange.data().await {
        all.extend_from_slice(&piece?);
    }
    exchange.trailers().await.map(|_| all)
}

/// What comes of a call whose request was sent, where this is said to it, and the code with which the connection is given up.
fn said(bytes: Vec<u8>) -> (Result<Vec<u8>, Broken>, Option<Code>) {
    story(async {
        let (link, mut there) = link(1 << 20);
        let exchange = begun(&link, &HeaderMap::new()).await;
        exchange.put(Bytes::new(), true).await.expect("sent");
        greeted(&mut there).await;
        there.write_all(&bytes).await.expect("said");
        // Only what is still open then ends with it.
        let (mut hears, mut says) = tokio::io::split(there);
        says.shutdown().await.expect("shut");
        let came = body(&exchange).await;
        drop(says);
        let mut rest = Vec::new();
        let _ = hears.read_to_end(&mut rest).await;
        (came, gave_up(&rest))
    })
}

fn gave_up(mut bytes: &[u8]) -> Option<Code> {
    while let Some(frame) = Frame::read(bytes) {
        let (content, rest) = bytes[HEAD..].split_at(frame.length);
        if frame.kind == kind::GOAWAY {
            return Some(Code(u32::from_be_bytes(*content[4..].first_chunk::<4>().expect("a code"))));
        }
        bytes = rest;
    }
    None
}

#[test]
fn what_only_has_to_be_ignored_is() {
    let beside = [
        frame(0xfa, 0xff, 77, b"unknown"),
        frame(kind::PRIORITY, 0, 1, &[0; 5]),
        frame(kind::PRIORITY, 0, 99, &[0; 5]),
        frame(kind::PING, flag::ACK, 0, &[9; 8]),
        frame(kind::SETTINGS, flag::ACK, 0, &[]),
        frame(kind::SETTINGS, 0, 0, &[0xab, 0xcd, 0, 0, 0, 1]),
        frame(kind::WINDOW_UPDATE, 0, 1, &number(7)),
        frame(kind::HEADERS, WHOLE, 1, b"\x08\x03103"),
        frame(kind::HEADERS, WHOLE, 1, b"\x08\x03100"),
    ];
    let padded = [&[3][..], b"bo", &[0; 3]].concat();
    let headed = [&[0, 0, 0, 0, 0, 9][..], OK].concat();
    let bytes = [
        hello(),
        beside.concat(),
        frame(kind::HEADERS, WHOLE | flag::PADDED | flag::PRIORITY, 1, &headed),
        frame(kind::DATA, flag::PADDED, 1, &padded),
        frame(kind::DATA, 0, 1, b""),
        frame(kind::DATA, 0, 1, b"dy"),
        beside[..7].concat(),
        frame(kind::HEADERS, END, 1, &STATUS[..4]),
        frame(kind::CONTINUATION, 0, 1, b""),
        frame(kind::CONTINUATION, WHOLE, 1, &STATUS[4..]),
        frame(kind::RST_STREAM, 0, 1, &number(0)),
        frame(kind::WINDOW_UPDATE, 0, 1, &number(1)),
    ];
    assert_eq!(said(bytes.concat()), (Ok(b"body".to_vec()), None));
}

#[test]
fn an_answer_that_came_whole_outlives_the_reset_after_it() {
    story(async {
        let (link, mut there) = link(1 << 20);
        let exchange = begun(&link, &HeaderMap::new()).await;
        there.write_all(&[hello(), answer(1), frame(kind::RST_STREAM, 0, 1, &number(0))].concat()).await.expect("said");
        while exchange.put(Bytes::from_static(b"more"), false).await.is_ok() {
            yield_now().await;
        }
        assert_eq!(body(&exchange).await, Ok(b"body".to_vec()));
        assert!(link.is_open());
    });
}

#[test]
fn whoever_breaks_the_protocol_is_told_how_and_left() {
    let headers = || frame(kind::HEADERS, WHOLE, 1, OK);
    let after = |bytes: Vec<u8>| [hello(), headers(), bytes].concat();
    let large = Settings { window: Some((1 << 31) - 1), ..Settings::default() };
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("it does not begin with what it takes", headers(), Code::PROTOCOL_ERROR),
        ("it speaks HTTP/1.1", b"HTTP/1.1 400 Bad Request\r\n\r\n".to_vec(), Code::FRAME_SIZE_ERROR),
        ("a frame is too large", after(Frame { length: 1 << 20, kind: 0, flags: 0, stream: 1 }.bytes().to_vec()), Code::FRAME_SIZE_ERROR),
        ("a body of no stream", after(frame(kind::DATA, 0, 0, b"x")), Code::PROTOCOL_ERROR),
        ("a body of a stream that was not begun", after(frame(kind::DATA, 0, 3, b"x")), Code::PROTOCOL_ERROR),
        ("headers of a stream of its own", after(frame(kind::HEADERS, WHOLE, 2, OK)), Code::PROTOCOL_ERROR),
        ("more padding than frame", after(frame(kind::DATA, flag::PADDED, 1, &[9, 1])), Code::PROTOCOL_ERROR),
        ("padding without its length", after(frame(kind::DATA, flag::PADDED, 1, &[])), Code::FRAME_SIZE_ERROR),
        ("no block", after(frame(kind::HEADERS, WHOLE, 1, &[0x80])), Code::COMPRESSION_ERROR),
        ("a block that another frame cuts", after([frame(kind::HEADERS, 0, 1, OK), hello()].concat()), Code::PROTOCOL_ERROR),
        ("and one of another stream", after([frame(kind::HEADERS, 0, 1, OK), frame(9, WHOLE, 3, &[])].concat()), Code::PROTOCOL_ERROR),
        ("the rest of no block", after(frame(kind::CONTINUATION, WHOLE, 1, OK)), Code::PROTOCOL_ERROR),
        ("a block without end", after([frame(1, 0, 1, &[]), frame(9, 0, 1, &[]).repeat(2000)].concat()), Code::ENHANCE_YOUR_CALM),
        (
            "a block of too many bytes",
            after([frame(1, 0, 1, &[]), frame(9, 0, 1, &[0x88; 60_000]).repeat(20)].concat()),
            Code::ENHANCE_YOUR_CALM,
        ),
        ("a push", after(frame(kind::PUSH_PROMISE, WHOLE, 1, &[0, 0, 0, 2, 0x88])), Code::PROTOCOL_ERROR),
        ("a body after its end", after([frame(0, END, 1, b"x"), frame(0, 0, 1, b"x")].concat()), Code::STREAM_CLOSED),
        (
            "headers after the end",
            after([frame(1, WHOLE | END, 1, STATUS), frame(1, WHOLE | END, 1, STATUS)].concat()),
            Code::STREAM_CLOSED,
        ),
        ("settings of half a setting", after(frame(kind::SETTINGS, 0, 0, &[0; 5])), Code::FRAME_SIZE_ERROR),
        ("settings of a stream", after(frame(kind::SETTINGS, 0, 1, &[])), Code::PROTOCOL_ERROR),
        ("thanks with settings", after(frame(kind::SETTINGS, flag::ACK, 0, &[0; 6])), Code::FRAME_SIZE_ERROR),
        ("it wants pushes", after(settings(&Settings { push: Some(1), ..Settings::default() })), Code::PROTOCOL_ERROR),
        ("a push that is no truth value", after(settings(&Settings { push: Some(2), ..Settings::default() })), Code::PROTOCOL_ERROR),
        (
            "a window of more than there are",
            after(settings(&Settings { window: Some(1 << 31), ..Settings::default() })),
            Code::FLOW_CONTROL_ERROR,
        ),
        ("too small frames", after(settings(&Settings { frame: Some(1000), ..Settings::default() })), Code::PROTOCOL_ERROR),
        ("a sign of life of four bytes", after(frame(kind::PING, 0, 0, &[0; 4])), Code::FRAME_SIZE_ERROR),
        ("a sign of life of a stream", after(frame(kind::PING, 0, 1, &[0; 8])), Code::PROTOCOL_ERROR),
        ("a short goodbye", after(frame(kind::GOAWAY, 0, 0, &[0; 7])), Code::FRAME_SIZE_ERROR),
        ("a goodbye of a stream", after(frame(kind::GOAWAY, 0, 1, &[0; 8])), Code::PROTOCOL_ERROR),
        ("a short reset", after(frame(kind::RST_STREAM, 0, 1, &[0; 3])), Code::FRAME_SIZE_ERROR),
        ("a reset of no stream", after(frame(kind::RST_STREAM, 0, 0, &[0; 4])), Code::PROTOCOL_ERROR),
        ("a reset of a stream to come", after(frame(kind::RST_STREAM, 0, 7, &[0; 4])), Code::PROTOCOL_ERROR),
        ("a short window", after(frame(kind::WINDOW_UPDATE, 0, 0, &[0; 3])), Code::FRAME_SIZE_ERROR),
        ("no wider window", after(frame(kind::WINDOW_UPDATE, 0, 0, &[0; 4])), Code::PROTOCOL_ERROR),
        ("a window of a stream to come", after(frame(kind::WINDOW_UPDATE, 0, 7, &number(1))), Code::PROTOCOL_ERROR),
        (
            "a connection's window that is too wide",
            after(frame(kind::WINDOW_UPDATE, 0, 0, &number((1 << 31) - 1))),
            Code::FLOW_CONTROL_ERROR,
        ),
        ("a priority of the wrong size", after(frame(kind::PRIORITY, 0, 1, &[0; 4])), Code::FRAME_SIZE_ERROR),
        ("a priority of no stream", after(frame(kind::PRIORITY, 0, 0, &[0; 5])), Code::PROTOCOL_ERROR),
        (
            "windows of streams that settings make too wide",
            after([frame(kind::WINDOW_UPDATE, 0, 1, &number(1000)), settings(&large)].concat()),
            Code::FLOW_CONTROL_ERROR,
        ),
    ];
    for (what, bytes, code) in cases {
        let done = what.ends_with("end");
        let (came, left) = said(bytes);
        assert_eq!(left, Some(code), "{what}");
        assert!(came == Err(Broken::GoAway { code, remote: false }) || (done && came.is_ok()), "{what}: {came:?}");
    }
}

#[test]
fn a_stream_that_goes_wrong_ends_alone() {
    let upper = b"\x88\x00\x01X\x01x";
    let cases: Vec<(&str, Vec<u8>, Code)> = vec![
        ("no status", frame(kind::HEADERS, WHOLE, 1, STATUS), Code::PROTOCOL_ERROR),
        ("two of them", frame(kind::HEADERS, WHOLE, 1, &[0x88, 0x88]), Code::PROTOCOL_ERROR),
        ("a status after headers", frame(kind::HEADERS, WHOLE, 1, &[STATUS, OK].concat()), Code::PROTOCOL_ERROR),
        ("a status that is none", frame(kind::HEADERS, WHOLE, 1, b"\x08\x02ab"), Code::PROTOCOL_ERROR),
        ("a request's method", frame(kind::HEADERS, WHOLE, 1, &[0x88, 0x82]), Code::PROTOCOL_ERROR),
        ("capitals", frame(kind::HEADERS, WHOLE, 1, upper), Code::PROTOCOL_ERROR),
        ("a value with a line's end", frame(kind::HEADERS, WHOLE, 1, b"\x88\x00\x01x\x01\n"), Code::PROTOCOL_ERROR),
        ("what is of a connection", frame(kind::HEADERS, WHOLE, 1, b"\x88\x00\x0aconnection\x05close"), Code::PROTOCOL_ERROR),
        ("a length that is none", frame(kind::HEADERS, WHOLE, 1, b"\x88\x0f\x0d\x01x"), Code::PROTOCOL_ERROR),
        ("a switch of protocols", frame(kind::HEADERS, WHOLE, 1, b"\x08\x03101"), Code::PROTOCOL_ERROR),
        ("an end before the beginning", frame(kind::HEADERS, WHOLE | END, 1, b"\x08\x03100"), Code::PROTOCOL_ERROR),
        ("a body before its head", frame(kind::DATA, 0, 1, b"x"), Code::PROTOCOL_ERROR),
        ("trailers before the end", [frame(1, WHOLE, 1, OK), frame(1, WHOLE, 1, STATUS)].concat(), Code::PROTOCOL_ERROR),
        ("trailers with a status", [frame(1, WHOLE, 1, OK), frame(1, WHOLE | END, 1, OK)].concat(), Code::PROTOCOL_ERROR),
        ("less than its length", [frame(1, WHOLE, 1, b"\x88\x0f\x0d\x019"), frame(0, END, 1, b"x")].concat(), Code::PROTOCOL_ERROR),
        ("more than its length", [frame(1, WHOLE, 1, b"\x88\x0f\x0d\x011"), frame(0, 0, 1, b"xy")].concat(), Code::PROTOCOL_ERROR),
        ("no wider window", frame(kind::WINDOW_UPDATE, 0, 1, &[0; 4]), Code::PROTOCOL_ERROR),
        ("a window that is too wide", frame(kind::WINDOW_UPDATE, 0, 1, &number((1 << 31) - 1)), Code::FLOW_CONTROL_ERROR),
        ("too much", [frame(1, WHOLE, 1, OK), frame(0, 0, 1, &[0; 65_000]).repeat(5)].concat(), Code::FLOW_CONTROL_ERROR),
        // One byte that stands for 4,000, as often as fits: nothing is kept of it.
        (
            "headers that become large",
            frame(kind::HEADERS, WHOLE, 1, &[&b"\x88\x40\x01a\x7f\xa1\x1e"[..], &[b'x'; 4000], &[0xbe; 60_000]].concat()),
            Code::PROTOCOL_ERROR,
        ),
    ];
    for (what, bytes, code) in cases {
        story(async {
            let (link, mut there) = link(1 << 20);
            let (one, two) = (begun(&link, &HeaderMap::new()).await, begun(&link, &HeaderMap::new()).await);
            there.write_all(&[hello(), bytes].concat()).await.expect("said");
            let reset = next_of_kind_after_preface(&mut there, kind::RST_STREAM).await;
            assert_eq!(reset, Some((1, code.0.to_be_bytes().to_vec())), "{what}");
            assert_eq!(failed(&one).await, Broken::Reset { code, remote: false }, "{what}");
            // What of the first was under way is no harm.
            let late = [frame(kind::DATA, 0, 1, b"late"), frame(kind::HEADERS, WHOLE | END, 1, STATUS), answer(3)];
            there.write_all(&late.concat()).await.expect("said");
            assert_eq!(body(&two).await, Ok(b"body".to_vec()), "{what}");
        });
    }
}

/// Why no answer came to its end; pieces of it may have come.
async fn failed(exchange: &Exchange) -> Broken {
    body(exchange).await.expect_err("no answer")
}

async fn next_of_kind_after_preface(there: &mut DuplexStream, kind: u8) -> Option<(u32, Vec<u8>)> {
    greeted(there).await;
    next_of(there, kind).await.map(|(frame, content)| (frame.stream, content))
}

#[test]
fn a_goodbye_refuses_only_what_came_after_it() {
    story(async {
        let (link, mut there) = link(1 << 20);
        let (one, two) = (begun(&link, &HeaderMap::new()).await, begun(&link, &HeaderMap::new()).await);
        let goodbye = [&number(1)[..], &number(11), b"too many of you"].concat();
        there.write_all(&[hello(), frame(kind::GOAWAY, 0, 0, &goodbye), answer(1)].concat()).await.expect("said");
        let refused = body(&two).await.expect_err("no answer");
        assert!(refused.is_refused() && refused == Broken::GoAway { code: Code::ENHANCE_YOUR_CALM, remote: true });
        assert_eq!(body(&one).await, Ok(b"body".to_vec()));
        assert!(!link.is_open());
    });
}

#[test]
fn who_asks_and_takes_no_answers_is_not_heard() {
    story(async {
        let (link, mut there) = link(4096);
        let exchange = begun(&link, &HeaderMap::new()).await;
        let asking = spawn_local(async move {
            there.write_all(&hello()).await.expect("said");
            // Far more than is kept of answers, and then something that would count.
            let questions = frame(kind::PING, 0, 0, &[1; 8]).repeat(1_000_000);
            let asked = there.write_all(&questions);
            let stuck = tokio::select! {
                _ = asked => false,
                () = async { for _ in 0..100_000 { yield_now().await } } => true,
            };
            (stuck, there)
        });
        let (stuck, there) = asking.await.expect("it ran");
        assert!(stuck && link.is_open());
        drop(there);
        assert!(body(&exchange).await.expect_err("no answer").is_io());
    });
}

#[test]
fn who_takes_nothing_gets_no_more_calls() {
    story(async {
        let (link, mut there) = link(4096);
        let headers =
            [(HeaderName::from_static("x-large"), HeaderValue::try_from("x".repeat(10_000)).expect("a value"))].into_iter().collect();
        let mut calls = 0;
        while let Ok(promise) = timeout(Duration::from_millis(50), link.promise()).await {
            drop(promise.expect("it is open").begin(&head("/a/B", &headers)).expect("begun"));
            calls += 1;
            assert!(calls < 1000);
        }
        let waiting = spawn_local({
            let link = Rc::clone(&link);
            async move { link.promise().await.map(drop) }
        });
        greeted(&mut there).await;
        for _ in 0..calls {
            next_of(&mut there, kind::RST_STREAM).await.expect("called off");
        }
        assert_eq!(waiting.await.expect("it ran"), Ok(()));
    });
}

#[test]
fn a_table_that_the_other_side_shrinks_is_told_before_it_is_used() {
    story(async {
        let (link, mut there) = link(1 << 20);
        greeted(&mut there).await;
        let table = |size| settings(&Settings { table: Some(size), ..Settings::default() });
        there.write_all(&[table(0), table(100)].concat()).await.expect("said");
        while link.most() == 100 {
            yield_now().await;
        }
        let _exchange = begun(&link, &HeaderMap::new()).await;
        let (_, block) = next_of(&mut there, kind::HEADERS).await.expect("headers");
        assert_eq!(block[..4], [0x20, 0x3f, 69, 0x83]);
    });
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// Nothing panics, and nobody waits for ever.
    #[test]
    fn garbage_ends_what_runs(
        frames in vec((0u8..11, any::<u8>(), 0u32..5, vec(any::<u8>(), 0..40)), 0..30), raw in vec(any::<u8>(), 0..60), greet in any::<bool>()
    ) {
        let mut bytes = if greet { hello() } else { Vec::new() };
        frames.into_iter().for_each(|(kind, flags, stream, content)| bytes.extend(frame(kind, flags, stream, &content)));
        bytes.extend(raw);
        let _ = said(bytes);
    }

    /// Where the pieces end in which bytes come means nothing.
    #[test]
    fn frames_may_come_in_any_pieces(cuts in vec(1usize..40, 1..40), large in 0usize..60_000) {
        story(async {
            let (link, mut there) = link(1 << 20);
            let exchange = Rc::new(begun(&link, &HeaderMap::new()).await);
            let data = frame(kind::DATA, 0, 1, &vec![7; large]);
            let bytes = [hello(), frame(kind::HEADERS, WHOLE, 1, OK), data, frame(kind::HEADERS, WHOLE | END, 1, STATUS)].concat();
            let taking = spawn_local({
                let exchange = Rc::clone(&exchange);
                async move { body(&exchange).await }
            });
            let (mut rest, mut cuts) = (&bytes[..], cuts.iter().cycle());
            let short = bytes.len().min(400);
            while !rest.is_empty() {
                let size = if bytes.len() - rest.len() < short { *cuts.next().expect("a cut") } else { 7919 };
                let (now, after) = rest.split_at(size.min(rest.len()));
                there.write_all(now).await.expect("said");
                yield_now().await;
                rest = after;
            }
            assert_eq!(taking.await.expect("it ran"), Ok(vec![7; large]));
        });
    }
}
