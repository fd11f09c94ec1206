//! What reads and writes for a connection: one task, with one system call for all that was said in a turn of the event loop.

use super::code::{Broken, Code};
use super::core::{Core, State};
use super::frames::kind;
use bytes::BytesMut;
use std::cell::RefCell;
use std::future::Future;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite};

/// Bytes that are read at once, and how few are left of the memory for them when more is taken.
const READ: usize = 64 * 1024;
const FEW: usize = 16 * 1024;
/// Reads after which others have their turn.
const READS: usize = 16;
/// Bytes of answers to what the other side asks; who takes none of them is not heard before it does.
const MOST_REPLIES: usize = 64 * 1024;

/// Reads and writes until a connection is over.
pub struct Driver<T> {
    io: T,
    read: BytesMut,
    core: Rc<RefCell<Core>>,
}

impl<T: AsyncRead + AsyncWrite + Unpin> Driver<T> {
    pub fn new(io: T, core: Rc<RefCell<Core>>) -> Self {
        Self { io, read: BytesMut::new(), core }
    }

    /// Ready when the connection is over and all streams know.
    pub fn poll(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let core = Rc::clone(&self.core);
        let core = &mut *core.borrow_mut();
        core.kicked = true;
        let deaf = self.read(core, cx);
        match core.out.poll_send(cx, &mut self.io) {
            Poll::Ready(Err(error)) => core.end(error.into()),
            // Nobody comes any more.
            Poll::Ready(Ok(())) if core.is_done() => core.end(Broken::lost()),
            _ => {}
        }
        if let State::Over(_) = core.state {
            return Poll::Ready(());
        }
        if core.out.is_empty() {
            core.replies = 0;
            if deaf {
                cx.waker().wake_by_ref();
            }
        }
        core.sent();
        match &mut core.driver {
            Some(known) => known.clone_from(cx.waker()),
            none => *none = Some(cx.waker().clone()),
        }
        core.kicked = false;
        Poll::Pending
    }

    /// Takes what came; whether it did not listen, for too much is unsaid.
    fn read(&mut self, core: &mut Core, cx: &mut Context<'_>) -> bool {
        for _ in 0..READS {
            if let State::Over(_) = core.state {
                return false;
            }
            if core.replies >= MOST_REPLIES {
                return true;
            }
            if self.read.capacity() - self.read.len() < FEW {
                self.read.reserve(READ);
            }
            let came = pin!(self.io.read_buf(&mut self.read)).poll(cx);
            match came {
                Poll::Pending => return false,
                Poll::Ready(Ok(0)) => core.end(Broken::lost()),
                Poll::Ready(Err(error)) => core.end(error.into()),
                Poll::Ready(Ok(_)) => {
                    if let Err(code) = core.feed(&mut self.read) {
                        give_up(core, code);
                    }
                }
            }
        }
        cx.waker().wake_by_ref();
        false
    }
}

/// The other side broke the protocol. That is said if it can be said at once.
fn give_up(core: &mut Core, code: Code) {
    core.out.frame(kind::GOAWAY, 0, 0, &[[0; 4], code.0.to_be_bytes()].concat());
    core.end(Broken::GoAway { code, remote: false });
}
