//! Strings in HPACK's Huffman code (RFC 7541, appendix B), read only: what is sent is sent as it is, for links are short and time is dear.
//!
//! The code is canonical: of its table only the lengths are kept, and symbols of one length have consecutive codes.

use super::Fault;

/// The symbol that ends a text; it is never sent.
const END: usize = 256;
const SYMBOLS: usize = 257;
const LONGEST: usize = 30;
/// Bits that are looked up at once: most letters have no more.
const QUICK: u32 = 9;

/// Bits of each symbol's code.
#[rustfmt::skip]
const LENGTHS: [u8; SYMBOLS] = [
    13, 23, 28, 28, 28, 28, 28, 28, 28, 24, 30, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 30, 28, 28, 28, 28, 28, 28, 28, 28, 28,
    6, 10, 10, 12, 13, 6, 8, 11, 10, 10, 8, 11, 8, 6, 6, 6, 5, 5, 5, 6, 6, 6, 6, 6, 6, 6, 7, 8, 15, 6, 12, 10,
    13, 6, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 8, 7, 8, 13, 19, 13, 14, 6,
    15, 5, 6, 5, 6, 5, 6, 6, 6, 5, 7, 7, 6, 6, 6, 5, 6, 7, 6, 5, 5, 6, 7, 7, 7, 7, 7, 15, 11, 14, 13, 28,
    20, 22, 20, 20, 22, 22, 22, 23, 22, 23, 23, 23, 23, 23, 24, 23, 24, 24, 22, 23, 24, 23, 23, 23, 23, 21, 22, 23, 22, 23, 23, 24,
    22, 21, 20, 22, 22, 23, 23, 21, 23, 22, 22, 24, 21, 22, 23, 23, 21, 21, 22, 21, 23, 22, 23, 23, 20, 22, 22, 22, 23, 22, 22, 23,
    26, 26, 20, 19, 22, 23, 22, 25, 26, 26, 26, 27, 27, 26, 24, 25, 19, 21, 26, 27, 27, 26, 27, 24, 21, 21, 26, 26, 28, 27, 27, 27,
    20, 24, 20, 21, 22, 21, 21, 23, 22, 22, 25, 25, 24, 24, 26, 23, 26, 27, 26, 26, 27, 27, 27, 27, 27, 28, 27, 27, 27, 27, 27, 26,
    30,
];

struct Code {
    /// Symbols, those with the shortest codes first.
    symbols: [u16; SYMBOLS],
    /// Of each length: the first code that is longer, in the highest bits of 32.
    limit: [u64; LONGEST + 1],
    /// Of each length: what to add to a code to get its symbol's place.
    offset: [i32; LONGEST + 1],
    /// Symbol and length of what begins with these bits; length 0 if it is longer.
    quick: [(u8, u8); 1 << QUICK],
}

static CODE: Code = made();

const fn made() -> Code {
    let mut code = Code { symbols: [0; SYMBOLS], limit: [0; LONGEST + 1], offset: [0; LONGEST + 1], quick: [(0, 0); 1 << QUICK] };
    let (mut next, mut place, mut length) = (0u32, 0, 1);
    while length <= LONGEST {
        next <<= 1;
        code.offset[length] = place as i32 - next as i32;
        let mut symbol = 0;
        while symbol < SYMBOLS {
            if LENGTHS[symbol] as usize == length {
                code.symbols[place] = symbol as u16;
                if length as u32 <= QUICK {
                    let spare = QUICK - length as u32;
                    let mut at = 0;
                    while at < 1 << spare {
                        code.quick[((next << spare) + at) as usize] = (symbol as u8, length as u8);
                        at += 1;
                    }
                }
                next += 1;
                place += 1;
            }
            symbol += 1;
        }
        code.limit[length] = (next as u64) << (32 - length);
        length += 1;
    }
    code
}

/// The text; what is no such code is a fault, as is an end that is not padded as it must be.
pub fn decoded(from: &[u8], out: &mut Vec<u8>) -> Result<(), Fault> {
    out.reserve(from.len() * 8 / 5);
    // The next bits, in the highest places.
    let (mut bits, mut there, mut at) = (0u64, 0u32, 0);
    loop {
        while there <= 56 && at < from.len() {
            bits |= u64::from(from[at]) << (56 - there);
            there += 8;
            at += 1;
        }
        let (symbol, length) = CODE.quick[(bits >> (64 - QUICK)) as usize];
        let (symbol, length) = if length > 0 { (usize::from(symbol), u32::from(length)) } else { longer(bits)? };
        if length > there {
            break;
        }
        if symbol == END {
            return Err(Fault);
        }
        out.push(symbol as u8);
        bits <<= length;
        there -= length;
    }
    // What is left is the beginning of the end's code, which is all ones, and no whole byte.
    let padded = there < 8 && bits >> (64 - 8) == (0xff00u64 >> there) & 0xff;
    if padded { Ok(()) } else { Err(Fault) }
}

fn longer(bits: u64) -> Result<(usize, u32), Fault> {
    let top = bits >> 32;
    let mut length = QUICK as usize + 1;
    while length <= LONGEST {
        if top < CODE.limit[length] {
            let place = (top >> (32 - length)) as i32 + CODE.offset[length];
            return Ok((usize::from(CODE.symbols[place as usize]), length as u32));
        }
        length += 1;
    }
    Err(Fault)
}

/// The code of a text, for tests.
#[cfg(test)]
pub fn encoded(text: &[u8]) -> Vec<u8> {
    let mut codes = [(0u32, 0usize); SYMBOLS];
    for (place, symbol) in CODE.symbols.iter().enumerate() {
        let length = usize::from(LENGTHS[usize::from(*symbol)]);
        codes[usize::from(*symbol)] = ((place as i32 - CODE.offset[length]) as u32, length);
    }
    let mut bits: Vec<u8> = Vec::new();
    for byte in text {
        let (code, length) = codes[usize::from(*byte)];
        bits.extend((0..length).rev().map(|place| (code >> place & 1) as u8));
    }
    bits.resize(bits.len().next_multiple_of(8), 1);
    bits.chunks(8).map(|byte| byte.iter().fold(0, |all, bit| all << 1 | bit)).collect()
}
