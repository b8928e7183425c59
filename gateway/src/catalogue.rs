//! What can be answered without a replica: which models there are, what they take, whether they can be asked.
//!
//! All of it comes from the table and the recorded metadata, so a model at zero answers like one that runs, and nothing
//! here wakes one.

use std::collections::BTreeSet;

use http::{Response, StatusCode};
use serde_json::{Value, json};

use crate::body::ResponseBody;
use crate::error::Error;
use crate::model::Model;
use crate::proxy::is_ready;
use crate::respond::{self, Protocol, refusal};
use crate::route::{Action, Route};
use crate::table::{HostScope, Table};

/// Name of the server in `GET /v2`.
pub(crate) const SERVER_NAME: &str = "kferving";

/// Version of the server in `GET /v2`.
pub(crate) const SERVER_VERSION: &str = env!("CARGO_PKG_VERSION");

/// Extensions of the Open Inference Protocol that models are served with.
pub(crate) const EXTENSIONS: [&str; 2] = ["binary_tensor_data", "model_repository(index)"];

/// Answers a route that is about no single model.
pub(crate) fn answer(
    route: Route<'_>,
    table: &Table,
    scope: HostScope<'_>,
    namespace: Option<&str>,
) -> Result<Response<ResponseBody>, Error> {
    let value = match route {
        Route::Root => json!({ "status": "alive" }),
        Route::Live => json!({ "live": true }),
        Route::Ready => json!({ "ready": true }),
        Route::ServerMetadata => {
            json!({ "name": SERVER_NAME, "version": SERVER_VERSION, "extensions": EXTENSIONS })
        }
        Route::ModelList => {
            // Once each: this list has no place for the namespaces of a name that several have.
            let names: BTreeSet<&str> =
                table.catalogue(scope, namespace).map(|model| model.key.name.as_str()).collect();
            json!({ "models": names })
        }
        Route::RepositoryIndex => table
            .catalogue(scope, namespace)
            .map(|model| index_entry(model, table.is_ambiguous(&model.key.name)))
            .collect(),
        Route::RepositoryControl => {
            let message = "models are loaded and unloaded by their Model objects, not over this API";
            return Err(Error::BadRequest(message.to_owned()));
        }
        Route::Model { .. } | Route::Grpc(_) => return Err(Error::Internal("a model's route in the catalogue")),
    };
    Ok(respond::json(StatusCode::OK, &value))
}

/// Answers a question about one model; `None` when only a replica can.
pub(crate) fn of_model(model: &Model, action: Action) -> Option<Response<ResponseBody>> {
    match action {
        Action::Metadata => model.route().metadata.as_ref().map(|metadata| respond::json(StatusCode::OK, metadata)),
        Action::Ready | Action::Status => Some(readiness(model)),
        Action::Infer | Action::Inspect => None,
    }
}

/// 200 where a request would be served, though it may have to wait for a replica; 503 that says why not.
fn readiness(model: &Model) -> Response<ResponseBody> {
    if is_ready(model) {
        return respond::json(StatusCode::OK, &json!({ "name": model.key.name, "ready": true }));
    }
    let error = model.unavailable().unwrap_or_else(|| Error::Unavailable {
        reason: crate::error::Reason::NoCapacity,
        message: format!("model {} has no replica", model.key),
        retry_after: None,
    });
    let mut response = refusal(&error, Protocol::Rest);
    let body = json!({ "name": model.key.name, "ready": false, "error": error.to_string() });
    *response.body_mut() = ResponseBody::Own(Some(body.to_string().into()));
    response
}

/// A model of the index; with its namespace where the name alone does not tell it from another.
fn index_entry(model: &Model, ambiguous: bool) -> Value {
    let reason = model.route().unavailable.as_ref().map(|unavailable| unavailable.message.clone());
    let state = if is_ready(model) { "READY" } else { "UNAVAILABLE" };
    let mut entry =
        json!({ "name": model.key.name, "version": "1", "state": state, "reason": reason.unwrap_or_default() });
    if ambiguous {
        entry["namespace"] = json!(model.key.namespace);
    }
    entry
}
