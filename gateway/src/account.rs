//! What becomes of a request, counted once, when the last byte of its answer has left or the client has.

use std::sync::Arc;

use gateway_policy::{Device, Moment};
use http::StatusCode;
use poolctl_runtime::Clock;

use crate::caller::CallerPermit;
use crate::error::{Error, Reason};
use crate::inference::Wake;
use crate::model::{Model, Place};

/// The code under which a request is counted whose client left: nginx's, since HTTP has none.
const CLIENT_GONE: u16 = 499;

/// The reason under which such a request is counted.
const CLIENT_GONE_REASON: &str = "client-gone";

/// The account of one request to a model. It lives in the answer's body; dropped before the answer is complete, it counts
/// the client as gone.
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
            status: StatusCode::from_u16(CLIENT_GONE).unwrap_or(StatusCode::BAD_REQUEST),
            reason: CLIENT_GONE_REASON,
            place: None,
            is_present,
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

    /// A replica answers; its slot stays taken until [`Account::complete`] or the end of the account.
    pub(crate) fn relay(&mut self, place: Place, status: StatusCode, reason: &'static str) -> Answer {
        self.device = Some(place.replica().spec.device);
        self.place = Some(place);
        Answer { status, reason }
    }

    /// The last byte has arrived from the replica.
    pub(crate) fn complete(&mut self, answer: Answer) {
        self.status = answer.status;
        self.reason = answer.reason;
        self.place = None;
    }

    /// The answer ends early, through no fault of the client.
    pub(crate) fn break_off(&mut self, answer: Answer, reason: Reason) {
        self.status = answer.status;
        self.reason = reason.as_str();
        self.place = None;
    }
}

/// Status and reason of an answer that is being relayed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) reason: &'static str,
}

impl Drop for Account {
    fn drop(&mut self) {
        self.model.metrics.count(self.device, self.status, self.reason);
        let now = self.clock.now();
        if self.is_present {
            self.model.depart(now);
        }
        if let Some(device) = self.device {
            let took = now.saturating_since(self.started);
            self.model.metrics.device(device).duration.observe(took.as_secs_f64());
        }
    }
}
