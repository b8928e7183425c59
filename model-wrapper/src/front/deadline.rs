//! How long a request may take.

use std::time::Duration;

use http::HeaderMap;
use model_wrapper_protocol::InferError;

/// A REST caller's wish, in seconds.
pub(super) const REQUEST_TIMEOUT: &str = "x-request-timeout";

/// The caller's wish by `x-request-timeout` (seconds, decimals allowed) or `grpc-timeout` (digits and a unit), capped by `most`,
/// which also holds where there is no wish.
pub(super) fn timeout(headers: &HeaderMap, most: Duration) -> Result<Duration, InferError> {
    let mut timeout = most;
    if let Some(value) = headers.get(REQUEST_TIMEOUT) {
        let wish = value.to_str().ok().and_then(seconds).ok_or_else(|| {
            InferError::BadRequest(format!("{REQUEST_TIMEOUT}: expected a number of seconds above 0, got {value:?}"))
        })?;
        timeout = timeout.min(wish);
    }
    if let Some(value) = headers.get("grpc-timeout") {
        let wish = value.to_str().ok().and_then(grpc).ok_or_else(|| {
            InferError::BadRequest(format!("grpc-timeout: expected up to 8 digits and one of HMSmun, got {value:?}"))
        })?;
        timeout = timeout.min(wish);
    }
    Ok(timeout)
}

fn seconds(text: &str) -> Option<Duration> {
    let seconds = text.trim().parse::<f64>().ok().filter(|seconds| *seconds > 0.0 && seconds.is_finite())?;
    // Longer than any duration is longer than any cap.
    Some(Duration::try_from_secs_f64(seconds).unwrap_or(Duration::MAX))
}

/// gRPC over HTTP/2: TimeoutValue is at most 8 digits.
fn grpc(text: &str) -> Option<Duration> {
    let (digits, unit) = text.split_at_checked(text.len().checked_sub(1)?)?;
    if digits.is_empty() || digits.len() > 8 || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let value: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(value * 3600),
        "M" => Duration::from_secs(value * 60),
        "S" => Duration::from_secs(value),
        "m" => Duration::from_millis(value),
        "u" => Duration::from_micros(value),
        "n" => Duration::from_nanos(value),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Duration = Duration::from_secs(60);

    fn of(name: &'static str, value: &'static str) -> Result<Duration, InferError> {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        timeout(&headers, MOST)
    }

    #[test]
    fn the_cap_holds_without_a_wish_and_above_it() {
        assert_eq!(timeout(&HeaderMap::new(), MOST), Ok(MOST));
        assert_eq!(of(REQUEST_TIMEOUT, "61"), Ok(MOST));
        assert_eq!(of(REQUEST_TIMEOUT, "1e300"), Ok(MOST));
        assert_eq!(of("grpc-timeout", "99999999H"), Ok(MOST));
    }

    #[test]
    fn wishes_are_read_in_their_units() {
        assert_eq!(of(REQUEST_TIMEOUT, "2.5"), Ok(Duration::from_millis(2500)));
        assert_eq!(of("grpc-timeout", "250m"), Ok(Duration::from_millis(250)));
        assert_eq!(of("grpc-timeout", "1M"), Ok(Duration::from_secs(60)));
        assert_eq!(of("grpc-timeout", "7u"), Ok(Duration::from_micros(7)));
    }

    #[test]
    fn nonsense_is_refused() {
        for value in ["0", "-1", "NaN", "inf", "soon", ""] {
            assert!(of(REQUEST_TIMEOUT, value).is_err(), "{value:?}");
        }
        for value in ["", "S", "123456789S", "-1S", "1", "1h", "1.5S"] {
            assert!(of("grpc-timeout", value).is_err(), "{value:?}");
        }
    }
}
