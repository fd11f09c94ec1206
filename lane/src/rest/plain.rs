//! What HTTP/2 says, as HTTP/1.1 does: heads of requests there, and answers back.

use super::head::LARGEST;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Response, StatusCode, header};
use std::io;

/// Headers of one answer; the Python door and runtimes send fewer.
const MOST_HEADERS: usize = 128;
/// Bytes of the line before a chunk.
const LONGEST_LINE: usize = 4096;

/// How the end of a request's body is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Size {
    /// There is none.
    Nothing,
    Told(usize),
    Chunked,
}

/// The head of a request; None if HTTP/1.1 cannot say it.
///
/// Names and values have no line ends, which `h2` sees to.
pub fn head(parts: &Parts, size: Size) -> Option<Vec<u8>> {
    let path = parts.uri.path_and_query().filter(|_| parts.method != Method::CONNECT)?;
    let mut out = format!("{} {path} HTTP/1.1\r\n", parts.method).into_bytes();
    let mut put = |name: &str, value: &[u8]| {
        for piece in [name.as_bytes(), b": ", value, b"\r\n"] {
            out.extend_from_slice(piece);
        }
    };
    match (parts.uri.authority(), parts.headers.get(header::HOST)) {
        (Some(authority), _) => put("host", authority.as_str().as_bytes()),
        (None, Some(host)) => put("host", host.as_bytes()),
        (None, None) => {}
    }
    for (name, value) in &parts.headers {
        // The body comes at once, so nobody has to be told to send it.
        let other = [header::HOST, header::CONTENT_LENGTH, header::COOKIE, header::EXPECT].contains(name) || of_connection(name);
        if !other {
            put(name.as_str(), value.as_bytes());
        }
    }
    // HTTP/2 may send each one alone (RFC 9113, 8.2.3).
    let cookies: Vec<&[u8]> = parts.headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
    if !cookies.is_empty() {
        put("cookie", &cookies.join(&b"; "[..]));
    }
    match size {
        Size::Nothing => {}
        Size::Told(size) => put("content-length", size.to_string().as_bytes()),
        Size::Chunked => put("transfer-encoding", b"chunked"),
    }
    out.extend_from_slice(b"\r\n");
    Some(out)
}

/// What HTTP/2 has no headers for.
fn of_connection(name: &HeaderName) -> bool {
    [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE, header::TE].contains(name)
        || matches!(name.as_str(), "keep-alive" | "proxy-connection" | "http2-settings")
}

/// The head of an answer.
pub struct Answer {
    pub response: Response<()>,
    /// Bytes that it takes.
    pub length: usize,
    pub body: Body,
    /// Whether the connection takes another request, once the body has ended.
    pub stays: bool,
}

/// Reads an answer's head; None if it is not whole yet. `method`: of the request.
///
/// # Errors
/// It is none, or larger than any.
pub fn answer(bytes: &[u8], method: &Method) -> io::Result<Option<Answer>> {
    let mut headers = [httparse::EMPTY_HEADER; MOST_HEADERS];
    let mut read = httparse::Response::new(&mut headers);
    let length = match read.parse(bytes) {
        Ok(httparse::Status::Complete(length)) => length,
        Ok(httparse::Status::Partial) if bytes.len() < LARGEST => return Ok(None),
        _ => return Err(wrong()),
    };
    let status = read.code.and_then(|code| StatusCode::from_u16(code).ok()).ok_or_else(wrong)?;
    let (mut out, mut size, mut stays) = (HeaderMap::with_capacity(read.headers.len()), None, read.version == Some(1));
    for one in read.headers.iter() {
        let name = HeaderName::from_bytes(one.name.as_bytes()).map_err(|_| wrong())?;
        if name == header::CONTENT_LENGTH {
            size = Some(Body::Left(std::str::from_utf8(one.value).ok().and_then(|digits| digits.parse().ok()).ok_or_else(wrong)?));
        } else if name == header::TRANSFER_ENCODING {
            size = Some(Body::Chunks(Chunk::Begins));
        } else if name == header::CONNECTION {
            stays &= !one.value.eq_ignore_ascii_case(b"close");
        }
        if !of_connection(&name) {
            out.append(name, HeaderValue::from_bytes(one.value).map_err(|_| wrong())?);
        }
    }
    let bare = method == Method::HEAD || status.is_informational() || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
    let body = if bare { Body::Left(0) } else { size.unwrap_or(Body::ToTheEnd) };
    let mut response = Response::new(());
    (*response.status_mut(), *response.headers_mut()) = (status, out);
    Ok(Some(Answer { response, length, stays: stays && body != Body::ToTheEnd, body }))
}

/// What is still to come of an answer's body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Body {
    /// So many bytes.
    Left(usize),
    Chunks(Chunk),
    /// All that comes on the connection.
    ToTheEnd,
}

/// Where in a body of chunks the next byte stands (RFC 9112, 7.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Chunk {
    Begins,
    /// Bytes that are left of one.
    Inside(usize),
    /// At the end of its line.
    Ends,
    /// After the last one; lines may follow up to an empty one.
    Last,
    Over,
}

impl Body {
    pub fn over(self) -> bool {
        matches!(self, Self::Left(0) | Self::Chunks(Chunk::Over))
    }

    /// How many of the next bytes are to be passed over, and how many behind them are of the body; None if more are needed to tell.
    ///
    /// # Errors
    /// They are no chunks.
    pub fn step(&mut self, bytes: &[u8]) -> io::Result<Option<(usize, usize)>> {
        if bytes.is_empty() {
            return Ok(None);
        }
        match self {
            Self::ToTheEnd => Ok(Some((0, bytes.len()))),
            Self::Left(left) => {
                let taken = bytes.len().min(*left);
                *left -= taken;
                Ok(Some((0, taken)))
            }
            Self::Chunks(chunk) => chunk.step(bytes),
        }
    }
}

impl Chunk {
    fn step(&mut self, bytes: &[u8]) -> io::Result<Option<(usize, usize)>> {
        match *self {
            Self::Over => Ok(None),
            Self::Inside(left) => {
                let taken = bytes.len().min(left);
                *self = if taken == left { Self::Ends } else { Self::Inside(left - taken) };
                Ok(Some((0, taken)))
            }
            Self::Begins => match httparse::parse_chunk_size(bytes).map_err(|_| wrong())? {
                httparse::Status::Complete((line, 0)) => {
                    *self = Self::Last;
                    Ok(Some((line, 0)))
                }
                httparse::Status::Complete((line, size)) => {
                    *self = Self::Inside(usize::try_from(size).map_err(|_| wrong())?);
                    Ok(Some((line, 0)))
                }
                httparse::Status::Partial if bytes.len() < LONGEST_LINE => Ok(None),
                httparse::Status::Partial => Err(wrong()),
            },
            Self::Ends | Self::Last => {
                let Some(end) = bytes.iter().position(|byte| *byte == b'\n') else {
                    return if bytes.len() < LONGEST_LINE { Ok(None) } else { Err(wrong()) };
                };
                let empty = matches!(&bytes[..end], b"\r" | b"");
                *self = match (*self, empty) {
                    (Self::Ends, true) => Self::Begins,
                    (Self::Ends, false) => return Err(wrong()),
                    (_, true) => Self::Over,
                    (last, false) => last,
                };
                Ok(Some((end + 1, 0)))
            }
        }
    }
}

fn wrong() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, "no answer of HTTP/1.1")
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::Request;
    use proptest::prelude::*;

    fn said(request: http::request::Builder, size: Size) -> Option<String> {
        let parts = request.body(()).expect("a request").into_parts().0;
        head(&parts, size).map(|text| String::from_utf8(text).expect("text"))
    }

    #[test]
    fn a_request_is_written_without_what_belongs_to_its_connection() {
        let request = Request::post("http://mesh:1/v2/models/a%20b/infer?x=1")
            .header("cookie", "a=1")
            .header("x", "1")
            .header("cookie", "b=2")
            .header("content-length", "7")
            .header("te", "trailers")
            .header("expect", "100-continue")
            .header("host", "other")
            .header("x", "2");
        let text = said(request, Size::Told(7)).expect("it can be said");
        assert_eq!(
            text,
            "POST /v2/models/a%20b/infer?x=1 HTTP/1.1\r\nhost: mesh:1\r\nx: 1\r\nx: 2\r\ncookie: a=1; b=2\r\ncontent-length: 7\r\n\r\n"
        );
        let text = said(Request::get("/").header("host", "other"), Size::Chunked).expect("it can be said");
        assert_eq!(text, "GET / HTTP/1.1\r\nhost: other\r\ntransfer-encoding: chunked\r\n\r\n");
        assert_eq!(said(Request::get("/"), Size::Nothing).as_deref(), Some("GET / HTTP/1.1\r\n\r\n"));
        assert_eq!(said(Request::connect("mesh:1"), Size::Nothing), None);
    }

    fn heard(text: &str, method: &Method) -> Answer {
        answer(text.replace('\n', "\r\n").as_bytes(), method).expect("an answer").expect("all of it")
    }

    #[test]
    fn the_end_of_an_answer_is_told_in_some_way() {
        let get = &Method::GET;
        let found = heard("HTTP/1.1 200 OK\ncontent-length: 5\nkeep-alive: 1\nx: 1\nx: 2\n\n", get);
        assert_eq!((found.response.status().as_u16(), found.body, found.stays, found.length), (200, Body::Left(5), true, 65));
        assert_eq!(found.response.headers().iter().map(|(name, _)| name.as_str()).collect::<Vec<_>>(), ["content-length", "x", "x"]);
        assert_eq!(heard("HTTP/1.1 200 OK\ncontent-length: 5\n\n", &Method::HEAD).body, Body::Left(0));
        assert_eq!(heard("HTTP/1.1 204 No Content\n\n", get).body, Body::Left(0));
        let chunked = heard("HTTP/1.1 404 Not Found\ntransfer-encoding: chunked\nconnection: close\n\n", get);
        assert_eq!((chunked.body, chunked.stays), (Body::Chunks(Chunk::Begins), false));
        assert!(!heard("HTTP/1.1 200 OK\n\n", get).stays && !heard("HTTP/1.0 200 OK\ncontent-length: 1\n\n", get).stays);
        assert!(answer(b"HTTP/1.1 200 OK\r\n", get).expect("a beginning").is_none());
        for wrong in [b"garbage\r\n\r\n".as_slice(), b"HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n", &[b'x'; LARGEST]] {
            assert!(answer(wrong, get).is_err());
        }
    }

    fn body(mut body: Body, pieces: &[&[u8]]) -> io::Result<(Vec<u8>, usize, bool)> {
        let (mut there, mut out) = (Vec::new(), Vec::new());
        for piece in pieces {
            there.extend_from_slice(piece);
            while let (false, Some((over, taken))) = (body.over(), body.step(&there)?) {
                out.extend_from_slice(&there[over..over + taken]);
                there.drain(..over + taken);
            }
        }
        Ok((out, there.len(), body.over()))
    }

    proptest! {
        #[test]
        fn chunks_are_read_however_they_come(chunks in proptest::collection::vec("[a-z]{1,20}", 0..5), cut in 0usize..120) {
            let sent = chunks.iter().map(|chunk| format!("{:x};y\r\n{chunk}\r\n", chunk.len())).collect::<String>() + "0\r\nx: y\r\n\r\n";
            let (first, second) = sent.as_bytes().split_at(cut.min(sent.len()));
            let found = body(Body::Chunks(Chunk::Begins), &[first, second, b"next"]).expect("chunks");
            prop_assert_eq!(found, (chunks.concat().into_bytes(), 4, true));
        }

        #[test]
        fn garbage_is_no_endless_work(bytes: Vec<u8>) {
            let _ = body(Body::Chunks(Chunk::Begins), &[&bytes]);
            let _ = answer(&bytes, &Method::GET);
        }
    }

    #[test]
    fn what_is_no_chunk_is_an_error() {
        for text in ["x\r\n", "1\r\nab\r\n"] {
            assert!(body(Body::Chunks(Chunk::Begins), &[text.as_bytes()]).is_err(), "{text}");
        }
        assert!(body(Body::Chunks(Chunk::Begins), &[b"1;", &[b'x'; LONGEST_LINE]]).is_err());
    }
}
