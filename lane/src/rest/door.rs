//! The REST port: calls of resident models are answered here, everything else is the Python door's.

use super::answer::{self, Body};
use super::asked::Http;
use super::behind::{Behind, Sent};
use super::carry::{self, Count, Said, Untold};
use super::chunks::{Chunks, Step};
use super::head::{self, Head, Infer, Read};
use super::request::{self, Named, Reply};
use super::stream::Stream;
use super::{Known, Odd, streams, told};
use crate::connection::Fate;
use crate::entrance::{Client, Speaks};
use crate::framing::PREFIX;
use crate::places::Address;
use crate::tls::Tls;
use crate::tried;
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use http::HeaderMap;
use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;
use tokio::net::TcpStream;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

/// For how long an idle connection stays open; as the Python door's (`mesh/doors/rest/server.py: KEEP_ALIVE`).
const IDLE: Duration = Duration::from_secs(75);
/// In which the first head of a connection has to begin where this router closes its port: who connected just before it is answered.
/// As the Python door's (`mesh/doors/rest/server.py: FIRST_WORD`).
const FIRST_WORD: Duration = Duration::from_secs(1);
/// In which a head has to come, once it began.
const HEAD: Duration = Duration::from_secs(10);
/// Bodies from this size on are transcoded on another thread, so that none holds up the calls of others.
const LARGE: usize = 128 * 1024;
/// Answers up to this size go out in one write with their head.
const TOGETHER: usize = 16 * 1024;

/// Where REST clients call, and where the Python door for them listens.
#[derive(Clone, Debug)]
pub struct Ports {
    pub listen: SocketAddr,
    pub python: Address,
}

/// A connection of a client of REST, with its first request or not.
pub async fn begin(worker: Rc<Worker>, stream: TcpStream, address: SocketAddr, python: Address) {
    let shown = worker.settings.tls.as_deref().map(Tls::rest);
    // Whoever cannot begin, sees that.
    if let Ok(client) = Client::begin(&worker, stream, address, shown).await {
        serve(worker, client, python).await;
    }
}

async fn serve(worker: Rc<Worker>, client: Client, address: Address) {
    let (fate, limit) = (worker.fate(), worker.settings.connect_limit);
    if client.speaks == Speaks::Http2 {
        return streams::serve(worker, client, BytesMut::new(), address, fate).await;
    }
    let from = Rc::new(client.from);
    let python = Behind::new(address.clone(), Rc::clone(&from), limit, Rc::clone(&fate));
    let mut door = Door { worker, fate, client: Stream::new(client.socket), python };
    // Whatever goes wrong with a connection ends it; its client sees that.
    if let Ok(Ended::Http2) = door.run().await {
        let client = Client { socket: door.client.socket, from: (*from).clone(), speaks: Speaks::Http2 };
        streams::serve(door.worker, client, door.client.read, address, door.fate).await;
    }
}

/// What became of a connection.
enum Ended {
    Over,
    /// Its first bytes are those of HTTP/2, and stand unread.
    Http2,
}

struct Door {
    worker: Rc<Worker>,
    fate: Rc<Fate>,
    client: Stream,
    python: Behind,
}

impl Door {
    async fn run(&mut self) -> io::Result<Ended> {
        let mut first = true;
        loop {
            let Some(read) = self.head(first).await? else { return Ok(Ended::Over) };
            let Read::Head(head) = read else {
                if first && streams::begins(&self.client.read) {
                    return Ok(Ended::Http2);
                }
                return self.python.keep(&mut self.client).await.map(|()| Ended::Over);
            };
            first = false;
            let stays = match &head.infer {
                Some(infer) if head.body <= self.worker.settings.max_message && carry::known(&self.worker, &infer.model) => {
                    self.infer(&head, infer).await?
                }
                _ if head.chunked => return self.python.keep(&mut self.client).await.map(|()| Ended::Over),
                _ => self.hand_over(&head).await?,
            };
            if !stays {
                return Ok(Ended::Over);
            }
        }
    }

    /// The next request; None if none comes.
    async fn head(&mut self, first: bool) -> io::Result<Option<Read>> {
        if self.client.read.is_empty() {
            let leaving = async {
                poll_fn(|cx| self.fate.leave.poll(cx)).await;
                if first {
                    sleep(FIRST_WORD).await;
                }
            };
            tokio::select! {
                biased;
                more = timeout(IDLE, self.client.more()) => if !matches!(more, Ok(Ok(()))) {
                    return Ok(None);
                },
                () = leaving => return Ok(None),
            }
        }
        let reading = async {
            loop {
                match head::request(&self.client.read) {
                    Read::Short => self.client.more().await?,
                    read => return Ok(Some(read)),
                }
            }
        };
        timeout(HEAD, reading).await.unwrap_or(Ok(None))
    }

    async fn hand_over(&mut self, head: &Head) -> io::Result<bool> {
        let total = head.length + head.body;
        let read = self.client.take(total);
        let rest = total - read.len();
        Ok(self.python.exchange(&mut self.client, Sent { read, rest }).await? && !self.leaving().await)
    }

    async fn leaving(&self) -> bool {
        poll_fn(|cx| std::task::Poll::Ready(self.fate.leave.poll(cx).is_ready())).await
    }

    /// A request with its body, and the body itself; None if its end is not to be found.
    async fn gathered(&mut self, head: &Head) -> io::Result<Option<(Bytes, Bytes)>> {
        if !head.chunked {
            let total = head.length + head.body;
            self.client.expect(total);
            while self.client.read.len() < total {
                self.client.more_in_time().await?;
            }
            let whole = self.client.take(total);
            let body = whole.slice(head.length..);
            return Ok(Some((whole, body)));
        }
        let mut chunks = Chunks::new(head.length);
        loop {
            match chunks.step(&self.client.read, self.worker.settings.max_message) {
                Step::Whole(body) => return Ok(Some((self.client.take(chunks.at), body))),
                Step::Odd => return Ok(None),
                Step::Short => self.client.more_in_time().await?,
            }
        }
    }

    /// Answers one inference; whether another request may follow.
    async fn infer(&mut self, head: &Head, infer: &Infer) -> io::Result<bool> {
        let Some((whole, body)) = self.gathered(head).await? else {
            return self.python.keep(&mut self.client).await.map(|()| false);
        };
        let answered = {
            let head = || whole.slice(..head.length);
            let work = answered(&self.worker, body, infer, &head);
            tokio::select! {
                biased;
                answered = work => answered,
                // Dropped, the work is cancelled where it is done.
                () = self.client.gone() => return Err(io::ErrorKind::BrokenPipe.into()),
            }
        };
        let closes = self.leaving().await;
        match answered {
            Ok(Answer::Body(body, headers)) => {
                let mut text = told::inferred(&body, &headers, closes).into_bytes();
                if body.bytes.len() <= TOGETHER {
                    text.extend_from_slice(&body.bytes);
                    self.client.send(&text).await?;
                } else {
                    self.client.send(&text).await?;
                    self.client.send(&body.bytes).await?;
                }
                Ok(!closes)
            }
            Ok(Answer::Status { code, text, headers }) => {
                self.client.send(&told::status(code, &text, &headers, closes)).await?;
                Ok(!closes)
            }
            Err(Untold(told)) => {
                let read = tried::after_line(&whole, &self.worker.settings.key, &told);
                Ok(self.python.exchange(&mut self.client, Sent { read, rest: 0 }).await? && !closes)
            }
        }
    }
}

/// What a caller is told.
pub enum Answer {
    Body(Body, HeaderMap),
    Status { code: usize, text: String, headers: HeaderMap },
}

/// The answer to a body; without one that is Python's to give. `head`: of the request.
pub async fn answered(worker: &Rc<Worker>, body: Bytes, infer: &Infer, head: &dyn Fn() -> Bytes) -> Result<Answer, Untold> {
    let route = carry::route(worker, &infer.model, &Http::new(worker, &infer.metadata, head))?;
    let (json, model, version) = (infer.json.unwrap_or(body.len()), route.model.clone(), infer.version.clone());
    let size = body.len();
    let (message, reply) = aside(size, move || framed(&body, json, Named { model: &model, version: &version })).await?;
    if message.len() > PREFIX + worker.settings.max_message {
        return Err(Untold::of(&route, None));
    }
    // Only now: nobody waits for a place that is held while its holder is read, or its answer is written.
    let (inside, waited) = route.enter(worker, &message).await?;
    let count = Count::begin(worker, &route, waited, &message);
    let outcome = async {
        let said = carry::carry(worker, &route, &infer.metadata, message).await;
        drop(inside);
        match said? {
            Said::Status { code, text, headers } => Ok((code, 0, Answer::Status { code, text, headers })),
            Said::Answer { headers, message } => {
                let size = message.len();
                let body = aside(size, move || answer::write(&message, &reply)).await.map_err(|Odd| Untold::of(&route, None))?;
                Ok::<_, Untold>((0, PREFIX + size, Answer::Body(body, headers)))
            }
        }
    };
    let outcome = outcome.await;
    count.end(outcome.as_ref().ok().map(|(code, size, _)| (*code, *size as u64)));
    outcome.map(|(_, _, answer)| answer)
}

/// Does some work, on another thread if it is long.
async fn aside<T: Send + 'static>(size: usize, work: impl FnOnce() -> Known<T> + Send + 'static) -> Known<T> {
    if size < LARGE { work() } else { spawn_blocking(work).await.unwrap_or(Err(Odd)) }
}

/// A body's message as gRPC sends it.
fn framed(body: &[u8], json: usize, named: Named<'_>) -> Known<(Bytes, Reply)> {
    let mut out = Vec::with_capacity(PREFIX + 64 + body.len() / 2);
    out.extend_from_slice(&[0; PREFIX]);
    let reply = request::read(body, json, named, &mut out)?;
    let size = u32::try_from(out.len() - PREFIX).map_err(|_| Odd)?;
    out[1..PREFIX].copy_from_slice(&size.to_be_bytes());
    Ok((Bytes::from(out), reply))
}
