//! HTTP/2 on the REST port: each stream is a request like those of HTTP/1.1, answered here or by the Python door, which speaks HTTP/1.1 alone.

use super::behind::RESTED;
use super::carry::{self, Untold};
use super::door::{self, Answer};
use super::head::{self, Infer, LARGEST, Read};
use super::plain::{self, Size};
use super::stream::{PROGRESS, Stream};
use super::told;
use crate::connection::{Fate, talk};
use crate::entrance::Client;
use crate::identity::Identity;
use crate::places::Address;
use crate::request::put;
use crate::socket::Socket;
use crate::tried;
use crate::worker::Worker;
use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::request::Parts;
use http::{HeaderMap, Method, Request};
use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::io;
use std::pin::pin;
use std::rc::Rc;
use std::time::Instant;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ReadHalf, WriteHalf, split};
use tokio::task::spawn_local;
use tokio::time::timeout;

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// Connections to the Python door that one client may have at rest.
const RESTING: usize = 8;
/// Bytes that are read of an answer at a time.
const PIECE: usize = 16 * 1024;

/// Whether the first bytes of a connection can be those of HTTP/2.
pub fn begins(read: &[u8]) -> bool {
    let size = read.len().min(PREFACE.len());
    read[..size] == PREFACE[..size]
}

/// Serves a client until it goes, or is asked to.
pub async fn serve(worker: Rc<Worker>, client: Client, read: BytesMut, python: Address, fate: Rc<Fate>) {
    let doors = Rc::new(Doors { worker: Rc::clone(&worker), address: python, from: client.from.clone(), resting: RefCell::default() });
    let begin = move |request, respond| {
        spawn_local(Box::pin(one(Rc::clone(&doors), request, respond)));
    };
    talk(&worker, client, read, LARGEST as u32, worker.settings.max_age, fate, begin).await;
}

/// The Python door, as the streams of one client have it.
struct Doors {
    worker: Rc<Worker>,
    address: Address,
    from: Identity,
    resting: RefCell<Vec<(Stream, Instant)>>,
}

/// A request with what was read of its body.
struct Asked {
    parts: Parts,
    body: RecvStream,
    read: Vec<Bytes>,
    size: usize,
}

async fn one(doors: Rc<Doors>, request: Request<RecvStream>, mut respond: SendResponse<Bytes>) {
    let (parts, body) = request.into_parts();
    let mut asked = Asked { parts, body, read: Vec::new(), size: 0 };
    // Whatever goes wrong ends the stream; its client sees that.
    if let Err(error) = doors.serve(&mut asked, &mut respond).await {
        respond.send_reset(match error.kind() {
            io::ErrorKind::Unsupported => Reason::HTTP_1_1_REQUIRED,
            _ => Reason::INTERNAL_ERROR,
        });
    }
}

impl Doors {
    async fn serve(&self, asked: &mut Asked, respond: &mut SendResponse<Bytes>) -> io::Result<()> {
        let mut told = HeaderMap::new();
        if let Some(infer) = asked.infer(&self.worker)
            && asked.gather(self.worker.settings.max_message).await?
        {
            let body = asked.whole();
            let head = || asked.head().unwrap_or_default();
            match unless_gone(respond, door::answered(&self.worker, body, &infer, &head)).await? {
                Ok(answer) => return tell(respond, answer).await,
                Err(Untold(found)) => told = found,
            }
        }
        self.hand_over(asked, &told, respond).await
    }

    async fn hand_over(&self, asked: &mut Asked, told: &HeaderMap, respond: &mut SendResponse<Bytes>) -> io::Result<()> {
        let size = asked.told();
        let head = tried::after_line(&asked.head().ok_or(io::ErrorKind::Unsupported)?, &self.worker.settings.key, told);
        let whole = asked.body.is_end_stream();
        if let Some(door) = self.rested().filter(|_| whole) {
            match self.exchange(door, &head, size, asked, respond).await {
                // The door closed it before it had this request.
                Err(Broken::Unanswered) => {}
                done => return done.map_err(Broken::error),
            }
        }
        let dialed = Stream::dial(&self.address, self.worker.settings.connect_limit, &self.from).await?;
        self.exchange(dialed, &head, size, asked, respond).await.map_err(Broken::error)
    }

    fn rested(&self) -> Option<Stream> {
        let mut resting = self.resting.borrow_mut();
        while let Some((mut door, since)) = resting.pop() {
            if since.elapsed() < RESTED && !door.stale() {
                return Some(door);
            }
        }
        None
    }

    async fn exchange(
        &self,
        door: Stream,
        head: &[u8],
        size: Size,
        asked: &mut Asked,
        respond: &mut SendResponse<Bytes>,
    ) -> Result<(), Broken> {
        let method = asked.parts.method.clone();
        let (from, to) = split(door.socket);
        let mut down = Down { from, read: door.read };
        let stays = {
            let mut upload = pin!(upload(to, head, size, asked));
            let mut download = pin!(down.pass(&method, respond));
            let mut sent = None;
            loop {
                tokio::select! {
                    biased;
                    // Why no more is taken stands in the answer.
                    done = &mut upload, if sent.is_none() => match done {
                        Ok(to) => sent = Some(Some(to)),
                        Err(Stopped::Door) => sent = Some(None),
                        Err(Stopped::Client) => return Err(Broken::Other(io::ErrorKind::BrokenPipe.into())),
                    },
                    stays = &mut download => break (sent.flatten(), stays?),
                }
            }
        };
        let (to, stays) = stays;
        if !asked.body.is_end_stream() {
            asked.pass_over(self.worker.settings.max_message).await;
        }
        // A door that did not want all of it is not asked again.
        if let (Some(to), true) = (to, stays) {
            let door = Stream { socket: down.from.unsplit(to), read: down.read };
            let mut resting = self.resting.borrow_mut();
            if resting.len() < RESTING && door.read.is_empty() {
                resting.push((door, Instant::now()));
            }
        }
        Ok(())
    }
}

impl Asked {
    /// What is to be inferred; None if the request is Python's.
    fn infer(&self, worker: &Worker) -> Option<Infer> {
        if self.parts.method != Method::POST {
            return None;
        }
        match head::request(&self.head()?) {
            Read::Head(head) if head.body <= worker.settings.max_message => head.infer.filter(|infer| carry::known(worker, &infer.model)),
            _ => None,
        }
    }

    /// Its head in HTTP/1.1, if that can say it.
    fn head(&self) -> Option<Bytes> {
        plain::head(&self.parts, self.told()).map(Bytes::from)
    }

    fn told(&self) -> Size {
        if self.body.is_end_stream() {
            return if self.size == 0 && self.parts.headers.get("content-length").is_none() {
                Size::Nothing
            } else {
                Size::Told(self.size)
            };
        }
        let told = self.parts.headers.get("content-length").and_then(|size| size.to_str().ok()?.parse().ok());
        told.map_or(Size::Chunked, Size::Told)
    }

    /// Reads all of the body; false if it is too much, and there is more of it.
    async fn gather(&mut self, most: usize) -> io::Result<bool> {
        while let Some(piece) = next(&mut self.body).await? {
            self.size += piece.len();
            self.read.push(piece);
            if self.size > most {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// Reads on after the answer: some clients that still send would miss it if their stream were reset.
    async fn pass_over(&mut self, most: usize) {
        let mut size = 0;
        while size <= most
            && let Ok(Some(piece)) = next(&mut self.body).await
        {
            size += piece.len();
        }
    }

    fn whole(&mut self) -> Bytes {
        if self.read.len() > 1 {
            self.read = vec![self.read.concat().into()];
        }
        self.read.first().cloned().unwrap_or_default()
    }
}

/// What comes next of a body, for which there is room then; a client that stops is an error.
async fn next(body: &mut RecvStream) -> io::Result<Option<Bytes>> {
    match timeout(PROGRESS, body.data()).await {
        Ok(Some(Ok(piece))) => {
            let _ = body.flow_control().release_capacity(piece.len());
            Ok(Some(piece))
        }
        Ok(None) => Ok(None),
        Ok(Some(Err(error))) => Err(io::Error::other(error)),
        Err(_) => Err(io::ErrorKind::TimedOut.into()),
    }
}

/// What comes of some work, unless the client gives up meanwhile.
async fn unless_gone<T>(respond: &mut SendResponse<Bytes>, work: impl Future<Output = T>) -> io::Result<T> {
    tokio::select! {
        biased;
        done = work => Ok(done),
        _ = poll_fn(|cx| respond.poll_reset(cx)) => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

/// Sends an answer that was made here.
async fn tell(respond: &mut SendResponse<Bytes>, answer: Answer) -> io::Result<()> {
    let (mut text, body) = match answer {
        Answer::Body(body, headers) => (told::inferred(&body, &headers, false).into_bytes(), body.bytes),
        Answer::Status { code, text, headers } => (told::status(code, &text, &headers, false), Vec::new()),
    };
    let head = plain::answer(&text, &Method::POST)?.ok_or(io::ErrorKind::InvalidData)?;
    let body = if body.is_empty() { Bytes::from(text.split_off(head.length)) } else { Bytes::from(body) };
    let mut stream = respond.send_response(head.response, body.is_empty()).map_err(io::Error::other)?;
    if body.is_empty() { Ok(()) } else { give(body, true, true, &mut stream).await }
}

/// Sends bytes as the client makes room; one that makes none for long is gone.
async fn give(piece: Bytes, last: bool, begins: bool, to: &mut SendStream<Bytes>) -> io::Result<()> {
    match timeout(PROGRESS, put(piece, last, begins, to)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(io::ErrorKind::BrokenPipe.into()),
    }
}

/// Who ended a request before all of it was sent.
enum Stopped {
    Client,
    Door,
}

/// Sends a request to the door, as it comes.
async fn upload(mut to: WriteHalf<Socket>, head: &[u8], size: Size, asked: &mut Asked) -> Result<WriteHalf<Socket>, Stopped> {
    let mut first = head.to_vec();
    for piece in &asked.read {
        framed(&mut first, piece, size);
    }
    send(&mut to, &first).await?;
    while let Some(piece) = next(&mut asked.body).await.map_err(|_| Stopped::Client)? {
        let mut out = Vec::with_capacity(piece.len() + 16);
        framed(&mut out, &piece, size);
        send(&mut to, &out).await?;
    }
    if size == Size::Chunked {
        send(&mut to, b"0\r\n\r\n").await?;
    }
    Ok(to)
}

fn framed(out: &mut Vec<u8>, piece: &[u8], size: Size) {
    if size == Size::Chunked {
        // One of no bytes would be the last.
        if piece.is_empty() {
            return;
        }
        out.extend_from_slice(format!("{:x}\r\n", piece.len()).as_bytes());
        out.extend_from_slice(piece);
        out.extend_from_slice(b"\r\n");
    } else {
        out.extend_from_slice(piece);
    }
}

async fn send(to: &mut WriteHalf<Socket>, bytes: &[u8]) -> Result<(), Stopped> {
    match timeout(PROGRESS, to.write_all(bytes)).await {
        Ok(Ok(())) => Ok(()),
        _ => Err(Stopped::Door),
    }
}

/// The door's answers.
struct Down {
    from: ReadHalf<Socket>,
    read: BytesMut,
}

impl Down {
    async fn more(&mut self) -> io::Result<()> {
        self.read.reserve(PIECE);
        if self.from.read_buf(&mut self.read).await? == 0 { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }

    /// Passes an answer to the client; whether another may follow.
    async fn pass(&mut self, method: &Method, respond: &mut SendResponse<Bytes>) -> Result<bool, Broken> {
        let answer = loop {
            match plain::answer(&self.read, method)? {
                // "Go on" was not asked for; the answer itself follows.
                Some(answer) if answer.response.status().is_informational() => drop(self.read.split_to(answer.length)),
                Some(answer) => break answer,
                None => {
                    let begun = !self.read.is_empty();
                    match unless_gone(respond, self.more()).await? {
                        Err(_) if !begun => return Err(Broken::Unanswered),
                        more => more?,
                    }
                }
            }
        };
        drop(self.read.split_to(answer.length));
        let mut body = answer.body;
        let mut stream = respond.send_response(answer.response, body.over()).map_err(io::Error::other)?;
        let mut begins = true;
        while !body.over() {
            match body.step(&self.read)? {
                Some((passed, taken)) => {
                    drop(self.read.split_to(passed));
                    let piece = self.read.split_to(taken).freeze();
                    if !piece.is_empty() || body.over() {
                        give(piece, body.over(), begins, &mut stream).await?;
                        begins = false;
                    }
                }
                None => match self.more().await {
                    Err(error) if body == plain::Body::ToTheEnd && error.kind() == io::ErrorKind::UnexpectedEof => {
                        give(Bytes::new(), true, begins, &mut stream).await?;
                        return Ok(false);
                    }
                    more => more?,
                },
            }
        }
        Ok(answer.stays)
    }
}

/// Why an exchange came to nothing.
enum Broken {
    /// The door closed the connection without a word.
    Unanswered,
    Other(io::Error),
}

impl Broken {
    fn error(self) -> io::Error {
        match self {
            Self::Unanswered => io::ErrorKind::UnexpectedEof.into(),
            Self::Other(error) => error,
        }
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Other(error)
    }
}
