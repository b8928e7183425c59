//! A connection to an admin port.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::http::{Request, StatusCode, header};
use axum::response::{IntoResponse, Response};
use http_body_util::{BodyExt, LengthLimitError, Limited};
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

/// Bytes of a request's body. The largest, a claim's, has the path of a model: 4 KiB at most, of whose bytes JSON makes six each
/// at worst. All else in it has 1 KB.
const MAX_BODY_BYTES: usize = 32 << 10;

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
                // the head of one that was sent ahead came before its turn
                standing.is(Doing::Receiving);
                let request = arrived(request).await;
                standing.is(Doing::Answering);
                let answer = match request {
                    Ok(request) => router.oneshot(request).await,
                    Err(refusal) => Ok(refusal),
                };
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

/// The request once it is here whole, or what is answered instead of serving it.
async fn arrived(request: Request<Incoming>) -> Result<Request<Body>, Response> {
    let (head, body) = request.into_parts();
    match Limited::new(body, MAX_BODY_BYTES).collect().await {
        Ok(body) => Ok(Request::from_parts(head, Body::from(body.to_bytes()))),
        Err(error) if error.is::<LengthLimitError>() => {
            let message =
                format!("the body is too large: no request to this port has more than {MAX_BODY_BYTES} bytes");
            Err(refusal(StatusCode::PAYLOAD_TOO_LARGE, &message))
        }
        Err(error) => {
            tracing::debug!(%error, "an admin request's body broke off");
            Err(refusal(StatusCode::BAD_REQUEST, "the body cannot be read: it broke off, or its chunks are malformed"))
        }
    }
}

/// `message` has nothing that JSON escapes.
fn refusal(status: StatusCode, message: &str) -> Response {
    (status, [(header::CONTENT_TYPE, "application/json")], format!(r#"{{"error": "{message}"}}"#)).into_response()
}
