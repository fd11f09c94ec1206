//! How a client's connection begins: in plaintext, or with a handshake of TLS.

use crate::identity::{Identity, Shown};
use crate::socket::Socket;
use crate::tls::HTTP_2;
use crate::worker::Worker;
use rustls::ServerConfig;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use tokio::net::TcpStream;

/// Someone who is connected.
pub struct Client {
    pub socket: Socket,
    pub from: Identity,
    pub speaks: Speaks,
}

/// What a client will speak, as far as it said so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// Plaintext: its first bytes tell.
    Unsaid,
    Http2,
    /// It named another protocol, or none, in its handshake.
    Other,
}

impl Client {
    /// Takes a connection. `shown`: what it meets, if the port speaks TLS.
    ///
    /// # Errors
    /// It is gone, or hands could not be shaken.
    pub async fn begin(worker: &Worker, tcp: TcpStream, address: SocketAddr, shown: Option<Arc<ServerConfig>>) -> io::Result<Self> {
        tcp.set_nodelay(true)?;
        let called = tcp.local_addr()?;
        let Some(shown) = shown else {
            return Ok(Self { socket: Socket::Tcp(tcp), from: Identity { address, called, secured: None }, speaks: Speaks::Unsaid });
        };
        let secured = worker.handshakes.with_client(tcp, shown).await?;
        let from = Identity { address, called, secured: Some(Shown::of(secured.tls.peer_certificates())) };
        let speaks = if secured.tls.alpn_protocol() == Some(HTTP_2) { Speaks::Http2 } else { Speaks::Other };
        Ok(Self { socket: Socket::Tls(Box::new(secured)), from, speaks })
    }
}
