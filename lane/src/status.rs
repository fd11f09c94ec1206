//! gRPC statuses: which ones mean that a call is Python's, and those that the lane gives itself.

use crate::headers::{MESSAGE, PEER_ERROR, POD, STATUS};
use crate::http2::{Broken, Code};
use http::{HeaderMap, HeaderValue, Response, StatusCode, header};

pub const CANCELLED: usize = 1;
pub const UNKNOWN: usize = 2;
pub const INVALID_ARGUMENT: usize = 3;
pub const DEADLINE_EXCEEDED: usize = 4;
const NOT_FOUND: usize = 5;
pub const RESOURCE_EXHAUSTED: usize = 8;
const UNIMPLEMENTED: usize = 12;
const INTERNAL: usize = 13;
pub const UNAVAILABLE: usize = 14;
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// The code in headers or trailers; None if there is none.
pub fn code(headers: &HeaderMap) -> Option<usize> {
    let text = headers.get(STATUS)?.to_str().ok()?;
    Some(text.parse().unwrap_or(UNKNOWN))
}

/// Whether a status of a runtime means that Python has to see to the call (`mesh/wire/answers.py`, and an overload that may pass elsewhere).
pub fn is_pythons(code: usize, headers: &HeaderMap) -> bool {
    match code {
        NOT_FOUND | UNAVAILABLE | RESOURCE_EXHAUSTED => true,
        INVALID_ARGUMENT => {
            let text = message(headers);
            text.starts_with(b"Model ") && text.ends_with(b" not found")
        }
        _ => false,
    }
}

/// The same of a status that a pod answered: what the pod, not its runtime, says, what no pod said, and an overload, which may pass elsewhere.
pub fn is_pythons_of_peer(code: usize, headers: &HeaderMap) -> bool {
    let own = headers.contains_key(PEER_ERROR) || !headers.contains_key(POD);
    matches!(code, UNAVAILABLE | RESOURCE_EXHAUSTED) || (own && !matches!(code, 0 | CANCELLED | DEADLINE_EXCEEDED))
}

/// The text beside a status, decoded.
pub fn message(headers: &HeaderMap) -> Vec<u8> {
    let text = headers.get(MESSAGE).map_or(&b""[..], HeaderValue::as_bytes);
    let (mut out, mut at) = (Vec::with_capacity(text.len()), 0);
    while at < text.len() {
        let escaped = (text[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        let byte = escaped.and_then(|digits| u8::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok());
        out.push(byte.unwrap_or(text[at]));
        at += if byte.is_some() { 3 } else { 1 };
    }
    out
}

/// Trailers of a status that the lane gives.
pub fn trailers(code: usize, text: &str) -> HeaderMap {
    let mut out = HeaderMap::with_capacity(2);
    out.insert(STATUS, HeaderValue::from(code));
    if let Ok(value) = HeaderValue::from_str(&escaped(text.as_bytes())) {
        out.insert(MESSAGE, value);
    }
    out
}

/// A text as `grpc-message` has it.
pub fn escaped(text: &[u8]) -> String {
    let plain = |byte: u8| (b' '..=b'~').contains(&byte) && byte != b'%';
    text.iter().map(|byte| if plain(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") }).collect()
}

/// An answer that is such a status and nothing else.
pub fn answer(code: usize, text: &str) -> Response<()> {
    let mut response = Response::new(());
    *response.status_mut() = StatusCode::OK;
    *response.headers_mut() = trailers(code, text);
    response.headers_mut().insert(header::CONTENT_TYPE, GRPC);
    response
}

/// What a broken exchange is as a status (gRPC over HTTP/2, "Errors").
pub fn of_broken(error: &Broken) -> usize {
    match error.code() {
        Some(Code::CANCEL) => CANCELLED,
        Some(Code::ENHANCE_YOUR_CALM) => RESOURCE_EXHAUSTED,
        Some(Code::REFUSED_STREAM) | None => UNAVAILABLE,
        Some(_) => INTERNAL,
    }
}

/// What an HTTP status without a gRPC one is.
pub fn of_http(status: StatusCode) -> usize {
    match status.as_u16() {
        200 => UNKNOWN,
        400 | 431 => INTERNAL,
        401 => 16,
        403 => 7,
        404 => UNIMPLEMENTED,
        429 | 502..=504 => UNAVAILABLE,
        _ => UNKNOWN,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(code: usize, text: &str) -> HeaderMap {
        trailers(code, text)
    }

    #[test]
    fn a_runtime_that_does_not_know_the_model_makes_the_call_pythons() {
        for (code, text, pythons) in [
            (5, "whatever", true),
            (14, "Request for unknown model: 'm' is not found", true),
            (8, "busy", true),
            (3, "Model 10%m not found", true),
            (3, "Model m is wrong", false),
            (13, "Model m not found", false),
            (0, "", false),
        ] {
            assert_eq!(is_pythons(code, &said(code, text)), pythons, "{code} {text}");
        }
    }

    #[test]
    fn of_a_pods_answers_only_the_pods_own_errors_are_pythons() {
        let mut own = said(5, "here is no such model");
        assert!(is_pythons_of_peer(5, &own), "no pod said it");
        own.insert(POD, HeaderValue::from_static("cA"));
        assert!(!is_pythons_of_peer(5, &own) && is_pythons_of_peer(8, &own));
        let mut of_mesh = own;
        of_mesh.insert(PEER_ERROR, HeaderValue::from_static("NotHere"));
        assert!(is_pythons_of_peer(5, &of_mesh));
        assert!(!is_pythons_of_peer(4, &of_mesh));
    }

    #[test]
    fn texts_of_any_letters_come_back_as_they_were() {
        let headers = said(13, "100 % größer");
        assert_eq!(headers[MESSAGE], "100 %25 gr%C3%B6%C3%9Fer");
        assert_eq!(message(&headers), "100 % größer".as_bytes());
        assert_eq!(code(&headers), Some(13));
    }
}
