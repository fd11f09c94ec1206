//! Headers in HTTP/2's compressed form (RFC 7541).

mod decoder;
mod encoder;
mod fields;
mod huffman;
mod integer;
mod kinds;

pub use decoder::Decoder;
pub use encoder::Encoder;
pub use fields::{Field, Name};
pub use kinds::Head;

/// Bytes that a table of headers may take (RFC 7541, 4.2): the protocol's default, which this side neither raises nor exceeds.
pub const TABLE: usize = 4096;
/// What an entry takes beside its name and value (RFC 7541, 4.1).
pub const BESIDE: usize = 32;

/// Why a block cannot be decoded: the connection is of no use any more.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault;

#[cfg(test)]
mod tests;
