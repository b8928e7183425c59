//! Requests whose client leaves before the replica has said anything.

use gateway_policy::Moment;

use super::{Model, Place};
use crate::upload::Payload;
use crate::upstream::H2Slot;

/// A request that was sent to a replica and has no answer yet. Dropped so, because its client left, it counts against a
/// replica that had long enough: one that hangs would otherwise be given request after request of impatient callers.
pub(crate) struct Unanswered<'a> {
    model: &'a Model,
    place: &'a Place,
    shared: Option<&'a H2Slot>,
    payload: &'a Payload,
    sent: Option<Moment>,
}

impl<'a> Unanswered<'a> {
    /// Of a request that was sent at `sent`; `shared` is the connection, if others are on it.
    pub(crate) const fn new(
        model: &'a Model,
        place: &'a Place,
        shared: Option<&'a H2Slot>,
        payload: &'a Payload,
        sent: Moment,
    ) -> Self {
        Self { model, place, shared, payload, sent: Some(sent) }
    }

    /// The attempt came to an end by itself.
    pub(crate) fn ended(mut self) {
        self.sent = None;
    }
}

impl Drop for Unanswered<'_> {
    fn drop(&mut self) {
        let Some(sent) = self.sent else { return };
        let now = self.model.clock.now();
        let silence = self.payload.whole_for(now.saturating_since(sent));
        if silence.is_some_and(|silence| self.place.is_overdue(silence)) {
            // How long it would have taken is not known: the predicted times stay as they are.
            self.model.count_failure(self.place.replica(), now);
            self.shared.into_iter().for_each(H2Slot::clear);
        }
    }
}
