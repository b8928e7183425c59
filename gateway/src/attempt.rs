//! One attempt to get a request answered by one replica.

use std::future::Future;
use std::pin::{Pin, pin};
use std::time::Duration;

use gateway_policy::retry::Failure;
use gateway_policy::{Moment, SizeBucket};
use http::header::{EXPECT, HOST, TE};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Uri, Version};

use crate::body::UpstreamBody;
use crate::error::{Error, Reason};
use crate::inference::{ADDED_HEADERS, Inference};
use crate::model::Place;
use crate::replica::Replica;
use crate::respond::{Protocol, REASON, REVISION};
use crate::upload::{Payload, RequestBody, Upload};
use crate::upstream::{H1Connection, UpstreamError};

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
    ) -> Result<Response<UpstreamBody>, Refused> {
        let Some(body) = payload.attempt() else {
            return Err(Refused { failure: Failure::Lost, error: Error::Internal("an attempt without a body") });
        };
        let replica = place.replica();
        let request = self.request_for(replica, body);
        let mut exchange = pin!(exchange(self.worker.index, replica, request, self.protocol));
        let outcome = match payload {
            Payload::Streaming(upload) if !replica.has_answered() => opening_late(upload, exchange).await,
            _ => exchange.as_mut().await,
        };
        let now = self.now();
        let latency = now.saturating_since(sent);
        match outcome {
            Ok(response) => {
                if let Some(refused) = sentinel(&response) {
                    return Err(refused);
                }
                if is_fault(response.status()) {
                    self.model.record_failure(place, size, latency, now);
                } else {
                    self.model.record_served(place, size, latency, now);
                }
                Ok(response)
            }
            Err(error) => {
                if payload.failure().is_none() {
                    self.model.record_failure(place, size, latency, now);
                }
                Err(refused_by(&error, replica))
            }
        }
    }

    fn request_for(&self, replica: &Replica, body: RequestBody) -> Request<RequestBody> {
        // A clone would have no room left: neither for what is inserted here, nor for what the answer's headers, which hyper
        // keeps in the same memory, get later.
        let mut headers = HeaderMap::with_capacity(self.parts.headers.len() + ADDED_HEADERS);
        for (name, value) in &self.parts.headers {
            headers.append(name, value.clone());
        }
        if let Some(identity) = &replica.identity {
            headers.insert(REVISION, identity.clone());
        }
        let path = self.parts.uri.path_and_query().map_or("/", |path| path.as_str());
        let gate = match &body {
            RequestBody::Streaming(upload) => {
                let waits = !replica.has_answered() && self.protocol == Protocol::Rest;
                if waits {
                    headers.insert(EXPECT, CONTINUE);
                    upload.close_gate();
                } else {
                    upload.open_gate();
                }
                waits.then(|| upload.clone())
            }
            RequestBody::Empty | RequestBody::Full(_) => None,
        };
        let mut request = Request::new(body);
        *request.method_mut() = self.parts.method.clone();
        match self.protocol {
            Protocol::Rest => {
                if !headers.contains_key(HOST) {
                    headers.insert(HOST, self.host_header(replica));
                }
                *request.uri_mut() = self.origin_form(path);
            }
            Protocol::Grpc => {
                let absolute = format!("http://{}{path}", replica.spec.addr);
                *request.uri_mut() = Uri::try_from(absolute).unwrap_or_default();
                *request.version_mut() = Version::HTTP_2;
                headers.remove(HOST);
                headers.insert(TE, HeaderValue::from_static("trailers"));
            }
        }
        *request.headers_mut() = headers;
        if let Some(upload) = gate {
            hyper::ext::on_informational(&mut request, move |response| {
                if response.status() == StatusCode::CONTINUE {
                    upload.open_gate();
                }
            });
        }
        request
    }

    /// The target as an HTTP/1.1 origin server expects it: path and query, no scheme and authority.
    fn origin_form(&self, path: &str) -> Uri {
        if self.parts.uri.authority().is_none() {
            return self.parts.uri.clone();
        }
        Uri::try_from(path).unwrap_or_default()
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

/// One request and the head of its answer, over a connection of this thread.
async fn exchange(
    thread: usize,
    replica: &Replica,
    request: Request<RequestBody>,
    protocol: Protocol,
) -> Result<Response<UpstreamBody>, UpstreamError> {
    match protocol {
        Protocol::Rest => {
            let pool = replica.h1(thread);
            let mut request = request;
            while let Some(connection) = pool.take() {
                match connection.exchange(request, pool).await {
                    Ok(response) => return Ok(response.map(UpstreamBody::H1)),
                    // The replica closed it while it was idle; the next one may be good.
                    Err(mut error) => match error.take_message() {
                        Some(unsent) => request = unsent,
                        None => return Err(error.into()),
                    },
                }
            }
            // Boxed, as all that is rare on this path: the future of a warm request is built and moved each time.
            Box::pin(async move {
                let connection = H1Connection::open(replica.spec.addr).await?;
                Ok(connection.exchange(request, pool).await?.map(UpstreamBody::H1))
            })
            .await
        }
        Protocol::Grpc => {
            let exchange = Box::pin(replica.h2(thread).exchange(replica.spec.addr, request));
            Ok(exchange.await?.map(UpstreamBody::H2))
        }
    }
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

/// Whether an answer speaks against the replica. What a caller can bring about, by its own deadline or by asking for what
/// no replica has, does not.
fn is_fault(status: StatusCode) -> bool {
    status.is_server_error() && status != StatusCode::GATEWAY_TIMEOUT && status != StatusCode::NOT_IMPLEMENTED
}

/// Whether an answer says that the request was not run, so that another replica may get it.
fn sentinel(response: &Response<UpstreamBody>) -> Option<Refused> {
    let status = response.status();
    if status != StatusCode::MISDIRECTED_REQUEST && status != StatusCode::SERVICE_UNAVAILABLE {
        return None;
    }
    let reason = response.headers().get(REASON)?.as_bytes();
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
        UpstreamError::Broken { .. } => {
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
