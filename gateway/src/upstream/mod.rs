//! Connections to replicas.
//!
//! Each serving thread keeps its own, so that a warm request never wakes another thread. HTTP/1.1 connections are driven by
//! the request that uses them: no task of their own means no hand-over between tasks on the way there and back, and a
//! request that is dropped closes its connection, which is how a wrapper learns that a run is to be cancelled.

mod h1;
mod h2;

pub(crate) use h1::{H1Body, H1Connection, H1Error, H1Pool, RequestHead};
pub(crate) use h2::{H2Body, H2Slot};

use std::net::SocketAddr;
use std::time::Duration;

use hyper::client::conn::TrySendError;
use tokio::net::TcpStream;

use crate::upload::RequestBody;

/// Longest wait for a connection. Replicas are on the same network: a SYN that is not answered within this is lost.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Why an exchange with a replica failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UpstreamError {
    /// No connection could be made: the request was not sent.
    #[error("connecting to {addr} failed: {source}")]
    Connect {
        addr: SocketAddr,
        #[source]
        source: std::io::Error,
    },
    /// The connection closed before any of the request was written to it.
    #[error("the connection closed before the request was sent: {source}")]
    Unsent {
        #[source]
        source: ConnectionError,
    },
    /// The replica has not processed the request, and says so (RFC 9113, section 8.7).
    #[error("it did not take the request: {source}")]
    Refused {
        #[source]
        source: ConnectionError,
    },
    /// An earlier attempt has taken from the body.
    #[error("a part of the body has been sent already")]
    Consumed,
    /// The connection broke after the request was written, at least in part: it may have run.
    #[error("the connection broke: {source}")]
    Broken {
        #[source]
        source: ConnectionError,
    },
}

/// What became of a connection, over either protocol.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectionError {
    #[error(transparent)]
    H1(#[from] H1Error),
    #[error(transparent)]
    H2(#[from] hyper::Error),
    /// A stream of HTTP/2 was reset in the middle of its answer, without an error.
    #[error("the stream was reset before the end of its answer")]
    CutOff,
}

impl From<H1Error> for UpstreamError {
    fn from(error: H1Error) -> Self {
        Self::Broken { source: error.into() }
    }
}

impl From<TrySendError<http::Request<RequestBody>>> for UpstreamError {
    fn from(mut error: TrySendError<http::Request<RequestBody>>) -> Self {
        let unsent = error.take_message().is_some();
        let error = error.into_error();
        if unsent {
            Self::Unsent { source: error.into() }
        } else if h2::is_unprocessed(&error) {
            Self::Refused { source: error.into() }
        } else {
            Self::Broken { source: error.into() }
        }
    }
}

/// Opens a connection for requests: small writes leave at once.
async fn connect(addr: SocketAddr) -> Result<TcpStream, UpstreamError> {
    let connecting = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(addr));
    let connected = match connecting.await {
        Ok(Ok(stream)) => stream.set_nodelay(true).map(|()| stream),
        Ok(Err(error)) => Err(error),
        Err(elapsed) => Err(elapsed.into()),
    };
    connected.map_err(|source| UpstreamError::Connect { addr, source })
}
