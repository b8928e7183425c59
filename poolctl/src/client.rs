//! The client of the admin API.

use std::time::Duration;

use bytes::Bytes;
use gateway_policy::REASON_HEADER;
use http::{Request, StatusCode, Uri, header};
use http_body_util::{BodyExt, Empty, Limited};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::de::DeserializeOwned;

use crate::admin::messages::{ErrorBody, Explanation, Status};

/// The stack answers from memory: one that does not in this time is not well.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Largest answer: ten thousand models with ten replicas each take about a third of it.
const MAX_BODY_BYTES: usize = 64 * 1024 * 1024;

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The URL is not one.
    #[error("--server {0:?}: expected http://HOST:PORT")]
    Url(String),
    /// Nothing listens there.
    #[error(
        "nothing answers at {server}: {reason}. Is `poolctl up` running? Name its admin address with --server http://HOST:PORT"
    )]
    NoAnswer {
        /// The server.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// It said no.
    #[error("{0}")]
    Refused(String),
    /// It answered something else.
    #[error("{server} is not the admin address of a running stack: {reason}")]
    Unexpected {
        /// The server.
        server: String,
        /// What is odd about the answer.
        reason: String,
    },
}

/// A client of one running stack.
pub struct Client {
    server: String,
    http: HyperClient<HttpConnector, Empty<Bytes>>,
}

impl Client {
    /// A client of the stack with the admin address `server`, such as `http://127.0.0.1:8081`.
    ///
    /// # Errors
    /// `server` is not an `http://HOST:PORT`.
    pub fn new(server: &str) -> Result<Self, ClientError> {
        let server = server.trim_end_matches('/');
        let server = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
        let refuse = || ClientError::Url(server.clone());
        let uri: Uri = server.parse().map_err(|_| refuse())?;
        if uri.scheme_str() != Some("http") || uri.host().is_none() || !matches!(uri.path(), "" | "/") {
            return Err(refuse());
        }
        Ok(Self { http: HyperClient::builder(TokioExecutor::new()).build_http(), server })
    }

    /// `GET /status`.
    ///
    /// # Errors
    /// No answer, or none that is a status.
    pub async fn status(&self) -> Result<Status, ClientError> {
        self.get("/status").await
    }

    /// `GET /explain/NAMESPACE/MODEL`, for a request of `bytes` bytes.
    ///
    /// # Errors
    /// No answer, or no such model.
    pub async fn explain(&self, namespace: &str, model: &str, bytes: u64) -> Result<Explanation, ClientError> {
        self.get(&format!("/explain/{namespace}/{model}?bytes={bytes}")).await
    }

    async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, ClientError> {
        let uri = format!("{}{path}", self.server);
        let request = Request::get(&uri).header(header::ACCEPT, "application/json").body(Empty::new());
        let request = request.map_err(|_| ClientError::Url(uri))?;
        let answer = async {
            let response = self.http.request(request).await.map_err(|error| root_cause(&error))?;
            let status = response.status();
            // a gateway and a model server set it, the admin API does not
            let takes_predictions = response.headers().contains_key(REASON_HEADER);
            let body = Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await;
            Ok((status, takes_predictions, body.map_err(|error| error.to_string())?.to_bytes()))
        };
        let answer = tokio::time::timeout(TIMEOUT, answer).await;
        let answer = answer.unwrap_or_else(|_| Err(format!("no answer within {} s", TIMEOUT.as_secs())));
        let (status, takes_predictions, body) =
            answer.map_err(|reason| ClientError::NoAnswer { server: self.server.clone(), reason })?;
        if takes_predictions {
            return Err(self.unexpected(
                "it is an address for predictions; the admin address is port 8081 unless --admin says another"
                    .to_owned(),
            ));
        }
        if status != StatusCode::OK {
            return Err(match serde_json::from_slice::<ErrorBody>(&body) {
                Ok(body) => ClientError::Refused(body.error),
                Err(_) => self.unexpected(format!("it answered {status}")),
            });
        }
        serde_json::from_slice(&body).map_err(|error| self.unexpected(format!("its answer cannot be read: {error}")))
    }

    fn unexpected(&self, reason: String) -> ClientError {
        ClientError::Unexpected { server: self.server.clone(), reason }
    }
}

/// The innermost cause: `Connection refused` says more than `client error (Connect)`.
fn root_cause(error: &dyn std::error::Error) -> String {
    let mut cause = error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}
