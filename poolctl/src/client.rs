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

/// Where nobody even takes the connection, nothing runs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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
    Unreachable {
        /// The server.
        server: String,
        /// What went wrong.
        reason: String,
    },
    /// It listens, and says nothing.
    #[error(
        "{server} takes connections but gave no answer within {} s: it hangs or is overloaded, or is not the admin address of a running stack",
        TIMEOUT.as_secs()
    )]
    Late {
        /// The server.
        server: String,
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
        let refuse = || ClientError::Url(server.to_owned());
        let written = if server.contains("://") { server.to_owned() } else { format!("http://{server}") };
        let uri: Uri = written.parse().map_err(|_| refuse())?;
        let (Some(host), Some(port)) = (uri.host(), uri.port_u16()) else { return Err(refuse()) };
        let server = format!("http://{host}:{port}");
        // nothing else may be in it: no path, no query, no password
        if written.trim_end_matches('/') != server {
            return Err(refuse());
        }
        let mut connector = HttpConnector::new();
        connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Ok(Self { http: HyperClient::builder(TokioExecutor::new()).build(connector), server })
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
            let response = self.http.request(request).await.map_err(|error| {
                let reason = root_cause(&error);
                if error.is_connect() {
                    ClientError::Unreachable { server: self.server.clone(), reason }
                } else {
                    self.unexpected(format!("it gave no answer: {reason}"))
                }
            })?;
            let status = response.status();
            // a gateway and a model server set it, the admin API does not
            let takes_predictions = response.headers().contains_key(REASON_HEADER);
            let body = Limited::new(response.into_body(), MAX_BODY_BYTES).collect().await;
            let body =
                body.map_err(|error| self.unexpected(format!("its answer broke off: {}", root_cause(&*error))))?;
            Ok((status, takes_predictions, body.to_bytes()))
        };
        let answer = tokio::time::timeout(TIMEOUT, answer).await;
        let (status, takes_predictions, body) =
            answer.unwrap_or_else(|_| Err(ClientError::Late { server: self.server.clone() }))?;
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
