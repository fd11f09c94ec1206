//! A TCP connection that speaks TLS, as either side.

use bytes::{Buf, BytesMut};
use rustls::Connection;
use std::io::{self, BufRead, IoSlice, Write};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// Bytes that are read at most at a time.
const PIECE: usize = 32 * 1024;

/// A stream like any other, once hands are shaken (`handshake.rs`). What was written has left only when a flush is ready.
pub struct Secured {
    tcp: TcpStream,
    pub tls: Connection,
    /// What was read and not deciphered.
    ahead: BytesMut,
    closing: bool,
}

impl Secured {
    pub fn new(tcp: TcpStream, tls: Connection) -> Self {
        Self { tcp, tls, ahead: BytesMut::new(), closing: false }
    }

    /// Reads what comes next, without a look at it; an end is 0.
    pub fn poll_ahead(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        loop {
            ready!(self.tcp.poll_read_ready(cx))?;
            self.ahead.reserve(PIECE);
            match self.tcp.try_read_buf(&mut self.ahead) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => self.rest(),
                read => return Poll::Ready(read),
            }
        }
    }

    /// Deciphers what was read: in a handshake all of it, later up to something that is to be told.
    ///
    /// # Errors
    /// It is nothing that the other side may say; it is told so, if it takes that at once.
    pub fn digest(&mut self) -> io::Result<()> {
        while !self.ahead.is_empty() {
            let taken = self.tls.read_tls(&mut self.ahead.chunk())?;
            self.ahead.advance(taken);
            match self.tls.process_new_packets() {
                Ok(state) if state.plaintext_bytes_to_read() > 0 || taken == 0 => break,
                Ok(_) => {}
                Err(error) => {
                    let _ = self.tls.write_tls(&mut Now(&self.tcp));
                    return Err(io::Error::new(io::ErrorKind::InvalidData, error));
                }
            }
        }
        self.rest();
        Ok(())
    }

    /// A connection that rests has no room for what may come.
    fn rest(&mut self) {
        if self.ahead.is_empty() {
            self.ahead = BytesMut::new();
        }
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.ahead.is_empty() && ready!(self.poll_ahead(cx))? == 0 {
            // Without the other side's word that it is over, this is an error to who reads.
            self.tls.read_tls(&mut io::empty())?;
            return Poll::Ready(Ok(()));
        }
        self.digest()?;
        if self.tls.wants_write() {
            // An answer of TLS itself, such as new keys; it also leaves with what is written next.
            let _ = self.poll_sent(cx)?;
        }
        Poll::Ready(Ok(()))
    }

    /// Ready when all that was written has left.
    pub fn poll_sent(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.tls.wants_write() {
            match self.tls.write_tls(&mut Now(&self.tcp)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(self.tcp.poll_write_ready(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

/// What a socket takes at once.
struct Now<'a>(&'a TcpStream);

impl Write for Now<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.try_write(bytes)
    }

    fn write_vectored(&mut self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        self.0.try_write_vectored(parts)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsyncRead for Secured {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        loop {
            let mut reader = this.tls.reader();
            match reader.fill_buf() {
                Ok(there) => {
                    let taken = there.len().min(into.remaining());
                    into.put_slice(&there[..taken]);
                    reader.consume(taken);
                    return Poll::Ready(Ok(()));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => ready!(this.poll_more(cx))?,
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }
}

impl AsyncWrite for Secured {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.poll_write_vectored(cx, &[IoSlice::new(bytes)])
    }

    fn poll_write_vectored(self: Pin<&mut Self>, cx: &mut Context<'_>, parts: &[IoSlice<'_>]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // What waits is less than one write, however slow the other side is.
        ready!(this.poll_sent(cx))?;
        let taken = this.tls.writer().write_vectored(parts)?;
        let _ = this.poll_sent(cx)?;
        Poll::Ready(Ok(taken))
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_sent(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if !this.closing {
            this.closing = true;
            this.tls.send_close_notify();
        }
        ready!(this.poll_sent(cx))?;
        Pin::new(&mut this.tcp).poll_shutdown(cx)
    }
}
