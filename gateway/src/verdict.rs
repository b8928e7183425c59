//! What an answer says of the request and of the replica that gives it.

use std::time::Duration;

use gateway_policy::{Moment, SizeBucket};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};

use crate::error::Reason;
use crate::respond::{Protocol, REASON};

/// The outcome of a call of gRPC: among the headers of an answer that is nothing else, in the trailers of any other.
pub(crate) const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What the beginning of an answer has shown. It is held for or against the replica when the answer has ended: one that
/// breaks its answers off has not served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beginning {
    /// Of the request.
    pub(crate) size: SizeBucket,
    /// When the request was sent.
    pub(crate) sent: Moment,
    /// How long the answer's head took from then on. None of a stream of messages: its head comes before any of them is
    /// answered.
    pub(crate) latency: Option<Duration>,
    /// What the answer means ([`meaning`]).
    pub(crate) status: StatusCode,
}

/// The status that an answer means. Over gRPC a failed call is a 200 whose headers, or trailers, tell of the failure; the
/// statuses are those that the gateway's own errors have over HTTP.
pub(crate) fn meaning(protocol: Protocol, status: StatusCode, headers: &HeaderMap) -> StatusCode {
    match protocol {
        Protocol::Rest => status,
        Protocol::Grpc => failed_call(headers).unwrap_or(status),
    }
}

/// The status of a failed call of gRPC, if these headers or trailers tell of one.
pub(crate) fn failed_call(headers: &HeaderMap) -> Option<StatusCode> {
    match headers.get(GRPC_STATUS)?.as_bytes() {
        b"0" => None,
        // UNKNOWN, INTERNAL, DATA_LOSS
        b"2" | b"13" | b"15" => Some(StatusCode::INTERNAL_SERVER_ERROR),
        b"4" => Some(StatusCode::GATEWAY_TIMEOUT),
        b"5" => Some(StatusCode::NOT_FOUND),
        b"8" => Some(StatusCode::TOO_MANY_REQUESTS),
        b"12" => Some(StatusCode::NOT_IMPLEMENTED),
        b"14" => Some(StatusCode::SERVICE_UNAVAILABLE),
        _ => Some(StatusCode::BAD_REQUEST),
    }
}

/// Whether an answer with this meaning is a failure. A redirect is none, but to clients of gRPC, which follow none.
pub(crate) fn fails(protocol: Protocol, status: StatusCode) -> bool {
    !(status.is_success() || status.is_redirection() && protocol == Protocol::Rest)
}

/// What an answer says of the replica that gave it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bearing {
    /// It has served the request.
    Served,
    /// It works, and did not like the request. So is what a caller can bring about: by its own deadline, or by asking for what
    /// no replica has.
    Refused,
    /// The model's run failed: by the request, or by the replica.
    RunFailed,
    /// It is in trouble.
    Fault,
}

impl Bearing {
    /// Of an answer with this meaning, and this reason if it failed.
    pub(crate) fn of(status: StatusCode, reason: &str) -> Self {
        match status {
            _ if status.is_success() => Self::Served,
            StatusCode::GATEWAY_TIMEOUT | StatusCode::NOT_IMPLEMENTED => Self::Refused,
            _ if !status.is_server_error() => Self::Refused,
            _ if reason == Reason::RunFailed.as_str() => Self::RunFailed,
            _ => Self::Fault,
        }
    }
}

/// The reason that a replica gave for an error, if it is one of the closed set. Without one, what the status says: servers
/// that are not ours give none, and an operator is not to be called for a caller's mistake.
pub(crate) fn reason(status: StatusCode, headers: &HeaderMap) -> &'static str {
    let given = headers.get(REASON).map(HeaderValue::as_bytes);
    let known = given.and_then(|given| Reason::ALL.into_iter().find(|reason| reason.as_str().as_bytes() == given));
    match known {
        Some(reason) => reason.as_str(),
        None if status == StatusCode::PAYLOAD_TOO_LARGE => Reason::BodyTooLarge.as_str(),
        None if status.is_client_error() => Reason::BadRequest.as_str(),
        None => "upstream-error",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(status: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(GRPC_STATUS, HeaderValue::from_static(status))])
    }

    #[test]
    fn a_call_of_grpc_means_what_its_status_says() {
        let means = |status| meaning(Protocol::Grpc, StatusCode::OK, &headers(status)).as_u16();
        let expected =
            [("0", 200), ("2", 500), ("3", 400), ("4", 504), ("12", 501), ("13", 500), ("14", 503), ("x", 400)];
        for (status, meaning) in expected {
            assert_eq!(means(status), meaning, "grpc-status {status}");
        }
        assert_eq!(meaning(Protocol::Grpc, StatusCode::OK, &HeaderMap::new()), StatusCode::OK);
        assert_eq!(meaning(Protocol::Rest, StatusCode::OK, &headers("13")), StatusCode::OK, "no call of gRPC");
    }

    #[test]
    fn what_a_caller_can_bring_about_is_no_fault() {
        for (status, reason, bearing) in [
            (200, "fastest", Bearing::Served),
            (400, "bad-request", Bearing::Refused),
            (500, "internal", Bearing::Fault),
            (500, "upstream-error", Bearing::Fault),
            (500, "run-failed", Bearing::RunFailed),
            (501, "bad-request", Bearing::Refused),
            (503, "draining", Bearing::Fault),
            (504, "deadline", Bearing::Refused),
        ] {
            assert_eq!(Bearing::of(StatusCode::from_u16(status).unwrap(), reason), bearing, "{status} {reason}");
        }
    }
}
