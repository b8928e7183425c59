//! Answers that the gateway makes itself.

use bytes::Bytes;
use gateway_policy::{REASON_HEADER, REVISION_HEADER};
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode};
use http_body::Body;

use crate::body::ResponseBody;
use crate::error::Error;

/// Why: of a success the reason for its device, of an error its cause.
pub(crate) const REASON: HeaderName = HeaderName::from_static(REASON_HEADER);
/// The variant that served.
pub(crate) const DEVICE: HeaderName = HeaderName::from_static("kferving-device");
/// The replica that served.
pub(crate) const REPLICA: HeaderName = HeaderName::from_static("kferving-replica");
/// What a replica must hold to serve the request: `NAMESPACE/REVISION@sha256:HEX`.
pub(crate) const REVISION: HeaderName = HeaderName::from_static(REVISION_HEADER);
/// The W3C header of the phases.
pub(crate) const SERVER_TIMING: HeaderName = HeaderName::from_static("server-timing");

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const GRPC: HeaderValue = HeaderValue::from_static("application/grpc");

/// How the caller wants to be answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// JSON over HTTP.
    Rest,
    /// gRPC: always 200, the status in the trailers.
    Grpc,
}

/// A JSON answer.
pub(crate) fn json(status: StatusCode, value: &serde_json::Value) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Own(Some(Bytes::from(value.to_string()))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, JSON);
    response
}

/// The answer to a request that no replica answers.
pub(crate) fn refusal(error: &Error, protocol: Protocol) -> Response<ResponseBody> {
    let mut response = match protocol {
        Protocol::Rest => json(error.http_status(), &serde_json::json!({ "error": error.to_string() })),
        Protocol::Grpc => grpc_status(error),
    };
    let headers = response.headers_mut();
    headers.insert(REASON, HeaderValue::from_static(error.reason().as_str()));
    if let Error::MethodNotAllowed { allowed, .. } = error {
        headers.insert(ALLOW, HeaderValue::from_static(allowed));
    }
    if let Some(after) = error.retry_after() {
        let seconds = after.as_secs() + u64::from(after.subsec_nanos() > 0);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds.max(1)));
    }
    response
}

/// The answer to HEAD in the place of that to GET (RFC 9110, 9.3.2). Over HTTP/1 hyper makes it, over HTTP/2 it does not.
pub(crate) fn without_content(response: Response<ResponseBody>) -> Response<ResponseBody> {
    let (mut parts, body) = response.into_parts();
    if let Some(length) = body.size_hint().exact().filter(|length| *length > 0) {
        parts.headers.entry(CONTENT_LENGTH).or_insert(HeaderValue::from(length));
    }
    Response::from_parts(parts, ResponseBody::empty())
}

/// A 'trailers-only' answer of gRPC: the status is among the headers.
fn grpc_status(error: &Error) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::empty());
    put_grpc_status(error, response.headers_mut());
    response.headers_mut().insert(CONTENT_TYPE, GRPC);
    response
}

/// The trailers of an answer of gRPC that has begun and ends early.
pub(crate) fn grpc_trailers(error: &Error) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    put_grpc_status(error, &mut trailers);
    trailers.insert(REASON, HeaderValue::from_static(error.reason().as_str()));
    trailers
}

fn put_grpc_status(error: &Error, headers: &mut HeaderMap) {
    let status = tonic::Status::new(error.grpc_code(), error.to_string());
    // Adding fails only for a message that cannot be percent-encoded, which the encoding rules out.
    if status.add_header(headers).is_err() {
        headers.insert("grpc-status", HeaderValue::from(error.grpc_code() as i32));
    }
}
