//! One client's HTTP/2 connection: each of its calls becomes a task.

use crate::call;
use crate::entrance::Client;
use crate::ports::Port;
use crate::settings::Settings;
use crate::signal::Signal;
use crate::socket::{Gathered, gathered};
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use h2::server::SendResponse;
use h2::server::{Builder, Connection};
use http::Request;
use std::future::{Future, poll_fn};
use std::io;
use std::rc::Rc;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::task::spawn_local;
use tokio::time::{sleep, timeout};

/// Bytes of one request that may be under way before they are passed on.
const STREAM_WINDOW: u32 = 256 * 1024;
/// Of all requests of a connection.
const CONNECTION_WINDOW: u32 = 16 * 1024 * 1024;
const LARGEST_FRAME: u32 = 64 * 1024;
/// Bytes of answers that one call may have waiting for the caller.
const SEND_BUFFER: usize = 256 * 1024;
/// Streams that a caller reset and that still are remembered; one that resets more of them at a time is sent away.
const RESETS: usize = 50;
/// Errors of a caller on its streams, after which it is sent away.
const ERRORS: usize = 100;
/// Bytes of headers that other pods send beside those of clients (`mesh/wire/peer_channel.py`).
const OF_PEERS: u32 = 32_768 * 4 / 3 + 1024;
/// In which a connection has to begin as HTTP/2.
const GREETING: Duration = Duration::from_secs(10);

/// Serves a client of gRPC, or another pod, until it goes, or is asked to.
pub async fn serve(worker: Rc<Worker>, client: Client, port: Rc<Port>) {
    let settings = &worker.settings;
    let (max_headers, max_age) = match *port {
        // A hop travels beside what a client sent, and pods keep their connections.
        Port::Peers(_) => (settings.max_headers.saturating_add(OF_PEERS), Duration::ZERO),
        _ => (settings.max_headers, settings.max_age),
    };
    let from = Rc::new(client.from.headers());
    let begin = {
        let worker = Rc::clone(&worker);
        move |request, respond| {
            // Kilobytes of state that a task would copy, at its end once more, are behind a pointer.
            spawn_local(Box::pin(call::serve(Rc::clone(&worker), Rc::clone(&port), Rc::clone(&from), request, respond)));
        }
    };
    talk(&worker, client, BytesMut::new(), max_headers, max_age, worker.fate(), begin).await;
}

/// Serves a client of HTTP/2, of whom something was read already; `begin` takes each request.
pub async fn talk(
    worker: &Worker,
    client: Client,
    read: BytesMut,
    max_headers: u32,
    max_age: Duration,
    fate: Rc<Fate>,
    begin: impl Fn(Request<RecvStream>, SendResponse<Bytes>),
) {
    let settings = &worker.settings;
    let (io, out) = gathered(client.socket);
    let handshake = builder(settings, max_headers).handshake::<_, Bytes>(io.of_client(read));
    tokio::pin!(handshake);
    let greeted = timeout(
        GREETING,
        poll_fn(|cx| {
            let made = handshake.as_mut().poll(cx);
            match out.poll_send(cx) {
                Poll::Ready(Err(_)) => Poll::Ready(None),
                _ => made.map(Result::ok),
            }
        }),
    );
    let Ok(Some(mut connection)) = greeted.await else { return };
    let watching = spawn_local(watch(connection.ping_pong(), settings.silence, Rc::clone(&fate)));
    let aging = (!max_age.is_zero()).then(|| spawn_local(age(max_age, settings.max_age_grace, Rc::clone(&fate))));
    drive(begin, &mut connection, &fate, |cx| out.poll_send(cx)).await;
    watching.abort();
    if let Some(aging) = aging {
        aging.abort();
    }
}

/// What is decided about a connection.
#[derive(Default)]
pub struct Fate {
    /// It is to take no new calls, and to end with the last one.
    pub leave: Signal,
    /// It is over now.
    pub over: Signal,
}

async fn drive(
    begin: impl Fn(Request<RecvStream>, SendResponse<Bytes>),
    connection: &mut Connection<Gathered, Bytes>,
    fate: &Fate,
    send: impl Fn(&mut Context<'_>) -> Poll<io::Result<()>>,
) {
    let mut leaving = false;
    poll_fn(|cx| {
        if !leaving && fate.leave.poll(cx).is_ready() {
            leaving = true;
            connection.graceful_shutdown();
        }
        let ended = loop {
            match connection.poll_accept(cx) {
                Poll::Ready(Some(Ok((request, respond)))) => begin(request, respond),
                Poll::Ready(Some(Err(_)) | None) => break true,
                Poll::Pending => break false,
            }
        };
        let broken = matches!(send(cx), Poll::Ready(Err(_)));
        if ended || broken || fate.over.poll(cx).is_ready() { Poll::Ready(()) } else { Poll::Pending }
    })
    .await;
}

fn builder(settings: &Settings, max_headers: u32) -> Builder {
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_frame_size(LARGEST_FRAME)
        .max_concurrent_streams(settings.max_streams)
        .max_header_list_size(max_headers)
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(RESETS)
        .max_local_error_reset_streams(Some(ERRORS))
        .max_concurrent_reset_streams(RESETS);
    builder
}

/// Asks for signs of life; a connection that gives none is over.
async fn watch(pings: Option<h2::PingPong>, silence: Duration, fate: Rc<Fate>) {
    let Some(mut pings) = pings else { return };
    loop {
        sleep(silence).await;
        if !matches!(timeout(silence, pings.ping(h2::Ping::opaque())).await, Ok(Ok(_))) {
            return fate.over.give();
        }
    }
}

async fn age(most: Duration, grace: Duration, fate: Rc<Fate>) {
    sleep(most).await;
    fate.leave.give();
    if !grace.is_zero() {
        sleep(grace).await;
        fate.over.give();
    }
}
