//! A connection to an admin port.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::http::Request;
use http_body::{Frame, SizeHint};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_util::io::InspectReader;
use tower::ServiceExt;

use super::standing::{Doing, Standing};
use crate::{Shutdown, lame_duck};

/// Bytes of a request's head, and of what is read ahead. The largest head, a claim's with its token, has 1 KB.
const MAX_HEAD_BYTES: usize = 16 << 10;

/// What serves a connection.
pub(super) struct Connection {
    pub(super) standing: Arc<Standing>,
    pub(super) router: Router,
    /// Longest that a request may take to arrive.
    pub(super) arrival: Duration,
}

// === impl Connection ===

impl Connection {
    /// Serves it until its end: by its client, for a request that takes too long, to make room, or by `shutdown`.
    pub(super) async fn serve<S>(self, stream: S, shutdown: Shutdown)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send,
    {
        let Self { standing, router, arrival } = self;
        let service = service_fn(|request: Request<Incoming>| {
            let (standing, router) = (Arc::clone(&standing), router.clone());
            async move {
                let request = request.map(|body| Body::new(Arriving::new(body, Arc::clone(&standing))));
                let answer = router.oneshot(request).await;
                standing.is(Doing::Answered);
                answer
            }
        });
        let heard = |bytes: &[u8]| {
            // none at the end
            if !bytes.is_empty() {
                standing.received();
            }
        };
        let io = TokioIo::new(InspectReader::new(stream, heard));
        let mut connection = pin!(
            http1::Builder::new()
                .timer(TokioTimer::new())
                // hyper's would also end a silent connection
                .header_read_timeout(None)
                .max_buf_size(MAX_HEAD_BYTES)
                .serve_connection(io, service)
        );
        let until_finished = async {
            tokio::select! {
                biased;
                ended = connection.as_mut() => return ended,
                () = shutdown.requested() => {}
            }
            let finish = |connection: Pin<&mut http1::Connection<_, _>>| match standing.doing() {
                // hyper would wait for its first request
                Doing::Nothing => standing.displace(),
                Doing::Receiving | Doing::Answering | Doing::Answered => connection.graceful_shutdown(),
            };
            lame_duck::finish(connection, finish).await
        };
        tokio::select! {
            // a request that has just arrived is not late
            biased;
            ended = until_finished => {
                if let Err(error) = ended {
                    tracing::debug!(%error, "an admin connection ended");
                }
            }
            () = standing.overdue(arrival) => tracing::debug!("an admin connection ended: its request did not arrive"),
            () = standing.displaced() => {}
        }
    }
}

/// A request's body, which tells when it is here whole.
struct Arriving {
    body: Incoming,
    standing: Arc<Standing>,
}

impl Arriving {
    fn new(body: Incoming, standing: Arc<Standing>) -> Self {
        // the head of one that was sent ahead came before its turn
        standing.is(if body.is_end_stream() { Doing::Answering } else { Doing::Receiving });
        Self { body, standing }
    }
}

impl HttpBody for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None)) || self.body.is_end_stream() {
            self.standing.is(Doing::Answering);
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
