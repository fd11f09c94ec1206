//! What a caller sends: what is kept of it, and what goes on to whoever answers.

use crate::framing::{Messages, PREFIX, Refusal, size_of};
use crate::http2::Exchange;
use bytes::Bytes;
use h2::{RecvStream, SendStream};
use std::borrow::Cow;
use std::future::poll_fn;

/// First bytes of a message in which its model's name is looked for before the call is left to Python.
const FIRST: usize = 64 * 1024;

/// Bytes that a call may begin with before anybody made room for them.
const SMALL: usize = 4096;

/// A request's body, with what is kept of it so that it can be sent again.
pub struct Body {
    stream: RecvStream,
    kept: Vec<Bytes>,
    size: u64,
    over: bool,
    /// Whether all that was read is kept.
    pub whole: bool,
    most: usize,
}

/// Why a body did not get through.
#[derive(Debug)]
pub enum Stopped {
    /// The caller is gone.
    Caller,
    /// Whoever answers takes no more; the answer tells why.
    Answerer,
    Refused(Refusal),
}

impl Body {
    /// `most`: bytes that are kept; what is read before it is known where the call goes is kept in any case.
    pub fn new(stream: RecvStream, most: usize) -> Self {
        let over = stream.is_end_stream();
        Self { stream, kept: Vec::new(), size: 0, over, whole: true, most: most.max(2 * FIRST) }
    }

    /// Bytes read so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Reads until something of the first message is there, or all of what is sent.
    pub async fn begin(&mut self) -> Result<(), Stopped> {
        while self.kept.is_empty() && !self.over {
            self.read().await?;
        }
        Ok(())
    }

    /// Reads on, for who cannot do with what is there; false if there is no more, or too much already.
    pub async fn more(&mut self) -> Result<bool, Stopped> {
        if self.over || self.size as usize > FIRST {
            return Ok(false);
        }
        self.read().await?;
        Ok(true)
    }

    /// What is there of the first message, and the size that it has; None if not even that is there, or if it is compressed.
    pub fn first(&self) -> Option<(Cow<'_, [u8]>, usize)> {
        let there: Cow<'_, [u8]> = match &self.kept[..] {
            [] => return None,
            [only] => Cow::Borrowed(only),
            several => Cow::Owned(several.concat()),
        };
        let size = size_of(&there)?;
        if there[0] != 0 {
            return None;
        }
        let end = there.len().min(PREFIX + size);
        let message = match there {
            Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[PREFIX..end]),
            Cow::Owned(mut bytes) => {
                bytes.truncate(end);
                bytes.drain(..PREFIX);
                Cow::Owned(bytes)
            }
        };
        Some((message, size))
    }

    /// Sends all of it, from the beginning; as it came unless `messages` changes it.
    pub async fn send(&mut self, mut messages: Option<Messages>, to: &Exchange) -> Result<(), Stopped> {
        let mut pieces = Vec::new();
        for piece in &self.kept {
            pass(&mut messages, piece.clone(), &mut pieces)?;
        }
        loop {
            if self.over {
                pieces.extend(messages.as_mut().map(Messages::rest));
            }
            pieces.retain(|piece| !piece.is_empty());
            let last = pieces.len();
            for (number, piece) in pieces.drain(..).enumerate() {
                to.put(piece, self.over && number + 1 == last).await.map_err(|_| Stopped::Answerer)?;
            }
            if self.over {
                return if last == 0 { to.put(Bytes::new(), true).await.map_err(|_| Stopped::Answerer) } else { Ok(()) };
            }
            let piece = self.read().await?;
            pass(&mut messages, piece, &mut pieces)?;
        }
    }

    async fn read(&mut self) -> Result<Bytes, Stopped> {
        let piece = match self.stream.data().await {
            Some(Ok(piece)) => piece,
            Some(Err(_)) => return Err(Stopped::Caller),
            None => {
                self.over = true;
                return Ok(Bytes::new());
            }
        };
        self.over = self.stream.is_end_stream();
        self.size += piece.len() as u64;
        // What is read is held here or by whoever answers, whose window then stops this loop.
        let _ = self.stream.flow_control().release_capacity(piece.len());
        if self.whole && self.size as usize <= self.most {
            self.kept.extend((!piece.is_empty()).then(|| piece.clone()));
        } else {
            self.whole = false;
            self.kept = Vec::new();
        }
        Ok(piece)
    }
}

fn pass(messages: &mut Option<Messages>, piece: Bytes, out: &mut Vec<Bytes>) -> Result<(), Stopped> {
    match messages {
        Some(messages) => messages.feed(piece, out).map_err(Stopped::Refused),
        None => {
            out.push(piece);
            Ok(())
        }
    }
}

/// Sends bytes to a caller as it makes room; `begins`: nothing was sent before.
pub async fn put(mut piece: Bytes, last: bool, begins: bool, to: &mut SendStream<Bytes>) -> Result<(), Stopped> {
    if begins && piece.len() <= SMALL {
        // The connection holds as much itself until there is room.
        return to.send_data(piece, last).map_err(|_| Stopped::Answerer);
    }
    loop {
        to.reserve_capacity(piece.len());
        let mut room = to.capacity();
        if room == 0 && !piece.is_empty() {
            room = match poll_fn(|cx| to.poll_capacity(cx)).await {
                Some(Ok(room)) => room,
                Some(Err(_)) | None => return Err(Stopped::Answerer),
            };
        }
        let part = piece.split_to(room.min(piece.len()));
        let done = piece.is_empty();
        to.send_data(part, last && done).map_err(|_| Stopped::Answerer)?;
        if done {
            return Ok(());
        }
    }
}
