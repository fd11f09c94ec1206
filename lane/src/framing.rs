//! The gRPC messages in a request's body: each gets the concrete model's id, as its bytes pass.

use crate::splice::{self, Fault};
use crate::status;
use bytes::{Buf, Bytes, BytesMut};
use std::sync::Arc;

/// Bytes before a message: whether it is compressed, and its length.
pub const PREFIX: usize = 5;
/// What is joined to a message's first bytes, so that a short message stays one frame.
const JOINED: usize = 4096;

/// Why a request's body cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub enum Refusal {
    TooLarge { size: usize, limit: usize },
    Malformed(String),
    Compressed,
}

impl Refusal {
    /// Code and text for the caller, and the class of the error for a pod.
    pub fn told(&self) -> (usize, String, &'static str) {
        match self {
            Self::TooLarge { size, limit } => {
                (status::RESOURCE_EXHAUSTED, format!("a message of this stream has {size} bytes, and {limit} are the limit"), "TooLarge")
            }
            Self::Malformed(text) => (status::INVALID_ARGUMENT, text.clone(), "Malformed"),
            Self::Compressed => (
                status::INVALID_ARGUMENT,
                "a message of this stream is compressed, and its call does not say how; name the compression in grpc-encoding".to_owned(),
                "Malformed",
            ),
        }
    }
}

/// What is done to each message.
pub struct Addressing {
    /// Where the id of the model goes; empty: nowhere.
    pub inject: Arc<[u32]>,
    /// Where callers name a model; empty: nowhere.
    pub extract: Arc<[u32]>,
    pub model: Arc<str>,
    /// The alias that the call came by, else the model.
    pub called: Arc<str>,
    /// Bytes that a message may have.
    pub limit: usize,
}

/// The messages of one body, in the pieces in which they come.
pub struct Messages {
    how: Addressing,
    /// Bytes of the current message that pass as they are.
    left: usize,
    first: bool,
    held: BytesMut,
    /// Bytes held with which it is worth to look again.
    enough: usize,
}

/// The length of the message that begins `data`; None if that is not there yet.
pub fn size_of(data: &[u8]) -> Option<usize> {
    let prefix = data.get(..PREFIX)?;
    Some(u32::from_be_bytes([prefix[1], prefix[2], prefix[3], prefix[4]]) as usize)
}

impl Messages {
    pub fn new(how: Addressing) -> Self {
        Self { how, left: 0, first: true, held: BytesMut::new(), enough: 0 }
    }

    /// Takes the next piece of the body; `out` gets what goes on.
    pub fn feed(&mut self, mut piece: Bytes, out: &mut Vec<Bytes>) -> Result<(), Refusal> {
        while !piece.is_empty() {
            if self.left > 0 {
                let passed = piece.split_to(self.left.min(piece.len()));
                self.left -= passed.len();
                out.push(passed);
                continue;
            }
            if !self.held.is_empty() {
                self.held.extend_from_slice(&piece);
                if self.held.len() < self.enough {
                    return Ok(());
                }
                piece = self.held.split().freeze();
            }
            let Some(size) = size_of(&piece) else {
                self.hold(&piece, PREFIX);
                return Ok(());
            };
            if size > self.how.limit {
                return Err(Refusal::TooLarge { size, limit: self.how.limit });
            }
            if self.how.inject.is_empty() && self.how.extract.is_empty() {
                self.left = PREFIX + size;
                continue;
            }
            if piece[0] != 0 {
                return Err(Refusal::Compressed);
            }
            let there = piece.len().min(PREFIX + size);
            match self.addressed(&piece[PREFIX..there], size) {
                Ok(None) => self.left = PREFIX + size,
                Ok(Some(edit)) => self.put(edit, &mut piece, size, out),
                Err(Halt::Short) => {
                    self.hold(&piece, PREFIX + size);
                    return Ok(());
                }
                Err(Halt::Refused(refusal)) => return Err(refusal),
            }
            self.first = false;
        }
        Ok(())
    }

    /// What is left when the body ends within a message.
    pub fn rest(&mut self) -> Bytes {
        self.held.split().freeze()
    }

    /// Keeps bytes until there are twice as many, or `whole`: a field that comes late costs no more than it is away.
    fn hold(&mut self, bytes: &[u8], whole: usize) {
        self.held.extend_from_slice(bytes);
        self.enough = whole.min(2 * bytes.len()).max(bytes.len() + 1);
    }

    fn addressed(&self, there: &[u8], size: usize) -> Result<Option<splice::Edit>, Halt> {
        let how = &self.how;
        if !self.first && !how.extract.is_empty() {
            let found = splice::find(there, size, &how.extract).map_err(|fault| Halt::of(fault, &how.extract, size))?;
            if let Some(span) = found {
                let name = &there[span.start..span.end];
                if !name.is_empty() && name != how.called.as_bytes() && name != how.model.as_bytes() {
                    let name = String::from_utf8_lossy(name);
                    return Err(Halt::Refused(Refusal::Malformed(format!(
                        "a message of this stream names model '{name}', but the stream is for '{}'",
                        how.called
                    ))));
                }
            }
        }
        if how.inject.is_empty() {
            return Ok(None);
        }
        splice::replace(there, size, &how.inject, how.model.as_bytes()).map_err(|fault| Halt::of(fault, &how.inject, size))
    }

    fn put(&mut self, edit: splice::Edit, piece: &mut Bytes, size: usize, out: &mut Vec<Bytes>) {
        let follows = (piece.len() - PREFIX - edit.cut).min(size - edit.cut);
        let joined = if follows <= JOINED { follows } else { 0 };
        let mut head = BytesMut::with_capacity(PREFIX + edit.head.len() + joined);
        head.extend_from_slice(&[0]);
        head.extend_from_slice(&(edit.total as u32).to_be_bytes());
        head.extend_from_slice(&edit.head);
        head.extend_from_slice(&piece[PREFIX + edit.cut..PREFIX + edit.cut + joined]);
        out.push(head.freeze());
        piece.advance(PREFIX + edit.cut + joined);
        self.left = size - edit.cut - joined;
    }
}

/// Why a message does not pass now.
enum Halt {
    Short,
    Refused(Refusal),
}

impl Halt {
    fn of(fault: Fault, path: &[u32], size: usize) -> Self {
        let Fault::Broken { offset, reason } = fault else { return Self::Short };
        let name = path.iter().map(u32::to_string).collect::<Vec<_>>().join(".");
        Self::Refused(Refusal::Malformed(format!(
            "field {name} of the request message cannot be found: {reason} at byte {offset} of {size}; \
             send a protobuf message that has a string in field {name}"
        )))
    }
}

#[cfg(test)]
#[path = "framing_tests.rs"]
mod tests;
