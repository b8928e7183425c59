//! One attempt to get a request answered by one replica.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use gateway_policy::retry::Failure;
use gateway_policy::{Moment, SizeBucket};
use http::header::{EXPECT, HOST, TE};
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};

use crate::body::UpstreamBody;
use crate::error::{Error, Reason};
use crate::inference::Inference;
use crate::model::Place;
use crate::replica::Replica;
use crate::respond::{Protocol, REASON, REVISION};
use crate::upload::{Payload, RequestBody, Upload};
use crate::upstream::{H1Connection, RequestHead, UpstreamError};
use crate::verdict::{Beginning, meaning};

/// Longest wait for `100 Continue`; a client need not wait for ever (RFC 9110, section 10.1.1).
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

const CONTINUE: HeaderValue = HeaderValue::from_static("100-continue");

/// Why an attempt gave no answer to pass on.
pub(crate) struct Refused {
    pub(crate) failure: Failure,
    pub(crate) error: Error,
}

impl Inference {
    /// Sends the request to the replica of `place`; `sent` is now.
    pub(crate) async fn attempt(
        &self,
        payload: &Payload,
        place: &Place,
        size: SizeBucket,
        sent: Moment,
    ) -> Result<(Response<UpstreamBody>, Beginning), Refused> {
        let replica = place.replica();
        let mut exchange = pin!(self.exchange(replica, payload));
        let outcome = match payload {
            Payload::Streaming(upload) if !replica.has_answered() => opening_late(upload, exchange).await,
            _ => exchange.as_mut().await,
        };
        let now = self.now();
        let latency = now.saturating_since(sent);
        match outcome {
            Ok(response) => {
                let status = meaning(self.protocol, response.status(), response.headers());
                match sentinel(status, response.headers()) {
                    Some(refused) => Err(refused),
                    None => {
                        // Whoever answers before it consents may wait for the body to end its answer.
                        payload.open_gate();
                        Ok((response, Beginning { size, sent, latency: (!self.is_stream).then_some(latency), status }))
                    }
                }
            }
            Err(error) => {
                if payload.failure().is_none() && !matches!(error, UpstreamError::Refused { .. }) {
                    self.model.record_failure(place, size, latency, now);
                }
                Err(refused_by(&error, replica))
            }
        }
    }

    /// One request and the head of its answer, over a connection of this thread.
    async fn exchange(&self, replica: &Replica, payload: &Payload) -> Result<Response<UpstreamBody>, UpstreamError> {
        let Some(body) = payload.attempt() else { return Err(UpstreamError::Consumed) };
        match self.protocol {
            Protocol::Rest => {
                let is_held_back = holds_back(replica, payload);
                let response = self.exchange_h1(replica, payload, body, is_held_back.then_some(CONTINUE)).await?;
                if is_held_back && response.status() == StatusCode::EXPECTATION_FAILED {
                    return Box::pin(self.exchange_unasked(replica, payload)).await;
                }
                Ok(response)
            }
            Protocol::Grpc => {
                let request = self.grpc_request(replica, body);
                let exchange = Box::pin(replica.h2(self.worker.index).exchange(replica.spec.addr, request));
                Ok(exchange.await?.map(UpstreamBody::H2))
            }
        }
    }

    /// Once more without the expectation, which was the gateway's own and which the replica does not meet (RFC 9110, section
    /// 10.1.1).
    async fn exchange_unasked(
        &self,
        replica: &Replica,
        payload: &Payload,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let body = payload.attempt().ok_or(UpstreamError::Consumed)?;
        payload.open_gate();
        self.exchange_h1(replica, payload, body, None).await
    }

    /// `expectation` is for the replica, and not the client's.
    async fn exchange_h1(
        &self,
        replica: &Replica,
        payload: &Payload,
        mut body: RequestBody,
        expectation: Option<HeaderValue>,
    ) -> Result<Response<UpstreamBody>, UpstreamError> {
        let head = RequestHead {
            method: &self.parts.method,
            target: self.target(),
            headers: &self.parts.headers,
            host: &|| self.host_header(replica),
            added: [
                replica.identity.clone().map(|identity| (REVISION, identity)),
                expectation.map(|expectation| (EXPECT, expectation)),
            ],
        };
        let pool = replica.h1(self.worker.index);
        while let Some(connection) = pool.take() {
            match connection.exchange(&head, body, pool).await {
                Ok(response) => return Ok(response.map(UpstreamBody::H1)),
                // The replica closed it while it was idle; the next one may be good.
                Err(UpstreamError::Unsent { .. }) => body = payload.attempt().ok_or(UpstreamError::Consumed)?,
                Err(error) => return Err(error),
            }
        }
        // Boxed, as all that is rare on this path: the future of a warm request is built and moved each time.
        Box::pin(async {
            let connection = H1Connection::open(replica.spec.addr, &self.worker.departures).await?;
            Ok(connection.exchange(&head, body, pool).await?.map(UpstreamBody::H1))
        })
        .await
    }

    fn grpc_request(&self, replica: &Replica, body: RequestBody) -> Request<RequestBody> {
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        *request.uri_mut() =
            Uri::try_from(format!("http://{}{}", replica.spec.addr, self.target())).unwrap_or_default();
        *request.version_mut() = Version::HTTP_2;
        let headers = request.headers_mut();
        headers.clone_from(&self.parts.headers);
        headers.remove(HOST);
        headers.insert(TE, HeaderValue::from_static("trailers"));
        if let Some(identity) = &replica.identity {
            headers.insert(REVISION, identity.clone());
        }
        request
    }

    /// The target as an HTTP/1.1 origin server expects it: path and query, no scheme and authority.
    fn target(&self) -> &str {
        self.parts.uri.path_and_query().map_or("/", PathAndQuery::as_str)
    }

    /// `Host` of a request that came over HTTP/2 with `:authority` alone.
    fn host_header(&self, replica: &Replica) -> HeaderValue {
        let authority = self.parts.uri.authority().map(|authority| HeaderValue::from_str(authority.as_str()));
        authority
            .and_then(Result::ok)
            .or_else(|| HeaderValue::from_str(&replica.spec.addr.to_string()).ok())
            .unwrap_or(HeaderValue::from_static("localhost"))
    }
}

/// Whether a body waits for the replica's consent: a long one does until the replica has shown that it holds the revision,
/// so that it can still be sent elsewhere.
fn holds_back(replica: &Replica, payload: &Payload) -> bool {
    let Payload::Streaming(upload) = payload else { return false };
    if replica.has_answered() {
        upload.open_gate();
        return false;
    }
    upload.close_gate();
    true
}

/// Waits for `exchange`, and lets the body go when the replica says nothing about it for a while.
async fn opening_late<F: Future>(upload: &Upload, mut exchange: Pin<&mut F>) -> F::Output {
    let mut patience = Box::pin(tokio::time::timeout(CONTINUE_TIMEOUT, exchange.as_mut()));
    if let Ok(outcome) = patience.as_mut().await {
        return outcome;
    }
    drop(patience);
    upload.open_gate();
    exchange.await
}

/// Whether an answer says that the request was not run, so that another replica may get it.
fn sentinel(status: StatusCode, headers: &HeaderMap) -> Option<Refused> {
    if status != StatusCode::MISDIRECTED_REQUEST && status != StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    let reason = headers.get(REASON)?.as_bytes();
    let (failure, reason) = match (status, reason) {
        (StatusCode::MISDIRECTED_REQUEST, b"misdirected") => (Failure::Misdirected, Reason::Misdirected),
        (StatusCode::SERVICE_UNAVAILABLE, b"replica-busy") => (Failure::Busy, Reason::ReplicaBusy),
        (StatusCode::SERVICE_UNAVAILABLE, b"draining" | b"shutting-down") => (Failure::Misdirected, Reason::Draining),
        _ => return None,
    };
    Some(Refused { failure, error: Error::Refused(reason) })
}

fn refused_by(error: &UpstreamError, replica: &Replica) -> Refused {
    let name = &replica.spec.name;
    match error {
        UpstreamError::Connect { .. } | UpstreamError::Unsent { .. } => {
            let message = format!("replica {name} could not be reached: {error}");
            let error = Error::Unavailable { reason: Reason::NoCapacity, message, retry_after: None };
            Refused { failure: Failure::Unsent, error }
        }
        UpstreamError::Refused { .. } => Refused { failure: Failure::Busy, error: Error::Refused(Reason::ReplicaBusy) },
        UpstreamError::Consumed | UpstreamError::Broken { .. } => {
            let error = Error::ReplicaLost { replica: name.clone(), detail: error.to_string() };
            Refused { failure: Failure::Lost, error }
        }
    }
}

pub(crate) const fn cause(failure: Failure) -> &'static str {
    match failure {
        Failure::Unsent => "unsent",
        Failure::Busy => "replica-busy",
        Failure::Misdirected => "misdirected",
        Failure::Lost => "replica-lost",
    }
}
