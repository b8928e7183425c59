//! The way past hyper for small bodies that arrive with their heads.
//!
//! hyper hands a body on through a channel, though whoever reads it runs in the same task: that takes memory, locks, and
//! wake-ups that poll the whole connection once more for nothing. A body that is there already needs none of it. The
//! filter takes it out, and the line of the head that announces it; hyper sees a request without a body, and the service
//! finds the body here.

use bytes::Bytes;
use parking_lot::Mutex;

/// Longest body that goes past hyper: it is copied out of hyper's buffer, which must cost less than it saves.
pub(super) const BYPASS_BYTES: usize = 4 << 10;

/// Bodies on their way from the filter of a connection to the service of the same connection.
#[derive(Debug, Default)]
pub(crate) struct Bypass(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Requests that hyper has made of the heads that it was given. It makes one of each, in their order.
    requests: u64,
    /// With the number of its head, from 1 on.
    body: Option<(u64, Bytes)>,
}

impl Bypass {
    /// Puts the body of the head with this number, unless an earlier one has not been taken.
    pub(super) fn put(&self, head: u64, body: &[u8]) -> bool {
        let mut state = self.0.lock();
        let is_free = state.body.is_none();
        if is_free {
            state.body = Some((head, Bytes::copy_from_slice(body)));
        }
        is_free
    }

    /// The body of the next request, if it went this way. To be asked once for each request.
    pub(crate) fn take(&self) -> Option<Bytes> {
        let mut state = self.0.lock();
        state.requests += 1;
        let requests = state.requests;
        state.body.take_if(|(head, _)| *head == requests).map(|(_, body)| body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_goes_to_the_request_of_its_head() {
        let bypass = Bypass::default();
        assert_eq!(bypass.take(), None);
        assert!(bypass.put(3, b"third"));
        assert!(!bypass.put(4, b"fourth"), "one at a time");
        assert_eq!(bypass.take(), None, "of the second head");
        assert_eq!(bypass.take().unwrap(), "third");
        assert_eq!(bypass.take(), None);
    }
}
