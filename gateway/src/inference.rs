//! One request to a model: read, place, send, and again where it surely did not run.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use gateway_policy::deadline::{GRPC_TIMEOUT, REQUEST_TIMEOUT, effective_timeout};
use gateway_policy::retry::{Body as Resend, Failure, Retry, may_retry};
use gateway_policy::{Moment, Outcome, Refusal, SizeBucket, Ticket};
use http::header::{EXPECT, HOST};
use http::request::Parts;
use http::{HeaderValue, Request, Response, StatusCode, Uri, Version};
use hyper::body::Incoming;
use tokio::time::Sleep;

use crate::account::Account;
use crate::body::{Relayed, ResponseBody, UpstreamBody};
use crate::demand::Fault;
use crate::error::{Error, Reason};
use crate::gateway::Worker;
use crate::hop_by_hop;
use crate::model::{Model, Place};
use crate::replica::{Activation, Origin, Replica};
use crate::respond::{DEVICE, Protocol, REASON, REPLICA, REVISION, SERVER_TIMING, refusal};
use crate::server_timing;
use crate::upload::{Payload, RequestBody};
use crate::upstream::{H1Connection, UpstreamError};

/// Whether a request may bring a model up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// An inference: it waits for a replica, and the control plane hears of it.
    Yes,
    /// Anything else: answered by a replica that is there, or not at all.
    No,
}

/// Longest wait for `100 Continue`; a client need not wait for ever (RFC 9110, section 10.1.1).
const CONTINUE_TIMEOUT: Duration = Duration::from_secs(1);

/// How long a place that a replica refused as taken stays taken here: another gateway's request is in it.
const BUSY_BACKOFF: Duration = Duration::from_millis(5);

const CONTINUE: HeaderValue = HeaderValue::from_static("100-continue");

/// A request to a model, with what is known of it before its body is read.
pub(crate) struct Inference {
    pub(crate) worker: Arc<Worker>,
    pub(crate) model: Arc<Model>,
    pub(crate) parts: Parts,
    pub(crate) protocol: Protocol,
    pub(crate) wake: Wake,
    pub(crate) caller: IpAddr,
    pub(crate) started: Moment,
}

/// A request that has been read and may be placed.
struct Admitted {
    payload: Payload,
    size: SizeBucket,
    timeout: Duration,
    deadline: Moment,
    timer: Pin<Box<Sleep>>,
}

/// A replica's answer, and how the request came to it.
struct Answered {
    response: Response<UpstreamBody>,
    place: Place,
    held: Option<Duration>,
    timer: Pin<Box<Sleep>>,
}

/// Why an attempt gave no answer to pass on.
struct Refused {
    failure: Failure,
    error: Error,
}

impl Inference {
    /// Answers the request whose body is `incoming`.
    pub(crate) async fn answer(mut self, incoming: Source) -> Response<ResponseBody> {
        let inner = &self.worker.inner;
        let admitted = inner.callers.as_ref().map(|callers| callers.admit(self.caller)).transpose();
        let present = (self.wake == Wake::Yes).then(|| self.model.arrive(self.started));
        let clock = inner.clock;
        let (caller, refused) = match admitted {
            Ok(caller) => (caller, None),
            Err(error) => (None, Some(error)),
        };
        let account = Account::open(&self.model, clock, self.started, present, caller);
        let outcome = match refused {
            Some(error) => Err(error),
            None => self.drive(incoming).await,
        };
        match outcome {
            Ok(answered) => self.relay(answered, account),
            Err(error) => {
                account.refuse(&error);
                refusal(&error, self.protocol)
            }
        }
    }

    async fn drive(&mut self, incoming: Source) -> Result<Answered, Error> {
        let mut admitted = self.admit(incoming).await?;
        hop_by_hop::strip_request(&mut self.parts.headers);
        self.parts.headers.remove(EXPECT);
        self.parts.headers.remove(REVISION);
        let mut ticket = None;
        let mut held = None;
        let mut attempts = 0;
        loop {
            let place = self.place(&mut admitted, &mut ticket, &mut held).await?;
            attempts += 1;
            let attempt = self.attempt(&admitted.payload, &place, admitted.size);
            let Some(outcome) = within(&mut admitted.timer, attempt).await else {
                let now = self.now();
                self.model.record_failure(&place, admitted.size, now.saturating_since(self.started), now);
                return Err(Error::Deadline(admitted.timeout));
            };
            let refused = match outcome {
                Ok(response) => return Ok(Answered { response, place, held, timer: admitted.timer }),
                Err(refused) => refused,
            };
            self.give_up_place(place, refused.failure);
            // What the client did to its own body explains more than the connection that it broke.
            if let Some(error) = admitted.payload.failure() {
                return Err(error);
            }
            let resend = if admitted.payload.attempt().is_some() { Resend::Whole } else { Resend::Consumed };
            if !may_retry(refused.failure, resend, attempts)
                || self.model.retry_budget.try_retry(self.now()) == Retry::Exhausted
            {
                return Err(refused.error);
            }
            self.model.metrics.count_retry(cause(refused.failure));
        }
    }

    /// Checks what can be checked before a replica is involved, and reads a small body whole.
    async fn admit(&self, incoming: Source) -> Result<Admitted, Error> {
        if let Some(error) = self.model.unavailable() {
            return Err(error);
        }
        let headers = &self.parts.headers;
        let timeout = effective_timeout(
            headers.get(REQUEST_TIMEOUT).map(HeaderValue::as_bytes),
            headers.get(GRPC_TIMEOUT).map(HeaderValue::as_bytes),
            self.model.route().timeout,
        )
        .map_err(|error| Error::BadRequest(error.to_string()))?;
        let deadline = self.started + timeout;
        let clock = self.worker.inner.clock;
        let mut timer = Box::pin(tokio::time::sleep_until(clock.instant(deadline)));
        let payload = match incoming {
            Source::Body(incoming) => {
                let reading = Payload::read(incoming, &self.worker.inner.settings.limits);
                within(&mut timer, reading).await.ok_or(Error::Deadline(timeout))??
            }
            Source::Read(payload) => payload,
        };
        let size = SizeBucket::of(payload.length());
        Ok(Admitted { payload, size, timeout, deadline, timer })
    }

    /// A slot of a replica: at once, or when one is free.
    async fn place(
        &self,
        admitted: &mut Admitted,
        ticket: &mut Option<Ticket>,
        held: &mut Option<Duration>,
    ) -> Result<Place, Error> {
        let began = self.now();
        if ticket.is_none()
            && let Some(place) = self.model.try_place(admitted.size, admitted.deadline, began)
        {
            return Ok(place);
        }
        if self.wake == Wake::No {
            return Err(self.no_replica("it has none with a free slot, and only an inference waits for one"));
        }
        self.check_hope()?;
        let bytes = admitted.payload.bytes_kept();
        let waiting = match self.model.hold(admitted.size, bytes, admitted.deadline, *ticket) {
            Ok(waiting) => waiting,
            Err(Refusal::Deadline) => return Err(Error::Deadline(admitted.timeout)),
            Err(Refusal::ShuttingDown) => return Err(Error::ShuttingDown),
            Err(Refusal::Full) => {
                return Err(Error::HoldFull { model: self.model.key.name.clone(), bound: "requests or bytes" });
            }
        };
        let Some((outcome, own_ticket)) = within(&mut admitted.timer, waiting.wait()).await else {
            return Err(Error::Deadline(admitted.timeout));
        };
        *ticket = Some(own_ticket);
        let waited = self.now().saturating_since(began);
        *held = Some(held.unwrap_or_default() + waited);
        match outcome {
            Some(Outcome::Released(place)) => Ok(place),
            Some(Outcome::Deadline) => Err(Error::Deadline(admitted.timeout)),
            Some(Outcome::ShuttingDown) => Err(Error::ShuttingDown),
            None => {
                self.check_hope()?;
                Err(self.no_replica("none could be brought up"))
            }
        }
    }

    /// Refuses a request that would wait in vain.
    fn check_hope(&self) -> Result<(), Error> {
        if !self.model.routing().is_empty() {
            return Ok(());
        }
        if let Some(trouble) = self.model.trouble(self.now()) {
            return Err(Error::Unavailable {
                reason: trouble.reason,
                message: trouble.message,
                retry_after: trouble.retry_after,
            });
        }
        if self.model.routing().scalable { Ok(()) } else { Err(self.no_replica("none is configured")) }
    }

    fn no_replica(&self, why: &str) -> Error {
        let message = format!("model {} has no replica for this request: {why}", self.model.key);
        Error::Unavailable { reason: Reason::NoCapacity, message, retry_after: None }
    }

    /// Sends the request to the replica of `place`.
    async fn attempt(
        &self,
        payload: &Payload,
        place: &Place,
        size: SizeBucket,
    ) -> Result<Response<UpstreamBody>, Refused> {
        let Some(body) = payload.attempt() else {
            return Err(Refused { failure: Failure::Lost, error: Error::Internal("an attempt without a body") });
        };
        let replica = place.replica();
        let sent = self.now();
        let request = self.request_for(replica, body);
        let exchange = exchange(self.worker.index, replica, request, self.protocol);
        let outcome = match payload {
            Payload::Streaming(upload) if !replica.has_answered() => opening_late(upload, exchange).await,
            _ => exchange.await,
        };
        let now = self.now();
        let latency = now.saturating_since(sent);
        match outcome {
            Ok(response) => {
                if let Some(refused) = sentinel(&response) {
                    return Err(refused);
                }
                if response.status().is_server_error() {
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

    /// What follows for the replica when an attempt on it failed.
    fn give_up_place(&self, place: Place, failure: Failure) {
        let replica = Arc::clone(place.replica());
        match failure {
            Failure::Busy => {
                tokio::spawn(async move {
                    tokio::time::sleep(BUSY_BACKOFF).await;
                    drop(place);
                });
            }
            Failure::Unsent | Failure::Misdirected => {
                if replica.spec.origin == Origin::Claimed {
                    self.model.suspend(&replica);
                }
                let misdirected = failure == Failure::Misdirected;
                let fault = if misdirected { Fault::Misdirected } else { Fault::Unreachable };
                self.model.report_fault(&replica, fault);
            }
            Failure::Lost => self.model.report_fault(&replica, Fault::Unreachable),
        }
    }

    fn request_for(&self, replica: &Replica, body: RequestBody) -> Request<RequestBody> {
        let mut headers = self.parts.headers.clone();
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
                headers.insert(http::header::TE, HeaderValue::from_static("trailers"));
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

    /// Passes a replica's answer on.
    fn relay(&self, answered: Answered, mut account: Account) -> Response<ResponseBody> {
        let Answered { response, place, held, timer } = answered;
        let replica = Arc::clone(place.replica());
        let first_use = replica.take_first_use();
        replica.record_answer();
        let (mut parts, upstream) = response.into_parts();
        hop_by_hop::strip_response(&mut parts.headers);
        parts.version = Version::HTTP_11;
        let headers = &mut parts.headers;
        let reason = if parts.status.is_success() { place.reason().as_str() } else { upstream_reason(headers) };
        headers.insert(DEVICE, HeaderValue::from_static(replica.spec.device.as_str()));
        headers.insert(REASON, HeaderValue::from_static(reason));
        headers.insert(REPLICA, replica.name_header.clone());
        let timing = server_timing::prepend(held, first_use, headers.get(SERVER_TIMING));
        headers.insert(SERVER_TIMING, timing);
        if let (Some(held), Some(first_use)) = (held, first_use) {
            self.observe_cold_start(held, first_use);
        }
        let answer = account.relay(place, parts.status, reason);
        Response::from_parts(parts, ResponseBody::Relayed(Relayed::new(upstream, account, answer, timer)))
    }

    fn observe_cold_start(&self, held: Duration, activation: Activation) {
        let metrics = &self.model.metrics;
        metrics.cold_hold.observe(held.as_secs_f64());
        metrics.cold_claim.observe(activation.claim.as_secs_f64());
        metrics.cold_specialize.observe(activation.specialize.as_secs_f64());
        metrics.cold_load.observe(activation.load.as_secs_f64());
        metrics.cold_first_byte.observe(self.now().saturating_since(self.started).as_secs_f64());
    }

    fn now(&self) -> Moment {
        self.worker.inner.clock.now()
    }
}

/// The body of a request: still to be read, or read already to find the model's name in it.
pub(crate) enum Source {
    Body(Incoming),
    Read(Payload),
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
            let connection = match pool.take() {
                Some(connection) => connection,
                None => H1Connection::open(replica.spec.addr).await?,
            };
            Ok(connection.exchange(request, Arc::clone(pool)).await?.map(UpstreamBody::H1))
        }
        Protocol::Grpc => Ok(replica.h2(thread).exchange(replica.spec.addr, request).await?.map(UpstreamBody::H2)),
    }
}

/// Waits for `exchange`, and lets the body go when the replica says nothing about it for a while.
async fn opening_late<T>(upload: &crate::upload::Upload, exchange: impl Future<Output = T>) -> T {
    let mut exchange = pin!(exchange);
    match tokio::time::timeout(CONTINUE_TIMEOUT, exchange.as_mut()).await {
        Ok(outcome) => outcome,
        Err(_) => {
            upload.open_gate();
            exchange.await
        }
    }
}

/// Waits for `future`; `None` when `timer` is due first.
async fn within<F: Future>(timer: &mut Pin<Box<Sleep>>, future: F) -> Option<F::Output> {
    let mut future = pin!(future);
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => timer.as_mut().poll(cx).map(|()| None),
    })
    .await
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

const fn cause(failure: Failure) -> &'static str {
    match failure {
        Failure::Unsent => "unsent",
        Failure::Busy => "replica-busy",
        Failure::Misdirected => "misdirected",
        Failure::Lost => "replica-lost",
    }
}

/// The reason that a replica gave for an error, if it is one of the closed set.
fn upstream_reason(headers: &http::HeaderMap) -> &'static str {
    let given = headers.get(REASON).map(HeaderValue::as_bytes);
    let known = given.and_then(|given| Reason::ALL.into_iter().find(|reason| reason.as_str().as_bytes() == given));
    known.map_or("upstream-error", Reason::as_str)
}
