//! Headers as tables hold them: made once, and then shared.

use super::BESIDE;
use bytes::Bytes;
use http::{HeaderName, HeaderValue, StatusCode};
use std::sync::LazyLock;

/// What a header is called.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Name {
    Status,
    /// A pseudo-header that no answer has, or what is no name.
    Wrong(Bytes),
    Header(HeaderName),
}

/// A header that came.
#[derive(Clone, Debug)]
pub struct Field {
    pub name: Name,
    /// None if it is none.
    pub value: Option<HeaderValue>,
    /// What it takes in a table, and in the size of a list.
    pub size: usize,
}

impl Name {
    pub fn new(bytes: &[u8]) -> Self {
        match bytes {
            b":status" => Self::Status,
            _ => HeaderName::from_lowercase(bytes).map_or_else(|_| Self::Wrong(Bytes::copy_from_slice(bytes)), Self::Header),
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Status => ":status".len(),
            Self::Wrong(bytes) => bytes.len(),
            Self::Header(name) => name.as_str().len(),
        }
    }
}

impl Field {
    pub fn new(name: Name, value: Bytes) -> Self {
        let size = name.len() + value.len() + BESIDE;
        Self { name, value: HeaderValue::from_maybe_shared(value).ok(), size }
    }

    pub fn status(&self) -> Option<StatusCode> {
        StatusCode::from_bytes(self.value.as_ref()?.as_bytes()).ok()
    }
}

/// The static table as fields.
pub static FIXED: LazyLock<Vec<Field>> = LazyLock::new(|| {
    STATIC.iter().map(|(name, value)| Field::new(Name::new(name.as_bytes()), Bytes::from_static(value.as_bytes()))).collect()
});

/// The static table (RFC 7541, appendix A); its first entry has index 1.
pub const STATIC: [(&str, &str); 61] = [
    (":authority", ""),
    (":method", "GET"),
    (":method", "POST"),
    (":path", "/"),
    (":path", "/index.html"),
    (":scheme", "http"),
    (":scheme", "https"),
    (":status", "200"),
    (":status", "204"),
    (":status", "206"),
    (":status", "304"),
    (":status", "400"),
    (":status", "404"),
    (":status", "500"),
    ("accept-charset", ""),
    ("accept-encoding", "gzip, deflate"),
    ("accept-language", ""),
    ("accept-ranges", ""),
    ("accept", ""),
    ("access-control-allow-origin", ""),
    ("age", ""),
    ("allow", ""),
    ("authorization", ""),
    ("cache-control", ""),
    ("content-disposition", ""),
    ("content-encoding", ""),
    ("content-language", ""),
    ("content-length", ""),
    ("content-location", ""),
    ("content-range", ""),
    ("content-type", ""),
    ("cookie", ""),
    ("date", ""),
    ("etag", ""),
    ("expect", ""),
    ("expires", ""),
    ("from", ""),
    ("host", ""),
    ("if-match", ""),
    ("if-modified-since", ""),
    ("if-none-match", ""),
    ("if-range", ""),
    ("if-unmodified-since", ""),
    ("last-modified", ""),
    ("link", ""),
    ("location", ""),
    ("max-forwards", ""),
    ("proxy-authenticate", ""),
    ("proxy-authorization", ""),
    ("range", ""),
    ("referer", ""),
    ("refresh", ""),
    ("retry-after", ""),
    ("server", ""),
    ("set-cookie", ""),
    ("strict-transport-security", ""),
    ("transfer-encoding", ""),
    ("user-agent", ""),
    ("vary", ""),
    ("via", ""),
    ("www-authenticate", ""),
];
