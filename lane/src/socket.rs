//! A connection of any kind; and one that gathers what is written, so that one system call sends what many calls said at once.

use crate::authority::Authorities;
use crate::secured::Secured;
use bytes::{Buf, BytesMut};
use std::cell::RefCell;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// What is copied and sent together; more goes out without a copy.
const SMALL: usize = 4096;
/// What may be gathered before it has to go.
const MOST: usize = 64 * 1024;

/// A stream of any kind.
pub enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    Tls(Box<Secured>),
}

struct Inner {
    socket: Socket,
    /// What was read of it before it came here.
    read: BytesMut,
    gathered: BytesMut,
    /// Of a client; None for a connection that was made here.
    authorities: Option<Authorities>,
}

/// What HTTP/2 reads and writes; its flushes send nothing.
pub struct Gathered(Rc<RefCell<Inner>>);

/// Sends what was gathered; whoever drives the connection calls it after each round.
pub struct Sender(Rc<RefCell<Inner>>);

/// A connection, and what sends for it.
pub fn gathered(socket: Socket) -> (Gathered, Sender) {
    let inner = Rc::new(RefCell::new(Inner { socket, read: BytesMut::new(), gathered: BytesMut::new(), authorities: None }));
    (Gathered(Rc::clone(&inner)), Sender(inner))
}

impl Gathered {
    /// The same for a client, whose requests may name what no library takes, and of whom this was read already.
    pub fn of_client(self, read: BytesMut) -> Self {
        {
            let mut inner = self.0.borrow_mut();
            inner.authorities = Some(Authorities::default());
            inner.read = read;
        }
        self
    }
}

impl Sender {
    /// Ready when all is sent, or the connection is broken.
    pub fn poll_send(&self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.0.borrow_mut().poll_send(cx)
    }
}

impl Inner {
    fn poll_send(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.gathered.is_empty() {
            let sent = ready!(self.socket.poll_write(cx, &self.gathered))?;
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.gathered.advance(sent);
        }
        ready!(Pin::new(&mut self.socket).poll_flush(cx))?;
        // What a burst took is given back.
        if self.gathered.capacity() > 2 * MOST {
            self.gathered = BytesMut::new();
        }
        Poll::Ready(Ok(()))
    }

    fn poll_write(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let size: usize = parts.iter().map(|part| part.len()).sum();
        if size <= SMALL {
            if self.gathered.len() + size > MOST {
                ready!(self.poll_send(cx))?;
            }
            parts.iter().for_each(|part| self.gathered.extend_from_slice(part));
            return Poll::Ready(Ok(size));
        }
        if self.gathered.is_empty() {
            return self.socket.poll_write_vectored(cx, parts);
        }
        let mut all = Vec::with_capacity(parts.len() + 1);
        all.push(IoSlice::new(&self.gathered));
        all.extend(parts.iter().map(|part| IoSlice::new(part)));
        let sent = ready!(self.socket.poll_write_vectored(cx, &all))?;
        let held = self.gathered.len();
        self.gathered.advance(sent.min(held));
        if sent > held {
            return Poll::Ready(Ok(sent - held));
        }
        // Nothing of the new bytes went out, and to say so would mean an end: they are tried until one does, or none can.
        if sent == 0 { Poll::Ready(Err(io::ErrorKind::WriteZero.into())) } else { self.poll_write(cx, parts) }
    }
}

impl Socket {
    fn poll_write(&mut self, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write(cx, data)
    }

    fn poll_write_vectored(&mut self, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        Pin::new(self).poll_write_vectored(cx, parts)
    }
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, into),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_read(cx, into),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, data),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, data),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write(cx, data),
        }
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, parts),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_write_vectored(cx, parts),
        }
    }

    /// Only TLS keeps something back.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(_) | Self::Unix(_) => Poll::Ready(Ok(())),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(&mut **stream).poll_shutdown(cx),
        }
    }
}

impl AsyncRead for Gathered {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let inner = &mut *self.0.borrow_mut();
        let before = into.filled().len();
        let read = if inner.read.is_empty() {
            Pin::new(&mut inner.socket).poll_read(cx, into)
        } else {
            let size = inner.read.len().min(into.remaining());
            into.put_slice(&inner.read.split_to(size));
            if inner.read.is_empty() {
                inner.read = BytesMut::new();
            }
            Poll::Ready(Ok(()))
        };
        if let Some(authorities) = &mut inner.authorities {
            authorities.pass(&mut into.filled_mut()[before..]);
        }
        read
    }
}

impl AsyncWrite for Gathered {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, data: &[u8]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, &[IoSlice::new(data)])
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        self.0.borrow_mut().poll_write(cx, parts)
    }

    /// No: h2 then joins small messages to the frames around them itself, and large ones are not copied here in any case.
    fn is_write_vectored(&self) -> bool {
        false
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let mut inner = self.0.borrow_mut();
        ready!(inner.poll_send(cx))?;
        Pin::new(&mut inner.socket).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::future::poll_fn;
    use std::io::Read;

    /// What arrives of some writes, of which each is one call of HTTP/2; the reader is slower than the writer.
    async fn arrived(writes: &[Vec<u8>]) -> Vec<u8> {
        let (mut there, here) = std::os::unix::net::UnixStream::pair().expect("a pair");
        here.set_nonblocking(true).expect("a socket");
        let reader = std::thread::spawn(move || {
            let mut all = Vec::new();
            there.read_to_end(&mut all).map(|_| all)
        });
        let (mut io, out) = gathered(Socket::Unix(UnixStream::from_std(here).expect("a stream")));
        for data in writes {
            let mut at = 0;
            while at < data.len() {
                let middle = at + (data.len() - at) / 2;
                let parts = [IoSlice::new(&data[at..middle]), IoSlice::new(&data[middle..])];
                at += poll_fn(|cx| Pin::new(&mut io).poll_write_vectored(cx, &parts)).await.expect("written");
            }
            poll_fn(|cx| Pin::new(&mut io).poll_flush(cx)).await.expect("flushed");
        }
        poll_fn(|cx| out.poll_send(cx)).await.expect("sent");
        poll_fn(|cx| Pin::new(&mut io).poll_shutdown(cx)).await.expect("shut");
        drop((io, out));
        reader.join().expect("it ran").expect("it read")
    }

    #[tokio::test]
    async fn small_and_large_writes_arrive_in_their_order_and_whole() {
        let sizes = [1usize, 9, 300, 4096, 4097, 70_000, 5, 1_000_000, 3_000, 3_000, 200_000, 1];
        let writes: Vec<Vec<u8>> = sizes.iter().enumerate().map(|(number, size)| vec![number as u8; *size]).collect();
        assert!(arrived(&writes).await == writes.concat());
    }

    #[tokio::test]
    async fn what_is_gathered_goes_when_it_is_too_much() {
        let writes: Vec<Vec<u8>> = (0..2_000u32).map(|number| vec![number as u8; 1_000]).collect();
        assert!(arrived(&writes).await == writes.concat());
    }
}
