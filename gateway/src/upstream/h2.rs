//! The HTTP/2 connection to one replica, shared by the gRPC requests of a thread.

use std::error::Error;
use std::net::SocketAddr;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, Request, Response};
use http_body::{Body, Frame, SizeHint};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;

use super::{ConnectionError, UpstreamError, connect};
use crate::upload::RequestBody;
use crate::verdict::GRPC_STATUS;

/// Bytes in flight per stream, which are kept here while its client takes nothing.
const STREAM_WINDOW_BYTES: u32 = 256 << 10;

/// Bytes in flight per connection: what as many streams may have as a replica sensibly works on. Answers that their clients
/// do not take would otherwise stop those of all others.
const CONNECTION_WINDOW_BYTES: u32 = 256 * STREAM_WINDOW_BYTES;

/// The connection of one replica on one thread, once a gRPC request needed it.
#[derive(Default)]
pub(crate) struct H2Slot {
    sender: Mutex<Option<SendRequest<RequestBody>>>,
}

impl H2Slot {
    /// Sends `request` and waits for the head of its response. Dropping the future, or the body later, resets the stream.
    pub(crate) async fn exchange(
        &self,
        addr: SocketAddr,
        request: Request<RequestBody>,
    ) -> Result<Response<H2Body>, UpstreamError> {
        let mut sender = self.sender(addr).await?;
        sender.ready().await.map_err(|source| UpstreamError::Unsent { source: source.into() })?;
        let (head, incoming) = sender.try_send_request(request).await.map_err(UpstreamError::from)?.into_parts();
        let body = H2Body { incoming, has_outcome: has_outcome(&head.headers) };
        Ok(Response::from_parts(head, body))
    }

    /// Closes the connection once the requests on it are answered.
    pub(crate) fn clear(&self) {
        self.sender.lock().take();
    }

    async fn sender(&self, addr: SocketAddr) -> Result<SendRequest<RequestBody>, UpstreamError> {
        let open = self.sender.lock().as_ref().filter(|sender| !sender.is_closed()).cloned();
        if let Some(sender) = open {
            return Ok(sender);
        }
        let stream = connect(addr).await?;
        let (sender, driver) = http2::Builder::new(TokioExecutor::new())
            .initial_stream_window_size(STREAM_WINDOW_BYTES)
            .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
            .handshake(TokioIo::new(stream))
            .await
            .map_err(|source| UpstreamError::Unsent { source: source.into() })?;
        tokio::spawn(async move {
            if let Err(error) = driver.await {
                tracing::debug!(%addr, %error, "the HTTP/2 connection to a replica ended");
            }
        });
        // Two first requests may both connect: the later connection replaces the earlier, which ends with its requests.
        *self.sender.lock() = Some(sender.clone());
        Ok(sender)
    }
}

/// The body of an answer to a call of gRPC.
pub(crate) struct H2Body {
    incoming: Incoming,
    /// Whether the call's outcome has come, which is the last of its answer.
    has_outcome: bool,
}

impl H2Body {
    /// The next frame. An end that is not the answer's is an error: hyper takes a reset with NO_ERROR for the end of a
    /// body, as which a server may send it after a whole answer (RFC 9113, section 8.1).
    pub(crate) fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, ConnectionError>>> {
        let polled = ready!(Pin::new(&mut self.incoming).poll_frame(cx));
        if let Some(Ok(frame)) = &polled {
            self.has_outcome |= frame.trailers_ref().is_some_and(has_outcome);
        }
        Poll::Ready(match polled {
            None if !self.has_outcome && !self.incoming.is_end_stream() => Some(Err(ConnectionError::CutOff)),
            polled => polled.map(|frame| frame.map_err(ConnectionError::from)),
        })
    }

    pub(crate) fn is_end_stream(&self) -> bool {
        self.incoming.is_end_stream()
    }

    pub(crate) fn size_hint(&self) -> SizeHint {
        self.incoming.size_hint()
    }
}

fn has_outcome(headers: &HeaderMap) -> bool {
    headers.contains_key(GRPC_STATUS)
}

/// Whether the peer says that it has not processed a request: by refusing its stream, or by a GOAWAY whose last stream came
/// before it. Only such streams end with the GOAWAY; the others go on, or break with their connection.
pub(super) fn is_unprocessed(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        cause.is_remote() && (cause.is_go_away() || cause.reason() == Some(Reason::REFUSED_STREAM))
    })
}
