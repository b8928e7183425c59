//! Client of the admin port. It goes over TCP or a Unix socket.

use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use serde::de::DeserializeOwned;

use crate::address::AdminAddress;
use crate::connections::Connections;
use crate::messages::{
    ConflictResponse, DrainResponse, ErrorResponse, SpecializeRequest, SpecializeResponse, StateResponse,
};

#[cfg(test)]
mod tests;

/// Longest answer that is read. Metadata holds a model's own properties; the largest seen (a character set) has 30 KB.
const MAX_RESPONSE_BYTES: usize = 4 << 20;

/// Time that the network may add to a drain's own deadline.
const DRAIN_GRACE: Duration = Duration::from_secs(5);

/// How long calls may take.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a connection to be opened ahead of its use.
    pub connect: Duration,
    /// For a model to be fetched and loaded.
    pub specialize: Duration,
    /// For a state query.
    pub state: Duration,
}

/// Why a call did not succeed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AdminError {
    /// 409: another claim holds the wrapper.
    #[error("held by claim {} for {}", .0.claim_id, .0.revision)]
    Conflict(ConflictResponse),
    /// 421: another replica answers at this address.
    #[error("another replica is at this address: {0}")]
    WrongReplica(String),
    /// 422: this model cannot be loaded, here or elsewhere.
    #[error("model rejected: {0}")]
    Rejected(String),
    /// 401: the token was missing or not accepted.
    #[error("token not accepted: {0}")]
    Unauthorized(String),
    /// The request was not sent: certainly nothing happened.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// The request was sent, the whole answer did not come: it may or may not have had its effect.
    #[error("connection lost before the answer: {0}")]
    Interrupted(String),
    /// No answer in time: it may or may not have had its effect.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
    /// An answer outside the contract.
    #[error("unexpected answer {status}: {message}")]
    Unexpected {
        /// HTTP status.
        status: u16,
        /// Its error text, or what is wrong with its body.
        message: String,
    },
}

/// Client of admin ports. Clones share their connections. It must be used inside a tokio runtime.
#[derive(Clone)]
pub struct AdminClient {
    connections: Connections,
    timeouts: Timeouts,
}

// === impl Timeouts ===

impl Default for Timeouts {
    /// 1 s to connect; 60 s to load, which large models need; 2 s for a state query.
    fn default() -> Self {
        Self { connect: Duration::from_secs(1), specialize: Duration::from_secs(60), state: Duration::from_secs(2) }
    }
}

// === impl AdminClient ===

impl AdminClient {
    /// A client without connections yet.
    pub fn new(timeouts: Timeouts) -> Self {
        Self { connections: Connections::default(), timeouts }
    }

    /// Opens a connection ahead of its use, unless one waits already.
    pub async fn prepare(&self, address: impl Into<AdminAddress>) -> Result<(), AdminError> {
        within(self.timeouts.connect, self.connections.prepare(&address.into())).await
    }

    /// Closes the connections kept for a replica that is gone.
    pub fn forget(&self, address: impl Into<AdminAddress>) {
        self.connections.forget(&address.into());
    }

    /// `POST /specialize` with the token as bearer; `None` for a wrapper that asks for none.
    pub async fn specialize(
        &self,
        address: impl Into<AdminAddress>,
        request: &SpecializeRequest,
        token: Option<&str>,
    ) -> Result<SpecializeResponse, AdminError> {
        let body = serde_json::to_vec(request).expect("strings, integers and maps with string keys have a JSON form");
        let call = Request::post("/specialize").header(header::CONTENT_TYPE, "application/json");
        self.call(self.timeouts.specialize, &address.into(), authorized(call, token), body.into()).await
    }

    /// `GET /state`.
    pub async fn state(&self, address: impl Into<AdminAddress>) -> Result<StateResponse, AdminError> {
        self.call(self.timeouts.state, &address.into(), Request::get("/state"), Bytes::new()).await
    }

    /// `POST /wait-for-drain` with the token as bearer: the wrapper takes no new requests from now on; returns when none is
    /// left, or with 504 as [`AdminError::Unexpected`] when some still run after `deadline`.
    pub async fn wait_for_drain(
        &self,
        address: impl Into<AdminAddress>,
        deadline: Duration,
        token: Option<&str>,
    ) -> Result<DrainResponse, AdminError> {
        let call = Request::post(format!("/wait-for-drain?timeoutMs={}", deadline.as_millis()));
        self.call(deadline + DRAIN_GRACE, &address.into(), authorized(call, token), Bytes::new()).await
    }

    async fn call<T: DeserializeOwned>(
        &self,
        timeout: Duration,
        address: &AdminAddress,
        call: http::request::Builder,
        body: Bytes,
    ) -> Result<T, AdminError> {
        let host = match address {
            AdminAddress::Tcp(address) => address.to_string(),
            AdminAddress::Path(_) | AdminAddress::Abstract(_) => "localhost".to_owned(),
        };
        let request = call
            .header(header::HOST, host)
            .body(Full::new(body))
            .map_err(|error| AdminError::Unreachable(format!("the request cannot be built: {error}")))?;
        within(timeout, async {
            let (response, lease) = self.connections.send(address, request).await?;
            let status = response.status();
            let body = Limited::new(response.into_body(), MAX_RESPONSE_BYTES).collect().await.map_err(|error| {
                if error.is::<LengthLimitError>() {
                    AdminError::Unexpected {
                        status: status.as_u16(),
                        message: format!("body of more than {MAX_RESPONSE_BYTES} bytes"),
                    }
                } else {
                    AdminError::Interrupted(error.to_string())
                }
            })?;
            lease.give_back();
            interpret(status, &body.to_bytes())
        })
        .await
    }
}

impl std::fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminClient").field("timeouts", &self.timeouts).finish_non_exhaustive()
    }
}

fn authorized(call: http::request::Builder, token: Option<&str>) -> http::request::Builder {
    match token {
        Some(token) => call.header(header::AUTHORIZATION, format!("Bearer {token}")),
        None => call,
    }
}

async fn within<T>(limit: Duration, call: impl Future<Output = Result<T, AdminError>>) -> Result<T, AdminError> {
    tokio::time::timeout(limit, call).await.unwrap_or(Err(AdminError::Timeout(limit)))
}

/// Maps status and body to an outcome.
fn interpret<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T, AdminError> {
    match status {
        StatusCode::OK => serde_json::from_slice(body).map_err(|error| AdminError::Unexpected {
            status: status.as_u16(),
            message: format!("body does not follow the contract: {error}"),
        }),
        StatusCode::CONFLICT => {
            Err(serde_json::from_slice(body).map_or_else(|_| unexpected(status, body), AdminError::Conflict))
        }
        StatusCode::MISDIRECTED_REQUEST => Err(AdminError::WrongReplica(message(body))),
        StatusCode::UNPROCESSABLE_ENTITY => Err(AdminError::Rejected(message(body))),
        StatusCode::UNAUTHORIZED => Err(AdminError::Unauthorized(message(body))),
        other => Err(unexpected(other, body)),
    }
}

fn unexpected(status: StatusCode, body: &[u8]) -> AdminError {
    AdminError::Unexpected { status: status.as_u16(), message: message(body) }
}

/// The error text of a body, or its beginning where it is something else.
fn message(body: &[u8]) -> String {
    const SHOWN: usize = 200;
    match serde_json::from_slice::<ErrorResponse>(body) {
        Ok(response) => response.error,
        Err(_) => String::from_utf8_lossy(&body[..body.len().min(SHOWN)]).into_owned(),
    }
}
