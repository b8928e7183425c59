//! The admin port: specialize, state, drain, health.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use model_wrapper_admin::{DrainResponse, ErrorResponse, SpecializeRequest, StateResponse, TokenVerifier};
use serde::Deserialize;

use crate::serving::{Refusal, Serving};

/// How long a drain waits where the caller does not say: Knative's own default for the time between the first failed probe and
/// the end, and the longest it may be told to.
const DEFAULT_DRAIN: Duration = Duration::from_secs(30);
const MAX_DRAIN: Duration = Duration::from_secs(3600);

/// Who may specialize and drain this wrapper.
#[derive(Clone, Debug)]
pub enum Authority {
    /// Whoever has a token signed with this key's other half.
    Key(TokenVerifier),
    /// Without a key nobody may specialize it. Whoever reaches the port may drain it: only this machine (in a pod, the pod) can.
    Local,
    /// Nobody: there is no key, and the port is reached from elsewhere.
    Nobody,
}

#[derive(Clone)]
struct Admin {
    serving: Serving,
    authority: Authority,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct DrainQuery {
    timeout_ms: Option<u64>,
}

/// Routes of the admin port.
pub fn router(serving: Serving, authority: Authority) -> Router {
    Router::new()
        .route("/specialize", post(specialize))
        .route("/state", get(state))
        // GET as Knative's queue-proxy has it: a container's preStop hook sends nothing else.
        .route("/wait-for-drain", get(wait_for_drain).post(wait_for_drain))
        .route("/healthz", get(|| async { "ok" }))
        .fallback(|| async {
            error(StatusCode::NOT_FOUND, "the admin port has /specialize, /state, /wait-for-drain, /healthz")
        })
        .method_not_allowed_fallback(|| async {
            error(
                StatusCode::METHOD_NOT_ALLOWED,
                "wrong method: specialize and drain with POST, ask for the rest with GET",
            )
        })
        .with_state(Admin { serving, authority })
}

async fn specialize(State(admin): State<Admin>, headers: HeaderMap, body: Bytes) -> Response {
    let request: SpecializeRequest = match serde_json::from_slice(&body) {
        Ok(request) => request,
        Err(reason) => return error(StatusCode::BAD_REQUEST, format!("the body is no specialize request: {reason}")),
    };
    if let Err(reason) = admin.authority.check_specialize(&headers, &request) {
        tracing::warn!(claim = request.claim_id, reason, "specialize call refused");
        return error(StatusCode::UNAUTHORIZED, reason);
    }
    match admin.serving.specialize(&request).await {
        Ok(response) => Json(response).into_response(),
        Err(Refusal::Conflict(conflict)) => (StatusCode::CONFLICT, Json(conflict)).into_response(),
        Err(refusal @ Refusal::WrongReplica(_)) => error(StatusCode::MISDIRECTED_REQUEST, refusal.to_string()),
        Err(refusal @ Refusal::Rejected(_)) => error(StatusCode::UNPROCESSABLE_ENTITY, refusal.to_string()),
        Err(refusal @ Refusal::Stopping) => error(StatusCode::SERVICE_UNAVAILABLE, refusal.to_string()),
    }
}

async fn state(State(admin): State<Admin>) -> Json<StateResponse> {
    Json(admin.serving.state())
}

async fn wait_for_drain(
    State(admin): State<Admin>,
    query: Result<Query<DrainQuery>, QueryRejection>,
    headers: HeaderMap,
) -> Response {
    let query = match query {
        Ok(Query(query)) => query,
        Err(refused) => return error(StatusCode::BAD_REQUEST, refused.body_text()),
    };
    if let Err(reason) = admin.authority.check_drain(&headers, admin.serving.pod_uid()) {
        tracing::warn!(reason, "drain refused");
        return error(StatusCode::UNAUTHORIZED, reason);
    }
    let started = Instant::now();
    let limit = query.timeout_ms.map_or(DEFAULT_DRAIN, Duration::from_millis).min(MAX_DRAIN);
    match tokio::time::timeout(limit, admin.serving.drain()).await {
        Ok(()) => {
            let drained_after_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX);
            Json(DrainResponse { drained_after_ms }).into_response()
        }
        Err(_) => {
            let left = admin.serving.state().in_flight;
            error(
                StatusCode::GATEWAY_TIMEOUT,
                format!("{left} requests still run after {limit:?}; no new ones are taken"),
            )
        }
    }
}

fn error(status: StatusCode, message: impl Into<String>) -> Response {
    (status, Json(ErrorResponse { error: message.into() })).into_response()
}

// === impl Authority ===

impl Authority {
    fn check_specialize(&self, headers: &HeaderMap, request: &SpecializeRequest) -> Result<(), String> {
        let Self::Key(verifier) = self else {
            return Err("this wrapper was started without --claim-key and takes no claim".to_owned());
        };
        verifier
            .verify_for(bearer(headers)?, (&request.pod_uid, &request.claim_id, &request.digest), unix_seconds())
            .map_err(|reason| reason.to_string())
    }

    fn check_drain(&self, headers: &HeaderMap, pod_uid: Option<&str>) -> Result<(), String> {
        let verifier = match self {
            Self::Key(verifier) => verifier,
            Self::Local => return Ok(()),
            Self::Nobody => {
                let message = "this wrapper was started without --claim-key: only SIGTERM drains it";
                return Err(message.to_owned());
            }
        };
        let pod_uid = pod_uid.ok_or("this wrapper was started without --pod-uid, so no token can be for it")?;
        verifier.verify_drain(bearer(headers)?, pod_uid, unix_seconds()).map_err(|reason| reason.to_string())
    }
}

fn bearer(headers: &HeaderMap) -> Result<&str, String> {
    let header = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let token = header.and_then(|value| value.strip_prefix("Bearer "));
    token.map(str::trim).ok_or_else(|| "expected the header 'authorization: Bearer TOKEN'".to_owned())
}

/// A clock before 1970 accepts no token: everything has expired.
fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(u64::MAX, |since| since.as_secs())
}
