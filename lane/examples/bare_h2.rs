//! A server of nothing but the `h2` library, with the sizes that the lane sets: what a test of HTTP/2 finds here too is the library's.
//! `cargo run --example bare_h2 --no-default-features -- 127.0.0.1:8080` answers every request with a word, until it is ended.

use bytes::Bytes;
use h2::server::{Builder, SendResponse};
use h2::{RecvStream, SendStream};
use http::{Request, Response};
use std::io;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{LocalSet, spawn_local};

/// As `connection.rs` has it.
const LARGEST_FRAME: u32 = 64 * 1024;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let address = std::env::args().nth(1).unwrap_or_else(|| "127.0.0.1:0".to_owned());
    let listener = TcpListener::bind(address).await?;
    println!("{}", listener.local_addr()?);
    LocalSet::new()
        .run_until(async {
            loop {
                let (stream, _) = listener.accept().await?;
                spawn_local(connection(stream));
            }
        })
        .await
}

async fn connection(stream: TcpStream) {
    let mut builder = Builder::new();
    builder.max_frame_size(LARGEST_FRAME);
    let Ok(mut connection) = builder.handshake(stream).await else { return };
    while let Some(Ok((request, respond))) = connection.accept().await {
        spawn_local(answer(request, respond));
    }
}

async fn answer(request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let mut body = request.into_body();
    while let Some(Ok(piece)) = body.data().await {
        let _ = body.flow_control().release_capacity(piece.len());
    }
    let said = respond.send_response(Response::new(()), false);
    // Errors mean that the caller is gone.
    let _ = said.and_then(|mut stream: SendStream<Bytes>| stream.send_data(Bytes::from_static(b"here"), true));
}
