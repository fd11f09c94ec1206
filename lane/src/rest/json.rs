//! JSON read in one pass, without a tree. What `orjson` refuses, or reads in a way of its own, is odd.

use super::{Known, Odd};
use std::borrow::Cow;

/// Lists and objects within each other.
const DEEPEST: usize = 64;

/// A number as `orjson` takes it: whole ones beyond 64 bits are reals.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Signed(i64),
    /// Beyond `i64`.
    Unsigned(u64),
    Real(f64),
}

/// What a value begins like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Object,
    List,
    Text,
    True,
    False,
    Null,
    Number,
}

/// A document, and how far it is read.
#[derive(Clone, Debug)]
pub struct Reader<'a> {
    text: &'a str,
    at: usize,
}

/// Powers of ten that a double holds exactly.
const POWERS: [f64; 23] =
    [1e0, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22];
/// Decimal digits that 64 bits always hold.
const DIGITS: usize = 19;
/// Whole numbers up to here are doubles exactly.
const EXACT: u64 = 1 << 53;

impl<'a> Reader<'a> {
    pub fn new(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// Bytes that are not read yet.
    pub fn left(&self) -> usize {
        self.text.len() - self.at
    }

    /// The next byte that is no space.
    pub fn peek(&mut self) -> Known<u8> {
        let bytes = self.text.as_bytes();
        loop {
            match bytes.get(self.at) {
                Some(b' ' | b'\n' | b'\r' | b'\t') => self.at += 1,
                Some(byte) => return Ok(*byte),
                None => return Err(Odd),
            }
        }
    }

    /// Passes the byte that `peek` showed.
    pub fn pass(&mut self) {
        self.at += 1;
    }

    /// Ends the document: only spaces may follow.
    pub fn end(mut self) -> Known<()> {
        if self.peek().is_err() { Ok(()) } else { Err(Odd) }
    }

    /// What the next value is; not yet whether it is right.
    pub fn kind(&mut self) -> Known<Kind> {
        Ok(match self.peek()? {
            b'{' => Kind::Object,
            b'[' => Kind::List,
            b'"' => Kind::Text,
            b't' => Kind::True,
            b'f' => Kind::False,
            b'n' => Kind::Null,
            b'-' | b'0'..=b'9' => Kind::Number,
            _ => return Err(Odd),
        })
    }

    /// Reads an object; `member` is called at each value, which it has to read.
    pub fn object(&mut self, mut member: impl FnMut(&mut Self, Cow<'a, str>) -> Known<()>) -> Known<()> {
        self.expect(b'{')?;
        if self.peek()? == b'}' {
            self.pass();
            return Ok(());
        }
        loop {
            let key = self.string()?;
            self.expect(b':')?;
            member(self, key)?;
            match self.peek()? {
                b',' => self.pass(),
                b'}' => {
                    self.pass();
                    return Ok(());
                }
                _ => return Err(Odd),
            }
        }
    }

    /// Reads a list; `element` is called at each value, which it has to read.
    pub fn list(&mut self, mut element: impl FnMut(&mut Self) -> Known<()>) -> Known<()> {
        self.expect(b'[')?;
        if self.peek()? == b']' {
            self.pass();
            return Ok(());
        }
        loop {
            element(self)?;
            match self.peek()? {
                b',' => self.pass(),
                b']' => {
                    self.pass();
                    return Ok(());
                }
                _ => return Err(Odd),
            }
        }
    }

    /// A string.
    pub fn string(&mut self) -> Known<Cow<'a, str>> {
        self.expect(b'"')?;
        let (bytes, start) = (self.text.as_bytes(), self.at);
        loop {
            match bytes.get(self.at) {
                Some(b'"') => break,
                Some(b'\\') => return self.escaped(start).map(Cow::Owned),
                Some(0x20..) => self.at += 1,
                _ => return Err(Odd),
            }
        }
        self.pass();
        self.text.get(start..self.at - 1).map(Cow::Borrowed).ok_or(Odd)
    }

    /// The rest of a string that began at `start` and has its first escape here.
    fn escaped(&mut self, start: usize) -> Known<String> {
        let bytes = self.text.as_bytes();
        let mut out = String::new();
        let mut from = start;
        loop {
            match bytes.get(self.at) {
                Some(b'"') => {
                    out.push_str(self.text.get(from..self.at).ok_or(Odd)?);
                    self.pass();
                    return Ok(out);
                }
                Some(b'\\') => {
                    out.push_str(self.text.get(from..self.at).ok_or(Odd)?);
                    self.pass();
                    out.push(self.escape()?);
                    from = self.at;
                }
                Some(0x20..) => self.at += 1,
                _ => return Err(Odd),
            }
        }
    }

    /// What stands behind a backslash.
    fn escape(&mut self) -> Known<char> {
        let byte = *self.text.as_bytes().get(self.at).ok_or(Odd)?;
        self.pass();
        Ok(match byte {
            b'"' | b'\\' | b'/' => char::from(byte),
            b'b' => '\u{8}',
            b'f' => '\u{c}',
            b'n' => '\n',
            b'r' => '\r',
            b't' => '\t',
            b'u' => {
                let high = self.unit()?;
                if !(0xD800..0xDC00).contains(&high) {
                    // Half a pair by itself is no character.
                    return char::from_u32(high).ok_or(Odd);
                }
                if self.text.as_bytes().get(self.at..self.at + 2) != Some(b"\\u") {
                    return Err(Odd);
                }
                self.at += 2;
                let low = self.unit()?.checked_sub(0xDC00).filter(|low| *low < 0x400).ok_or(Odd)?;
                char::from_u32(0x10000 + ((high - 0xD800) << 10) + low).ok_or(Odd)?
            }
            _ => return Err(Odd),
        })
    }

    fn unit(&mut self) -> Known<u32> {
        let digits = self.text.as_bytes().get(self.at..self.at + 4).ok_or(Odd)?;
        self.at += 4;
        digits.iter().try_fold(0, |value, digit| Some(value << 4 | char::from(*digit).to_digit(16)?)).ok_or(Odd)
    }

    /// `true`, `false` or `null`.
    pub fn word(&mut self, word: &str) -> Known<()> {
        self.peek()?;
        if !self.text.as_bytes()[self.at..].starts_with(word.as_bytes()) {
            return Err(Odd);
        }
        self.at += word.len();
        Ok(())
    }

    /// A number as most are written: seven digits at most before a point, seven at most behind it, no exponent. None, and nothing is read, if it
    /// is another, or the document ends within it.
    #[inline]
    pub fn decimal(&mut self) -> Option<f64> {
        let bytes: &[u8; 24] = self.text.as_bytes().get(self.at..)?.first_chunk()?;
        let eight = |at: usize| bytes[at..].first_chunk().map(|eight| leading(u64::from_le_bytes(*eight)));
        let negative = bytes[0] == b'-';
        let first = usize::from(negative);
        let (whole, above) = eight(first)?;
        let point = first + whole;
        if whole == 0 || (whole > 1 && bytes[first] == b'0') || bytes[point] != b'.' {
            return None;
        }
        let (places, below) = eight(point + 1)?;
        let end = point + 1 + places;
        if places == 0 || places == 8 || matches!(bytes[end], b'e' | b'E') {
            return None;
        }
        self.at += end;
        // Both are exact, as in `number`.
        let value = (above * TENS[places] + below) as f64 / POWERS[places];
        // Without a branch: of half of the numbers it would be guessed wrong.
        Some(f64::from_bits(value.to_bits() | u64::from(negative) << 63))
    }

    /// A number; one that is no double, being too large, is odd.
    #[inline]
    pub fn number(&mut self) -> Known<Number> {
        self.peek()?;
        let (bytes, start) = (self.text.as_bytes(), self.at);
        let negative = bytes[start] == b'-';
        let first = start + usize::from(negative);
        let (mut at, mut mantissa) = digits(bytes, first, 0);
        let whole = at - first;
        if whole == 0 || (whole > 1 && bytes[first] == b'0') {
            return Err(Odd);
        }
        let (mut count, mut exponent) = (whole, 0i32);
        let real = matches!(bytes.get(at), Some(b'.' | b'e' | b'E'));
        if bytes.get(at) == Some(&b'.') {
            let from = at + 1;
            (at, mantissa) = digits(bytes, from, mantissa);
            if at == from {
                return Err(Odd);
            }
            count += at - from;
            exponent = -((at - from).min(9999) as i32);
        }
        if let Some(b'e' | b'E') = bytes.get(at) {
            let sign = bytes.get(at + 1).copied().unwrap_or_default();
            let from = at + 1 + usize::from(matches!(sign, b'+' | b'-'));
            let mut power = 0i32;
            at = from;
            while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
                power = (power * 10 + i32::from(digit - b'0')).min(99_999);
                at += 1;
            }
            if at == from {
                return Err(Odd);
            }
            exponent += if sign == b'-' { -power } else { power };
        }
        self.at = at;
        if !real && let Some(number) = self.integer(start, negative, mantissa, count) {
            return Ok(number);
        }
        if count <= DIGITS && mantissa <= EXACT && exponent.unsigned_abs() < POWERS.len() as u32 {
            // Both are exact, so that the one operation rounds as the decimal itself would (Clinger, 1990).
            let power = POWERS[exponent.unsigned_abs() as usize];
            let value = if exponent < 0 { mantissa as f64 / power } else { mantissa as f64 * power };
            return Ok(Number::Real(if negative { -value } else { value }));
        }
        let value: f64 = self.text.get(start..at).ok_or(Odd)?.parse().map_err(|_| Odd)?;
        if value.is_finite() { Ok(Number::Real(value)) } else { Err(Odd) }
    }

    /// A whole number of 64 bits, if it is one.
    fn integer(&self, start: usize, negative: bool, mantissa: u64, count: usize) -> Option<Number> {
        let value = if count <= DIGITS { mantissa } else { self.text.get(start + usize::from(negative)..self.at)?.parse().ok()? };
        if negative {
            return (value <= 1 << 63).then(|| Number::Signed((value as i64).wrapping_neg()));
        }
        Some(i64::try_from(value).map_or(Number::Unsigned(value), Number::Signed))
    }

    /// Passes a value that nobody needs, as long as it is right.
    pub fn skip(&mut self) -> Known<()> {
        self.skip_within(DEEPEST)
    }

    fn skip_within(&mut self, depth: usize) -> Known<()> {
        let depth = depth.checked_sub(1).ok_or(Odd)?;
        match self.kind()? {
            Kind::Object => self.object(|inner, _| inner.skip_within(depth)),
            Kind::List => self.list(|inner| inner.skip_within(depth)),
            Kind::Text => self.string().map(drop),
            Kind::True => self.word("true"),
            Kind::False => self.word("false"),
            Kind::Null => self.word("null"),
            Kind::Number => self.number().map(drop),
        }
    }

    /// Passes a list that is read later, and checked then; here only its end is looked for.
    pub fn span(&mut self) -> Known<&'a str> {
        self.peek()?;
        let (bytes, start) = (self.text.as_bytes(), self.at);
        let mut open = 0usize;
        loop {
            match bytes.get(self.at).ok_or(Odd)? {
                b'[' => open += 1,
                b']' => open = open.checked_sub(1).ok_or(Odd)?,
                b'"' => {
                    self.at += 1;
                    loop {
                        match bytes.get(self.at).ok_or(Odd)? {
                            b'"' => break,
                            b'\\' => self.at += 2,
                            _ => self.at += 1,
                        }
                    }
                }
                _ => {}
            }
            self.at += 1;
            if open == 0 {
                return self.text.get(start..self.at).ok_or(Odd);
            }
        }
    }

    fn expect(&mut self, byte: u8) -> Known<()> {
        if self.peek()? != byte {
            return Err(Odd);
        }
        self.pass();
        Ok(())
    }
}

/// Where digits end, and what they add to a number.
#[inline]
fn digits(bytes: &[u8], mut at: usize, mut value: u64) -> (usize, u64) {
    while let Some(eight) = bytes.get(at..).and_then(<[u8]>::first_chunk) {
        let (count, more) = leading(u64::from_le_bytes(*eight));
        value = value.wrapping_mul(TENS[count]).wrapping_add(more);
        at += count;
        if count < 8 {
            return (at, value);
        }
    }
    while let Some(digit @ b'0'..=b'9') = bytes.get(at) {
        value = value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0'));
        at += 1;
    }
    (at, value)
}

const TENS: [u64; 9] = [1, 10, 100, 1_000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// How many of eight characters are digits before another comes, and their value: all at once, as a loop would be guessed wrong at its end.
#[inline]
fn leading(eight: u64) -> (usize, u64) {
    let values = eight ^ 0x3030_3030_3030_3030;
    // The lowest byte above nine gets its upper bit set; what is carried from there changes later ones only.
    let others = (values.wrapping_add(0x7676_7676_7676_7676) | values) & 0x8080_8080_8080_8080;
    let count = (others.trailing_zeros() / 8) as usize;
    // Zeros in front, in place of what is behind.
    let values = values.checked_shl(64 - 8 * count as u32).unwrap_or(0);
    let pairs = values.wrapping_mul(10).wrapping_add(values >> 8);
    let upper = (pairs & 0x0000_00FF_0000_00FF).wrapping_mul(0x000F_4240_0000_0064);
    let lower = (pairs >> 16 & 0x0000_00FF_0000_00FF).wrapping_mul(0x0000_2710_0000_0001);
    (count, upper.wrapping_add(lower) >> 32)
}

#[cfg(test)]
#[path = "json_tests.rs"]
mod tests;
