//! A connection with what was read from it and is not used yet.

use super::announce;
use crate::identity::Identity;
use crate::places::Address;
use crate::socket::Socket;
use bytes::{Bytes, BytesMut};
use std::future::pending;
use std::io;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

/// Bytes that are read at least at a time.
const PIECE: usize = 16 * 1024;
/// Room that is made for a body because its head says that it will come.
const AT_ONCE: usize = 2 * 1024 * 1024;
/// Bytes of further requests that are read while one is answered.
const AHEAD: usize = 64 * 1024;
/// In which whoever is to send or to take something makes some progress.
pub const PROGRESS: Duration = Duration::from_secs(60);

pub struct Stream {
    pub socket: Socket,
    pub read: BytesMut,
}

impl Stream {
    pub fn new(socket: Socket) -> Self {
        Self { socket, read: BytesMut::new() }
    }

    /// Connects to the Python door, for a client. On a Unix socket, which the lane alone may enter, the door is told who that is.
    pub async fn dial(address: &Address, limit: Duration, from: &Identity) -> io::Result<Self> {
        let dialing = async {
            match address {
                Address::Tcp(at) => Ok(Self::new(Socket::Tcp(TcpStream::connect(at).await?))),
                Address::Unix(path) => {
                    let mut made = Self::new(Socket::Unix(UnixStream::connect(path).await?));
                    made.send(&announce::of(from)).await?;
                    Ok(made)
                }
            }
        };
        timeout(limit, dialing).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Makes room for so many bytes in all, or the first of them.
    pub fn expect(&mut self, total: usize) {
        self.read.reserve(total.saturating_sub(self.read.len()).min(AT_ONCE) + PIECE);
    }

    /// Reads something; an end is an error.
    pub async fn more(&mut self) -> io::Result<()> {
        self.read.reserve(PIECE);
        if self.socket.read_buf(&mut self.read).await? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Reads something of what is being sent; a sender that stops is an error.
    pub async fn more_in_time(&mut self) -> io::Result<()> {
        timeout(PROGRESS, self.more()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?
    }

    /// Returns when there is nobody any more.
    pub async fn gone(&mut self) {
        while self.read.len() < AHEAD {
            if self.more().await.is_err() {
                return;
            }
        }
        pending().await
    }

    /// Whether the other side closed it, or said something unasked.
    pub fn stale(&mut self) -> bool {
        let mut byte = [0];
        let tried = match &self.socket {
            Socket::Tcp(stream) => stream.try_read(&mut byte),
            Socket::Unix(stream) => stream.try_read(&mut byte),
            // Nothing here is called so.
            Socket::Tls(_) => return true,
        };
        !self.read.is_empty() || !matches!(tried, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }

    /// Takes so many bytes, or what there is of them, off the front.
    pub fn take(&mut self, most: usize) -> Bytes {
        let size = most.min(self.read.len());
        self.read.split_to(size).freeze()
    }

    /// Sends all; whoever takes nothing for long is gone.
    pub async fn send(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            let sent = timeout(PROGRESS, self.socket.write(bytes)).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
            if sent == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            bytes = &bytes[sent..];
        }
        match self.socket {
            Socket::Tls(_) => timeout(PROGRESS, self.socket.flush()).await.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?,
            Socket::Tcp(_) | Socket::Unix(_) => Ok(()),
        }
    }
}
