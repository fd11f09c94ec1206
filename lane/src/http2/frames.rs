//! Frames (RFC 9113, 4 and 6).

use super::code::Code;

/// Bytes before a frame's content.
pub const HEAD: usize = 9;
/// What begins a connection.
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
/// The largest content that anybody takes, unless it says more.
pub const USUAL_FRAME: usize = 1 << 14;
/// The largest window there is.
pub const LARGEST_WINDOW: i64 = (1 << 31) - 1;
/// A window, unless somebody says otherwise.
pub const USUAL_WINDOW: u32 = (1 << 16) - 1;
const LARGEST_FRAME: u32 = (1 << 24) - 1;

pub mod kind {
    pub const DATA: u8 = 0;
    pub const HEADERS: u8 = 1;
    pub const PRIORITY: u8 = 2;
    pub const RST_STREAM: u8 = 3;
    pub const SETTINGS: u8 = 4;
    pub const PUSH_PROMISE: u8 = 5;
    pub const PING: u8 = 6;
    pub const GOAWAY: u8 = 7;
    pub const WINDOW_UPDATE: u8 = 8;
    pub const CONTINUATION: u8 = 9;
}

pub mod flag {
    pub const ACK: u8 = 1;
    pub const END_STREAM: u8 = 1;
    pub const END_HEADERS: u8 = 4;
    pub const PADDED: u8 = 8;
    pub const PRIORITY: u8 = 32;
}

/// What stands before a frame's content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub length: usize,
    pub kind: u8,
    pub flags: u8,
    pub stream: u32,
}

impl Frame {
    /// None if it is not there whole.
    pub fn read(from: &[u8]) -> Option<Self> {
        let [a, b, c, kind, flags, stream @ ..] = from.first_chunk::<HEAD>()?;
        let length = usize::from(*a) << 16 | usize::from(*b) << 8 | usize::from(*c);
        Some(Self { length, kind: *kind, flags: *flags, stream: u32::from_be_bytes(*stream) & !(1 << 31) })
    }

    pub fn bytes(self) -> [u8; HEAD] {
        let (length, stream) = ((self.length as u32).to_be_bytes(), self.stream.to_be_bytes());
        [length[1], length[2], length[3], self.kind, self.flags, stream[0], stream[1], stream[2], stream[3]]
    }

    pub fn has(self, flag: u8) -> bool {
        self.flags & flag != 0
    }

    /// Where the content is between padding and priority, as offsets in what came.
    ///
    /// # Errors
    /// They are longer than the frame.
    pub fn inside(self, content: &[u8]) -> Result<(usize, usize), Code> {
        let padded = usize::from(self.has(flag::PADDED));
        let padding = if padded == 1 { usize::from(*content.first().ok_or(Code::FRAME_SIZE_ERROR)?) } else { 0 };
        let start = padded + if self.kind == kind::HEADERS && self.has(flag::PRIORITY) { 5 } else { 0 };
        let end = content.len().checked_sub(padding).filter(|end| *end >= start).ok_or(Code::PROTOCOL_ERROR)?;
        Ok((start, end))
    }
}

/// What the other side says of itself; what it did not say is None.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Settings {
    pub table: Option<u32>,
    pub push: Option<u32>,
    pub streams: Option<u32>,
    pub window: Option<u32>,
    pub frame: Option<u32>,
    pub headers: Option<u32>,
}

impl Settings {
    /// Reads the content of a frame.
    ///
    /// # Errors
    /// What is in it may not be said.
    pub fn read(content: &[u8]) -> Result<Self, Code> {
        if content.len() % 6 != 0 {
            return Err(Code::FRAME_SIZE_ERROR);
        }
        let mut out = Self::default();
        for entry in content.chunks_exact(6) {
            let value = u32::from_be_bytes([entry[2], entry[3], entry[4], entry[5]]);
            match u16::from_be_bytes([entry[0], entry[1]]) {
                1 => out.table = Some(value),
                2 if value > 1 => return Err(Code::PROTOCOL_ERROR),
                2 => out.push = Some(value),
                3 => out.streams = Some(value),
                4 if i64::from(value) > LARGEST_WINDOW => return Err(Code::FLOW_CONTROL_ERROR),
                4 => out.window = Some(value),
                5 if !(USUAL_FRAME as u32..=LARGEST_FRAME).contains(&value) => return Err(Code::PROTOCOL_ERROR),
                5 => out.frame = Some(value),
                6 => out.headers = Some(value),
                _ => {}
            }
        }
        Ok(out)
    }

    /// The content of a frame.
    pub fn bytes(&self) -> Vec<u8> {
        let all = [(1u16, self.table), (2, self.push), (3, self.streams), (4, self.window), (5, self.frame), (6, self.headers)];
        let said = all.into_iter().filter_map(|(key, value)| Some((key, value?)));
        said.flat_map(|(key, value)| key.to_be_bytes().into_iter().chain(value.to_be_bytes())).collect()
    }
}
