//! What the Python door is told of an attempt that failed here, so that it judges that one instead of calling the copy a second time, and
//! of what was chosen for the call (`mesh/wire/attempts.py` reads it).

use crate::headers::{MESSAGE, STATUS, TRIED};
use crate::status;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

const PREFIX: &str = "mm-lane-";
/// In HTTP/1.1, where what clients send reaches the same door: that it is the lane who says it.
const KEY: HeaderName = HeaderName::from_static("mm-lane-key");
const CODE: HeaderName = HeaderName::from_static("mm-lane-code");
/// Percent-encoded, as in `grpc-message`.
const TEXT: HeaderName = HeaderName::from_static("mm-lane-text");
/// Percent-encoded: a model among those that share the calls of an alias. Who chose again would give each version the calls that others lost.
const CHOSEN: HeaderName = HeaderName::from_static("mm-lane-chosen");
/// Bytes of its name; for a longer one Python chooses.
const LONGEST: usize = 1024;
const OF_HEADERS: &str = "mm-lane-header-";
const OF_TRAILERS: &str = "mm-lane-trailer-";
/// What gRPC counts of a header beside its name and value (RFC 7540, 6.5.2).
const BESIDE: usize = 32;
/// Bytes of all of it; who is said more than fits is asked again by Python. No client takes more of an answer, unless it is told to.
const MOST: usize = 16 * 1024;

/// A copy's name, and what came of the attempt.
pub type Tried = (HeaderValue, HeaderMap);

/// Makes a call's headers those that the Python door gets, which believes what is said under these names: nobody but the lane may.
///
/// `told`: the copy that was called, and what came of it. `chosen`: the model that the call is for.
pub fn to_python(headers: &mut HeaderMap, told: Option<Tried>, chosen: Option<&str>) {
    while let Some(name) = headers.keys().find(|name| name.as_str().starts_with(PREFIX)).cloned() {
        headers.remove(name);
    }
    headers.extend(beside(told, chosen));
}

/// What is told beside a call.
pub fn beside(told: Option<Tried>, chosen: Option<&str>) -> HeaderMap {
    let mut out = HeaderMap::new();
    if let Some((copy, attempt)) = told {
        out.insert(TRIED, copy);
        out.extend(attempt);
    }
    let name = chosen.map(|model| status::escaped(model.as_bytes())).filter(|name| name.len() <= LONGEST);
    if let Some(name) = name.and_then(|name| HeaderValue::from_str(&name).ok()) {
        out.insert(CHOSEN, name);
    }
    out
}

/// A request in HTTP/1.1 with this told after its first line; as it came without a key.
pub fn after_line(request: &Bytes, key: &str, told: &HeaderMap) -> Bytes {
    let line = request.windows(2).position(|end| end == b"\r\n").map(|at| at + 2);
    let (Some(line), false) = (line, key.is_empty() || told.is_empty()) else { return request.clone() };
    let mut out = Vec::with_capacity(request.len() + 256);
    out.extend_from_slice(&request[..line]);
    let key = (&KEY, key.as_bytes());
    for (name, value) in std::iter::once(key).chain(told.iter().map(|(name, value)| (name, value.as_bytes()))) {
        out.extend_from_slice(name.as_str().as_bytes());
        out.extend_from_slice(b": ");
        out.extend_from_slice(value);
        out.extend_from_slice(b"\r\n");
    }
    out.extend_from_slice(&request[line..]);
    out.into()
}

/// A status that a copy answered, with what came beside it; None if it does not fit.
pub fn answered(code: usize, headers: Option<&HeaderMap>, trailers: &HeaderMap) -> Option<HeaderMap> {
    let mut out = ended(code, &status::message(trailers))?;
    for (prefix, map) in [(OF_HEADERS, headers), (OF_TRAILERS, Some(trailers))] {
        for (name, value) in map.into_iter().flatten().filter(|(name, _)| **name != STATUS && **name != MESSAGE) {
            out.append(HeaderName::try_from(format!("{prefix}{name}")).ok()?, value.clone());
        }
    }
    (size(&out) <= MOST).then_some(out)
}

/// A status that stands for an exchange which broke while the copy may have been at work.
pub fn ended(code: usize, text: &[u8]) -> Option<HeaderMap> {
    let mut out = HeaderMap::new();
    out.insert(CODE, HeaderValue::from(code));
    out.insert(TEXT, HeaderValue::from_str(&status::escaped(text)).ok()?);
    (size(&out) <= MOST).then_some(out)
}

fn size(headers: &HeaderMap) -> usize {
    headers.iter().map(|(name, value)| name.as_str().len() + value.len() + BESIDE).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(map: &HeaderMap) -> Vec<(&str, &str)> {
        map.iter().map(|(name, value)| (name.as_str(), value.to_str().expect("text"))).collect()
    }

    #[test]
    fn a_status_is_told_with_all_that_came_beside_it() {
        let mut trailers = status::trailers(8, "größer als 100 %");
        trailers.append("x-many", HeaderValue::from_static("1"));
        trailers.append("x-many", HeaderValue::from_static("2"));
        trailers.append("grpc-status-details-bin", HeaderValue::from_static("YQ"));
        let headers = [(HeaderName::from_static("x-first"), HeaderValue::from_static("a"))].into_iter().collect();
        let told = answered(8, Some(&headers), &trailers).expect("it fits");
        let mut found = pairs(&told);
        found.sort_unstable();
        assert_eq!(
            found,
            [
                ("mm-lane-code", "8"),
                ("mm-lane-header-x-first", "a"),
                ("mm-lane-text", "gr%C3%B6%C3%9Fer als 100 %25"),
                ("mm-lane-trailer-grpc-status-details-bin", "YQ"),
                ("mm-lane-trailer-x-many", "1"),
                ("mm-lane-trailer-x-many", "2"),
            ]
        );
    }

    #[test]
    fn no_caller_speaks_for_the_lane() {
        let mut sent = HeaderMap::new();
        for name in ["mm-lane-tried", "mm-lane-code", "mm-lane-trailer-x-bin", "mm-model-id"] {
            sent.append(name, HeaderValue::from_static("1"));
            sent.append(name, HeaderValue::from_static("2"));
        }
        let mut alone = sent.clone();
        to_python(&mut alone, None, None);
        assert_eq!(pairs(&alone), [("mm-model-id", "1"), ("mm-model-id", "2")]);
        to_python(&mut sent, ended(14, b"gone").map(|attempt| (HeaderValue::from_static("m#1"), attempt)), Some("größe"));
        let mut found = pairs(&sent);
        found.sort_unstable();
        assert_eq!(
            found,
            [
                ("mm-lane-chosen", "gr%C3%B6%C3%9Fe"),
                ("mm-lane-code", "14"),
                ("mm-lane-text", "gone"),
                ("mm-lane-tried", "m#1"),
                ("mm-model-id", "1"),
                ("mm-model-id", "2")
            ]
        );
    }

    #[test]
    fn a_request_in_http_is_told_after_its_first_line() {
        let request = Bytes::from_static(b"POST /x HTTP/1.1\r\nhost: y\r\n\r\n{}");
        let told = beside(Some((HeaderValue::from_static("m#1"), ended(14, b"gone").expect("it fits"))), None);
        assert_eq!(
            after_line(&request, "k", &told),
            &b"POST /x HTTP/1.1\r\nmm-lane-key: k\r\nmm-lane-tried: m#1\r\nmm-lane-code: 14\r\nmm-lane-text: gone\r\nhost: y\r\n\r\n{}"[..]
        );
        assert_eq!(after_line(&request, "", &told), request);
        assert_eq!(after_line(&request, "k", &beside(None, None)), request);
        let chosen = after_line(&request, "k", &beside(None, Some("m")));
        assert_eq!(chosen, &b"POST /x HTTP/1.1\r\nmm-lane-key: k\r\nmm-lane-chosen: m\r\nhost: y\r\n\r\n{}"[..]);
        assert!(beside(None, Some(&"x".repeat(LONGEST + 1))).is_empty(), "Python chooses");
    }

    #[test]
    fn what_is_too_much_for_headers_is_not_told() {
        assert!(ended(14, &vec![b'x'; MOST]).is_none());
        let mut trailers = status::trailers(5, "no");
        trailers.insert("x-large", HeaderValue::from_str(&"x".repeat(MOST)).expect("text"));
        assert!(answered(5, None, &trailers).is_none());
    }
}
