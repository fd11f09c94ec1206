//! Makes `:authority` one that HTTP libraries take, in the bytes that a client sends.
//!
//! gRPC's C core names all addresses of a target there (`127.0.0.1:1,127.0.0.1:2`, also percent-encoded), and `h2` refuses whatever is not the
//! authority of a URI. Nobody here looks at it: from the first comma or percent sign on, what is no letter, digit, dot or hyphen becomes a
//! hyphen. That keeps all lengths. Values in Huffman's code, which the C core does not send, stay as they are.

const PREFACE: usize = 24;
const HEAD: usize = 9;
const HEADERS: u8 = 1;
const CONTINUATION: u8 = 9;
const PADDED: u8 = 0x8;
const PRIORITY: u8 = 0x20;
const NAME: &[u8] = b":authority";
/// Of that name in HPACK's static table (RFC 7541, appendix A).
const INDEX: usize = 1;

/// Follows the bytes of one connection.
#[derive(Debug)]
pub struct Authorities {
    /// Bytes of the preface that are still to come.
    preface: usize,
    head: [u8; HEAD],
    /// Bytes of a frame's head that are here.
    known: usize,
    /// Bytes that are left of the frame, and of them those that are padding.
    left: usize,
    padding: usize,
    /// Bytes of a header frame before its fields, the first of which tells the padding if there is any.
    before: usize,
    padded: bool,
    block: Block,
}

/// Where in a header block the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Block {
    Field,
    /// A number goes on, with what it says so far, the place of its next bits, and what it is for.
    Number(usize, u32, Use),
    Length(Text),
    /// Bytes that are left of a text; of the name of a field also whether it was `:authority` so far, and how long it is.
    Name(usize, bool, usize),
    Value(usize, Option<Mend>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Use {
    Nothing,
    NameIndex,
    /// The length of a text, and whether it is in Huffman's code.
    Length(Text, bool),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Text {
    Name,
    /// Whether it is an authority.
    Value(bool),
}

/// An authority that is being read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Mend {
    inside: bool,
    odd: bool,
}

impl Default for Authorities {
    fn default() -> Self {
        Self { preface: PREFACE, head: [0; HEAD], known: 0, left: 0, padding: 0, before: 0, padded: false, block: Block::Field }
    }
}

impl Authorities {
    /// Mends what came next on the connection.
    pub fn pass(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let taken = self.step(bytes);
            bytes = &mut bytes[taken..];
        }
    }

    /// Takes at least one byte.
    fn step(&mut self, bytes: &mut [u8]) -> usize {
        if self.preface > 0 {
            let taken = self.preface.min(bytes.len());
            self.preface -= taken;
            return taken;
        }
        if self.left == 0 {
            let taken = (HEAD - self.known).min(bytes.len());
            self.head[self.known..self.known + taken].copy_from_slice(&bytes[..taken]);
            self.known += taken;
            if self.known == HEAD {
                self.begin();
            }
            return taken;
        }
        let taken = self.left.min(bytes.len());
        if matches!(self.head[3], HEADERS | CONTINUATION) {
            let mut at = 0;
            while at < taken {
                let whole = self.skip(&bytes[at..taken]);
                if whole == 0 {
                    self.byte(&mut bytes[at]);
                }
                at += whole.max(1);
            }
        } else {
            self.left -= taken;
        }
        taken
    }

    fn begin(&mut self) {
        self.known = 0;
        let [a, b, c, kind, flags, ..] = self.head;
        self.left = usize::from(a) << 16 | usize::from(b) << 8 | usize::from(c);
        self.padding = 0;
        (self.padded, self.before) = (false, 0);
        if kind == HEADERS {
            self.block = Block::Field;
            self.padded = flags & PADDED != 0;
            self.before = usize::from(self.padded) + if flags & PRIORITY != 0 { 5 } else { 0 };
        }
    }

    /// How many bytes of a frame with headers are fields of one byte, or of a value that is no authority: nothing is to be found in them.
    fn skip(&mut self, bytes: &[u8]) -> usize {
        let fields = if self.before > 0 { 0 } else { self.left.saturating_sub(self.padding).min(bytes.len()) };
        let some = match &mut self.block {
            Block::Field => bytes[..fields].iter().take_while(|byte| (0x80..0xff).contains(*byte)).count(),
            Block::Value(left, None) => {
                let some = fields.min(*left);
                *left -= some;
                if *left == 0 {
                    self.block = Block::Field;
                }
                some
            }
            _ => 0,
        };
        self.left -= some;
        some
    }

    /// One byte of a frame with headers.
    fn byte(&mut self, byte: &mut u8) {
        if self.before > 0 {
            if self.padded {
                (self.padding, self.padded) = (usize::from(*byte), false);
            }
            self.before -= 1;
        } else if self.left > self.padding {
            self.block = self.block.after(byte);
        }
        self.left -= 1;
    }
}

impl Block {
    fn after(self, byte: &mut u8) -> Self {
        match self {
            Self::Field => match *byte {
                byte @ 0x80.. => Self::number(byte, 0x7f, Use::Nothing),
                byte @ 0x40.. => Self::number(byte, 0x3f, Use::NameIndex),
                byte @ 0x20.. => Self::number(byte, 0x1f, Use::Nothing),
                byte => Self::number(byte, 0xf, Use::NameIndex),
            },
            Self::Number(sum, shift, what) => {
                // Longer numbers than any real one are refused by who reads after this.
                let sum = if shift < 28 { sum + (usize::from(*byte & 0x7f) << shift) } else { sum };
                if *byte & 0x80 == 0 { Self::told(sum, what) } else { Self::Number(sum, shift + 7, what) }
            }
            Self::Length(text) => Self::number(*byte, 0x7f, Use::Length(text, *byte & 0x80 != 0)),
            Self::Name(left, so_far, at) => {
                let so_far = so_far && NAME.get(at) == Some(byte);
                if left == 1 { Self::Length(Text::Value(so_far && at + 1 == NAME.len())) } else { Self::Name(left - 1, so_far, at + 1) }
            }
            Self::Value(left, mend) => {
                let mend = mend.map(|mend| mend.after(byte));
                if left == 1 { Self::Field } else { Self::Value(left - 1, mend) }
            }
        }
    }

    /// A number that begins in the low bits of a byte (RFC 7541, 5.1).
    fn number(byte: u8, mask: u8, what: Use) -> Self {
        let sum = usize::from(byte & mask);
        if byte & mask == mask { Self::Number(sum, 0, what) } else { Self::told(sum, what) }
    }

    fn told(number: usize, what: Use) -> Self {
        match what {
            Use::Nothing => Self::Field,
            Use::NameIndex if number == 0 => Self::Length(Text::Name),
            Use::NameIndex => Self::Length(Text::Value(number == INDEX)),
            Use::Length(Text::Name, _) if number == 0 => Self::Length(Text::Value(false)),
            Use::Length(Text::Name, coded) => Self::Name(number, !coded, 0),
            Use::Length(Text::Value(_), _) if number == 0 => Self::Field,
            Use::Length(Text::Value(authority), coded) => Self::Value(number, (authority && !coded).then(Mend::default)),
        }
    }
}

impl Mend {
    fn after(self, byte: &mut u8) -> Self {
        let inside = match *byte {
            b'[' => true,
            b']' => false,
            _ => self.inside,
        };
        let odd = self.odd || (!inside && matches!(*byte, b',' | b'%'));
        if odd && !(byte.is_ascii_alphanumeric() || *byte == b'.') {
            *byte = b'-';
        }
        Self { inside, odd }
    }
}

#[cfg(test)]
#[path = "authority_tests.rs"]
mod tests;
