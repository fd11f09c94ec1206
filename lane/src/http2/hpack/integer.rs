//! Numbers with a prefix of some bits (RFC 7541, 5.1).

use super::Fault;

/// Bytes after the prefix that a number may have: 28 bits are more than any length or index here.
const LONGEST: usize = 4;

/// The number whose prefix has `bits`, which it takes off `from`.
pub fn read(from: &mut &[u8], bits: u32) -> Result<usize, Fault> {
    let (first, mut rest) = from.split_first().ok_or(Fault)?;
    let most = (1usize << bits) - 1;
    let mut value = usize::from(*first) & most;
    if value == most {
        let mut shift = 0;
        loop {
            let (byte, after) = rest.split_first().ok_or(Fault)?;
            rest = after;
            value += usize::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                break;
            }
            shift += 7;
            if shift == 7 * LONGEST {
                return Err(Fault);
            }
        }
    }
    *from = rest;
    Ok(value)
}

/// Writes a number; `pattern`: the bits before the prefix.
pub fn put(out: &mut Vec<u8>, mut value: usize, bits: u32, pattern: u8) {
    let most = (1usize << bits) - 1;
    if value < most {
        return out.push(pattern | value as u8);
    }
    out.push(pattern | most as u8);
    value -= most;
    while value > 0x7f {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}
