//! How long a caller is willing to wait.

use std::fmt;
use std::time::Duration;

/// A header that asks for a timeout could not be understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimeoutError {
    header: &'static str,
    value: String,
    expected: &'static str,
}

impl fmt::Display for TimeoutError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "header {} is {:?}: expected {}", self.header, self.value, self.expected)
    }
}

impl std::error::Error for TimeoutError {}

/// Deadline of a request to a model that sets none: what KServe's ingress and Knative's revisions allow is 300 s, but a
/// caller that waits for a prediction for more than a minute has mostly left.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(60);

/// The header of a request over HTTP that asks for a timeout.
pub const REQUEST_TIMEOUT: &str = "x-request-timeout";

/// The header of a gRPC request that asks for a timeout.
pub const GRPC_TIMEOUT: &str = "grpc-timeout";

/// The longest value that an error repeats, so that a hostile header does not fill the logs.
const QUOTED_BYTES: usize = 64;

/// The value of `x-request-timeout`: seconds, above 0, with or without decimals.
pub fn parse_request_timeout(value: &[u8]) -> Result<Duration, TimeoutError> {
    let error = || TimeoutError {
        header: REQUEST_TIMEOUT,
        value: quoted(value),
        expected: "seconds above 0, such as 30 or 0.25",
    };
    let text = std::str::from_utf8(value).map_err(|_| error())?.trim_matches([' ', '\t']);
    let (whole, decimals) = text.split_once('.').unwrap_or((text, "0"));
    let is_number = |digits: &str| !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(whole) || !is_number(decimals) {
        return Err(error());
    }
    // Digits alone overflow rather than fail: more seconds than a u64 holds are capped by the model's timeout anyway.
    let seconds = whole.parse().unwrap_or(u64::MAX);
    let nanos = format!("{decimals:0<9.9}").parse().map_err(|_| error())?;
    let timeout = Duration::new(seconds, nanos);
    if timeout.is_zero() { Err(error()) } else { Ok(timeout) }
}

/// The value of `grpc-timeout`: at most eight digits and a unit of `H`, `M`, `S`, `m`, `u` or `n` (gRPC over HTTP/2,
/// "Timeout"). Zero is accepted, because clients send it for a deadline that has just passed.
pub fn parse_grpc_timeout(value: &[u8]) -> Result<Duration, TimeoutError> {
    let error = || TimeoutError {
        header: GRPC_TIMEOUT,
        value: quoted(value),
        expected: "at most eight digits and one of H M S m u n, such as 250m",
    };
    let (unit, digits) = value.split_last().ok_or_else(error)?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return Err(error());
    }
    let count = digits.iter().fold(0, |count, digit| count * 10 + u64::from(digit - b'0'));
    match unit {
        b'H' => Ok(Duration::from_secs(count * 3600)),
        b'M' => Ok(Duration::from_secs(count * 60)),
        b'S' => Ok(Duration::from_secs(count)),
        b'm' => Ok(Duration::from_millis(count)),
        b'u' => Ok(Duration::from_micros(count)),
        b'n' => Ok(Duration::from_nanos(count)),
        _ => Err(error()),
    }
}

/// How long a request may take: the least of what its headers ask for and the model's timeout.
pub fn effective_timeout(
    request_timeout: Option<&[u8]>,
    grpc_timeout: Option<&[u8]>,
    model_timeout: Duration,
) -> Result<Duration, TimeoutError> {
    let request = request_timeout.map(parse_request_timeout).transpose()?;
    let grpc = grpc_timeout.map(parse_grpc_timeout).transpose()?;
    Ok([request, grpc].into_iter().flatten().fold(model_timeout, Duration::min))
}

fn quoted(value: &[u8]) -> String {
    String::from_utf8_lossy(&value[..value.len().min(QUOTED_BYTES)]).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn seconds_may_have_decimals() {
        for (text, millis) in [("1", 1000), ("0.25", 250), (" 2.5 ", 2500), ("0.0010", 1), ("60.", 0)] {
            let parsed = parse_request_timeout(text.as_bytes());
            if millis == 0 {
                assert!(parsed.is_err(), "{text}");
            } else {
                assert_eq!(parsed, Ok(Duration::from_millis(millis)), "{text}");
            }
        }
        assert_eq!(parse_request_timeout(b"0.1234567899"), Ok(Duration::from_nanos(123_456_789)));
    }

    #[test]
    fn what_is_no_positive_number_is_refused_with_an_example() {
        for text in ["", "0", "0.0", "-1", "+1", "1e3", "inf", "NaN", "1s", "1,5", ".5", "1.2.3", "\u{661}"] {
            let error = parse_request_timeout(text.as_bytes()).unwrap_err().to_string();
            assert!(error.contains("x-request-timeout") && error.contains("0.25"), "{text}: {error}");
        }
        assert!(parse_request_timeout(b"\xff").is_err());
    }

    #[test]
    fn a_number_beyond_all_bounds_is_long_and_no_overflow() {
        let text = "9".repeat(400);
        assert_eq!(
            effective_timeout(Some(text.as_bytes()), None, Duration::from_secs(60)),
            Ok(Duration::from_secs(60))
        );
    }

    #[test]
    fn grpc_units() {
        for (text, expected) in [
            ("2H", Duration::from_secs(7200)),
            ("3M", Duration::from_secs(180)),
            ("4S", Duration::from_secs(4)),
            ("5m", Duration::from_millis(5)),
            ("6u", Duration::from_micros(6)),
            ("7n", Duration::from_nanos(7)),
            ("0n", Duration::ZERO),
            ("99999999H", Duration::from_secs(99_999_999 * 3600)),
        ] {
            assert_eq!(parse_grpc_timeout(text.as_bytes()), Ok(expected), "{text}");
        }
        for text in ["", "S", "1", "1s", "123456789S", "-1S", "1.5S", " 1S"] {
            assert!(parse_grpc_timeout(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn the_least_wins() {
        let minute = Duration::from_secs(60);
        assert_eq!(effective_timeout(None, None, minute), Ok(minute));
        assert_eq!(effective_timeout(Some(b"90"), None, minute), Ok(minute));
        assert_eq!(effective_timeout(Some(b"9"), Some(b"8S"), minute), Ok(Duration::from_secs(8)));
        assert!(effective_timeout(Some(b"9"), Some(b"soon"), minute).is_err());
    }

    #[test]
    fn an_error_repeats_only_the_beginning_of_a_long_value() {
        let error = parse_grpc_timeout(&[b'x'; 8000]).unwrap_err().to_string();
        assert!(error.len() < 200, "{error}");
    }
}
