//! Durations as people write them, in a `Model` and in a gateway's file: `50ms`, `30s`, `1m30s`, `1.5h`.
//!
//! The grammar is that of Go's `time.ParseDuration`, because Kubernetes' API server checks the same text with it
//! (`format: duration`). Negative durations are refused: no field has a use for one.

use std::fmt;
use std::time::Duration;

/// The text is not a duration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DurationError(String);

impl fmt::Display for DurationError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "expected a duration such as 50ms, 30s or 1m30s, got {:?}", self.0)
    }
}

impl std::error::Error for DurationError {}

/// Units and their nanoseconds; a longer unit stands before any that is its prefix.
const UNITS: [(&str, f64); 8] =
    [("ns", 1.0), ("us", 1e3), ("µs", 1e3), ("μs", 1e3), ("ms", 1e6), ("s", 1e9), ("m", 60e9), ("h", 3600e9)];

/// Parses a duration.
///
/// # Errors
/// When the text does not follow the grammar, is negative, or is beyond 292 years, where Go's type ends.
pub fn parse_duration(text: &str) -> Result<Duration, DurationError> {
    let refuse = || DurationError(text.to_owned());
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    if rest.is_empty() {
        return Err(refuse());
    }
    let mut nanos = 0.0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.').ok_or_else(refuse)?;
        let (number, tail) = rest.split_at(digits);
        if !number.contains(|c: char| c.is_ascii_digit()) {
            return Err(refuse());
        }
        let number: f64 = number.parse().map_err(|_| refuse())?;
        let (unit, scale) = UNITS.iter().find(|(unit, _)| starts_with_unit(tail, unit)).ok_or_else(refuse)?;
        nanos += number * scale;
        rest = &tail[unit.len()..];
    }
    if nanos > i64::MAX as f64 {
        return Err(refuse());
    }
    Ok(Duration::from_nanos(nanos.round() as u64))
}

/// Whether `text` begins with exactly this unit: `ms` does not begin with `m`.
fn starts_with_unit(text: &str, unit: &str) -> bool {
    text.strip_prefix(unit).is_some_and(|rest| !rest.starts_with(char::is_alphabetic))
}

/// Writes a duration in the shortest of the units that is exact: `1m30s`, `50ms`.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (scale, unit) = match nanos {
            n if n % 1_000_000 == 0 => (1_000_000, "ms"),
            n if n % 1_000 == 0 => (1_000, "us"),
            _ => (1, "ns"),
        };
        return format!("{}{unit}", nanos / scale);
    }
    let (hours, minutes) = (duration.as_secs() / 3600, duration.as_secs() / 60 % 60);
    let seconds = duration - Duration::from_secs(hours * 3600 + minutes * 60);
    let mut text = String::new();
    for (amount, unit) in [(hours, "h"), (minutes, "m")] {
        if amount > 0 {
            text.push_str(&format!("{amount}{unit}"));
        }
    }
    if !seconds.is_zero() {
        text.push_str(&format!("{}s", seconds.as_secs_f64()));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parses_what_go_parses() {
        for (text, micros) in [
            ("50ms", 50_000),
            ("30s", 30_000_000),
            ("1m30s", 90_000_000),
            ("1.5h", 5_400_000_000),
            ("100us", 100),
            ("100µs", 100),
            (".5s", 500_000),
            ("1h2m3s4ms5us", 3_723_004_005),
            ("0", 0),
            ("0s", 0),
            ("+2s", 2_000_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_micros(micros)), "{text}");
        }
    }

    #[test]
    fn refuses_everything_else() {
        for text in ["", "50", "ms", "-5s", "5 s", "5S", "1m30", "5sec", "1..5s", ".s", "9999999999h", "NaNs", "1e3s"] {
            assert!(parse_duration(text).is_err(), "{text}");
        }
        let error = parse_duration("50").expect_err("no unit").to_string();
        assert_eq!(error, "expected a duration such as 50ms, 30s or 1m30s, got \"50\"");
    }

    #[test]
    fn formats_and_parses_back() {
        for (micros, text) in
            [(0, "0s"), (7, "7us"), (50_000, "50ms"), (1_500_000, "1.5s"), (90_000_000, "1m30s"), (3_600_000_000, "1h")]
        {
            let duration = Duration::from_micros(micros);
            assert_eq!(format_duration(duration), text);
            assert_eq!(parse_duration(text), Ok(duration));
        }
    }
}
