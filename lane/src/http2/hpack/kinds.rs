//! What calls have in common: method, path, authority, and the names of their headers in their order.
//!
//! Fields whose values were seen to differ from call to call, and those that nobody shall find in a table, are no part of what is kept:
//! they are written out each time.

use super::fields::STATIC;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Fields of a kind; calls with more are written as they come.
pub const MOST_FIELDS: usize = 64;
/// Whoever sees sizes of a compressed connection must not guess these byte by byte (RFC 7541, 7.1.3).
const SECRET: [&str; 4] = ["authorization", "cookie", "proxy-authorization", "set-cookie"];
/// Other for each call by what they are for.
const EACH: [&str; 3] = ["grpc-timeout", "traceparent", "content-length"];

/// What a request begins with; what is empty is left out.
pub struct Head<'a> {
    pub method: &'a str,
    pub scheme: &'a str,
    pub authority: &'a str,
    pub path: &'a str,
    pub headers: &'a HeaderMap,
}

/// A kind of calls.
pub struct Kind {
    /// `:method`, `:scheme`, `:authority` and `:path`.
    pseudo: [(usize, &'static str, String); 4],
    pub fields: Vec<Known>,
    /// All that is the same in each call.
    pub block: Vec<u8>,
    /// Those of the table, when the block was made.
    pub changes: u64,
    /// With which block its fields got into the table; not with the first, for most that come once do not come again.
    pub inserted: Option<u64>,
}

/// A field of a kind.
pub struct Known {
    pub name: HeaderName,
    /// In the static table; 0 if it is not there.
    pub place: usize,
    value: HeaderValue,
    /// Whether it had this value in each call so far.
    pub steady: bool,
}

impl Kind {
    pub fn of(head: &Head<'_>) -> Self {
        let pseudo = [(":method", head.method), (":scheme", head.scheme), (":authority", head.authority), (":path", head.path)];
        let fields = head.headers.iter().map(|(name, value)| {
            let steady = !is_secret(name.as_str(), value) && !EACH.contains(&name.as_str());
            // What is secret is not even kept.
            let value = if steady { value.clone() } else { HeaderValue::from_static("") };
            Known { name: name.clone(), place: place_of(name.as_str()), value, steady }
        });
        let mut fields: Vec<Known> = fields.collect();
        // Values of one name keep their order, so they are written together.
        for at in 1..fields.len() {
            if fields[at].name == fields[at - 1].name {
                fields[at].steady = false;
                fields[at - 1].steady = false;
            }
        }
        Self {
            pseudo: pseudo.map(|(name, value)| (place_of(name), name, value.to_owned())),
            fields,
            block: Vec::new(),
            changes: 0,
            inserted: None,
        }
    }

    /// Whether a call is of this kind.
    pub fn is(&self, head: &Head<'_>) -> bool {
        let [(_, _, method), (_, _, scheme), (_, _, authority), (_, _, path)] = &self.pseudo;
        path == head.path
            && authority == head.authority
            && method == head.method
            && scheme == head.scheme
            && self.fields.len() == head.headers.len()
            && self.fields.iter().zip(head.headers).all(|(field, (name, _))| field.name == *name)
    }

    /// Learns from another call which fields differ; whether there is one more of them.
    pub fn compare(&mut self, head: &Head<'_>) -> bool {
        let mut more = false;
        for (field, (_, value)) in self.fields.iter_mut().zip(head.headers).filter(|(field, _)| field.steady) {
            if field.value != *value || value.is_sensitive() {
                field.steady = false;
                more = true;
            }
        }
        more
    }

    /// All that is the same in each call: place and name, and value.
    pub fn steady(&self, mut take: impl FnMut(usize, &str, &[u8])) {
        let pseudo = self.pseudo.iter().filter(|(_, _, value)| !value.is_empty());
        pseudo.for_each(|(place, name, value)| take(*place, name, value.as_bytes()));
        self.fields.iter().filter(|field| field.steady).for_each(|field| take(field.place, field.name.as_str(), field.value.as_bytes()));
    }
}

/// Whether a value must get into no table.
pub fn is_secret(name: &str, value: &HeaderValue) -> bool {
    value.is_sensitive() || SECRET.contains(&name)
}

/// Where a name is first in the static table; 0 if nowhere.
fn place_of(name: &str) -> usize {
    STATIC.iter().position(|(known, _)| *known == name).map_or(0, |place| place + 1)
}
