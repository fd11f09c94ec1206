use super::*;
use proptest::prelude::*;

fn number(text: &str) -> Known<Number> {
    let mut reader = Reader::new(text);
    let number = reader.number()?;
    reader.end().map(|()| number)
}

fn string(text: &str) -> Known<String> {
    let mut reader = Reader::new(text);
    let string = reader.string()?.into_owned();
    reader.end().map(|()| string)
}

#[test]
fn whole_numbers_are_exact_within_64_bits_and_reals_beyond() {
    for (text, value) in [
        ("0", Number::Signed(0)),
        ("-0", Number::Signed(0)),
        ("9223372036854775807", Number::Signed(i64::MAX)),
        ("-9223372036854775808", Number::Signed(i64::MIN)),
        ("9223372036854775808", Number::Unsigned(1 << 63)),
        ("18446744073709551615", Number::Unsigned(u64::MAX)),
        ("18446744073709551616", Number::Real(18_446_744_073_709_551_616.0)),
        ("-9223372036854775809", Number::Real(-9_223_372_036_854_775_809.0)),
        ("123456789012345678901234567890", Number::Real(1.2345678901234568e29)),
        ("-0.0", Number::Real(-0.0)),
        ("1E5", Number::Real(1e5)),
        ("1e-999", Number::Real(0.0)),
    ] {
        assert_eq!(number(text), Ok(value), "{text}");
    }
}

#[test]
fn what_is_no_number_is_odd() {
    for text in ["", "-", "01", "-01", "1.", ".5", "1.e5", "1e", "1e+", "+1", "1e999", "NaN", "Infinity", "0x1", "1_0", "1 1"] {
        assert_eq!(number(text), Err(Odd), "{text}");
    }
}

#[test]
fn strings_with_escapes_are_read() {
    for (text, value) in [(r#""""#, ""), (r#""a\"\\\/\b\f\n\r\tz""#, "a\"\\/\u{8}\u{c}\n\r\tz"), (r#""\u0041\ud83d\ude00é""#, "A😀é")] {
        assert_eq!(string(text), Ok(value.to_owned()), "{text}");
    }
    for text in ["\"", "\"\\", "\"a\nb\"", r#""\x""#, r#""\ud800""#, r#""\udc00""#, r#""\ud800\u0041""#, r#""\u00g0""#, r#""\u00""#] {
        assert_eq!(string(text), Err(Odd), "{text}");
    }
}

#[test]
fn a_list_read_later_ends_where_its_bracket_is() {
    let mut reader = Reader::new(r#" [["]\"]", 1], []] , 2"#);
    assert_eq!(reader.span(), Ok(r#"[["]\"]", 1], []]"#));
    assert_eq!(reader.peek(), Ok(b','));
    assert_eq!(Reader::new("[[]").span(), Err(Odd));
    assert_eq!(Reader::new("[\"\\").span(), Err(Odd));
}

#[test]
fn nesting_has_an_end() {
    let nested = |depth: usize| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
    assert_eq!(Reader::new(&nested(DEEPEST)).skip(), Ok(()));
    assert_eq!(Reader::new(&nested(DEEPEST + 1)).skip(), Err(Odd));
}

proptest! {
    #[test]
    fn doubles_are_read_to_the_bit(bits: u64) {
        let value = f64::from_bits(bits);
        prop_assume!(value.is_finite());
        for text in [format!("{value:?}"), format!("{value:.3e}"), format!("{value:.25e}")] {
            let expected: f64 = text.parse().expect("a number");
            if expected.is_finite() {
                let Ok(Number::Real(found)) = number(&text) else { panic!("{text}") };
                prop_assert_eq!(found.to_bits(), expected.to_bits(), "{}", text);
            }
        }
    }

    #[test]
    fn short_decimals_are_read_to_the_bit(mantissa in 0u64..1 << 60, places in 0usize..30, negative: bool) {
        let text = format!("{}{}.{:0>places$}1", if negative { "-" } else { "" }, mantissa % 100_000, mantissa);
        let expected: f64 = text.parse().expect("a number");
        prop_assert_eq!(number(&text), Ok(Number::Real(expected)));
    }

    #[test]
    fn a_plain_decimal_is_the_number_that_it_is(text in "-?[0-9]{1,9}[.]?[0-9]{0,9}[eE,x]?[0-9]{0,3}[,\\] ]", behind in "[,0-9. ]{24}") {
        let document = text + &behind;
        let (mut plain, mut general) = (Reader::new(&document), Reader::new(&document));
        match plain.decimal() {
            Some(found) => {
                let Ok(Number::Real(expected)) = general.number() else { panic!("{document}") };
                prop_assert_eq!((found.to_bits(), plain.at), (expected.to_bits(), general.at));
            }
            None => prop_assert_eq!(plain.at, 0),
        }
    }

    #[test]
    fn plain_decimals_are_taken_as_such(value in -9_999_999i64..9_999_999, places in 1usize..8) {
        let text = format!("{:.places$}{}", value as f64 / 1e4, " ".repeat(24));
        prop_assert!(Reader::new(&text).decimal().is_some(), "{}", text);
    }

    #[test]
    fn digits_end_where_the_first_other_byte_is(number in "[0-9]{0,25}", behind: Vec<u8>) {
        let bytes = [number.as_bytes(), &behind].concat();
        let end = bytes.iter().position(|byte| !byte.is_ascii_digit()).unwrap_or(bytes.len());
        let value = bytes[..end].iter().fold(3u64, |value, digit| value.wrapping_mul(10).wrapping_add(u64::from(digit - b'0')));
        prop_assert_eq!(digits(&bytes, 0, 3), (end, value));
    }

    #[test]
    fn the_same_documents_are_right_as_for_serde(text in r#"[\[\]{}",:0-9eE.+\- \\u tfalsrn]{0,24}"#) {
        let mut reader = Reader::new(&text);
        let found = reader.skip().and_then(|()| reader.end());
        let expected = serde_json::from_str::<serde_json::Value>(&text);
        prop_assert_eq!(found.is_ok(), expected.is_ok(), "{}: {:?}", text, expected);
    }
}
