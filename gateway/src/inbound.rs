//! Request bodies as a client's connection gives them.

use std::error::Error as _;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;

use crate::error::Error;
use crate::strict_http::Violation;

/// A body that is read from a client's connection.
pub(crate) struct Inbound {
    incoming: Incoming,
    /// Whether it came over HTTP/2.
    http2: bool,
}

impl Inbound {
    pub(crate) const fn new(incoming: Incoming, http2: bool) -> Self {
        Self { incoming, http2 }
    }

    /// The next frame. An end that is not the body's is an error.
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        Poll::Ready(match ready!(Pin::new(&mut self.incoming).poll_frame(cx)) {
            Some(frame) => Some(frame.map_err(|error| unreadable(&error))),
            // hyper takes a reset with NO_ERROR for the end of the body. That is what it is of a response (RFC 9113, 8.1);
            // a request without END_STREAM is cut off.
            None if self.http2 && !self.incoming.is_end_stream() => Some(Err(Error::ClientGone)),
            None => None,
        })
    }

    /// Whether nothing more is to come.
    pub(crate) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    /// What is known of the bytes that are to come.
    pub(crate) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

/// What is wrong with a body that cannot be read: what it says, or that its client has left.
fn unreadable(error: &hyper::Error) -> Error {
    match Violation::in_error(error) {
        Some(violation) => Error::Http(violation),
        None if has_left(error) => Error::ClientGone,
        None => Error::BadRequest(format!("reading the request body failed: {error}")),
    }
}

/// Whether the client closed its connection, or lost it, or reset its stream. Resets by this side answer bodies that are
/// wrong, as those that are longer than announced.
fn has_left(error: &hyper::Error) -> bool {
    let Some(source) = error.source() else { return false };
    if let Some(error) = source.downcast_ref::<h2::Error>() {
        return error.is_io() || error.is_remote();
    }
    let kind = source.downcast_ref::<io::Error>().map(io::Error::kind);
    kind.is_some_and(|kind| !matches!(kind, ErrorKind::InvalidData | ErrorKind::InvalidInput))
}
