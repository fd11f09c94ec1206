//! What waits to be sent: small things are copied together, large ones go out from where they are.

use super::frames::Frame;
use bytes::{Buf, Bytes};
use std::collections::VecDeque;
use std::io::{self, IoSlice};
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::AsyncWrite;

/// What is copied; more is sent from where it is.
const SMALL: usize = 4096;
/// Pieces of one system call.
const PIECES: usize = 32;
/// What of the copies' memory is kept when all is sent.
const KEPT: usize = 128 * 1024;

#[derive(Default)]
pub struct Out {
    /// Copies; those before `start` are sent.
    copied: Vec<u8>,
    start: usize,
    /// What goes out in which order; all of `copied` that no part counts comes last.
    parts: VecDeque<Part>,
    /// Bytes of `copied` that parts count.
    counted: usize,
    size: usize,
}

enum Part {
    /// So many of the copied bytes.
    Copied(usize),
    Apart(Bytes),
}

impl Out {
    /// Bytes that wait.
    pub fn len(&self) -> usize {
        self.size
    }

    pub fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Puts a frame behind all others.
    pub fn frame(&mut self, kind: u8, flags: u8, stream: u32, content: &[u8]) {
        self.copy(&Frame { length: content.len(), kind, flags, stream }.bytes());
        self.copy(content);
    }

    /// The same with content that may be large.
    pub fn data(&mut self, kind: u8, flags: u8, stream: u32, content: Bytes) {
        self.copy(&Frame { length: content.len(), kind, flags, stream }.bytes());
        if content.len() <= SMALL {
            return self.copy(&content);
        }
        self.count();
        self.size += content.len();
        self.parts.push_back(Part::Apart(content));
    }

    fn copy(&mut self, bytes: &[u8]) {
        self.copied.extend_from_slice(bytes);
        self.size += bytes.len();
    }

    /// Lets something be written at the end of the copies; how many bytes were is answered.
    pub fn write(&mut self, put: impl FnOnce(&mut Vec<u8>)) -> usize {
        let before = self.copied.len();
        put(&mut self.copied);
        let written = self.copied.len() - before;
        self.size += written;
        written
    }

    fn count(&mut self) {
        let more = self.copied.len() - self.start - self.counted;
        if more > 0 {
            self.parts.push_back(Part::Copied(more));
            self.counted += more;
        }
    }

    /// Ready when all is sent.
    pub fn poll_send(&mut self, cx: &mut Context<'_>, to: &mut (impl AsyncWrite + Unpin)) -> Poll<io::Result<()>> {
        while self.size > 0 {
            let sent = if self.parts.is_empty() {
                ready!(Pin::new(&mut *to).poll_write(cx, &self.copied[self.start..]))?
            } else {
                self.count();
                let mut pieces = [IoSlice::new(&[]); PIECES];
                let (mut at, mut count) = (self.start, 0);
                for (piece, part) in pieces.iter_mut().zip(&self.parts) {
                    *piece = match part {
                        Part::Copied(size) => {
                            at += size;
                            IoSlice::new(&self.copied[at - size..at])
                        }
                        Part::Apart(bytes) => IoSlice::new(bytes),
                    };
                    count += 1;
                }
                ready!(Pin::new(&mut *to).poll_write_vectored(cx, &pieces[..count]))?
            };
            if sent == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.sent(sent);
        }
        // TLS keeps something back.
        Pin::new(to).poll_flush(cx)
    }

    fn sent(&mut self, mut bytes: usize) {
        self.size -= bytes;
        while bytes > 0 {
            match self.parts.front_mut() {
                None => {
                    self.start += bytes;
                    break;
                }
                Some(Part::Copied(size)) => {
                    let some = bytes.min(*size);
                    *size -= some;
                    bytes -= some;
                    self.start += some;
                    self.counted -= some;
                    if *size == 0 {
                        self.parts.pop_front();
                    }
                }
                Some(Part::Apart(content)) => {
                    let some = bytes.min(content.len());
                    content.advance(some);
                    bytes -= some;
                    if content.is_empty() {
                        self.parts.pop_front();
                    }
                }
            }
        }
        self.tidy();
    }

    /// Gives back what a burst took, and what of the copies is sent.
    fn tidy(&mut self) {
        if self.start == self.copied.len() {
            self.copied.clear();
            self.start = 0;
            if self.copied.capacity() > KEPT {
                self.copied = Vec::new();
            }
        } else if self.start >= KEPT {
            self.copied.drain(..self.start);
            self.start = 0;
        }
    }
}
