//! One request to a model: read, place, send, and again where it surely did not run.

use std::future::{Future, poll_fn};
use std::net::IpAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use gateway_policy::deadline::effective_timeout;
use gateway_policy::retry::{Body as Resend, Failure, Retry, may_retry};
use gateway_policy::{Moment, Outcome, Refusal, SizeBucket, Ticket};
use http::header::Entry;
use http::request::Parts;
use http::{HeaderValue, Response, Version};

use crate::account::Account;
use crate::attempt::cause;
use crate::body::{ResponseBody, UpstreamBody};
use crate::caller::CallerPermit;
use crate::demand::Fault;
use crate::error::{Error, Reason};
use crate::extent::Extent;
use crate::gateway::Worker;
use crate::hop_by_hop;
use crate::model::{Model, Place, Unanswered, Wanted};
use crate::relay::{Deadline, EarlyEnd};
use crate::replica::Activation;
use crate::respond::{DEVICE, Protocol, REASON, REPLICA, SERVER_TIMING, refusal};
use crate::server_timing;
use crate::timer::Timer;
use crate::upload::{Payload, Source, Upload};
use crate::upstream::H2Slot;
use crate::verdict::{self, Beginning};

/// Whether a request may bring a model up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Wake {
    /// An inference: it waits for a replica, and the control plane hears of it.
    Yes,
    /// Anything else: answered by a replica that is there, or not at all.
    No,
}

/// How long a place that a replica refused as taken stays taken here: another gateway's request is in it.
const BUSY_BACKOFF: Duration = Duration::from_millis(5);

/// Headers that an answer gets at most on its way.
pub(crate) const ADDED_HEADERS: usize = 4;

/// A request to a model, with what is known of it before its body is read.
pub(crate) struct Inference {
    pub(crate) worker: Arc<Worker>,
    pub(crate) model: Arc<Model>,
    pub(crate) parts: Parts,
    pub(crate) asked: AskedTimeouts,
    pub(crate) protocol: Protocol,
    pub(crate) wake: Wake,
    /// Whether it is a stream of messages, each answered by itself.
    pub(crate) is_stream: bool,
    pub(crate) caller: IpAddr,
    pub(crate) started: Moment,
}

/// The timeouts that a request's headers ask for.
pub(crate) struct AskedTimeouts {
    pub(crate) http: Option<HeaderValue>,
    pub(crate) grpc: Option<HeaderValue>,
}

impl AskedTimeouts {
    /// How long the request may take, and no longer than `longest`.
    pub(crate) fn effective(&self, longest: Duration) -> Result<Duration, Error> {
        let [http, grpc] = [&self.http, &self.grpc].map(|value| value.as_ref().map(HeaderValue::as_bytes));
        effective_timeout(http, grpc, longest).map_err(|error| Error::BadRequest(error.to_string()))
    }
}

/// A request that has been read and may be placed.
struct Admitted {
    payload: Payload,
    size: SizeBucket,
    timeout: Duration,
    deadline: Moment,
    timer: Timer,
    /// When it had been read.
    since: Moment,
}

/// A replica's answer, and how the request came to it.
struct Answered {
    response: Response<UpstreamBody>,
    beginning: Beginning,
    /// Of the request's body, what is streamed.
    upload: Option<Upload>,
    place: Place,
    held: Option<Duration>,
    deadline: Deadline,
}

impl Inference {
    /// Answers the request with this body. `permit` is the caller's, if it has got it already.
    pub(crate) async fn answer(mut self, body: Source, permit: Option<CallerPermit>) -> Response<ResponseBody> {
        let inner = &self.worker.inner;
        let admitted = if permit.is_some() { Ok(permit) } else { inner.admit(self.caller) };
        let clock = inner.clock;
        let (caller, refused) = match admitted {
            Ok(caller) => (caller, None),
            Err(error) => (None, Some(error)),
        };
        let mut account = Account::open(&self.model, clock, self.started, self.wake, caller);
        let outcome = match refused {
            Some(error) => Err(error),
            None => self.drive(body, &mut account).await,
        };
        match outcome {
            Ok(answered) => self.relay(answered, account),
            Err(error) => {
                account.refuse(&error);
                refusal(&error, self.protocol)
            }
        }
    }

    async fn drive(&mut self, body: Source, account: &mut Account) -> Result<Answered, Error> {
        let mut admitted = self.admit(body).await?;
        hop_by_hop::strip_request(&mut self.parts.headers);
        if self.protocol == Protocol::Rest && self.parts.version == Version::HTTP_2 {
            hop_by_hop::join_cookies(&mut self.parts.headers);
        }
        let mut ticket = None;
        let mut held = None;
        let mut attempts = 0;
        let mut began = admitted.since;
        loop {
            let (place, sent) = self.place(&mut admitted, began, &mut ticket, &mut held).await?;
            attempts += 1;
            account.runs_on(Some(place.replica().spec.device));
            let outcome = {
                let unanswered = Unanswered::new(&self.model, &place, self.shared(&place), &admitted.payload, sent);
                let attempt = pin!(self.attempt(&admitted.payload, &place, admitted.size, sent));
                let outcome = within(&mut admitted.timer, attempt).await;
                unanswered.ended();
                outcome
            };
            let Some(outcome) = outcome else {
                let now = self.now();
                let took = now.saturating_since(sent);
                let silence = admitted.payload.whole_for(took);
                if silence.is_some_and(|silence| place.is_overdue(silence)) {
                    self.model.record_failure(&place, admitted.size, took, now);
                    self.shared(&place).into_iter().for_each(H2Slot::clear);
                }
                return Err(Error::Deadline(admitted.timeout));
            };
            let refused = match outcome {
                Ok((response, beginning)) => {
                    let Admitted { payload, timeout, timer, .. } = admitted;
                    let (upload, deadline) = (payload.into_upload(), Deadline { timeout, timer });
                    return Ok(Answered { response, beginning, upload, place, held, deadline });
                }
                Err(refused) => refused,
            };
            account.runs_on((refused.failure == Failure::Lost).then_some(place.replica().spec.device));
            // What the client did to its own body explains more than the connection that broke by it, and is no fault of the
            // replica.
            if let Some(error) = admitted.payload.failure() {
                return Err(error);
            }
            self.give_up_place(place, refused.failure);
            let resend = if admitted.payload.attempt().is_some() { Resend::Whole } else { Resend::Consumed };
            if !may_retry(refused.failure, resend, attempts)
                || self.model.retry_budget.try_retry(self.now()) == Retry::Exhausted
            {
                return Err(refused.error);
            }
            self.model.metrics.count_retry(cause(refused.failure));
            began = self.now();
        }
    }

    /// Checks what can be checked before a replica is involved, and reads a small body whole.
    async fn admit(&self, body: Source) -> Result<Admitted, Error> {
        if let Some(error) = self.model.unavailable() {
            return Err(error);
        }
        let timeout = self.asked.effective(self.model.route().timeout)?;
        let deadline = self.started + timeout;
        let clock = self.worker.inner.clock;
        let mut timer = self.worker.timers.at(clock.instant(deadline));
        // A body that is there takes no time.
        let is_there = matches!(body, Source::Arrived(_));
        let limit = self.worker.inner.settings.limits.max_body_bytes;
        let reading = pin!(Payload::read(body, Extent::of_body(limit), &self.worker));
        let payload = within(&mut timer, reading).await.ok_or(Error::Deadline(timeout))??;
        let size = SizeBucket::of(payload.length());
        let since = if is_there { self.started } else { self.now() };
        Ok(Admitted { payload, size, timeout, deadline, timer, since })
    }

    /// A slot of a replica, and when the request got it: at `began`, which is now, or when one is free.
    async fn place(
        &self,
        admitted: &mut Admitted,
        began: Moment,
        ticket: &mut Option<Ticket>,
        held: &mut Option<Duration>,
    ) -> Result<(Place, Moment), Error> {
        let is_timed = self.wake == Wake::Yes && !self.is_stream;
        let wanted = Wanted { size: admitted.size, deadline: admitted.deadline, is_timed };
        if ticket.is_none()
            && let Some(place) = self.model.try_place(wanted, began)
        {
            return Ok((place, began));
        }
        if self.wake == Wake::No {
            return Err(self.no_replica("it has none with a free slot, and only an inference waits for one"));
        }
        self.check_hope()?;
        let bytes = admitted.payload.bytes_kept();
        let waiting = match self.model.hold(wanted, bytes, *ticket) {
            Ok(waiting) => waiting,
            Err(Refusal::Deadline) => return Err(Error::Deadline(admitted.timeout)),
            Err(Refusal::ShuttingDown) => return Err(Error::ShuttingDown),
            Err(Refusal::Full) => {
                return Err(Error::HoldFull { model: self.model.key.name.clone(), bound: "requests or bytes" });
            }
        };
        // Whatever ends all hope ends the waits that it finds: this one may have begun after that.
        self.check_hope()?;
        let waiting = pin!(admitted.payload.reading_on(waiting.wait()));
        let waited = within(&mut admitted.timer, waiting).await.ok_or(Error::Deadline(admitted.timeout))?;
        let (outcome, own_ticket) = waited?;
        *ticket = Some(own_ticket);
        let now = self.now();
        let waited = now.saturating_since(began);
        *held = Some(held.unwrap_or_default() + waited);
        match outcome {
            Some(Outcome::Released(place)) => Ok((place, now)),
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
        if self.model.is_retired() {
            return Err(Error::ModelNotFound(format!(
                "model {} was removed before its request was served",
                self.model.key
            )));
        }
        if let Some(trouble) = self.model.trouble(self.now()) {
            return Err(trouble.into());
        }
        if self.model.routing().scalable { Ok(()) } else { Err(self.no_replica("none is configured")) }
    }

    fn no_replica(&self, why: &str) -> Error {
        let message = format!("model {} has no replica for this request: {why}", self.model.key);
        Error::Unavailable { reason: Reason::NoCapacity, message, retry_after: None }
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
                self.model.suspend(&replica);
                let misdirected = failure == Failure::Misdirected;
                let fault = if misdirected { Fault::Misdirected } else { Fault::Unreachable };
                self.model.report_fault(&replica, fault);
            }
            Failure::Lost => self.model.report_fault(&replica, Fault::Unreachable),
        }
    }

    /// The connection to the replica that the request shares with others, if it does. It gets no new request once one was
    /// met with silence: it may be dead, though the replica is not.
    fn shared<'a>(&self, place: &'a Place) -> Option<&'a H2Slot> {
        (self.protocol == Protocol::Grpc).then(|| place.replica().h2(self.worker.index))
    }

    /// Passes a replica's answer on, unless it breaks off before anything of it was.
    fn relay(&self, answered: Answered, mut account: Account) -> Response<ResponseBody> {
        let Answered { response, beginning, upload, place, held, deadline } = answered;
        let replica = Arc::clone(place.replica());
        let (mut parts, upstream) = response.into_parts();
        let fails = verdict::fails(self.protocol, beginning.status);
        let reason = if fails { verdict::reason(beginning.status, &parts.headers) } else { place.reason().as_str() };
        let answer = account.relay(place, reason, beginning);
        // Over HTTP/1 a client gets no trailers unless it knows of them beforehand.
        let early_end = match self.protocol {
            Protocol::Grpc if self.parts.version == Version::HTTP_2 => EarlyEnd::GrpcTrailers,
            Protocol::Grpc | Protocol::Rest => EarlyEnd::Reset,
        };
        let body = match ResponseBody::relay(upstream, account, answer, upload, (deadline, early_end)) {
            Ok(body) => body,
            Err(error) => return refusal(&error, self.protocol),
        };
        let first_use = replica.take_first_use();
        replica.record_answer();
        hop_by_hop::strip_response(parts.status, &mut parts.headers);
        parts.version = Version::HTTP_11;
        let headers = &mut parts.headers;
        headers.insert(DEVICE, HeaderValue::from_static(replica.spec.device.as_str()));
        headers.insert(REASON, HeaderValue::from_static(reason));
        headers.insert(REPLICA, replica.name_header.clone());
        match headers.entry(SERVER_TIMING) {
            Entry::Vacant(none) => drop(none.insert(server_timing::prepend(held, first_use, []))),
            Entry::Occupied(mut given) => {
                let timing = server_timing::prepend(held, first_use, given.iter());
                given.insert(timing);
            }
        }
        if let (Some(held), Some(first_use)) = (held, first_use) {
            self.observe_cold_start(held, first_use);
        }
        Response::from_parts(parts, body)
    }

    fn observe_cold_start(&self, held: Duration, activation: Activation) {
        let metrics = &self.model.metrics;
        metrics.cold_hold.observe(held.as_secs_f64());
        metrics.cold_backoff.observe(activation.backoff.as_secs_f64());
        metrics.cold_claim.observe(activation.claim.as_secs_f64());
        metrics.cold_specialize.observe(activation.specialize.as_secs_f64());
        metrics.cold_load.observe(activation.load.as_secs_f64());
        metrics.cold_first_byte.observe(self.now().saturating_since(self.started).as_secs_f64());
    }

    pub(crate) fn now(&self) -> Moment {
        self.worker.inner.clock.now()
    }
}

/// Waits for `future`; `None` when `timer` is due first.
async fn within<F: Future>(timer: &mut Timer, mut future: Pin<&mut F>) -> Option<F::Output> {
    poll_fn(|cx| match future.as_mut().poll(cx) {
        Poll::Ready(output) => Poll::Ready(Some(output)),
        Poll::Pending => Pin::new(&mut *timer).poll(cx).map(|()| None),
    })
    .await
}
