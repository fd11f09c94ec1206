//! What is left to the Python door: one request and its answer, or a whole connection, byte for byte.

use super::head::{self, Answer};
use super::stream::Stream;
use crate::connection::Fate;
use crate::identity::Identity;
use crate::places::Address;
use bytes::Bytes;
use std::cell::Cell;
use std::future::poll_fn;
use std::io;
use std::rc::Rc;
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, split};
use tokio::time::sleep;

/// A connection that rested for longer is made anew: the Python door closes it at some time after this (`KEEP_ALIVE` of its server).
pub const RESTED: Duration = Duration::from_secs(30);

/// After which a connection whose last word was the door's is over, once it is to end.
const QUIET: Duration = Duration::from_millis(500);
/// Bytes that are passed at a time.
const PIECE: usize = 16 * 1024;

/// The Python door, as one client's connection has it.
pub struct Behind {
    address: Address,
    /// Whose connection it is.
    from: Rc<Identity>,
    limit: Duration,
    fate: Rc<Fate>,
    resting: Option<(Stream, Instant)>,
}

/// A request on its way: what was read of it, and how much is not.
pub struct Sent {
    pub read: Bytes,
    pub rest: usize,
}

impl Behind {
    pub fn new(address: Address, from: Rc<Identity>, limit: Duration, fate: Rc<Fate>) -> Self {
        Self { address, from, limit, fate, resting: None }
    }

    /// Passes one request on and its answer back; whether another request may follow.
    pub async fn exchange(&mut self, client: &mut Stream, sent: Sent) -> io::Result<bool> {
        let rested = self.resting.take().filter(|(_, since)| since.elapsed() < RESTED);
        if let Some((mut door, _)) = rested
            && !door.stale()
        {
            match self.through(&mut door, client, &sent).await {
                Ok(ended) => return Ok(self.over(door, &ended)),
                // The door closed it before it had this request.
                Err(Broken::Unanswered) if sent.rest == 0 => {}
                Err(error) => return Err(error.into()),
            }
        }
        let mut door = Stream::dial(&self.address, self.limit, &self.from).await?;
        let ended = self.through(&mut door, client, &sent).await?;
        Ok(self.over(door, &ended))
    }

    fn over(&mut self, door: Stream, ended: &Ended) -> bool {
        self.resting = (ended.stays && ended.unsent == 0).then(|| (door, Instant::now()));
        ended.stays
    }

    async fn through(&self, door: &mut Stream, client: &mut Stream, sent: &Sent) -> Result<Ended, Broken> {
        if door.send(&sent.read).await.is_err() && door.more().await.is_err() {
            return Err(Broken::Unanswered);
        }
        let mut rest = sent.rest;
        while rest > 0 {
            let piece = client.take(rest);
            rest -= piece.len();
            // A door that answers before it has everything takes no more.
            if door.send(&piece).await.is_err() {
                break;
            }
            if rest > 0 {
                tokio::select! {
                    biased;
                    more = client.more_in_time() => more?,
                    _ = door.more() => break,
                }
            }
        }
        let (length, body, stays) = loop {
            match head::answer(&door.read) {
                Answer::Head { length, body, stays } => break (length, body, stays),
                // Its end is told by nothing but the end of the connection, or in a way that only the two of them know.
                Answer::Odd => {
                    tunnel(client, door, &self.fate).await?;
                    return Ok(Ended { stays: false, unsent: 0 });
                }
                Answer::Short => {}
            }
            let begun = !door.read.is_empty();
            tokio::select! {
                biased;
                more = door.more() => if more.is_err() {
                    return Err(if begun { io::Error::from(io::ErrorKind::UnexpectedEof).into() } else { Broken::Unanswered });
                },
                () = client.gone() => return Err(io::Error::from(io::ErrorKind::BrokenPipe).into()),
            }
        };
        let mut left = length + body;
        loop {
            let piece = door.take(left);
            left -= piece.len();
            client.send(&piece).await?;
            if left == 0 {
                break;
            }
            door.more().await?;
        }
        // A client that still sends would miss the answer if the connection ended under it; the Python door too reads to the end.
        let mut left = rest;
        while left > 0 {
            left -= client.take(left).len();
            if left > 0 {
                client.more_in_time().await?;
            }
        }
        Ok(Ended { stays, unsent: rest })
    }

    /// Gives a connection over to the Python door, with what was read of it.
    pub async fn keep(&mut self, client: &mut Stream) -> io::Result<()> {
        let mut door = Stream::dial(&self.address, self.limit, &self.from).await?;
        tunnel(client, &mut door, &self.fate).await
    }
}

/// Passes bytes both ways until both sides ended, or until nothing is asked of a door that is to be left.
async fn tunnel(client: &mut Stream, door: &mut Stream, fate: &Fate) -> io::Result<()> {
    let (up, down) = (client.read.split(), door.read.split());
    door.send(&up).await?;
    client.send(&down).await?;
    // Who spoke last, and when: a door that did has answered.
    let (asked, moved) = (Cell::new(down.is_empty()), Cell::new(Instant::now()));
    let ((from_client, to_client), (from_door, to_door)) = (split(&mut client.socket), split(&mut door.socket));
    let up = pump(from_client, to_door, || asked.set(true));
    let down = pump(from_door, to_client, || {
        asked.set(false);
        moved.set(Instant::now());
    });
    let left = async {
        poll_fn(|cx| fate.leave.poll(cx)).await;
        while asked.get() || moved.get().elapsed() < QUIET {
            sleep(QUIET / 4).await;
        }
    };
    tokio::select! {
        ended = async { tokio::try_join!(up, down) } => ended.map(drop),
        () = left => Ok(()),
    }
}

async fn pump(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, moved: impl Fn()) -> io::Result<()> {
    let mut bytes = vec![0; PIECE];
    loop {
        let size = from.read(&mut bytes).await?;
        if size == 0 {
            return to.shutdown().await;
        }
        moved();
        to.write_all(&bytes[..size]).await?;
        to.flush().await?;
    }
}

/// How an exchange ended.
struct Ended {
    /// Whether another request may follow.
    stays: bool,
    /// Bytes of the request that the door did not want.
    unsent: usize,
}

/// Why an exchange came to nothing.
enum Broken {
    /// The door closed the connection without a word.
    Unanswered,
    Other(io::Error),
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Other(error)
    }
}

impl From<Broken> for io::Error {
    fn from(broken: Broken) -> Self {
        match broken {
            Broken::Unanswered => io::ErrorKind::UnexpectedEof.into(),
            Broken::Other(error) => error,
        }
    }
}
