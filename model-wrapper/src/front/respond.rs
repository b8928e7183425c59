//! Responses that are not errors.

use std::collections::VecDeque;

use bytes::Bytes;
use http::{HeaderName, HeaderValue, Response, StatusCode, header};
use model_wrapper_protocol::v2::{HEADER_LENGTH, V2Body};

use super::body::FrontBody;
use crate::serving::{Slot, Timings};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const OCTETS: HeaderValue = HeaderValue::from_static("application/octet-stream");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const TIMING: HeaderName = HeaderName::from_static("server-timing");

/// A JSON value.
pub(super) fn json(status: StatusCode, value: &serde_json::Value) -> Response<FrontBody> {
    with_type(status, JSON, Bytes::from(value.to_string()).into())
}

/// Plain text.
pub(super) fn text(status: StatusCode, text: &'static str) -> Response<FrontBody> {
    with_type(status, TEXT, Bytes::from_static(text.as_bytes()).into())
}

/// An inference answered with JSON.
pub(super) fn inferred(body: Bytes, timings: Timings, slot: Slot) -> Response<FrontBody> {
    timed(StatusCode::OK, JSON, VecDeque::from([body]), timings, slot)
}

/// An inference answered with V2, tensors in binary after the JSON where there are any.
pub(super) fn inferred_v2(body: V2Body, timings: Timings, slot: Slot) -> Response<FrontBody> {
    if body.binary.is_empty() {
        return inferred(body.json, timings, slot);
    }
    let length = HeaderValue::from(body.json.len());
    let mut parts = VecDeque::with_capacity(1 + body.binary.len());
    parts.push_back(body.json);
    // hyper takes an empty frame for nothing sent.
    parts.extend(body.binary.into_iter().filter(|part| !part.is_empty()));
    let mut response = timed(StatusCode::OK, OCTETS, parts, timings, slot);
    response.headers_mut().insert(HEADER_LENGTH, length);
    response
}

/// The value of `server-timing`, in milliseconds.
pub(super) fn server_timing(timings: Timings) -> String {
    let ms = |duration: std::time::Duration| duration.as_secs_f64() * 1e3;
    format!("queue;dur={:.3}, infer;dur={:.3}", ms(timings.queue), ms(timings.infer))
}

fn timed(
    status: StatusCode,
    kind: HeaderValue,
    parts: VecDeque<Bytes>,
    timings: Timings,
    slot: Slot,
) -> Response<FrontBody> {
    let mut response = with_type(status, kind, FrontBody::holding(parts, slot));
    if let Ok(value) = HeaderValue::try_from(server_timing(timings)) {
        response.headers_mut().insert(TIMING, value);
    }
    response
}

fn with_type(status: StatusCode, kind: HeaderValue, body: FrontBody) -> Response<FrontBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}
