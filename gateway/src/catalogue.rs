//! What can be answered without a replica: which models there are, what they take, whether they can be asked.
//!
//! All of it comes from the table and the recorded metadata, so a model at zero answers like one that runs, and nothing
//! here wakes one.

use std::collections::BTreeSet;

use http::{Response, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::body::ResponseBody;
use crate::error::Error;
use crate::model::Model;
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
        Route::RepositoryControl => return Err(fixed_repository()),
        Route::Model { .. } | Route::RepositoryIndex | Route::Grpc(_) => {
            return Err(Error::Internal("a route that takes more than the catalogue"));
        }
    };
    Ok(respond::json(StatusCode::OK, &value))
}

/// Why models are neither loaded nor unloaded over the protocol.
pub(crate) fn fixed_repository() -> Error {
    Error::BadRequest("models are loaded and unloaded by their Model objects, not over this API".to_owned())
}

/// Answers a question about one model, or about the version of it that [`check_version`] let pass; `None` when only a
/// replica can.
pub(crate) fn of_model(model: &Model, version: Option<&str>, action: Action) -> Option<Response<ResponseBody>> {
    match action {
        Action::Metadata => model.route().metadata.as_ref().map(|metadata| respond::json(StatusCode::OK, metadata)),
        Action::Ready if version.is_some() && !knows_versions(model) => None,
        Action::Ready | Action::Status => Some(readiness(model)),
        Action::Infer | Action::Foreign { .. } => None,
    }
}

/// 200 where a request would be served, though it may have to wait for a replica; 503 that says why not.
fn readiness(model: &Model) -> Response<ResponseBody> {
    let Some(error) = model.unready() else {
        return respond::json(StatusCode::OK, &json!({ "name": model.key.name, "ready": true }));
    };
    let mut response = refusal(&error, Protocol::Rest);
    let body = json!({ "name": model.key.name, "ready": false, "error": error.to_string() });
    *response.body_mut() = ResponseBody::Own(Some(body.to_string().into()));
    response
}

// === Versions ===

/// Refuses a version that the model is not served in. One of a model whose versions are not recorded is its replicas' to
/// refuse.
pub(crate) fn check_version(model: &Model, version: Option<&str>) -> Result<(), Error> {
    let Some(version) = version else { return Ok(()) };
    let served = versions(model);
    if served.is_empty() || served.iter().any(|served| served == version) {
        return Ok(());
    }
    let (name, served) = (&model.key.name, served.join(", "));
    Err(Error::ModelNotFound(format!("model '{name}' has no version '{version}': it is served as version {served}")))
}

/// Whether it is recorded in which versions the model is served.
pub(crate) fn knows_versions(model: &Model) -> bool {
    !versions(model).is_empty()
}

fn versions(model: &Model) -> Vec<String> {
    let route = model.route();
    let recorded = route.metadata.as_ref().and_then(|metadata| metadata["versions"].as_array());
    recorded.into_iter().flatten().filter_map(|version| version.as_str().map(str::to_owned)).collect()
}

// === The index of the repository ===

/// A version of a model in the index.
pub(crate) struct Indexed {
    pub(crate) name: String,
    /// Only where the name alone does not tell the model from another.
    namespace: Option<String>,
    /// Empty where it is not recorded.
    pub(crate) version: String,
    pub(crate) state: &'static str,
    /// Why it is not ready.
    pub(crate) reason: String,
}

/// The index; with `only_ready` of the models that requests can be sent to.
pub(crate) fn indexed(table: &Table, scope: HostScope<'_>, namespace: Option<&str>, only_ready: bool) -> Vec<Indexed> {
    let models = table.catalogue(scope, namespace).map(|model| (model, model.unready()));
    let entries = models.filter(|(_, error)| !only_ready || error.is_none()).flat_map(|(model, error)| {
        let mut versions = versions(model);
        if versions.is_empty() {
            versions.push(String::new());
        }
        versions.into_iter().map(move |version| Indexed {
            name: model.key.name.clone(),
            namespace: table.is_ambiguous(&model.key.name).then(|| model.key.namespace.clone()),
            version,
            state: if error.is_none() { "READY" } else { "UNAVAILABLE" },
            reason: error.as_ref().map(ToString::to_string).unwrap_or_default(),
        })
    });
    entries.collect()
}

/// Reads the body of `POST /v2/repository/index`, which may be empty: whether only models that are ready are asked for.
pub(crate) fn only_ready(body: &[u8]) -> Result<bool, Error> {
    #[derive(Default, Deserialize)]
    struct Asked {
        #[serde(default)]
        ready: bool,
    }
    let asked: Asked = match body {
        [] => Asked::default(),
        body => serde_json::from_slice(body)
            .map_err(|error| Error::BadRequest(format!("the body is not an index request: {error}")))?,
    };
    Ok(asked.ready)
}

/// The answer to `POST /v2/repository/index`.
pub(crate) fn index(indexed: &[Indexed]) -> Response<ResponseBody> {
    let entry = |indexed: &Indexed| {
        let Indexed { name, namespace, version, state, reason } = indexed;
        let mut entry = json!({ "name": name, "state": state, "reason": reason });
        if !version.is_empty() {
            entry["version"] = json!(version);
        }
        if let Some(namespace) = namespace {
            entry["namespace"] = json!(namespace);
        }
        entry
    };
    respond::json(StatusCode::OK, &indexed.iter().map(entry).collect::<Value>())
}
