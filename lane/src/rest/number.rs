//! Numbers: rounded to the smaller floats, and written as the Python door writes them.

/// FP32 tensors up to this many elements are written in few digits, larger ones as exact doubles (`tensors.py: SHORT`).
pub const SHORT: usize = 1024;
/// Significant digits that are tried first for a float32, and those that always tell it.
const LEAST: i32 = 7;
const MOST: i32 = 9;

/// A number that is no larger than FP16's largest, as its bits: rounded to nearest, ties to even.
pub fn half(value: f64) -> u16 {
    let bits = value.to_bits();
    let sign = (bits >> 48) as u16 & 0x8000;
    if value.is_nan() {
        return sign | 0x7E00;
    }
    if value.is_infinite() {
        return sign | 0x7C00;
    }
    let exponent = (bits >> 52 & 0x7FF) as i32 - 1023;
    let fraction = bits & ((1 << 52) - 1);
    if exponent < -25 {
        return sign;
    }
    let (mantissa, shift) =
        if exponent >= -14 { (((exponent + 15) as u64) << 52 | fraction, 42) } else { (1 << 52 | fraction, (28 - exponent) as u32) };
    let (whole, rest, middle) = (mantissa >> shift, mantissa & ((1 << shift) - 1), 1u64 << (shift - 1));
    sign | (whole + u64::from(rest > middle || (rest == middle && whole & 1 == 1))) as u16
}

/// What the bits of an FP16 stand for.
pub fn of_half(bits: u16) -> f64 {
    let (exponent, fraction) = (bits >> 10 & 0x1F, f64::from(bits & 0x3FF));
    let size = match exponent {
        0 => fraction * 2f64.powi(-24),
        0x1F if fraction == 0.0 => f64::INFINITY,
        0x1F => f64::NAN,
        _ => (1024.0 + fraction) * 2f64.powi(i32::from(exponent) - 25),
    };
    if bits >> 15 == 1 { -size } else { size }
}

/// The upper half of a float32's bits, rounded to nearest, ties to even; a NaN stays one.
pub fn brain(value: f32) -> u16 {
    let bits = value.to_bits();
    if value.is_nan() {
        return (bits >> 16) as u16 | 0x40;
    }
    ((u64::from(bits) + 0x7FFF + u64::from(bits >> 16 & 1)) >> 16) as u16
}

/// What the bits of a BF16 stand for.
pub fn of_brain(bits: u16) -> f64 {
    f64::from(f32::from_bits(u32::from(bits) << 16))
}

/// A double; JSON has no NaN and no infinities, so these are strings.
pub fn put_double(out: &mut Vec<u8>, value: f64) {
    if value.is_finite() {
        out.extend_from_slice(zmij::Buffer::new().format_finite(value).as_bytes());
    } else {
        out.extend_from_slice(if value.is_nan() {
            b"\"NaN\""
        } else if value > 0.0 {
            b"\"Infinity\""
        } else {
            b"\"-Infinity\""
        });
    }
}

/// A float32 in the fewest digits from seven to nine that tell it.
pub fn put_short(out: &mut Vec<u8>, value: f32) {
    put_double(out, if value.is_finite() { short(value) } else { f64::from(value) });
}

pub fn put_integer(out: &mut Vec<u8>, value: i64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

pub fn put_count(out: &mut Vec<u8>, value: u64) {
    out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
}

/// The double that the digits of `%.7g` stand for, or of 8 or 9 if those of 7 are another float32's.
fn short(value: f32) -> f64 {
    let exact = f64::from(value);
    if value == 0.0 {
        return exact;
    }
    let mut buffer = zmij::Buffer::new();
    let text = buffer.format_finite(value);
    if let Ok(near) = text.parse::<f64>() {
        // The shortest digits are those of `%g` if no decimal of as many digits, or of seven, is nearer.
        let digits = significant(text).max(LEAST);
        let step = 10f64.powi(exact.abs().log10().floor() as i32 + 1 - digits);
        if (near - exact).abs() < 0.499 * step {
            return near;
        }
    }
    let trial = |digits: i32| format!("{exact:.*e}", digits as usize - 1).parse().unwrap_or(exact);
    (LEAST..MOST).map(trial).find(|tried| *tried as f32 == value).unwrap_or_else(|| trial(MOST))
}

/// Digits of a decimal without the zeros around it.
fn significant(text: &str) -> i32 {
    let digits = text.bytes().take_while(|byte| *byte != b'e').filter(u8::is_ascii_digit).skip_while(|digit| *digit == b'0');
    let (mut count, mut significant) = (0, 0);
    for digit in digits {
        count += 1;
        if digit != b'0' {
            significant = count;
        }
    }
    significant
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// As the Python door has it, digit by digit.
    fn by_trial(value: f32) -> f64 {
        let exact = f64::from(value);
        let tried: Vec<f64> = (6..9).map(|places| format!("{exact:.places$e}").parse().expect("a number")).collect();
        *tried.iter().find(|tried| **tried as f32 == value).unwrap_or(&tried[2])
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20_000))]

        #[test]
        fn floats_have_the_digits_of_trial(bits: u32) {
            let value = f32::from_bits(bits);
            prop_assume!(value.is_finite());
            prop_assert_eq!(short(value).to_bits(), by_trial(value).to_bits(), "{}", value);
        }

        #[test]
        fn short_decimals_have_the_digits_of_trial(mantissa in -99_999_999i32..99_999_999, power in -44i32..31) {
            let value: f32 = format!("{mantissa}e{power}").parse().expect("a number");
            prop_assume!(value.is_finite());
            prop_assert_eq!(short(value).to_bits(), by_trial(value).to_bits(), "{}", value);
        }

        #[test]
        fn a_number_between_two_halves_becomes_the_nearer(bits in 0u16..0x7BFF, part in 0.0..1.0f64) {
            let (low, high) = (of_half(bits), of_half(bits + 1));
            let value = low + (high - low) * part;
            let nearer = if value - low < high - value || (value - low == high - value && bits & 1 == 0) { bits } else { bits + 1 };
            prop_assert_eq!(half(value), nearer);
            prop_assert_eq!(half(-value), nearer | 0x8000);
        }
    }

    #[test]
    fn every_half_is_itself() {
        for bits in 0..=u16::MAX {
            let value = of_half(bits);
            assert!(value.is_nan() || half(value) == bits, "{bits:#x}");
        }
        assert_eq!((half(f64::NAN), half(f64::NEG_INFINITY), half(65504.0)), (0x7E00, 0xFC00, 0x7BFF));
        assert_eq!((half(2f64.powi(-25)), half(2f64.powi(-25) * 1.5), half(2f64.powi(-26))), (0, 1, 0));
    }

    #[test]
    fn a_brain_float_is_rounded_to_even() {
        assert_eq!((brain(1.0), brain(f32::from_bits(0x3F80_8000)), brain(f32::from_bits(0x3F81_8000))), (0x3F80, 0x3F80, 0x3F82));
        assert_eq!((brain(f32::NAN), brain(f32::INFINITY), of_brain(0xC000)), (0x7FC0, 0x7F80, -2.0));
    }

    #[test]
    fn what_json_lacks_is_a_string() {
        let mut out = Vec::new();
        [f64::NAN, f64::INFINITY, f64::NEG_INFINITY].into_iter().for_each(|value| put_double(&mut out, value));
        assert_eq!(out, b"\"NaN\"\"Infinity\"\"-Infinity\"");
    }
}
