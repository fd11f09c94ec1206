//! A body that comes in chunks (RFC 9112, 7.1), put together.

use bytes::Bytes;

/// Bytes of sizes and line ends that a body may have beside those of its chunks.
const BESIDE: usize = 64 * 1024;

/// What is known of a body so far.
#[derive(Debug)]
pub struct Chunks {
    /// Bytes of the request that were looked at.
    pub at: usize,
    body: Vec<u8>,
}

/// How far a body is.
#[derive(Debug, PartialEq, Eq)]
pub enum Step {
    /// More is needed.
    Short,
    Whole(Bytes),
    /// Python's to read, or to refuse: trailers, a mistake, too much.
    Odd,
}

impl Chunks {
    /// `at`: where the body begins.
    pub fn new(at: usize) -> Self {
        Self { at, body: Vec::new() }
    }

    /// Looks at all that is there of a request; `most`: bytes that its body may have.
    pub fn step(&mut self, request: &[u8], most: usize) -> Step {
        loop {
            let rest = request.get(self.at..).unwrap_or_default();
            let Ok(parsed) = httparse::parse_chunk_size(rest) else { return Step::Odd };
            if self.at > self.body.len() * 2 + BESIDE {
                return Step::Odd;
            }
            let httparse::Status::Complete((start, size)) = parsed else {
                return if rest.len() < BESIDE { Step::Short } else { Step::Odd };
            };
            let room = most - self.body.len().min(most);
            let Some(size) = usize::try_from(size).ok().filter(|size| *size <= room) else { return Step::Odd };
            match rest.get(start + size..start + size + 2) {
                Some(b"\r\n") => {}
                Some(_) => return Step::Odd,
                None => return Step::Short,
            }
            self.body.extend_from_slice(&rest[start..start + size]);
            self.at += start + size + 2;
            if size == 0 {
                return Step::Whole(std::mem::take(&mut self.body).into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(bytes: &[u8]) -> Step {
        Chunks::new(0).step(bytes, 100)
    }

    #[test]
    fn what_is_no_plain_body_is_odd() {
        for text in ["x\r\n", "1\r\nab\r\n", "65\r\n", "0\r\nx: y\r\n\r\n", "ffffffffffffffff\r\n", "fffffffffffffffff\r\n"] {
            assert_eq!(read(text.as_bytes()), Step::Odd, "{text}");
        }
        assert_eq!(read(&b"1;x\r\na\r\n".repeat(BESIDE)), Step::Odd);
        assert_eq!(read(&[b"1;".as_slice(), &[b'x'; BESIDE]].concat()), Step::Odd);
    }

    proptest! {
        #[test]
        fn chunks_are_put_together_however_they_come(chunks in proptest::collection::vec("[a-z]{1,20}", 0..5), cuts in proptest::collection::vec(0usize..200, 0..5)) {
            let sent = chunks.iter().map(|chunk| format!("{:x}\r\n{chunk}\r\n", chunk.len())).collect::<String>() + "0\r\n\r\n";
            let (sent, mut found) = (format!("head{sent}next"), Chunks::new(4));
            let whole = sent.len() - 4;
            let mut cuts: Vec<usize> = cuts.into_iter().filter(|cut| (4..whole).contains(cut)).collect();
            cuts.sort_unstable();
            for cut in cuts {
                prop_assert_eq!(found.step(&sent.as_bytes()[..cut], 100), Step::Short);
            }
            prop_assert_eq!(found.step(sent.as_bytes(), 100), Step::Whole(chunks.concat().into()));
            prop_assert_eq!(found.at, whole);
        }

        #[test]
        fn garbage_ends(bytes: Vec<u8>, most in 0usize..50) {
            let _ = Chunks::new(3).step(&bytes, most);
        }
    }
}
