//! Answers as HTTP/1.1 has them, and a runtime's own status as one (`mesh/doors/rest/errors.py`).

use super::answer::Body;
use super::text::{put_base64, put_string};
use http::{HeaderMap, StatusCode};
use std::fmt::Write;
use std::time::SystemTime;

/// Names and HTTP statuses of gRPC codes; the table of grpc-gateway.
const CODES: [(&str, u16); 17] = [
    ("OK", 200),
    ("CANCELLED", 499),
    ("UNKNOWN", 500),
    ("INVALID_ARGUMENT", 400),
    ("DEADLINE_EXCEEDED", 504),
    ("NOT_FOUND", 404),
    ("ALREADY_EXISTS", 409),
    ("PERMISSION_DENIED", 403),
    ("RESOURCE_EXHAUSTED", 429),
    ("FAILED_PRECONDITION", 400),
    ("ABORTED", 409),
    ("OUT_OF_RANGE", 400),
    ("UNIMPLEMENTED", 501),
    ("INTERNAL", 500),
    ("UNAVAILABLE", 503),
    ("DATA_LOSS", 500),
    ("UNAUTHENTICATED", 401),
];

/// The head and body of an inference's answer; `closes`: no other follows on the connection.
pub fn inferred(body: &Body, headers: &HeaderMap, closes: bool) -> String {
    let more = outward(headers);
    match body.json {
        None => head(200, "application/json", body.bytes.len(), &more, closes),
        Some(json) => {
            let more = format!("{more}{}: {json}\r\n", super::head::JSON);
            head(200, "application/octet-stream", body.bytes.len(), &more, closes)
        }
    }
}

/// The whole answer that tells a status other than OK.
pub fn status(code: usize, text: &str, headers: &HeaderMap, closes: bool) -> Vec<u8> {
    let code = if code < CODES.len() { code } else { 2 };
    let (name, http) = CODES[code];
    let text = if text.is_empty() { name } else { text };
    let mut body = b"{\"error\":".to_vec();
    put_string(&mut body, text);
    body.extend_from_slice(format!(",\"code\":{code},\"message\":").as_bytes());
    put_string(&mut body, text);
    body.push(b'}');
    let mut more = outward(headers);
    if http == 401 {
        let asked = printable(text.as_bytes());
        let _ = write!(more, "www-authenticate: {}\r\n", if asked.is_empty() || text == name { "Bearer" } else { &asked });
    }
    let mut out = head(http, "application/json", body.len(), &more, closes).into_bytes();
    out.append(&mut body);
    out
}

fn head(status: u16, kind: &str, length: usize, more: &str, closes: bool) -> String {
    let reason = StatusCode::from_u16(status).ok().and_then(|status| status.canonical_reason()).unwrap_or_default();
    let (date, closes) = (httpdate::HttpDate::from(SystemTime::now()), if closes { "connection: close\r\n" } else { "" });
    format!("HTTP/1.1 {status} {reason}\r\ndate: {date}\r\n{more}content-length: {length}\r\ncontent-type: {kind}\r\n{closes}\r\n")
}

/// A runtime's response headers as those of HTTP: `x` becomes `grpc-metadata-x`.
fn outward(headers: &HeaderMap) -> String {
    let mut out = String::new();
    for name in headers.keys().filter(|name| !matches!(name.as_str(), "content-type" | "content-length")) {
        let values: Vec<String> = headers.get_all(name).iter().map(|value| shown(name.as_str(), value.as_bytes())).collect();
        let _ = write!(out, "grpc-metadata-{name}: {}\r\n", values.join(", "));
    }
    out
}

/// Binary values are padded in HTTP, and need not be in gRPC.
fn shown(name: &str, value: &[u8]) -> String {
    let text = printable(value);
    if !name.ends_with("-bin") {
        return text;
    }
    let padded = format!("{text}{}", "=".repeat(text.len().wrapping_neg() % 4));
    let Some(bytes) = super::text::of_base64(&padded) else { return text };
    let mut quoted = Vec::new();
    put_base64(&mut quoted, &bytes);
    String::from_utf8_lossy(&quoted[1..quoted.len() - 1]).into_owned()
}

/// One line of printable ASCII: what else there is becomes a space.
fn printable(text: &[u8]) -> String {
    let mut out = String::with_capacity(text.len());
    let mut between = false;
    for byte in text {
        if (b' '..=b'~').contains(byte) {
            out.push(char::from(*byte));
        } else if !between {
            out.push(' ');
        }
        between = !(b' '..=b'~').contains(byte);
    }
    out.trim().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers() -> HeaderMap {
        let pairs = [("x", "1"), ("x", "2"), ("y-bin", "YQ"), ("content-type", "application/grpc")];
        pairs
            .iter()
            .map(|(name, value)| (name.parse().expect("a name"), value.parse().expect("a value")))
            .collect::<Vec<_>>()
            .into_iter()
            .fold(HeaderMap::new(), |mut all, (name, value): (http::HeaderName, http::HeaderValue)| {
                all.append(name, value);
                all
            })
    }

    #[test]
    fn an_answer_has_the_runtimes_headers_and_its_lengths() {
        let text = inferred(&Body { bytes: b"{}abc".to_vec(), json: Some(2) }, &headers(), false);
        for line in [
            "HTTP/1.1 200 OK\r\n",
            "grpc-metadata-x: 1, 2\r\n",
            "grpc-metadata-y-bin: YQ==\r\n",
            "content-length: 5\r\n",
            "inference-header-content-length: 2\r\n",
            "content-type: application/octet-stream\r\n",
        ] {
            assert!(text.contains(line), "{line} in {text}");
        }
        assert!(text.ends_with("\r\n\r\n") && !text.contains("close") && !text.contains("application/grpc"));
    }

    #[test]
    fn a_status_is_told_by_the_table() {
        let text = |code, text: &str| String::from_utf8(status(code, text, &HeaderMap::new(), true)).expect("text");
        let refused = text(3, "no \"such\" input");
        assert!(refused.starts_with("HTTP/1.1 400 Bad Request\r\n") && refused.contains("connection: close\r\n"));
        assert!(refused.ends_with(r#"{"error":"no \"such\" input","code":3,"message":"no \"such\" input"}"#));
        assert!(text(16, "").contains("www-authenticate: Bearer\r\n") && text(16, "Basic é").contains("www-authenticate: Basic\r\n"));
        assert!(text(99, "").contains(r#""error":"UNKNOWN","code":2"#));
    }
}
