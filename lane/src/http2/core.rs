//! What a connection knows: its streams, its windows, and what waits to be sent. It reads and writes nothing itself.

use super::blocks::Blocks;
use super::code::{Broken, Code};
use super::flow::Granted;
use super::frames::{Frame, HEAD, PREFACE, Settings, USUAL_FRAME, USUAL_WINDOW, flag, kind};
use super::hpack::{self, Encoder};
use super::out::Out;
use super::stream::{Shared, Stream};
use bytes::{Bytes, BytesMut};
use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

/// Bytes that bodies may have waiting to be sent; beyond, whoever sends them waits.
const MOST_OUT: usize = 256 * 1024;
/// Bytes of any kind that may wait where a new stream is opened: whoever takes nothing gets no more of those that came and went.
const MOST_UNSENT: usize = 1 << 20;
/// What of a body waits for no other: it takes next to no room.
const SMALL: usize = 4096;
/// The largest frame of a body, whatever the other side takes: others have their turn after it.
const FAIR_FRAME: usize = 64 * 1024;
/// Streams that are remembered as reset here, for frames of them may still be under way.
const RESETS: usize = 128;
/// Streams that the other side takes as long as it did not say (`h2` has the same).
const USUAL_STREAMS: usize = 100;
const LAST_ID: u32 = (1 << 31) - 1;

/// Sizes that this side announces.
#[derive(Clone, Copy, Debug)]
pub struct Sizes {
    /// Bytes of one answer that may be under way before they are taken.
    pub stream_window: u32,
    pub connection_window: u32,
    pub frame: u32,
    /// Bytes of headers, as HTTP counts them.
    pub headers: u32,
}

/// Whether a connection takes new streams.
#[derive(Clone, Debug)]
pub enum State {
    Open,
    /// No more: the last ones run.
    Leaving(Broken),
    Over(Broken),
}

pub struct Core {
    pub out: Out,
    pub sizes: Sizes,
    pub state: State,
    pub streams: HashMap<u32, Shared, foldhash::fast::FixedState>,
    pub next_id: u32,
    /// Streams that the other side takes at a time.
    pub most: usize,
    /// Promised to who is about to open one.
    pub promised: usize,
    /// Who waits to open a stream, by number.
    waiting: VecDeque<(u64, Waker)>,
    tickets: u64,
    /// Bytes that may be sent on the connection, and on a new stream.
    pub room: i64,
    pub usual_room: i64,
    pub most_frame: usize,
    /// Who has something to send, but the connection has no room.
    starved: VecDeque<Shared>,
    pub granted: Granted,
    pub encoder: Encoder,
    pub blocks: Blocks,
    /// A block of headers that goes on: its stream, whether that ends with it, what is there, and in how many frames it came.
    pub partial: Option<(u32, bool, BytesMut, usize)>,
    /// Whether the other side said what it takes.
    pub greeted: bool,
    /// Answers to what the other side asks that are not sent yet, in bytes.
    pub replies: usize,
    resets: VecDeque<u32>,
    /// Streams up to this one may have been reset here, but are not remembered any more.
    forgotten: u32,
    pub ping: Ping,
    /// Who sends; whether it was told that there is something.
    pub driver: Option<Waker>,
    pub kicked: bool,
}

/// A question for a sign of life.
#[derive(Default)]
pub struct Ping {
    pub asked: u64,
    pub answered: u64,
    pub waker: Option<Waker>,
}

impl Core {
    /// A connection, with what begins it waiting to be sent.
    pub fn new(sizes: Sizes) -> Self {
        let mut out = Out::default();
        out.write(|to| to.extend_from_slice(PREFACE));
        let (window, frame, headers) = (Some(sizes.stream_window), Some(sizes.frame), Some(sizes.headers));
        let settings = Settings { push: Some(0), window, frame, headers, ..Settings::default() };
        out.frame(kind::SETTINGS, 0, 0, &settings.bytes());
        out.frame(kind::WINDOW_UPDATE, 0, 0, &(sizes.connection_window - USUAL_WINDOW).to_be_bytes());
        Self {
            out,
            sizes,
            state: State::Open,
            streams: HashMap::default(),
            next_id: 1,
            most: USUAL_STREAMS,
            promised: 0,
            waiting: VecDeque::new(),
            tickets: 0,
            room: USUAL_WINDOW.into(),
            usual_room: USUAL_WINDOW.into(),
            most_frame: USUAL_FRAME,
            starved: VecDeque::new(),
            granted: Granted::new(sizes.connection_window),
            encoder: Encoder::default(),
            blocks: Blocks::new(sizes.headers as usize),
            partial: None,
            greeted: false,
            replies: 0,
            resets: VecDeque::new(),
            forgotten: 0,
            ping: Ping::default(),
            driver: None,
            kicked: false,
        }
    }

    /// Has what waits sent in this turn of the event loop.
    pub fn kick(&mut self) {
        if !std::mem::replace(&mut self.kicked, true)
            && let Some(driver) = &self.driver
        {
            driver.wake_by_ref();
        }
    }

    /// A number in the line of those who wait to open a stream.
    pub fn ticket(&mut self) -> u64 {
        self.tickets += 1;
        self.tickets
    }

    /// Ready with the promise of a stream when one can be opened. Who came first is first.
    pub fn poll_promise(&mut self, ticket: u64, cx: &Context<'_>) -> Poll<Result<(), Broken>> {
        match &self.state {
            State::Open if self.next_id < LAST_ID => {}
            State::Open => return Poll::Ready(Err(Broken::GoAway { code: Code::NO_ERROR, remote: true })),
            State::Leaving(broken) | State::Over(broken) => return Poll::Ready(Err(broken.clone())),
        }
        let place = self.waiting.iter().position(|(number, _)| *number == ticket);
        let before = place.unwrap_or(self.waiting.len());
        if self.streams.len() + self.promised + before < self.most && self.out.len() < MOST_UNSENT {
            place.map(|place| self.waiting.remove(place));
            self.promised += 1;
            return Poll::Ready(Ok(()));
        }
        match place {
            Some(place) => self.waiting[place].1.clone_from(cx.waker()),
            None => self.waiting.push_back((ticket, cx.waker().clone())),
        }
        Poll::Pending
    }

    /// Who waited to open a stream does not any more.
    pub fn leave_line(&mut self, ticket: u64) {
        self.waiting.retain(|(number, _)| *number != ticket);
        self.wake_waiting();
    }

    pub fn wake_waiting(&self) {
        let free = self.most.saturating_sub(self.streams.len() + self.promised);
        let some = if matches!(self.state, State::Open) { free } else { self.waiting.len() };
        self.waiting.iter().take(some).for_each(|(_, waker)| waker.wake_by_ref());
    }

    /// Opens a promised stream with the head of a request.
    ///
    /// # Errors
    /// The connection takes none any more.
    pub fn open(&mut self, head: &hpack::Head<'_>) -> Result<Shared, Broken> {
        if let State::Leaving(broken) | State::Over(broken) = &self.state {
            return Err(broken.clone());
        }
        let id = self.next_id;
        self.next_id += 2;
        self.write_head(id, head);
        let stream = Stream::new(id, self.usual_room, Granted::new(self.sizes.stream_window), head.method == "HEAD");
        let stream = Rc::new(RefCell::new(stream));
        self.streams.insert(id, Rc::clone(&stream));
        self.kick();
        Ok(stream)
    }

    fn write_head(&mut self, id: u32, head: &hpack::Head<'_>) {
        let (encoder, most) = (&mut self.encoder, self.most_frame);
        self.out.write(|to| {
            let start = to.len();
            to.extend_from_slice(&[0; HEAD]);
            encoder.encode(head, to);
            let length = to.len() - start - HEAD;
            let flags = if length <= most { flag::END_HEADERS } else { 0 };
            to[start..start + HEAD].copy_from_slice(&Frame { length: length.min(most), kind: kind::HEADERS, flags, stream: id }.bytes());
            if length > most {
                let rest = to.split_off(start + HEAD + most);
                let last = rest.len().div_ceil(most) - 1;
                for (number, part) in rest.chunks(most).enumerate() {
                    let flags = if number == last { flag::END_HEADERS } else { 0 };
                    to.extend_from_slice(&Frame { length: part.len(), kind: kind::CONTINUATION, flags, stream: id }.bytes());
                    to.extend_from_slice(part);
                }
            }
        });
    }

    /// Sends as much of a body as there is room for; ready when that is all. `last`: nothing comes after it.
    pub fn poll_send(&mut self, stream: &Shared, piece: &mut Bytes, last: bool, cx: &Context<'_>) -> Poll<Result<(), Broken>> {
        loop {
            let mut one = stream.borrow_mut();
            if let Some(broken) = one.broken.clone() {
                drop(one);
                self.leave_starved(stream);
                return Poll::Ready(Err(broken));
            }
            if !piece.is_empty() && one.room <= 0 {
                one.wait_to_write(cx);
                drop(one);
                self.leave_starved(stream);
                return Poll::Pending;
            }
            let first = piece.len() <= SMALL || self.starved.front().is_none_or(|front| Rc::ptr_eq(front, stream));
            if !(piece.is_empty() || first && self.has_room()) {
                one.wait_to_write(cx);
                if !std::mem::replace(&mut one.starved, true) {
                    self.starved.push_back(Rc::clone(stream));
                }
                return Poll::Pending;
            }
            self.put(&mut one, piece, last);
            let (id, over) = (one.id, one.sent && one.ended);
            drop(one);
            self.leave_starved(stream);
            if over {
                self.close(id);
            }
            self.kick();
            if piece.is_empty() {
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Writes the next frame of a body.
    fn put(&mut self, one: &mut Stream, piece: &mut Bytes, last: bool) {
        let size = piece.len().min(self.most_frame.min(FAIR_FRAME)).min(self.room.min(one.room).max(0) as usize);
        let part = piece.split_to(size);
        let end = last && piece.is_empty();
        if size > 0 || end {
            one.room -= size as i64;
            self.room -= size as i64;
            one.sent = end;
            self.out.data(kind::DATA, if end { flag::END_STREAM } else { 0 }, one.id, part);
        }
    }

    fn has_room(&self) -> bool {
        self.room > 0 && self.out.len() < MOST_OUT
    }

    /// Who waited for room does not any more: the next one has its turn.
    fn leave_starved(&mut self, stream: &Shared) {
        if std::mem::take(&mut stream.borrow_mut().starved) {
            self.starved.retain(|other| !Rc::ptr_eq(other, stream));
            if self.has_room() {
                self.feed_starved();
            }
        }
    }

    /// Tells who waits first for room on the connection that there may be some. It keeps its place until it has used it.
    pub fn feed_starved(&mut self) {
        if let Some(front) = self.starved.front() {
            front.borrow_mut().wake_writer();
        }
    }

    /// The same for all who wait, when something was sent.
    pub fn sent(&mut self) {
        if self.out.len() < MOST_UNSENT {
            self.wake_waiting();
        }
        if self.room > 0 && self.out.len() < MOST_OUT / 2 {
            self.feed_starved();
        }
    }

    /// Lets the other side send more, once enough of an answer is taken.
    pub fn took(&mut self, stream: &Shared, bytes: usize) {
        let mut one = stream.borrow_mut();
        if let Some(more) = one.granted.took(bytes)
            && !one.ended
            && one.broken.is_none()
        {
            self.out.frame(kind::WINDOW_UPDATE, 0, one.id, &more.to_be_bytes());
            drop(one);
            self.kick();
        }
    }

    /// A stream is over: another may begin.
    pub fn close(&mut self, id: u32) {
        if self.streams.remove(&id).is_some() {
            self.wake_waiting();
        }
    }

    /// Ends a stream here.
    pub fn reset(&mut self, stream: &Shared, code: Code) {
        let id = stream.borrow().id;
        if self.streams.contains_key(&id) {
            self.out.frame(kind::RST_STREAM, 0, id, &code.0.to_be_bytes());
            self.remember(id);
            stream.borrow_mut().fail(Broken::Reset { code, remote: false });
            self.close(id);
            self.kick();
        }
        self.leave_starved(stream);
    }

    pub fn remember(&mut self, id: u32) {
        if self.resets.len() == RESETS {
            self.forgotten = self.forgotten.max(self.resets.pop_front().unwrap_or(0));
        }
        self.resets.push_back(id);
    }

    /// Looks at a frame of a stream that is over.
    ///
    /// # Errors
    /// It was not reset here, so nothing may come of it.
    pub fn late(&self, id: u32) -> Result<(), Code> {
        if id % 2 == 0 || id >= self.next_id {
            return Err(Code::PROTOCOL_ERROR);
        }
        if id <= self.forgotten || self.resets.contains(&id) { Ok(()) } else { Err(Code::STREAM_CLOSED) }
    }

    /// Asks for a sign of life; the number of the question is answered.
    pub fn ask(&mut self) -> u64 {
        self.ping.asked += 1;
        self.out.frame(kind::PING, 0, 0, &self.ping.asked.to_be_bytes());
        self.kick();
        self.ping.asked
    }

    /// Ready when a question was answered, or never will be.
    pub fn poll_answer(&mut self, asked: u64, cx: &Context<'_>) -> Poll<bool> {
        if self.ping.answered >= asked || matches!(self.state, State::Over(_)) {
            return Poll::Ready(self.ping.answered >= asked);
        }
        self.ping.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// Takes no new streams.
    pub fn leave(&mut self, why: Broken) {
        if let State::Open = self.state {
            self.state = State::Leaving(why);
        }
        self.wake_waiting();
        self.kick();
    }

    /// Everything is over.
    pub fn end(&mut self, why: Broken) {
        if let State::Over(_) = self.state {
            return;
        }
        self.state = State::Over(why.clone());
        for (_, stream) in self.streams.drain() {
            stream.borrow_mut().fail(why.clone());
        }
        self.starved.clear();
        self.wake_waiting();
        if let Some(waker) = self.ping.waker.take() {
            waker.wake();
        }
    }
}
