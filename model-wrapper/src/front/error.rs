//! The one way from an error to HTTP, and the one to gRPC.

use gateway_policy::REASON_HEADER;
use http::{HeaderValue, Response, StatusCode, header};
use model_wrapper_protocol::InferError;
use tonic::Code;

use super::{body::FrontBody, route::NoRoute};

/// Seconds after which a caller that got 503 may come again: a run's length more than a load's.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

/// nginx's status for a caller that left; nobody reads it but a log.
const CLIENT_CLOSED_REQUEST: u16 = 499;

/// Bytes of an error's text: names in it come from callers, a model may have hundreds of inputs, and over gRPC it goes into a
/// header, of which clients take 8 KiB with all others and each byte may become three.
const MAX_TEXT: usize = 2048;

/// What is said of an error.
pub(super) fn text(error: &InferError) -> String {
    bounded(error.to_string())
}

fn bounded(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        text.truncate(text.floor_char_boundary(MAX_TEXT));
        text.push('…');
    }
    text
}

/// The HTTP status of an error.
pub(super) fn status(error: &InferError) -> StatusCode {
    match error {
        InferError::BadRequest(_) | InferError::InvalidInput { .. } => StatusCode::BAD_REQUEST,
        InferError::NotFound(_) => StatusCode::NOT_FOUND,
        InferError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
        InferError::UnsupportedEncoding(_) => StatusCode::UNSUPPORTED_MEDIA_TYPE,
        InferError::Misdirected { .. } => StatusCode::MISDIRECTED_REQUEST,
        InferError::Busy { .. } | InferError::Full { .. } | InferError::Unavailable { .. } => {
            StatusCode::SERVICE_UNAVAILABLE
        }
        InferError::DeadlineExceeded => StatusCode::GATEWAY_TIMEOUT,
        InferError::Cancelled => StatusCode::from_u16(CLIENT_CLOSED_REQUEST).unwrap_or(StatusCode::BAD_REQUEST),
        // As Triton and KServe answer it: the caller need not have erred.
        InferError::RunFailed(_) | InferError::Internal(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// The gRPC status code of an error.
pub(super) fn code(error: &InferError) -> Code {
    match error {
        InferError::BadRequest(_) | InferError::InvalidInput { .. } => Code::InvalidArgument,
        InferError::NotFound(_) => Code::NotFound,
        InferError::TooLarge { .. } => Code::ResourceExhausted,
        InferError::UnsupportedEncoding(_) => Code::Unimplemented,
        InferError::Misdirected { .. }
        | InferError::Busy { .. }
        | InferError::Full { .. }
        | InferError::Unavailable { .. } => Code::Unavailable,
        InferError::DeadlineExceeded => Code::DeadlineExceeded,
        InferError::Cancelled => Code::Cancelled,
        InferError::RunFailed(_) | InferError::Internal(_) => Code::Internal,
    }
}

/// The HTTP response to a request that failed.
pub(super) fn response(error: &InferError) -> Response<FrontBody> {
    let mut response = refusal(status(error), &text(error), error.reason());
    if response.status() == StatusCode::SERVICE_UNAVAILABLE {
        response.headers_mut().insert(header::RETRY_AFTER, RETRY_AFTER);
    }
    response
}

/// The HTTP response to a request that means no call.
pub(super) fn no_route(error: NoRoute) -> Response<FrontBody> {
    let status = match error {
        NoRoute::Path => StatusCode::NOT_FOUND,
        NoRoute::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
    };
    let mut response = refusal(status, &error.to_string(), "bad-request");
    if let NoRoute::Method(allowed) = error {
        response.headers_mut().insert(header::ALLOW, HeaderValue::from_static(allowed));
    }
    response
}

/// The gRPC status of a request that failed.
pub(super) fn grpc_status(error: &InferError) -> tonic::Status {
    let mut status = tonic::Status::new(code(error), text(error));
    status.metadata_mut().insert(REASON_HEADER, tonic::metadata::MetadataValue::from_static(error.reason()));
    status
}

/// The gRPC status of a request that means no call.
pub(super) fn no_call(path: &str, service: &str, methods: &[&str]) -> tonic::Status {
    let (called, known) = (bounded(path.to_owned()), methods.join(", "));
    let message =
        format!("{called} is not served: of {service}, {known} are; ModelMetadata says what a model takes and gives");
    let mut status = tonic::Status::new(Code::Unimplemented, message);
    status.metadata_mut().insert(REASON_HEADER, tonic::metadata::MetadataValue::from_static("bad-request"));
    status
}

fn refusal(status: StatusCode, message: &str, reason: &'static str) -> Response<FrontBody> {
    let mut response = super::respond::json(status, &serde_json::json!({ "error": message }));
    response.headers_mut().insert(REASON_HEADER, HeaderValue::from_static(reason));
    response
}

#[cfg(test)]
mod tests {
    use model_wrapper_protocol::Unavailable;

    use super::*;

    /// One error of each kind; the match makes the compiler ask for a new one here.
    fn all() -> Vec<InferError> {
        let reasons = [Unavailable::LoadFailed, Unavailable::Loading, Unavailable::Draining, Unavailable::ShuttingDown];
        let unavailable = reasons.map(|reason| InferError::Unavailable { reason, message: "no".into() });
        let mut errors = vec![
            InferError::BadRequest("no".into()),
            InferError::input("x", "a", "b"),
            InferError::NotFound("no".into()),
            InferError::TooLarge { what: "the body", limit: 1 },
            InferError::UnsupportedEncoding("br".into()),
            InferError::Misdirected { held: "a".into(), wanted: "b".into() },
            InferError::Busy { limit: 1 },
            InferError::Full { limit: 1 },
            InferError::DeadlineExceeded,
            InferError::Cancelled,
            InferError::RunFailed("no".into()),
            InferError::Internal("no".into()),
        ];
        errors.extend(unavailable);
        errors
    }

    #[test]
    fn http_and_grpc_say_the_same() {
        for error in all() {
            let expected = match status(&error).as_u16() {
                400 => Code::InvalidArgument,
                404 => Code::NotFound,
                413 => Code::ResourceExhausted,
                415 => Code::Unimplemented,
                421 | 503 => Code::Unavailable,
                499 => Code::Cancelled,
                500 => Code::Internal,
                504 => Code::DeadlineExceeded,
                status => panic!("{error}: no gRPC code is set down for {status}"),
            };
            assert_eq!(code(&error), expected, "{error}");
            let http = response(&error);
            let grpc = grpc_status(&error);
            assert_eq!(
                http.headers()[REASON_HEADER].as_bytes(),
                grpc.metadata().get(REASON_HEADER).unwrap().as_bytes(),
                "{error}"
            );
            assert_eq!(http.headers().contains_key(header::RETRY_AFTER), status(&error).as_u16() == 503, "{error}");
        }
    }
}
