//! Until when a call may take: what its client says in `grpc-timeout`.

use std::time::{Duration, Instant};

use axum::http::HeaderMap;

use crate::error::{Error, Result};

const TIMEOUT: &str = "grpc-timeout";
/// The specification's bound.
const MOST_DIGITS: usize = 8;

/// When a client stops waiting, where it says so. It travels in the request's extensions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Deadline(pub Option<Instant>);

impl Deadline {
    /// The deadline of a call that began at `now`.
    pub fn of(headers: &HeaderMap, now: Instant) -> Result<Deadline> {
        let Some(value) = headers.get(TIMEOUT) else {
            return Ok(Deadline(None));
        };
        let timeout = value.to_str().ok().and_then(parse).ok_or_else(|| {
            Error::invalid(format!(
                "{TIMEOUT}: expected at most 8 digits and a unit of H, M, S, m, u or n, got '{}'",
                String::from_utf8_lossy(value.as_bytes())
            ))
        })?;
        Ok(Deadline(now.checked_add(timeout)))
    }

    /// How long is left.
    pub fn left(self) -> Option<Duration> {
        let Deadline(at) = self;
        at.map(|at| at.saturating_duration_since(Instant::now()))
    }
}

fn parse(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    let is_number = (1..=MOST_DIGITS).contains(&digits.len())
        && digits.bytes().all(|digit| digit.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    match unit {
        "H" => Some(Duration::from_secs(number * 3600)),
        "M" => Some(Duration::from_secs(number * 60)),
        "S" => Some(Duration::from_secs(number)),
        "m" => Some(Duration::from_millis(number)),
        "u" => Some(Duration::from_micros(number)),
        "n" => Some(Duration::from_nanos(number)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_is_digits_and_a_unit() {
        for (text, timeout) in [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("4S", Duration::from_secs(4)),
            ("99999999m", Duration::from_millis(99_999_999)),
            ("5u", Duration::from_micros(5)),
            ("0n", Duration::ZERO),
        ] {
            assert_eq!(parse(text), Some(timeout), "{text}");
        }
        for text in ["", "S", "1", "1s", "-1S", "+1S", "1.5S", "100000000S", "1ž"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
