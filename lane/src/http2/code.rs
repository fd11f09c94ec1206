//! Why streams and connections end (RFC 9113, 7).

use std::fmt;
use std::io;

/// An error code of HTTP/2.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Code(pub u32);

impl Code {
    pub const NO_ERROR: Self = Self(0);
    pub const PROTOCOL_ERROR: Self = Self(1);
    pub const FLOW_CONTROL_ERROR: Self = Self(3);
    pub const STREAM_CLOSED: Self = Self(5);
    pub const FRAME_SIZE_ERROR: Self = Self(6);
    pub const REFUSED_STREAM: Self = Self(7);
    pub const CANCEL: Self = Self(8);
    pub const COMPRESSION_ERROR: Self = Self(9);
    pub const ENHANCE_YOUR_CALM: Self = Self(11);
}

const NAMES: [&str; 14] = [
    "NO_ERROR",
    "PROTOCOL_ERROR",
    "INTERNAL_ERROR",
    "FLOW_CONTROL_ERROR",
    "SETTINGS_TIMEOUT",
    "STREAM_CLOSED",
    "FRAME_SIZE_ERROR",
    "REFUSED_STREAM",
    "CANCEL",
    "COMPRESSION_ERROR",
    "CONNECT_ERROR",
    "ENHANCE_YOUR_CALM",
    "INADEQUATE_SECURITY",
    "HTTP_1_1_REQUIRED",
];

impl fmt::Display for Code {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match NAMES.get(self.0 as usize) {
            Some(name) => to.write_str(name),
            None => write!(to, "error {}", self.0),
        }
    }
}

/// Why an exchange came to nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Broken {
    /// Its stream was reset. `remote`: by whoever answers, not here.
    Reset { code: Code, remote: bool },
    /// Its connection was given up. `remote`: by whoever answers, who did nothing for this exchange.
    GoAway { code: Code, remote: bool },
    /// Its connection was lost.
    Io(io::ErrorKind, String),
}

impl Broken {
    /// The connection was lost without a word.
    pub fn lost() -> Self {
        Self::Io(io::ErrorKind::BrokenPipe, "it was closed before the answer was whole".to_owned())
    }

    pub fn is_io(&self) -> bool {
        matches!(self, Self::Io(..))
    }

    pub fn is_go_away(&self) -> bool {
        matches!(self, Self::GoAway { .. })
    }

    pub fn code(&self) -> Option<Code> {
        match self {
            Self::Reset { code, .. } | Self::GoAway { code, .. } => Some(*code),
            Self::Io(..) => None,
        }
    }

    /// Whether whoever answers said that it did nothing with the request.
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::GoAway { remote: true, .. } | Self::Reset { code: Code::REFUSED_STREAM, remote: true })
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        Self::Io(error.kind(), error.to_string())
    }
}

impl fmt::Display for Broken {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Reset { code, remote: true } => write!(to, "the stream was reset: {code}"),
            Self::Reset { code, remote: false } => write!(to, "the stream was reset here: {code}"),
            Self::GoAway { code, remote: true } => write!(to, "the connection takes no more calls: {code}"),
            Self::GoAway { code, remote: false } => write!(to, "what came over the connection is wrong: {code}"),
            Self::Io(_, text) => to.write_str(text),
        }
    }
}
