//! The time that a caller gives a call, as gRPC writes it.

use crate::headers::TIMEOUT;
use http::{HeaderMap, HeaderValue};
use std::time::Duration;

/// The caller's time limit; None if there is none that can be read.
pub fn limit(headers: &HeaderMap) -> Option<Duration> {
    let text = headers.get(TIMEOUT)?.to_str().ok()?;
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// A limit as a header, in the finest unit of which eight digits are enough; rounded down.
pub fn header(limit: Duration) -> HeaderValue {
    let all = [(limit.as_nanos(), 'n'), (limit.as_micros(), 'u'), (limit.as_millis(), 'm'), (u128::from(limit.as_secs()), 'S')];
    let fitting = all.into_iter().find(|(number, _)| *number < 100_000_000);
    let (number, unit) = fitting.unwrap_or((u128::from(limit.as_secs() / 3600).min(99_999_999), 'H'));
    HeaderValue::from_str(&format!("{number}{unit}")).unwrap_or_else(|_| HeaderValue::from_static("0n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Option<Duration> {
        let mut headers = HeaderMap::new();
        headers.insert(TIMEOUT, HeaderValue::from_str(text).expect("a header"));
        limit(&headers)
    }

    #[test]
    fn limits_are_read_as_grpc_writes_them() {
        assert_eq!(read("20m"), Some(Duration::from_millis(20)));
        assert_eq!(read("99999999H"), Some(Duration::from_secs(99_999_999 * 3600)));
        for garbage in ["", "m", "1", "1x", "123456789S", "-1S", "1.5S"] {
            assert_eq!(read(garbage), None, "{garbage}");
        }
    }

    #[test]
    fn what_is_written_is_read_again_within_the_unit() {
        for nanos in [0, 1, 99_999_999, 100_000_000, 1_500_000_000, 86_400_000_000_000, u64::MAX] {
            let limit = Duration::from_nanos(nanos);
            let again = read(header(limit).to_str().expect("text")).expect("readable");
            assert!(again <= limit && limit - again <= limit / 1000 + Duration::from_nanos(1), "{limit:?} {again:?}");
        }
    }
}
