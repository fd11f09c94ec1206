//! Sizes of the messages in a body, as its bytes pass.

use crate::framing::{PREFIX, size_of};

/// Where in the body the next byte stands.
#[derive(Default)]
pub struct Sizes {
    prefix: Vec<u8>,
    /// Bytes of the current message that are to come.
    left: usize,
}

impl Sizes {
    /// Takes the next piece; the size of the first message that begins in it and is larger than `most` bytes.
    pub fn beyond(&mut self, mut piece: &[u8], most: usize) -> Option<usize> {
        loop {
            let passed = self.left.min(piece.len());
            self.left -= passed;
            piece = &piece[passed..];
            if piece.is_empty() {
                return None;
            }
            let rest = (PREFIX - self.prefix.len()).min(piece.len());
            self.prefix.extend_from_slice(&piece[..rest]);
            piece = &piece[rest..];
            let size = size_of(&self.prefix)?;
            self.prefix.clear();
            if size > most {
                return Some(size);
            }
            self.left = size;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn the_first_that_is_too_large_is_found_however_the_body_is_cut(sizes in proptest::collection::vec(0usize..20, 0..8), cut in 1usize..9) {
            let mut body = Vec::new();
            for size in &sizes {
                body.push(0);
                body.extend_from_slice(&(*size as u32).to_be_bytes());
                body.extend(std::iter::repeat_n(7, *size));
            }
            let mut passing = Sizes::default();
            let found = body.chunks(cut).find_map(|piece| passing.beyond(piece, 10));
            prop_assert_eq!(found, sizes.iter().copied().find(|size| *size > 10));
        }
    }
}
