//! Metadata, health and the catalogue over REST.

use std::time::Duration;

use bytes::Bytes;
use http::{Response, StatusCode};
use hyper::body::Incoming;
use model_wrapper_protocol::{InferError, metadata_json};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{body, body::FrontBody, infer::check_target, respond, route::Target};
use crate::serving::{Readiness, Serving};

/// What the server calls itself.
pub(super) const SERVER_NAME: &str = "kferving";
/// Its version.
pub(super) const SERVER_VERSION: &str = env!("CARGO_PKG_VERSION");
/// Optional parts of the protocol that it has, by their names in Triton.
pub(super) const EXTENSIONS: [&str; 1] = ["binary_tensor_data"];

/// Why a model is neither loaded nor unloaded on request.
pub(super) fn fixed_model() -> InferError {
    InferError::BadRequest(
        "this server serves the one model that it was given and neither loads nor unloads others: change the Model resource instead".into(),
    )
}

pub(super) fn server() -> Response<FrontBody> {
    ok(&json!({"name": SERVER_NAME, "version": SERVER_VERSION, "extensions": EXTENSIONS}))
}

pub(super) fn root() -> Response<FrontBody> {
    ok(&json!({"status": "alive"}))
}

pub(super) fn live() -> Response<FrontBody> {
    ok(&json!({"live": true}))
}

pub(super) fn ready(serving: &Serving) -> Response<FrontBody> {
    let ready = serving.readiness() == Readiness::Ready;
    respond::json(if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }, &json!({ "ready": ready }))
}

pub(super) fn v1_models(serving: &Serving) -> Response<FrontBody> {
    let names: Vec<_> = serving.model().iter().map(|model| model.metadata().name.clone()).collect();
    ok(&json!({ "models": names }))
}

pub(super) fn model(serving: &Serving, target: &Target<'_>) -> Result<Response<FrontBody>, InferError> {
    let served = find(serving, target)?;
    Ok(ok(&metadata_json(served.metadata())))
}

/// V2's readiness of a model, which is also what V1 says about one.
pub(super) fn model_ready(serving: &Serving, target: &Target<'_>) -> Result<Response<FrontBody>, InferError> {
    let served = find(serving, target)?;
    let ready = serving.readiness() == Readiness::Ready;
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    Ok(respond::json(status, &json!({"name": served.metadata().name, "ready": ready})))
}

/// The model that the target means, whether or not it takes requests now.
pub(super) fn find(
    serving: &Serving,
    target: &Target<'_>,
) -> Result<std::sync::Arc<crate::serving::ServedModel>, InferError> {
    let served = serving
        .model()
        .ok_or_else(|| InferError::NotFound(format!("model '{}' not found: no model is loaded", target.model)))?;
    check_target(served.metadata(), target)?;
    Ok(served)
}

/// A model in the index.
pub(super) struct Indexed {
    pub(super) name: String,
    pub(super) version: String,
    pub(super) state: &'static str,
    pub(super) reason: &'static str,
}

/// The models of this server, which are one or none; with `only_ready` only if it takes requests.
pub(super) fn indexed(serving: &Serving, only_ready: bool) -> Option<Indexed> {
    let served = serving.model()?;
    let (state, reason) = match serving.readiness() {
        Readiness::Ready => ("READY", ""),
        Readiness::NotReady => ("UNAVAILABLE", "not ready"),
        Readiness::Draining => ("UNAVAILABLE", "draining"),
    };
    let model = served.metadata();
    (!only_ready || state == "READY").then(|| Indexed {
        name: model.name.clone(),
        version: model.versions.first().cloned().unwrap_or_default(),
        state,
        reason,
    })
}

/// Bytes of a request that is not for an inference, the largest of which has a field or two; and the time that it may take.
pub(super) const REQUEST_BYTES: usize = 4 << 10;
pub(super) const REQUEST_TIME: Duration = Duration::from_secs(5);

pub(super) async fn index(serving: &Serving, body: Incoming) -> Result<Response<FrontBody>, InferError> {
    #[derive(Deserialize, Default)]
    struct Body {
        #[serde(default)]
        ready: bool,
    }
    body::check_declared(&body, REQUEST_BYTES)?;
    let read = tokio::time::timeout(REQUEST_TIME, body::read(body, REQUEST_BYTES, body::uncounted)).await;
    let body: Bytes = read.map_err(|_| {
        InferError::BadRequest(format!("the body did not come within {} seconds", REQUEST_TIME.as_secs()))
    })??;
    let wanted: Body = if body.is_empty() {
        Body::default()
    } else {
        serde_json::from_slice(&body)
            .map_err(|error| InferError::BadRequest(format!("the body is not an index request: {error}")))?
    };
    let models: Vec<Value> = indexed(serving, wanted.ready)
        .map(
            |model| json!({"name": model.name, "version": model.version, "state": model.state, "reason": model.reason}),
        )
        .into_iter()
        .collect();
    Ok(ok(&Value::from(models)))
}

fn ok(value: &Value) -> Response<FrontBody> {
    respond::json(StatusCode::OK, value)
}
