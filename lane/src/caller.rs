//! The answering side towards a caller.

use crate::busy::Load;
use crate::headers::{PEER_ERROR, to_caller};
use crate::hops;
use crate::http2::{Broken, Exchange};
use crate::pod::Pod;
use crate::request::{Stopped, put};
use crate::sizes::Sizes;
use crate::status;
use crate::tried;
use bytes::Bytes;
use h2::SendStream;
use h2::server::SendResponse;
use http::{HeaderMap, HeaderValue, Response};
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;

/// Who waits for an answer.
pub struct Caller {
    respond: SendResponse<Bytes>,
    stream: Option<SendStream<Bytes>>,
    over: bool,
    /// Bytes of messages sent so far.
    pub size: u64,
    /// Whoever answers a call of another pod here says so, and how busy it is.
    pub farewell: Option<Arc<Pod>>,
    /// How busy the pod is that answered, if it was another one.
    pub load: Option<Load>,
    /// Whether the connection to whoever answers broke, or did not come about.
    pub broke: bool,
    /// Bytes of one message that a runtime may answer.
    most: usize,
}

/// Whose answer it is: what of it passes, and which statuses make the call Python's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum From {
    Python,
    Runtime,
    Peer,
}

/// How an exchange ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The caller was told this code.
    Answered(usize),
    /// The caller was told nothing: another may answer. Otherwise this is what it is told. The headers tell the Python door what came
    /// of the attempt; there are none if the copy may be called again for this call, for it did not get it.
    Untold(usize, String, Option<Box<HeaderMap>>),
    /// The caller is gone.
    Gone,
}

impl From {
    fn is_pythons(self, code: usize, headers: &HeaderMap) -> bool {
        match self {
            Self::Python => false,
            Self::Runtime => status::is_pythons(code, headers),
            Self::Peer => status::is_pythons_of_peer(code, headers),
        }
    }

    /// A status that is Python's, with what came beside it.
    fn untold(self, code: usize, mut headers: Option<HeaderMap>, mut trailers: HeaderMap) -> End {
        let text = String::from_utf8_lossy(&status::message(&trailers)).into_owned();
        // What a pod says of itself tells Python whose answer it is.
        for map in headers.iter_mut().chain([&mut trailers]).filter(|_| self != Self::Peer) {
            self.filter(map);
        }
        End::Untold(code, text, tried::answered(code, headers.as_ref(), &trailers).map(Box::new))
    }

    fn filter(self, headers: &mut HeaderMap) {
        if self != Self::Python {
            to_caller(headers);
        }
    }
}

impl Caller {
    pub fn new(respond: SendResponse<Bytes>, most: usize) -> Self {
        Self { respond, stream: None, over: false, size: 0, farewell: None, load: None, broke: false, most }
    }

    /// What comes of some work, unless the caller goes meanwhile.
    pub async fn unless_gone<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        let mut work = pin!(work);
        poll_fn(|cx| {
            if let Poll::Ready(done) = work.as_mut().poll(cx) {
                return Poll::Ready(Some(done));
            }
            let gone = match &mut self.stream {
                Some(stream) => stream.poll_reset(cx).is_ready(),
                None => self.respond.poll_reset(cx).is_ready(),
            };
            if gone { Poll::Ready(None) } else { Poll::Pending }
        })
        .await
    }

    /// Ends the call with a status of the lane's own, wherever the answer is.
    pub fn fail(&mut self, code: usize, text: &str) {
        self.refuse(code, text, None);
    }

    /// The same; another pod that called is told the class of the error.
    pub fn refuse(&mut self, code: usize, text: &str, error: Option<&'static str>) {
        if self.over {
            return;
        }
        self.over = true;
        let mut beside = HeaderMap::new();
        self.say_farewell(&mut beside);
        if let Some(error) = error.filter(|_| self.farewell.is_some()) {
            beside.insert(PEER_ERROR, HeaderValue::from_static(error));
        }
        // Errors mean that the caller is gone, which needs no answer.
        match &mut self.stream {
            Some(stream) => {
                beside.extend(status::trailers(code, text));
                drop(stream.send_trailers(beside));
            }
            None => {
                let mut answer = status::answer(code, text);
                answer.headers_mut().extend(beside);
                drop(self.respond.send_response(answer, true));
            }
        }
    }

    fn say_farewell(&self, trailers: &mut HeaderMap) {
        if let Some(pod) = &self.farewell {
            trailers.extend(pod.farewell());
        }
    }

    /// Takes in what the end of an answer says of who gave it.
    fn heard(&mut self, from: From, trailers: &HeaderMap) {
        if from == From::Peer {
            self.load = hops::load(trailers);
        }
    }

    /// Passes an answer on. Nothing is told to the caller before the first message or the end is there, so that another may still answer.
    pub async fn relay(&mut self, exchange: &Exchange, from: From) -> End {
        let mut head = match self.unless_gone(exchange.head()).await {
            None => return End::Gone,
            Some(Ok(response)) => response.into_parts().0,
            Some(Err(error)) => return self.broken(&error),
        };
        let fallback = status::of_http(head.status);
        if exchange.is_bare() {
            let code = status::code(&head.headers).unwrap_or(fallback);
            self.heard(from, &head.headers);
            if from.is_pythons(code, &head.headers) {
                return from.untold(code, None, head.headers);
            }
            from.filter(&mut head.headers);
            self.say_farewell(&mut head.headers);
            return self.tell_all(Response::from_parts(head, ()), code);
        }
        let (mut head, mut sizes) = (Some(head), Sizes::default());
        loop {
            match self.unless_gone(exchange.data()).await {
                None => return End::Gone,
                Some(Some(Ok(piece))) => {
                    if from == From::Runtime
                        && let Some(size) = sizes.beyond(&piece, self.most)
                    {
                        return self.too_large(size, head.is_some());
                    }
                    if let Err(end) = self.begin(&mut head, from) {
                        return end;
                    }
                    if let Err(end) = self.pass(piece, exchange).await {
                        return end;
                    }
                }
                Some(Some(Err(error))) => return self.broken(&error),
                Some(None) => break,
            }
        }
        let mut trailers = match self.unless_gone(exchange.trailers()).await {
            None => return End::Gone,
            Some(Ok(trailers)) => trailers.unwrap_or_default(),
            Some(Err(error)) => return self.broken(&error),
        };
        let code = status::code(&trailers).unwrap_or(fallback);
        self.heard(from, &trailers);
        if let Some(head) = head.take_if(|_| from.is_pythons(code, &trailers)) {
            return from.untold(code, Some(head.headers), trailers);
        }
        if let Err(end) = self.begin(&mut head, from) {
            return end;
        }
        from.filter(&mut trailers);
        self.say_farewell(&mut trailers);
        self.over = true;
        let sent = self.stream.as_mut().map(|stream| stream.send_trailers(trailers));
        if matches!(sent, Some(Ok(()))) { End::Answered(code) } else { End::Gone }
    }

    /// An answer that is larger than any may be, in the words of gRPC's C core; before anything was told it is Python's to judge.
    fn too_large(&mut self, size: usize, untold: bool) -> End {
        let text = format!("CLIENT: Received message larger than max ({size} vs. {})", self.most);
        if untold {
            return End::Untold(
                status::RESOURCE_EXHAUSTED,
                text.clone(),
                tried::ended(status::RESOURCE_EXHAUSTED, text.as_bytes()).map(Box::new),
            );
        }
        self.fail(status::RESOURCE_EXHAUSTED, &text);
        End::Answered(status::RESOURCE_EXHAUSTED)
    }

    fn begin(&mut self, head: &mut Option<http::response::Parts>, from: From) -> Result<(), End> {
        let Some(mut head) = head.take() else { return Ok(()) };
        from.filter(&mut head.headers);
        self.stream = Some(self.respond.send_response(Response::from_parts(head, ()), false).map_err(|_| End::Gone)?);
        Ok(())
    }

    async fn pass(&mut self, piece: Bytes, exchange: &Exchange) -> Result<(), End> {
        let (size, Some(stream)) = (piece.len(), &mut self.stream) else { return Ok(()) };
        put(piece, false, self.size == 0, stream).await.map_err(|_: Stopped| End::Gone)?;
        self.size += size as u64;
        exchange.took(size);
        Ok(())
    }

    fn tell_all(&mut self, response: Response<()>, code: usize) -> End {
        self.over = true;
        self.respond.send_response(response, true).map_or(End::Gone, |_| End::Answered(code))
    }

    fn broken(&mut self, error: &Broken) -> End {
        let code = status::of_broken(error);
        let text = format!("the connection to whoever answers broke: {error}");
        self.broke = error.is_io() || error.is_go_away();
        let refused = error.is_refused();
        if self.stream.is_none() && (refused || self.broke) {
            let attempt = if refused { None } else { tried::ended(code, text.as_bytes()).map(Box::new) };
            return End::Untold(code, text, attempt);
        }
        self.fail(code, &text);
        End::Answered(code)
    }
}
