//! Headers and trailers of answers. Many are the same bytes as those before: what they mean is kept as long as the table does not change.

use super::hpack::{Decoder, Fault, Field, Name};
use http::{HeaderMap, StatusCode, header};
use std::rc::Rc;

/// Blocks that are remembered; the one that was met first is forgotten.
const KNOWN: usize = 8;
/// Bytes of a block that is remembered.
const MOST_BYTES: usize = 1024;
/// Headers of one answer that are told apart before room for more is made.
const USUAL: usize = 8;

/// What one block says.
#[derive(Debug, Default)]
pub struct Block {
    pub status: Option<StatusCode>,
    pub headers: HeaderMap,
    /// What the size of the body is to be.
    pub length: Option<u64>,
    /// It breaks a rule of HTTP, or is too large: its stream is of no use any more.
    pub wrong: bool,
}

/// Reads the blocks of one connection.
pub struct Blocks {
    decoder: Decoder,
    known: Vec<Known>,
    /// Which is forgotten next.
    oldest: usize,
    /// Bytes of headers, as HTTP counts them.
    most: usize,
}

struct Known {
    bytes: Box<[u8]>,
    /// Those of the table, when it was read.
    changes: u64,
    block: Rc<Block>,
}

impl Blocks {
    pub fn new(most: usize) -> Self {
        Self { decoder: Decoder::default(), known: Vec::new(), oldest: 0, most }
    }

    /// What a whole block says.
    ///
    /// # Errors
    /// It cannot be decoded, so no block after it can.
    pub fn read(&mut self, bytes: &[u8]) -> Result<Rc<Block>, Fault> {
        let changes = self.decoder.changes();
        if let Some(known) = self.known.iter().find(|known| known.changes == changes && *known.bytes == *bytes) {
            return Ok(Rc::clone(&known.block));
        }
        let mut reading = Reading { block: Block::default(), size: 0, most: self.most, headers: false };
        reading.block.headers.reserve(USUAL);
        self.decoder.decode(bytes, |field| reading.take(field))?;
        let block = Rc::new(reading.block);
        // One that changed the table would change it again.
        if changes == self.decoder.changes() && bytes.len() <= MOST_BYTES {
            self.keep(Known { bytes: bytes.into(), changes, block: Rc::clone(&block) });
        }
        Ok(block)
    }

    fn keep(&mut self, known: Known) {
        if self.known.len() < KNOWN {
            self.known.push(known);
        } else {
            self.known[self.oldest] = known;
            self.oldest = (self.oldest + 1) % KNOWN;
        }
    }
}

struct Reading {
    block: Block,
    size: usize,
    most: usize,
    /// Whether a header came that is no pseudo-header.
    headers: bool,
}

impl Reading {
    fn take(&mut self, field: &Field) {
        self.size = self.size.saturating_add(field.size);
        if self.size > self.most {
            // Nothing of it will be used.
            self.block.headers = HeaderMap::new();
            self.block.wrong = true;
        }
        if !self.block.wrong && self.add(field).is_none() {
            self.block.wrong = true;
        }
    }

    /// None if it may not be there.
    fn add(&mut self, field: &Field) -> Option<()> {
        let name = match &field.name {
            Name::Wrong(_) => return None,
            Name::Status if self.headers || self.block.status.is_some() => return None,
            Name::Status => {
                self.block.status = Some(field.status()?);
                return Some(());
            }
            Name::Header(name) => name,
        };
        self.headers = true;
        let value = field.value.as_ref()?;
        if of_connection(name) || (*name == header::TE && value != "trailers") {
            return None;
        }
        if *name == header::CONTENT_LENGTH {
            let length = value.to_str().ok()?.parse().ok()?;
            if self.block.length.replace(length).is_some_and(|before| before != length) {
                return None;
            }
        }
        self.block.headers.try_append(name.clone(), value.clone()).ok()?;
        Some(())
    }
}

/// Whether a header is of one connection of HTTP/1.1, and so of none here (RFC 9113, 8.2.2).
pub fn of_connection(name: &header::HeaderName) -> bool {
    *name == header::CONNECTION
        || *name == header::TRANSFER_ENCODING
        || *name == header::UPGRADE
        || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}
