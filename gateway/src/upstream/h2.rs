//! The HTTP/2 connection to one replica, shared by the gRPC requests of a thread.

use std::error::Error;
use std::net::SocketAddr;

use h2::Reason;
use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use parking_lot::Mutex;

use super::{UpstreamError, connect};
use crate::upload::RequestBody;

/// Bytes in flight per stream: a 600 KiB tensor moves in one round trip.
const STREAM_WINDOW_BYTES: u32 = 1 << 20;

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
    ) -> Result<Response<Incoming>, UpstreamError> {
        let mut sender = self.sender(addr).await?;
        sender.ready().await.map_err(|source| UpstreamError::Unsent { source: source.into() })?;
        sender.try_send_request(request).await.map_err(UpstreamError::from)
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

/// Whether the peer says that it has not processed a request: by refusing its stream, or by a GOAWAY whose last stream came
/// before it. Only such streams end with the GOAWAY; the others go on, or break with their connection.
pub(super) fn is_unprocessed(error: &hyper::Error) -> bool {
    let cause = error.source().and_then(|cause| cause.downcast_ref::<h2::Error>());
    cause.is_some_and(|cause| {
        cause.is_remote() && (cause.is_go_away() || cause.reason() == Some(Reason::REFUSED_STREAM))
    })
}
