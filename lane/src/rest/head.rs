//! The head of an HTTP/1.1 request or answer: what it asks for, and where its body ends.

use crate::headers::TIMEOUT;
use http::{HeaderMap, HeaderName, HeaderValue};

/// Headers of one request; with more it is Python's.
const MOST_HEADERS: usize = 64;
/// Bytes of a head before it is left to Python.
pub const LARGEST: usize = 64 * 1024;
/// Metadata that travels under another name in HTTP (`mesh/doors/rest/headers.py`).
const PREFIX: &str = "grpc-metadata-";
const PLAIN: [&str; 4] = ["traceparent", "tracestate", "x-request-id", "authorization"];
/// Names of models, which over REST the path has; these do not travel.
const NAMING: [&str; 5] = ["mm-model-id", "mm-model-id-bin", "mm-vmodel-id", "mm-vmodel-id-bin", "tas-model-id"];
const TRANSPORT: [&str; 5] = ["content-type", "te", "user-agent", "host", "connection"];
/// The length of the JSON part.
pub const JSON: &str = "inference-header-content-length";

/// What the first bytes of a request tell.
#[derive(Debug)]
pub enum Read {
    /// More are needed.
    Short,
    Head(Head),
    /// Nothing by which the end of the request could be found: the connection becomes Python's.
    Odd,
}

/// A request whose end is known.
#[derive(Debug)]
pub struct Head {
    /// Bytes of the head.
    pub length: usize,
    /// Bytes of the body behind it; 0 if it comes in chunks.
    pub body: usize,
    /// Only of what is to be inferred.
    pub chunked: bool,
    /// What is to be inferred; None: the request is Python's.
    pub infer: Option<Infer>,
}

/// A call of a model.
#[derive(Debug, PartialEq)]
pub struct Infer {
    pub model: String,
    pub version: String,
    /// The length of the JSON part, if raw tensors may follow it.
    pub json: Option<usize>,
    /// Metadata of the call.
    pub metadata: HeaderMap,
}

/// Reads a request's head.
pub fn request(bytes: &[u8]) -> Read {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    let length = match request.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < LARGEST => return Read::Short,
        _ => return Read::Odd,
    };
    let (Some(method @ ("GET" | "POST")), Some(path), Some(1)) = (request.method, request.path, request.version) else { return Read::Odd };
    let Some(size) = size(request.headers) else { return Read::Odd };
    let named = if method == "POST" { named(path) } else { None };
    let infer = named.and_then(|(model, version)| infer(model, version, request.headers));
    match size {
        Size::Chunked if infer.is_none() => Read::Odd,
        Size::Chunked => Read::Head(Head { length, body: 0, chunked: true, infer }),
        Size::Told(body) => Read::Head(Head { length, body, chunked: false, infer }),
    }
}

/// All headers of a request; of what is no request none.
pub fn headers(bytes: &[u8]) -> HeaderMap {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut request = httparse::Request::new(&mut headers);
    if request.parse(bytes).is_err() {
        return HeaderMap::new();
    }
    let pairs = request
        .headers
        .iter()
        .filter_map(|one| Some((HeaderName::from_bytes(one.name.as_bytes()).ok()?, HeaderValue::from_bytes(one.value).ok()?)));
    let mut out = HeaderMap::new();
    for (name, value) in pairs {
        out.append(name, value);
    }
    out
}

/// How the end of a body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Size {
    Told(usize),
    Chunked,
}

/// The size of a body; None if it is told in another way or in two, or if the request asks for more than an answer.
fn size(headers: &[httparse::Header<'_>]) -> Option<Size> {
    let mut size = None;
    for header in headers {
        let name = header.name;
        if name.eq_ignore_ascii_case("content-length") {
            let digits = std::str::from_utf8(header.value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
            if size.replace(Size::Told(digits.parse().ok()?)).is_some() {
                return None;
            }
        } else if name.eq_ignore_ascii_case("connection") {
            if !header.value.eq_ignore_ascii_case(b"keep-alive") {
                return None;
            }
        } else if name.eq_ignore_ascii_case("transfer-encoding") {
            if !header.value.eq_ignore_ascii_case(b"chunked") || size.replace(Size::Chunked).is_some() {
                return None;
            }
        } else if ["expect", "upgrade", "trailer"].iter().any(|odd| name.eq_ignore_ascii_case(odd)) {
            return None;
        }
    }
    Some(size.unwrap_or(Size::Told(0)))
}

/// Model and version of a path that infers.
fn named(path: &str) -> Option<(String, String)> {
    let rest = path.strip_prefix("/v2/models/")?.strip_suffix("/infer")?;
    let (model, version) = match rest.split_once('/') {
        None => (rest, ""),
        Some((model, more)) => (model, more.strip_prefix("versions/").filter(|version| !version.is_empty())?),
    };
    if model.is_empty() || version.contains('/') || !path.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'?' | b'#')) {
        return None;
    }
    Some((decoded(model)?, decoded(version)?))
}

/// A segment of a path without its percent-encoding; None if Python reads it in a way of its own.
fn decoded(segment: &str) -> Option<String> {
    let (bytes, mut out, mut at) = (segment.as_bytes(), Vec::with_capacity(segment.len()), 0);
    while at < bytes.len() {
        if bytes[at] == b'%' {
            let digits = segment.get(at + 1..at + 3).filter(|digits| digits.bytes().all(|digit| digit.is_ascii_hexdigit()))?;
            out.push(u8::from_str_radix(digits, 16).ok()?);
            at += 3;
        } else {
            out.push(bytes[at]);
            at += 1;
        }
    }
    String::from_utf8(out).ok()
}

fn infer(model: String, version: String, headers: &[httparse::Header<'_>]) -> Option<Infer> {
    let (mut json, mut metadata) = (None, HeaderMap::new());
    for header in headers {
        let name = header.name.to_ascii_lowercase();
        match &*name {
            "content-encoding" if !header.value.eq_ignore_ascii_case(b"identity") => return None,
            JSON => {
                let size = std::str::from_utf8(header.value).ok().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit()))?;
                if json.replace(size.parse().ok().filter(|size| *size > 0)?).is_some() {
                    return None;
                }
            }
            // The texts of time limits are Python's.
            name if name == TIMEOUT.as_str() => return None,
            _ => {}
        }
        if let Some(name) = travels(&name)? {
            let value = std::str::from_utf8(header.value).ok().filter(|text| text.bytes().all(|byte| (b' '..=b'~').contains(&byte)))?;
            metadata.append(HeaderName::from_bytes(name.as_bytes()).ok()?, HeaderValue::from_str(value).ok()?);
        }
    }
    Some(Infer { model, version, json, metadata })
}

/// The name under which a header travels on, if it does; None if the request is Python's for it.
fn travels(header: &str) -> Option<Option<&str>> {
    let name = match header.strip_prefix(PREFIX) {
        Some(name) => name,
        None if PLAIN.contains(&header) => header,
        None if NAMING.contains(&header) => return Some(None),
        // What they ask of the mesh is Python's to see to.
        None if header.starts_with("mm-") => return None,
        None => return Some(None),
    };
    if NAMING.contains(&name) || TRANSPORT.contains(&name) || name.starts_with("grpc-") {
        return Some(None);
    }
    let right = !name.is_empty() && name.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'z' | b'_' | b'.' | b'-'));
    (right && !name.ends_with("-bin") && !name.starts_with("mm-")).then_some(Some(name))
}

/// An answer of the Python door, as far as its end is to be known.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    Short,
    /// Bytes of the head and of the body; whether the connection stays.
    Head {
        length: usize,
        body: usize,
        stays: bool,
    },
    /// Its end is not told by a number.
    Odd,
}

/// Reads an answer's head.
pub fn answer(bytes: &[u8]) -> Answer {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut answer = httparse::Response::new(&mut headers);
    let length = match answer.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < LARGEST => return Answer::Short,
        _ => return Answer::Odd,
    };
    let told = answer.headers.iter().any(|header| header.name.eq_ignore_ascii_case("content-length"));
    let closes = answer.headers.iter().any(|header| header.name.eq_ignore_ascii_case("connection") && header.value != b"keep-alive");
    let kept: Vec<httparse::Header<'_>> =
        answer.headers.iter().filter(|header| !header.name.eq_ignore_ascii_case("connection")).copied().collect();
    match (answer.code, size(&kept)) {
        (Some(200..), Some(Size::Told(body))) if told => Answer::Head { length, body, stays: !closes },
        _ => Answer::Odd,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Head> {
        match request(text.replace('\n', "\r\n").as_bytes()) {
            Read::Head(head) => Some(head),
            _ => None,
        }
    }

    fn infer_of(path: &str, headers: &str) -> Option<Infer> {
        read(&format!("POST {path} HTTP/1.1\nContent-Length: 2\n{headers}\n")).expect("a head").infer
    }

    #[test]
    fn a_call_is_told_by_its_path_and_headers() {
        let headers = "Inference-Header-Content-Length: 2\nGrpc-Metadata-X-Mine: a b\nauthorization: B\naccept: */*\nmm-model-id: no\n";
        let found = infer_of("/v2/models/a%2Fb%C3%A9/versions/7/infer", headers).expect("a call");
        assert_eq!((&*found.model, &*found.version, found.json), ("a/bé", "7", Some(2)));
        assert!(found.metadata.len() == 2 && found.metadata["x-mine"] == "a b" && found.metadata["authorization"] == "B");
    }

    #[test]
    fn headers_that_do_not_travel_can_be_asked_for() {
        let found = headers(b"POST / HTTP/1.1\r\nX-Group:  beta \r\nx-group: other\r\nx-odd: \xc3\xa9\r\n\r\n{}");
        assert_eq!(found.get("x-group").map(HeaderValue::as_bytes), Some(b"beta".as_slice()));
        assert_eq!(found.get("x-odd").map(HeaderValue::as_bytes), Some("é".as_bytes()));
        assert!(headers(b"garbage\r\n\r\n").is_empty());
    }

    #[test]
    fn what_is_no_plain_call_is_pythons() {
        for path in [
            "/v2/models/m/infer/",
            "/v2/models/m",
            "/v2/models//infer",
            "/v2/models/m/versions//infer",
            "/v2/models/m/infer?x=1",
            "/v2/models/%zz/infer",
            "/v2/models/%ff/infer",
            "/v2/models/a/b/infer",
            "/v2/models/m/versions/1/2/infer",
            "/v2/health/live",
            "/",
            "/v2/models/infer",
        ] {
            assert_eq!(infer_of(path, ""), None, "{path}");
        }
        for header in [
            "content-encoding: gzip",
            "grpc-timeout: 1S",
            "mm-balanced: true",
            "grpc-metadata-x-bin: YQ==",
            "grpc-metadata-X Y: 1",
            "inference-header-content-length: 0",
            "inference-header-content-length: x",
            "traceparent: é",
            "grpc-metadata-mm-x: 1",
        ] {
            assert!(read(&format!("POST /v2/models/m/infer HTTP/1.1\n{header}\n\n")).is_none_or(|head| head.infer.is_none()), "{header}");
        }
        assert!(read("GET /v2/models/m/infer HTTP/1.1\n\n").expect("a head").infer.is_none());
    }

    #[test]
    fn a_request_without_a_told_end_makes_its_connection_pythons() {
        for text in [
            "POST / HTTP/1.1\ntransfer-encoding: chunked\n\n",
            "POST / HTTP/1.1\nexpect: 100-continue\ncontent-length: 1\n\n",
            "GET / HTTP/1.1\nupgrade: h2c\n\n",
            "GET / HTTP/1.1\nconnection: close\n\n",
            "GET / HTTP/1.0\n\n",
            "HEAD / HTTP/1.1\n\n",
            "POST /v2/models/m/infer HTTP/1.1\ntransfer-encoding: chunked\ncontent-length: 1\n\n",
            "POST /v2/models/m/infer HTTP/1.1\ntransfer-encoding: gzip, chunked\n\n",
            "POST / HTTP/1.1\ncontent-length: 1\ncontent-length: 1\n\n",
            "POST / HTTP/1.1\ncontent-length: +1\n\n",
            "garbage\n\n",
            "PRI * HTTP/2.0\n\nSM\n\n",
        ] {
            assert!(matches!(request(text.replace('\n', "\r\n").as_bytes()), Read::Odd), "{text}");
        }
        assert!(matches!(request(b"GET / HTTP/1.1\r\nhost:"), Read::Short));
        assert!(matches!(request(&[b"GET / HTTP/1.1\r\nx: ".as_slice(), &[b'a'; LARGEST]].concat()), Read::Odd));
    }

    #[test]
    fn an_answer_has_an_end() {
        let read = |text: &str| answer(text.replace('\n', "\r\n").as_bytes());
        assert_eq!(read("HTTP/1.1 200 OK\ncontent-length: 5\n\nhello"), Answer::Head { length: 38, body: 5, stays: true });
        assert_eq!(
            read("HTTP/1.1 400 Bad Request\ncontent-length: 0\nconnection: close\n\n"),
            Answer::Head { length: 66, body: 0, stays: false }
        );
        for odd in ["HTTP/1.1 200 OK\n\n", "HTTP/1.1 100 Continue\n\n", "HTTP/1.1 200 OK\ntransfer-encoding: chunked\n\n", "x\n\n"] {
            assert_eq!(read(odd), Answer::Odd, "{odd}");
        }
        assert_eq!(read("HTTP/1.1 200 OK\ncontent-len"), Answer::Short);
    }
}
