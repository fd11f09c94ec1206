//! One exchange as its connection knows it.

use super::blocks::Block;
use super::code::{Broken, Code};
use super::flow::Granted;
use bytes::Bytes;
use std::cell::RefCell;
use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Shared by the connection and whoever makes the call.
pub type Shared = Rc<RefCell<Stream>>;

pub struct Stream {
    pub id: u32,
    head: Option<Rc<Block>>,
    /// Whether the head of the answer came; it may be taken already.
    begun: bool,
    data: VecDeque<Bytes>,
    trailers: Option<Rc<Block>>,
    /// Whether all of the answer came.
    pub ended: bool,
    /// Bytes of the body that are to come, if its headers say so.
    expected: Option<u64>,
    /// Whether the request was HEAD, whose answer has no body however long it says that is.
    pub bodiless: bool,
    pub granted: Granted,
    /// Bytes that may be sent.
    pub room: i64,
    /// Whether all of the request is sent.
    pub sent: bool,
    /// Whether it waits in its connection's line for room.
    pub starved: bool,
    /// Why nothing more comes, or is taken.
    pub broken: Option<Broken>,
    reader: Option<Waker>,
    writer: Option<Waker>,
}

impl Stream {
    /// `room`: bytes that may be sent; `granted`: that may come.
    pub fn new(id: u32, room: i64, granted: Granted, bodiless: bool) -> Self {
        Self {
            id,
            head: None,
            begun: false,
            data: VecDeque::new(),
            trailers: None,
            ended: false,
            expected: None,
            bodiless,
            granted,
            room,
            sent: false,
            starved: false,
            broken: None,
            reader: None,
            writer: None,
        }
    }

    /// Takes headers that came, or trailers.
    ///
    /// # Errors
    /// They may not come now, or say what may not be said.
    pub fn headers(&mut self, block: Rc<Block>, last: bool) -> Result<(), Code> {
        if block.wrong || (self.begun && (block.status.is_some() || !last)) {
            return Err(Code::PROTOCOL_ERROR);
        }
        if self.begun {
            self.trailers = Some(block);
        } else {
            let status = block.status.ok_or(Code::PROTOCOL_ERROR)?;
            if status.is_informational() {
                // 101 is none of HTTP/2's.
                return if last || status.as_u16() == 101 { Err(Code::PROTOCOL_ERROR) } else { Ok(()) };
            }
            let empty = self.bodiless || matches!(status.as_u16(), 204 | 304);
            self.expected = block.length.filter(|_| !empty);
            self.head = Some(block);
            self.begun = true;
        }
        self.finish(last)
    }

    /// Takes a piece of the body. Its size was counted before.
    ///
    /// # Errors
    /// It may not come now.
    pub fn piece(&mut self, piece: Bytes, last: bool) -> Result<(), Code> {
        if !self.begun {
            return Err(Code::PROTOCOL_ERROR);
        }
        if let Some(expected) = &mut self.expected {
            *expected = expected.checked_sub(piece.len() as u64).ok_or(Code::PROTOCOL_ERROR)?;
        }
        if !piece.is_empty() {
            self.data.push_back(piece);
        }
        self.finish(last)
    }

    fn finish(&mut self, last: bool) -> Result<(), Code> {
        if last && self.expected.is_some_and(|left| left > 0) {
            return Err(Code::PROTOCOL_ERROR);
        }
        self.ended |= last;
        self.wake_reader();
        Ok(())
    }

    /// Nothing more comes or is taken.
    pub fn fail(&mut self, broken: Broken) {
        self.broken.get_or_insert(broken);
        self.wake_reader();
        self.wake_writer();
    }

    fn wake_reader(&mut self) {
        if let Some(waker) = self.reader.take() {
            waker.wake();
        }
    }

    pub fn wake_writer(&mut self) {
        if let Some(waker) = self.writer.take() {
            waker.wake();
        }
    }

    pub fn wait_to_write(&mut self, cx: &Context<'_>) {
        wait(&mut self.writer, cx);
    }

    pub fn poll_head(&mut self, cx: &Context<'_>) -> Poll<Result<Rc<Block>, Broken>> {
        match self.head.take() {
            Some(head) => Poll::Ready(Ok(head)),
            None => self.nothing_yet(cx).map(Err),
        }
    }

    /// The next piece of the body; None at its end.
    pub fn poll_data(&mut self, cx: &Context<'_>) -> Poll<Option<Result<Bytes, Broken>>> {
        match self.data.pop_front() {
            Some(piece) => Poll::Ready(Some(Ok(piece))),
            None if self.ended => Poll::Ready(None),
            None => self.nothing_yet(cx).map(|broken| Some(Err(broken))),
        }
    }

    /// What came after the body, all of which was taken; None if that was its end.
    pub fn poll_trailers(&mut self, cx: &Context<'_>) -> Poll<Result<Option<Rc<Block>>, Broken>> {
        if self.ended { Poll::Ready(Ok(self.trailers.take())) } else { self.nothing_yet(cx).map(Err) }
    }

    fn nothing_yet(&mut self, cx: &Context<'_>) -> Poll<Broken> {
        if let Some(broken) = &self.broken {
            return Poll::Ready(broken.clone());
        }
        wait(&mut self.reader, cx);
        Poll::Pending
    }

    /// Whether the answer had no body, once its head came.
    pub fn is_bare(&self) -> bool {
        self.ended && self.data.is_empty() && self.trailers.is_none()
    }

    /// What came and nobody will take is dropped.
    pub fn forget(&mut self) {
        (self.head, self.trailers, self.reader, self.writer) = (None, None, None, None);
        self.data = VecDeque::new();
    }
}

fn wait(place: &mut Option<Waker>, cx: &Context<'_>) {
    match place {
        Some(known) => known.clone_from(cx.waker()),
        None => *place = Some(cx.waker().clone()),
    }
}
