//! A connection as those see it who make calls.

use super::blocks::{Block, of_connection};
use super::code::{Broken, Code};
use super::core::{Core, Sizes, State};
use super::driver::Driver;
use super::hpack::Head;
use super::stream::Shared;
use bytes::Bytes;
use http::{HeaderMap, Response, header};
use std::cell::RefCell;
use std::future::poll_fn;
use std::io::ErrorKind;
use std::rc::Rc;
use tokio::io::{AsyncRead, AsyncWrite};

/// A connection. Those calls that run when it is dropped go on.
pub struct Link(Rc<RefCell<Core>>);

/// The promise that a connection takes one call more.
pub struct Promise {
    core: Rc<RefCell<Core>>,
    used: bool,
}

/// One exchange; it is called off where it is dropped before its end.
pub struct Exchange {
    core: Rc<RefCell<Core>>,
    stream: Shared,
}

impl Link {
    /// A connection over `io`, and what has to be polled for it.
    pub fn new<T: AsyncRead + AsyncWrite + Unpin>(io: T, sizes: Sizes) -> (Self, Driver<T>) {
        let core = Rc::new(RefCell::new(Core::new(sizes)));
        (Self(Rc::clone(&core)), Driver::new(io, core))
    }

    /// Whether it takes new calls.
    pub fn is_open(&self) -> bool {
        matches!(self.0.borrow().state, State::Open)
    }

    /// Calls that whoever answers takes at a time.
    pub fn most(&self) -> usize {
        self.0.borrow().most
    }

    /// Waits until whoever answers takes one call more.
    ///
    /// # Errors
    /// It takes none, and got nothing.
    pub async fn promise(&self) -> Result<Promise, Broken> {
        let ticket = self.0.borrow_mut().ticket();
        let _place = InLine { core: &self.0, ticket };
        poll_fn(|cx| self.0.borrow_mut().poll_promise(ticket, cx)).await?;
        Ok(Promise { core: Rc::clone(&self.0), used: false })
    }

    /// Asks for a sign of life; whether there was one. Only one may ask at a time.
    pub async fn is_alive(&self) -> bool {
        let asked = self.0.borrow_mut().ask();
        poll_fn(|cx| self.0.borrow_mut().poll_answer(asked, cx)).await
    }

    /// Gives the connection up: whoever answers does not.
    pub fn abandon(&self) {
        let mut core = self.0.borrow_mut();
        core.end(Broken::Io(ErrorKind::TimedOut, "it gave no sign of life".to_owned()));
        core.kick();
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.0.borrow_mut().leave(Broken::lost());
    }
}

/// A place among those who wait to open a stream.
struct InLine<'a> {
    core: &'a RefCell<Core>,
    ticket: u64,
}

impl Drop for InLine<'_> {
    fn drop(&mut self) {
        self.core.borrow_mut().leave_line(self.ticket);
    }
}

impl Promise {
    /// Begins an exchange.
    ///
    /// # Errors
    /// The connection takes none any more, or the headers are none of HTTP/2; nothing was sent.
    pub fn begin(mut self, head: &Head<'_>) -> Result<Exchange, Broken> {
        let odd = |(name, value): (&header::HeaderName, &header::HeaderValue)| {
            of_connection(name) || (*name == header::TE && value != "trailers")
        };
        if head.headers.iter().any(odd) {
            return Err(Broken::Reset { code: Code::PROTOCOL_ERROR, remote: false });
        }
        self.give_back();
        let stream = self.core.borrow_mut().open(head)?;
        Ok(Exchange { core: Rc::clone(&self.core), stream })
    }

    fn give_back(&mut self) {
        if !std::mem::replace(&mut self.used, true) {
            self.core.borrow_mut().promised -= 1;
        }
    }
}

impl Drop for Promise {
    fn drop(&mut self) {
        if !self.used {
            self.give_back();
            let mut core = self.core.borrow_mut();
            core.wake_waiting();
            core.kick();
        }
    }
}

impl Exchange {
    /// The head of the answer.
    pub async fn head(&self) -> Result<Response<()>, Broken> {
        let block = poll_fn(|cx| self.stream.borrow_mut().poll_head(cx)).await?;
        let mut response = Response::new(());
        *response.status_mut() = block.status.unwrap_or_default();
        *response.version_mut() = http::Version::HTTP_2;
        *response.headers_mut() = headers(block);
        Ok(response)
    }

    /// Whether the answer has nothing but its head.
    pub fn is_bare(&self) -> bool {
        self.stream.borrow().is_bare()
    }

    /// The next piece of the answer's body; None at its end.
    pub async fn data(&self) -> Option<Result<Bytes, Broken>> {
        poll_fn(|cx| self.stream.borrow_mut().poll_data(cx)).await
    }

    /// What comes after the body.
    pub async fn trailers(&self) -> Result<Option<HeaderMap>, Broken> {
        Ok(poll_fn(|cx| self.stream.borrow_mut().poll_trailers(cx)).await?.map(headers))
    }

    /// Lets whoever answers send as much more.
    pub fn took(&self, bytes: usize) {
        self.core.borrow_mut().took(&self.stream, bytes);
    }

    /// Sends a piece of the request's body as there is room for it. `last`: it ends with that.
    ///
    /// # Errors
    /// Whoever answers takes no more; why stands in the answer.
    pub async fn put(&self, mut piece: Bytes, last: bool) -> Result<(), Broken> {
        poll_fn(|cx| self.core.borrow_mut().poll_send(&self.stream, &mut piece, last, cx)).await
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.core.borrow_mut().reset(&self.stream, Code::CANCEL);
        self.stream.borrow_mut().forget();
    }
}

/// The headers of a block; one that is remembered keeps its own.
fn headers(block: Rc<Block>) -> HeaderMap {
    Rc::try_unwrap(block).map_or_else(|shared| shared.headers.clone(), |own| own.headers)
}
