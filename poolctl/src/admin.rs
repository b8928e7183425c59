//! The admin API of `poolctl up`: `/status`, `/explain/NAMESPACE/MODEL`, `/metrics`, `/healthz`.

mod explain;
mod fleet;
mod latency;
pub mod messages;
mod status;

use std::sync::Arc;

use autoscaler_policy::ModelKey;
use axum::Json;
use axum::Router;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Path, Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use poolctl_cluster::LocalCluster;
use prometheus::Registry;
use serde::Deserialize;
use tokio::sync::watch;

use crate::model::Entry;
use crate::pool::PoolController;
use messages::{ErrorBody, Status};

pub use fleet::Fleet;

/// Body length that an explanation is for where the caller names none.
const DEFAULT_REQUEST_BYTES: u64 = 1024;

/// Everything that can be asked about a running stack. Clones are cheap.
#[derive(Clone)]
pub struct View {
    parts: Arc<Parts>,
}

/// What a [`View`] looks at.
pub struct Parts {
    /// The models, as they were resolved at the start.
    pub models: Vec<Model>,
    /// The gateway.
    pub gateway: gateway::Gateway,
    /// The autoscaler.
    pub autoscaler: autoscaler::Autoscaler<LocalCluster>,
    /// The pools.
    pub pools: PoolController<LocalCluster>,
    /// The replicas.
    pub fleet: Fleet,
    /// The metrics of all of them.
    pub registry: Registry,
}

/// A model and what never changes about its status.
pub struct Model {
    /// As it was resolved.
    pub entry: Entry,
    /// Of its revisions.
    pub generation: u64,
    /// Base address of its endpoint.
    pub url: String,
    /// Ready, and one for each variant.
    pub conditions: Vec<poolctl_api::Condition>,
}

impl View {
    /// A view of these parts.
    #[must_use]
    pub fn new(parts: Parts) -> Self {
        Self { parts: Arc::new(parts) }
    }

    /// Everything, as it is now.
    #[must_use]
    pub fn status(&self) -> Status {
        status::of(&self.parts)
    }

    /// Wakes whenever a replica changes.
    #[must_use]
    pub fn changes(&self) -> watch::Receiver<()> {
        self.parts.fleet.changes()
    }

    /// The routes of the admin API.
    pub fn router(&self) -> Router {
        Router::new()
            .route("/status", get(status))
            .route("/explain/{namespace}/{model}", get(explain))
            .with_state(self.clone())
            .merge(poolctl_runtime::admin::router(self.parts.registry.clone()))
            .fallback(no_such_path)
            .method_not_allowed_fallback(read_only)
    }
}

async fn status(State(view): State<View>) -> Json<Status> {
    Json(view.status())
}

#[derive(Deserialize)]
struct ExplainQuery {
    bytes: Option<u64>,
}

async fn explain(
    State(view): State<View>,
    Path((namespace, model)): Path<(String, String)>,
    query: Result<Query<ExplainQuery>, QueryRejection>,
) -> Response {
    let Ok(Query(query)) = query else {
        return refused(StatusCode::BAD_REQUEST, "expected ?bytes=N, the length of a request's body".to_owned());
    };
    let key = ModelKey::new(&namespace, &model);
    match explain::of(&view.parts, &key, query.bytes.unwrap_or(DEFAULT_REQUEST_BYTES)) {
        Some(explanation) => Json(explanation).into_response(),
        None => refused(StatusCode::NOT_FOUND, format!("there is no model {namespace}/{model}")),
    }
}

async fn no_such_path(uri: Uri) -> Response {
    let paths = "/status, /explain/NAMESPACE/MODEL, /metrics, /healthz";
    refused(
        StatusCode::NOT_FOUND,
        format!("there is no {}: expected one of {paths}; predictions have an address of their own", uri.path()),
    )
}

async fn read_only() -> Response {
    refused(StatusCode::METHOD_NOT_ALLOWED, "expected GET: nothing is changed here".to_owned())
}

fn refused(status: StatusCode, error: String) -> Response {
    (status, Json(ErrorBody { error })).into_response()
}
