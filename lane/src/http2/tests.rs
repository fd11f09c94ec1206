//! The client with the `h2` crate's server as whoever answers.

use super::*;
use bytes::Bytes;
use h2::server::{Builder, Connection, SendResponse};
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response};
use std::future::{Future, poll_fn};
use std::rc::Rc;
use tokio::io::DuplexStream;
use tokio::task::{LocalSet, spawn_local};

pub const SIZES: Sizes = Sizes { stream_window: 256 * 1024, connection_window: (1 << 31) - 1, frame: 64 * 1024, headers: 1 << 20 };

/// Runs a story of this thread.
pub fn story<T>(told: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    LocalSet::new().block_on(&runtime, told)
}

/// A connection, and its other end; `pipe`: bytes that are under way between them at most.
pub fn link(pipe: usize) -> (Rc<Link>, DuplexStream) {
    let (here, there) = tokio::io::duplex(pipe);
    let (link, mut driver) = Link::new(here, SIZES);
    spawn_local(async move { poll_fn(|cx| driver.poll(cx)).await });
    (Rc::new(link), there)
}

/// Serves with the library what comes over a connection.
pub fn serve<F: Future<Output = ()> + 'static>(
    builder: Builder,
    io: DuplexStream,
    answer: impl Fn(Request<RecvStream>, SendResponse<Bytes>) -> F + 'static,
) {
    spawn_local(async move {
        let mut connection: Connection<_, Bytes> = builder.handshake(io).await.expect("a connection");
        while let Some(Ok((request, respond))) = connection.accept().await {
            spawn_local(answer(request, respond));
        }
    });
}

pub fn head<'a>(path: &'a str, headers: &'a HeaderMap) -> Head<'a> {
    Head { method: "POST", scheme: "http", authority: "mesh", path, headers }
}

pub async fn begun(link: &Link, headers: &HeaderMap) -> Exchange {
    link.promise().await.expect("a promise").begin(&head("/a/B", headers)).expect("begun")
}

/// All that is answered: head, body and trailers.
async fn answered(exchange: &Exchange) -> Result<(Response<()>, Vec<u8>, Option<HeaderMap>), Broken> {
    let head = exchange.head().await?;
    let mut body = Vec::new();
    while let Some(piece) = exchange.data().await {
        let piece = piece?;
        exchange.took(piece.len());
        body.extend_from_slice(&piece);
    }
    Ok((head, body, exchange.trailers().await?))
}

/// Sends a body in pieces and takes the answer, both at once.
pub async fn called(link: &Link, headers: &HeaderMap, pieces: &[Bytes]) -> Result<(Response<()>, Vec<u8>, Option<HeaderMap>), Broken> {
    let exchange = begun(link, headers).await;
    let upload = async {
        for piece in pieces {
            exchange.put(piece.clone(), false).await?;
        }
        exchange.put(Bytes::new(), true).await
    };
    let (sent, said) = tokio::join!(upload, answered(&exchange));
    sent.and(said)
}

async fn sent(stream: &mut h2::SendStream<Bytes>, mut piece: Bytes) {
    while !piece.is_empty() {
        stream.reserve_capacity(piece.len());
        let Some(Ok(room)) = poll_fn(|cx| stream.poll_capacity(cx)).await else { return };
        if stream.send_data(piece.split_to(room.min(piece.len())), false).is_err() {
            return;
        }
    }
}

/// Says everything back: headers as headers and as trailers, and the body.
pub async fn echo(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (parts, mut body) = request.into_parts();
    let mut response = Response::new(());
    *response.headers_mut() = parts.headers.clone();
    let mut stream = respond.send_response(response, false).expect("said");
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
        sent(&mut stream, piece).await;
    }
    let _ = stream.send_trailers(parts.headers);
}

pub fn plain() -> HeaderMap {
    [("te", "trailers"), ("content-type", "application/grpc")]
        .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
        .into_iter()
        .collect()
}

#[test]
fn a_call_comes_back_with_its_headers_body_and_trailers() {
    story(async {
        let (link, there) = link(64 * 1024);
        serve(Builder::new(), there, echo);
        for _ in 0..5 {
            let (head, body, trailers) =
                called(&link, &plain(), &[Bytes::from_static(b"one"), Bytes::from_static(b"two")]).await.expect("an answer");
            assert_eq!((head.status().as_u16(), head.headers(), &body[..], trailers), (200, &plain(), &b"onetwo"[..], Some(plain())));
        }
    });
}

#[test]
fn an_answer_may_be_its_head_alone() {
    story(async {
        let (link, there) = link(1024);
        serve(Builder::new(), there, |_, mut respond| async move {
            let answer = Response::builder().status(404).header("grpc-status", "12").body(()).expect("an answer");
            drop(respond.send_response(answer, true));
        });
        let exchange = begun(&link, &plain()).await;
        exchange.put(Bytes::new(), true).await.expect("sent");
        let head = exchange.head().await.expect("a head");
        assert!(exchange.is_bare() && head.status() == 404 && head.headers()["grpc-status"] == "12");
        assert!(exchange.data().await.is_none());
        assert_eq!(exchange.trailers().await, Ok(None));
    });
}

#[test]
fn beyond_what_the_other_side_takes_calls_wait_their_turn() {
    story(async {
        let (link, there) = link(64 * 1024);
        let mut builder = Builder::new();
        builder.max_concurrent_streams(2);
        serve(builder, there, echo);
        called(&link, &plain(), &[]).await.expect("an answer, before which nothing was said about streams");
        assert_eq!(link.most(), 2);
        let (one, two) = (begun(&link, &plain()).await, begun(&link, &plain()).await);
        let third = spawn_local({
            let link = Rc::clone(&link);
            async move { called(&link, &plain(), &[]).await }
        });
        let gone = spawn_local({
            let link = Rc::clone(&link);
            async move { called(&link, &plain(), &[]).await }
        });
        tokio::task::yield_now().await;
        gone.abort();
        assert!(!third.is_finished());
        one.put(Bytes::new(), true).await.expect("sent");
        answered(&one).await.expect("an answer");
        third.await.expect("it ran").expect("an answer");
        drop(two);
        called(&link, &plain(), &[]).await.expect("a place that was given up is free");
    });
}

#[test]
fn a_call_that_is_given_up_is_called_off() {
    story(async {
        let (link, there) = link(64 * 1024);
        let (tell, mut told) = tokio::sync::mpsc::unbounded_channel();
        serve(Builder::new(), there, move |request, mut respond| {
            let tell = tell.clone();
            async move {
                let _held = request;
                let why = poll_fn(|cx| respond.poll_reset(cx)).await;
                let _ = tell.send(why.expect("a reason"));
            }
        });
        drop(begun(&link, &plain()).await);
        assert_eq!(told.recv().await, Some(Reason::CANCEL));
        assert!(link.is_open());
    });
}

#[test]
fn a_stream_that_is_refused_is_told_from_one_that_is_reset() {
    for (why, refused) in [(Reason::REFUSED_STREAM, true), (Reason::INTERNAL_ERROR, false), (Reason::CANCEL, false)] {
        let broken = story(async {
            let (link, there) = link(64 * 1024);
            serve(Builder::new(), there, move |_, mut respond| async move { respond.send_reset(why) });
            called(&link, &plain(), &[]).await.expect_err("no answer")
        });
        assert_eq!(broken, Broken::Reset { code: Code(u32::from(why)), remote: true });
        assert_eq!(broken.is_refused(), refused);
    }
}

#[test]
fn a_connection_that_leaves_ends_its_calls_and_takes_no_more() {
    story(async {
        let (link, there) = link(64 * 1024);
        let leaving = Rc::new(tokio::sync::Notify::new());
        spawn_local({
            let leaving = Rc::clone(&leaving);
            async move {
                let mut connection: Connection<_, Bytes> = Builder::new().handshake(there).await.expect("a connection");
                loop {
                    tokio::select! {
                        came = connection.accept() => match came {
                            Some(Ok((request, respond))) => drop(spawn_local(echo(request, respond))),
                            _ => return,
                        },
                        () = leaving.notified() => connection.graceful_shutdown(),
                    }
                }
            }
        });
        let running = begun(&link, &plain()).await;
        running.head().await.expect("a head");
        leaving.notify_one();
        while link.is_open() {
            tokio::task::yield_now().await;
        }
        assert!(link.promise().await.is_err_and(|broken| broken.is_refused()));
        running.put(Bytes::from_static(b"last"), true).await.expect("sent");
        assert_eq!(running.data().await, Some(Ok(Bytes::from_static(b"last"))));
    });
}

#[test]
fn a_connection_that_is_lost_ends_its_calls() {
    story(async {
        let (link, there) = link(64 * 1024);
        let running = begun(&link, &plain()).await;
        assert_eq!(link.most(), 100);
        drop(there);
        assert!(answered(&running).await.expect_err("no answer").is_io());
        assert!(running.put(Bytes::from_static(b"x"), true).await.is_err());
        assert!(!link.is_open() && link.promise().await.is_err());
    });
}

#[test]
fn signs_of_life_are_given_and_asked_for() {
    story(async {
        let (link, there) = link(64 * 1024);
        let (tell, told) = tokio::sync::oneshot::channel();
        spawn_local(async move {
            let mut connection: Connection<_, Bytes> = Builder::new().handshake(there).await.expect("a connection");
            let mut pings = connection.ping_pong().expect("pings");
            spawn_local(async move { tell.send(pings.ping(h2::Ping::opaque()).await.is_ok()) });
            while connection.accept().await.is_some() {}
        });
        assert!(link.is_alive().await && link.is_alive().await);
        assert_eq!(told.await, Ok(true));
        link.abandon();
        assert!(!link.is_open() && !link.is_alive().await);
    });
}

#[test]
fn a_slow_taker_holds_up_its_own_answer_only() {
    story(async {
        let (link, there) = link(64 * 1024);
        serve(Builder::new(), there, |request, mut respond| async move {
            let size = if request.headers().contains_key("x-large") { 4 << 20 } else { 10 };
            let mut stream = respond.send_response(Response::new(()), false).expect("said");
            sent(&mut stream, Bytes::from(vec![7; size])).await;
            let _ = stream.send_data(Bytes::new(), true);
        });
        let mut headers = plain();
        headers.insert("x-large", HeaderValue::from_static("1"));
        let slow = begun(&link, &headers).await;
        slow.head().await.expect("a head");
        for _ in 0..50 {
            assert_eq!(called(&link, &plain(), &[]).await.expect("an answer").1.len(), 10);
        }
        let mut there = 0;
        while let Some(Ok(piece)) = tokio::select! { biased; piece = slow.data() => piece, () = tokio::task::yield_now() => None } {
            there += piece.len();
        }
        assert_eq!(there, SIZES.stream_window as usize);
        slow.took(there);
        while there < 4 << 20 {
            let piece = slow.data().await.expect("more").expect("a piece");
            slow.took(piece.len());
            there += piece.len();
        }
    });
}

#[test]
fn large_bodies_take_turns_and_who_leaves_the_line_holds_up_nobody() {
    story(async {
        let (link, there) = link(64 * 1024);
        // The connection's own window is the usual one, which the first body would have for itself.
        serve(Builder::new(), there, echo);
        let body = Bytes::from(vec![3; 1 << 20]);
        let mut running = Vec::new();
        for number in 0..12 {
            let (link, body) = (Rc::clone(&link), body.clone());
            let done = spawn_local(async move {
                let exchange = begun(&link, &plain()).await;
                if number % 3 == 0 {
                    // It has no window of its own any more, and leaves.
                    tokio::select! {
                        biased;
                        _ = exchange.put(body, true) => panic!("nothing of the answer was taken"),
                        () = async { for _ in 0..number * 50 { tokio::task::yield_now().await } } => return None,
                    }
                }
                let (sent, said) = tokio::join!(exchange.put(body, true), answered(&exchange));
                sent.and(said).ok().map(|(_, body, _)| body.len())
            });
            running.push(done);
        }
        for (number, done) in running.into_iter().enumerate() {
            assert_eq!(done.await.expect("it ran"), (number % 3 > 0).then_some(1 << 20), "{number}");
        }
    });
}

#[test]
fn a_window_that_changes_under_way_counts_for_what_runs() {
    story(async {
        let (link, there) = link(64 * 1024);
        let mut builder = Builder::new();
        builder.initial_window_size(0);
        let wider = Rc::new(tokio::sync::Notify::new());
        spawn_local({
            let wider = Rc::clone(&wider);
            async move {
                let mut connection: Connection<_, Bytes> = builder.handshake(there).await.expect("a connection");
                loop {
                    tokio::select! {
                        came = connection.accept() => match came {
                            Some(Ok((request, respond))) => drop(spawn_local(echo(request, respond))),
                            _ => return,
                        },
                        () = wider.notified() => connection.set_initial_window_size(100_000).expect("set"),
                    }
                }
            }
        });
        let exchange = begun(&link, &plain()).await;
        exchange.head().await.expect("a head");
        let second = begun(&link, &plain()).await;
        second.head().await.expect("a head");
        let large = Bytes::from(vec![1; 50_000]);
        let mut upload = std::pin::pin!(second.put(large.clone(), true));
        tokio::select! {
            biased;
            _ = &mut upload => panic!("there is no room"),
            () = tokio::task::yield_now() => wider.notify_one(),
        }
        let (done, said) = tokio::join!(upload, async {
            let mut all = Vec::new();
            while let Some(Ok(piece)) = second.data().await {
                all.extend_from_slice(&piece);
            }
            all
        });
        assert!(done.is_ok() && said == large);
    });
}
