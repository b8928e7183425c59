//! Requests whose client leaves before the replica has said anything.

use gateway_policy::Moment;

use super::{Model, Place};

/// A request that was sent to a replica and has no answer yet. Dropped so, because its client left, it counts against a
/// replica that had long enough: one that hangs would otherwise be given request after request of impatient callers.
pub(crate) struct Unanswered<'a> {
    model: &'a Model,
    place: &'a Place,
    sent: Option<Moment>,
}

impl<'a> Unanswered<'a> {
    pub(crate) const fn new(model: &'a Model, place: &'a Place, sent: Moment) -> Self {
        Self { model, place, sent: Some(sent) }
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
        if self.place.is_overdue(now.saturating_since(sent)) {
            // How long it would have taken is not known: the predicted times stay as they are.
            self.model.count_failure(self.place.replica(), now);
        }
    }
}
