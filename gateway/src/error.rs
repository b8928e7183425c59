//! Why a request was not answered by a replica, and the one map of that to HTTP and the one to gRPC.

use std::time::Duration;

use http::StatusCode;
use tonic::Code;

use crate::strict_http::Violation;

/// The status of a request whose client left: nginx's, since HTTP has none.
pub(crate) const CLIENT_GONE: StatusCode = match StatusCode::from_u16(499) {
    Ok(status) => status,
    Err(_) => panic!("statuses have three digits"),
};

/// The `kferving-reason` of an error: also the value of the metric's label, so the set is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    BadRequest,
    ModelNotFound,
    AmbiguousModel,
    BodyTooLarge,
    UnsupportedEncoding,
    UploadStalled,
    UploadTooSlow,
    HoldFull,
    NoCapacity,
    LoadFailed,
    CrashLooping,
    DeviceUnavailable,
    Deadline,
    ReplicaBusy,
    Misdirected,
    ReplicaLost,
    Draining,
    ShuttingDown,
    CallerLimit,
    ClientGone,
    RunFailed,
    Internal,
}

impl Reason {
    pub(crate) const ALL: [Self; 22] = [
        Self::BadRequest,
        Self::ModelNotFound,
        Self::AmbiguousModel,
        Self::BodyTooLarge,
        Self::UnsupportedEncoding,
        Self::UploadStalled,
        Self::UploadTooSlow,
        Self::HoldFull,
        Self::NoCapacity,
        Self::LoadFailed,
        Self::CrashLooping,
        Self::DeviceUnavailable,
        Self::Deadline,
        Self::ReplicaBusy,
        Self::Misdirected,
        Self::ReplicaLost,
        Self::Draining,
        Self::ShuttingDown,
        Self::CallerLimit,
        Self::ClientGone,
        Self::RunFailed,
        Self::Internal,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::ModelNotFound => "model-not-found",
            Self::AmbiguousModel => "ambiguous-model",
            Self::BodyTooLarge => "body-too-large",
            Self::UnsupportedEncoding => "unsupported-encoding",
            Self::UploadStalled => "upload-stalled",
            Self::UploadTooSlow => "upload-too-slow",
            Self::HoldFull => "hold-full",
            Self::NoCapacity => "no-capacity",
            Self::LoadFailed => "load-failed",
            Self::CrashLooping => "crash-looping",
            Self::DeviceUnavailable => "device-unavailable",
            Self::Deadline => "deadline",
            Self::ReplicaBusy => "replica-busy",
            Self::Misdirected => "misdirected",
            Self::ReplicaLost => "replica-lost",
            Self::Draining => "draining",
            Self::ShuttingDown => "shutting-down",
            Self::CallerLimit => "caller-limit",
            Self::ClientGone => "client-gone",
            Self::RunFailed => "run-failed",
            Self::Internal => "internal",
        }
    }

    /// The reason of this name, if it is one that keeps a model from being served.
    pub(crate) fn of_unavailable(name: &str) -> Self {
        match name {
            "load-failed" => Self::LoadFailed,
            "crash-looping" => Self::CrashLooping,
            "device-unavailable" => Self::DeviceUnavailable,
            _ => Self::NoCapacity,
        }
    }
}

/// Why a request was not answered by a replica.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    /// The request is not the HTTP that this gateway accepts.
    #[error("{0}")]
    Http(Violation),
    /// The caller's request is malformed.
    #[error("{0}")]
    BadRequest(String),
    /// No route has this path.
    #[error("no route for {0}: expected /v1/models/NAME:predict or /v2/models/NAME/infer")]
    NoRoute(String),
    /// No gRPC method of the service has this name.
    #[error("{called} is not served: of inference.GRPCInferenceService, {known} are")]
    NoMethod { called: String, known: String },
    /// The call is one that the model's replicas do not have.
    #[error("model {model} has no {verb}: it answers infer, predict, metadata and ready")]
    NotServed { model: String, verb: &'static str },
    /// The path exists, for another method.
    #[error("method {method} is not allowed here: expected {allowed}")]
    MethodNotAllowed { method: String, allowed: &'static str },
    /// The name, or the host and the path together, name no model.
    #[error("{0}")]
    ModelNotFound(String),
    /// The bare name is that of several models.
    #[error("model {name:?} exists in namespaces {first} and {second}: name one in the Host header, {name}.{first}")]
    AmbiguousModel { name: String, first: String, second: String },
    /// The body is longer than the limit.
    #[error("the request body is longer than {limit} bytes")]
    BodyTooLarge { limit: u64 },
    /// The caller left in the middle of its body.
    #[error("the request body broke off: its client closed the connection, or reset the stream, before the end")]
    ClientGone,
    /// The caller stopped sending its body.
    #[error("no byte of the request body arrived for {0:?}")]
    BodyStalled(Duration),
    /// The caller sent its body too slowly to be given a replica for so long.
    #[error("the request body arrived at less than {0} bytes per second on average: send it faster")]
    BodyTooSlow(u64),
    /// Too many requests wait for this model.
    #[error("model {model:?} holds as many requests as it may ({bound}) and has no free replica: retry later")]
    HoldFull { model: String, bound: &'static str },
    /// The gateway reads as many bytes of bodies as it may.
    #[error("the gateway is reading {limit} bytes of request bodies, as many as it may: retry later")]
    ReadingFull { limit: u64 },
    /// The model cannot be served now.
    #[error("{message}")]
    Unavailable { reason: Reason, message: String, retry_after: Option<Duration> },
    /// The deadline passed.
    #[error("no complete answer within the deadline of {0:?}")]
    Deadline(Duration),
    /// Every attempt was refused before it ran.
    #[error("every replica refused the request: {}", .0.as_str())]
    Refused(Reason),
    /// The replica's connection broke after the request was sent: it may have run.
    #[error("the connection to replica {replica} broke: {detail}")]
    ReplicaLost { replica: String, detail: String },
    /// The gateway is stopping.
    #[error("the gateway is shutting down")]
    ShuttingDown,
    /// This caller has as many requests as it may have.
    #[error("the caller has {limit} requests in flight, as many as it may have: retry when one is answered")]
    CallerLimit { limit: u32 },
    /// A defect of the gateway.
    #[error("internal error: {0}")]
    Internal(&'static str),
}

/// `Retry-After` where nothing better is known: a claim takes milliseconds, a cold start of a pod a few seconds.
const DEFAULT_RETRY_AFTER: Duration = Duration::from_secs(1);

impl Error {
    pub(crate) const fn reason(&self) -> Reason {
        match self {
            Self::Http(_)
            | Self::BadRequest(_)
            | Self::NoRoute(_)
            | Self::NoMethod { .. }
            | Self::NotServed { .. }
            | Self::MethodNotAllowed { .. } => Reason::BadRequest,
            Self::ModelNotFound(_) => Reason::ModelNotFound,
            Self::AmbiguousModel { .. } => Reason::AmbiguousModel,
            Self::BodyTooLarge { .. } => Reason::BodyTooLarge,
            Self::ClientGone => Reason::ClientGone,
            Self::BodyStalled(_) => Reason::UploadStalled,
            Self::BodyTooSlow(_) => Reason::UploadTooSlow,
            Self::HoldFull { .. } | Self::ReadingFull { .. } => Reason::HoldFull,
            Self::Unavailable { reason, .. } | Self::Refused(reason) => *reason,
            Self::Deadline(_) => Reason::Deadline,
            Self::ReplicaLost { .. } => Reason::ReplicaLost,
            Self::ShuttingDown => Reason::ShuttingDown,
            Self::CallerLimit { .. } => Reason::CallerLimit,
            Self::Internal(_) => Reason::Internal,
        }
    }

    /// The one map to HTTP.
    pub(crate) const fn http_status(&self) -> StatusCode {
        match self {
            Self::Http(violation) => violation.status(),
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::NoRoute(_) | Self::NoMethod { .. } | Self::NotServed { .. } | Self::ModelNotFound(_) => {
                StatusCode::NOT_FOUND
            }
            Self::MethodNotAllowed { .. } => StatusCode::METHOD_NOT_ALLOWED,
            Self::AmbiguousModel { .. } => StatusCode::CONFLICT,
            Self::BodyTooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            Self::ClientGone => CLIENT_GONE,
            Self::BodyStalled(_) | Self::BodyTooSlow(_) => StatusCode::REQUEST_TIMEOUT,
            Self::HoldFull { .. }
            | Self::ReadingFull { .. }
            | Self::Unavailable { .. }
            | Self::Refused(_)
            | Self::ShuttingDown => StatusCode::SERVICE_UNAVAILABLE,
            Self::Deadline(_) => StatusCode::GATEWAY_TIMEOUT,
            Self::ReplicaLost { .. } => StatusCode::BAD_GATEWAY,
            Self::CallerLimit { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The one map to gRPC.
    pub(crate) const fn grpc_code(&self) -> Code {
        match self {
            Self::Http(_) | Self::BadRequest(_) => Code::InvalidArgument,
            Self::NoRoute(_) | Self::NoMethod { .. } | Self::NotServed { .. } | Self::MethodNotAllowed { .. } => {
                Code::Unimplemented
            }
            Self::ModelNotFound(_) => Code::NotFound,
            Self::AmbiguousModel { .. } => Code::FailedPrecondition,
            Self::BodyTooLarge { .. } | Self::CallerLimit { .. } => Code::ResourceExhausted,
            Self::ClientGone => Code::Cancelled,
            Self::BodyStalled(_) | Self::BodyTooSlow(_) | Self::Deadline(_) => Code::DeadlineExceeded,
            Self::HoldFull { .. }
            | Self::ReadingFull { .. }
            | Self::Unavailable { .. }
            | Self::Refused(_)
            | Self::ReplicaLost { .. }
            | Self::ShuttingDown => Code::Unavailable,
            Self::Internal(_) => Code::Internal,
        }
    }

    /// When to come back, for the answers that invite it (503 and 429).
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Unavailable { retry_after, .. } => Some(retry_after.unwrap_or(DEFAULT_RETRY_AFTER)),
            Self::HoldFull { .. }
            | Self::ReadingFull { .. }
            | Self::Refused(_)
            | Self::ShuttingDown
            | Self::CallerLimit { .. } => Some(DEFAULT_RETRY_AFTER),
            _ => None,
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn one_of_each() -> Vec<Error> {
        vec![
            Error::BadRequest("x".into()),
            Error::NoRoute("/x".into()),
            Error::NoMethod { called: "/s.S/M".into(), known: "X".into() },
            Error::NotServed { model: "n/m".into(), verb: "generate" },
            Error::MethodNotAllowed { method: "PUT".into(), allowed: "POST" },
            Error::ModelNotFound("x".into()),
            Error::AmbiguousModel { name: "m".into(), first: "a".into(), second: "b".into() },
            Error::BodyTooLarge { limit: 1 },
            Error::ClientGone,
            Error::BodyStalled(Duration::from_secs(30)),
            Error::BodyTooSlow(1),
            Error::HoldFull { model: "m".into(), bound: "10 requests" },
            Error::ReadingFull { limit: 1 },
            Error::Unavailable { reason: Reason::LoadFailed, message: "x".into(), retry_after: None },
            Error::Deadline(Duration::from_secs(1)),
            Error::Refused(Reason::ReplicaBusy),
            Error::ReplicaLost { replica: "r".into(), detail: "x".into() },
            Error::ShuttingDown,
            Error::CallerLimit { limit: 1 },
            Error::Internal("x"),
        ]
    }

    /// Both maps say the same: each HTTP status has the gRPC codes that mean it.
    #[test]
    fn http_and_grpc_agree() {
        for error in one_of_each() {
            let expected: &[Code] = match error.http_status().as_u16() {
                400 => &[Code::InvalidArgument],
                404 => &[Code::NotFound, Code::Unimplemented],
                405 => &[Code::Unimplemented],
                408 | 504 => &[Code::DeadlineExceeded],
                409 => &[Code::FailedPrecondition],
                413 | 429 => &[Code::ResourceExhausted],
                499 => &[Code::Cancelled],
                500 => &[Code::Internal],
                502 | 503 => &[Code::Unavailable],
                other => panic!("{error:?} has status {other}, which no gRPC code is known for"),
            };
            assert!(expected.contains(&error.grpc_code()), "{error:?}: {:?}", error.grpc_code());
        }
    }

    #[test]
    fn what_invites_a_retry_says_when() {
        for error in one_of_each() {
            let invites = matches!(error.http_status().as_u16(), 503 | 429);
            assert_eq!(error.retry_after().is_some(), invites, "{error:?}");
        }
    }

    #[test]
    fn what_the_autoscaler_says_keeps_its_name() {
        for name in ["load-failed", "crash-looping", "device-unavailable", "no-capacity"] {
            assert_eq!(Reason::of_unavailable(name).as_str(), name);
        }
    }

    #[test]
    fn reasons_are_distinct() {
        let names: std::collections::HashSet<_> = Reason::ALL.iter().map(|reason| reason.as_str()).collect();
        assert_eq!(names.len(), Reason::ALL.len());
    }
}
