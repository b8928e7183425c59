//! What becomes of a request, counted once: when its answer has arrived whole from the replica, or will not.

use std::sync::Arc;
use std::time::Duration;

use gateway_policy::{Device, Moment};
use http::{HeaderMap, StatusCode};
use poolctl_runtime::Clock;

use crate::caller::CallerPermit;
use crate::demand::Fault;
use crate::error::{CLIENT_GONE, Error, Reason};
use crate::inference::Wake;
use crate::model::{Model, Place};
use crate::upstream::ConnectionError;
use crate::verdict::{self, Bearing, Beginning};

/// The account of one request to a model. It lives in the answer's body until the replica has sent that, however slowly
/// the client takes it; dropped before, it counts the client as gone.
pub(crate) struct Account {
    clock: Clock,
    started: Moment,
    model: Arc<Model>,
    device: Option<Device>,
    status: StatusCode,
    reason: &'static str,
    place: Option<Place>,
    /// Whether the model counts the request among those it has.
    is_present: bool,
    /// When the answer was complete; asked for once.
    completed: Option<Moment>,
    _caller: Option<CallerPermit>,
}

impl Account {
    /// Of a request that began at `started`. The model counts those that may bring it up until their account closes.
    pub(crate) fn open(
        model: &Arc<Model>,
        clock: Clock,
        started: Moment,
        wake: Wake,
        caller: Option<CallerPermit>,
    ) -> Self {
        let is_present = wake == Wake::Yes;
        if is_present {
            model.arrive(started);
        }
        Self {
            clock,
            started,
            model: Arc::clone(model),
            device: None,
            status: CLIENT_GONE,
            reason: Reason::ClientGone.as_str(),
            place: None,
            is_present,
            completed: None,
            _caller: caller,
        }
    }

    /// The request is on a replica of this device, or on none any more.
    pub(crate) fn runs_on(&mut self, device: Option<Device>) {
        self.device = device;
    }

    /// The gateway itself answers.
    pub(crate) fn refuse(mut self, error: &Error) {
        self.status = error.http_status();
        self.reason = error.reason().as_str();
    }

    /// A replica answers; its slot stays taken until the account closes.
    pub(crate) fn relay(&mut self, place: Place, reason: &'static str, beginning: Beginning) -> Answer {
        self.device = Some(place.replica().spec.device);
        self.place = Some(place);
        Answer { reason, beginning }
    }

    /// The last byte has arrived from the replica.
    pub(crate) fn complete(mut self, answer: Answer) {
        let Beginning { size, sent, latency, status } = answer.beginning;
        self.set_outcome(status, answer.reason);
        let now = self.now();
        self.completed = Some(now);
        let Some(place) = &self.place else { return };
        let took = latency.unwrap_or(now.saturating_since(sent));
        match (answer.bearing(), latency) {
            (Bearing::Fault, _) => self.model.record_failure(place, size, took, now),
            (Bearing::RunFailed, _) => self.model.record_failed_run(place, size, took, now),
            (Bearing::Served, Some(latency)) if self.is_present => self.model.record_served(place, size, latency, now),
            // Statistics, say, are no run of the model; a stream's length says nothing of what a run takes, nor its end of
            // whether its runs failed; and a refusal ran nothing.
            (Bearing::Served | Bearing::Refused, _) => self.model.record_answer(place),
        }
    }

    /// The answer ends early with this error; its client knows of this status.
    pub(crate) fn break_off(mut self, status: StatusCode, error: &Error) {
        self.set_outcome(status, error.reason().as_str());
    }

    /// The replica broke its answer off: why, in the words of the gateway.
    pub(crate) fn lose(&mut self, answer: Answer, broken: &ConnectionError) -> Error {
        let now = self.now();
        let mut name = String::new();
        if let Some(place) = &self.place {
            let Beginning { size, sent, .. } = answer.beginning;
            self.model.record_failure(place, size, now.saturating_since(sent), now);
            self.model.report_fault(place.replica(), Fault::Unreachable);
            name.clone_from(&place.replica().spec.name);
        }
        Error::ReplicaLost { replica: name, detail: broken.to_string() }
    }

    /// The deadline passed before the answer was complete; its client knows of `status`. `silence` is for how long the replica
    /// had said nothing, if it was waited for.
    pub(crate) fn pass_deadline(mut self, answer: Answer, status: StatusCode, silence: Option<Duration>) {
        self.set_outcome(status, Reason::Deadline.as_str());
        let now = self.now();
        if let Some(place) = self.failing_place(answer, silence) {
            self.model.record_failure(place, answer.beginning.size, now.saturating_since(answer.beginning.sent), now);
        }
    }

    /// The client left before the answer was complete; `silence` as above.
    pub(crate) fn leave(self, answer: Answer, silence: Option<Duration>) {
        if let Some(place) = self.failing_place(answer, silence) {
            // How long it would have taken is not known: the predicted times stay as they are.
            self.model.count_failure(place.replica(), self.now());
        }
    }

    /// The place, if what is known of the answer speaks against its replica.
    fn failing_place(&self, answer: Answer, silence: Option<Duration>) -> Option<&Place> {
        let place = self.place.as_ref()?;
        let fails = answer.bearing() == Bearing::Fault || silence.is_some_and(|silence| place.is_overdue(silence));
        fails.then_some(place)
    }

    pub(crate) fn now(&self) -> Moment {
        self.clock.now()
    }

    const fn set_outcome(&mut self, status: StatusCode, reason: &'static str) {
        self.status = status;
        self.reason = reason;
    }
}

/// An answer that is being relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) reason: &'static str,
    pub(crate) beginning: Beginning,
}

impl Answer {
    fn bearing(&self) -> Bearing {
        Bearing::of(self.beginning.status, self.reason)
    }

    /// What the answer's trailers add: over gRPC a call may fail after its answer began.
    pub(crate) fn end_with(&mut self, trailers: &HeaderMap) {
        if let Some(status) = verdict::failed_call(trailers) {
            self.beginning.status = status;
            self.reason = verdict::reason(status, trailers);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        self.place = None;
        self.model.metrics.count(self.device, self.status, self.reason);
        let now = self.completed.unwrap_or_else(|| self.now());
        if self.is_present {
            self.model.depart(now);
        }
        if let Some(device) = self.device {
            let took = now.saturating_since(self.started);
            self.model.metrics.device(device).duration.observe(took.as_secs_f64());
        }
    }
}
