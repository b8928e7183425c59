//! The listener and its connections.

use std::{
    convert::Infallible,
    future::Future,
    io,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use http::{HeaderValue, Version, header::CONNECTION};
use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::conn::auto,
};
use poolctl_runtime::lame_duck::{self, LAME_DUCK};
use rustix::process::{Resource, getrlimit};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, watch},
};

use super::{
    Front,
    owed::{Answer, Owed},
    stall::Impatient,
};

/// Connections at a time. A replica's callers are gateways, which pool; the bound keeps anyone else from using up descriptors.
const MAX_CONNECTIONS: usize = 4096;

/// Descriptors that connections for predictions leave to everything else: the admin port and the metrics must answer however
/// many there are.
const OTHER_DESCRIPTORS: u64 = 64;

/// Longest wait for the first bytes of a connection, and for the next request's head on an idle one. Above the 90 s after which
/// a pooling client lets go of an idle connection, so that it is the client who closes and no request meets a closing one.
const IDLE: Duration = Duration::from_secs(120);

/// Longest that a caller may take nothing of an answer on its way: as long as the gateway waits for a silent upload.
const STALLED: Duration = Duration::from_secs(30);
/// The same of an answer over HTTP/2. The end of the connection is the end of its other answers too, and the gateway ends by
/// itself what its own callers do not take: it gets the time to.
const STALLED_STREAM: Duration = Duration::from_secs(60);

/// How often an HTTP/2 peer that sends nothing is asked for a sign of life, and how long it may take to give one. Such a
/// connection may be idle for long, but one whose peer is gone must not keep its place.
const SIGN_OF_LIFE: Duration = Duration::from_secs(45);
const SIGN_TAKES: Duration = Duration::from_secs(15);

/// What the connections of a server that stops get once its last place is free: callers learn that it stops, and who says
/// nothing, or sends for ever, keeps no process.
const FAREWELL: Duration = Duration::from_millis(1500);

/// HTTP/2 streams of a connection: a gateway's requests to one replica, of which few run at a time.
const MAX_STREAMS: u32 = 256;
/// Bytes under way on a stream and on a connection before the reader has taken them: a tensor of an image in one flight.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of a request's headers over HTTP/2.
const MAX_HEADERS: u32 = 16 << 10;

/// Pause after an accept that failed for want of descriptors or memory, which soon may be had again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

/// How long peers are waited for.
#[derive(Clone, Copy)]
pub(super) struct Patience {
    pub(super) stalled_stream: Duration,
    pub(super) sign_of_life: Duration,
    pub(super) sign_takes: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self { stalled_stream: STALLED_STREAM, sign_of_life: SIGN_OF_LIFE, sign_takes: SIGN_TAKES }
    }
}

/// How far the server is with its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// Connections end when they have nothing under way.
    Stopping,
    /// They end.
    Over,
}

impl Front {
    /// Serves connections until `shutdown`; returns when the requests under way then have been answered.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        self.serve_with(Patience::default(), listener, shutdown).await;
    }

    pub(super) async fn serve_with(
        self,
        patience: Patience,
        listener: TcpListener,
        shutdown: impl Future<Output = ()>,
    ) {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(patience.sign_of_life)
            .keep_alive_timeout(patience.sign_takes)
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADERS);
        let serving = self.serving.clone();
        let server = Server { front: self, builder: Arc::new(builder), patience };
        let (stage, _) = watch::channel(Stage::Serving);
        let places = Arc::new(Semaphore::new(connections(getrlimit(Resource::Nofile).current)));
        let mut shutdown = std::pin::pin!(shutdown);
        loop {
            let accepted = tokio::select! {
                accepted = accept(&listener, &places) => accepted,
                () = &mut shutdown => break,
            };
            let (stream, place) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            tokio::spawn(server.clone().connection(stream, place, stage.subscribe()));
        }
        // Callers whose connection the kernel took on our behalf; what it has told the runtime of them is older.
        if let Ok(listener) = listener.into_std() {
            while let (Ok(place), Ok((stream, _))) = (Arc::clone(&places).try_acquire_owned(), listener.accept()) {
                if let Ok(stream) = from_std(stream) {
                    tokio::spawn(server.clone().connection(stream, place, stage.subscribe()));
                }
            }
        }
        stage.send_replace(Stage::Stopping);
        let farewell = async {
            serving.shut_down().await;
            tokio::time::sleep(FAREWELL).await;
            stage.send_replace(Stage::Over);
            std::future::pending::<()>().await;
        };
        tokio::select! {
            () = stage.closed() => {}
            () = farewell => {}
        }
    }
}

/// What serves a connection.
#[derive(Clone)]
struct Server {
    front: Front,
    builder: Arc<auto::Builder<TokioExecutor>>,
    patience: Patience,
}

impl Server {
    async fn connection(self, stream: TcpStream, _place: OwnedSemaphorePermit, stage: watch::Receiver<Stage>) {
        // hyper's own timers begin with the first bytes, by which it tells HTTP/1 from HTTP/2.
        let mut first = [0];
        let begins = tokio::select! {
            biased;
            begins = tokio::time::timeout(IDLE, stream.peek(&mut first)) => matches!(begins, Ok(Ok(1))),
            () = lame(stage.clone()) => false,
        };
        if !begins {
            return;
        }
        let (told, owed) = (stage.clone(), Owed::default());
        let (front, owing) = (self.front, owed.clone());
        let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
            let (front, told, owing) = (front.clone(), told.clone(), owing.clone());
            async move {
                let is_http1 = request.version() < Version::HTTP_2;
                let Ok(mut answer) = front.answer(request).await;
                if is_http1 && *told.borrow() > Stage::Serving {
                    answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
                }
                let answer = answer.map(|body| if is_http1 { Answer::from(body) } else { owing.answer(body) });
                Ok::<_, Infallible>(answer)
            }
        });
        let connection =
            self.builder.serve_connection(TokioIo::new(Impatient::new(stream, STALLED)), service).into_owned();
        tokio::select! {
            biased;
            ended = drive(connection, stage.clone(), auto::Connection::graceful_shutdown) => {
                // A connection that breaks is its caller's matter.
                if let Err(error) = ended {
                    tracing::debug!(%error, "connection ended");
                }
            }
            () = owed.stalled(self.patience.stalled_stream) => {
                tracing::debug!("connection ended: an answer was not taken");
            }
            () = reached(stage, Stage::Over) => {}
        }
    }
}

/// Connections at a time, where the process may have so many descriptors (none: any number).
fn connections(descriptors: Option<u64>) -> usize {
    let left = descriptors.map(|all| all.saturating_sub(OTHER_DESCRIPTORS).max(1));
    left.and_then(|left| usize::try_from(left).ok()).unwrap_or(MAX_CONNECTIONS).min(MAX_CONNECTIONS)
}

/// Serves a connection, and has it finish once the server has been stopping for a while.
async fn drive<C: Future>(connection: C, stage: watch::Receiver<Stage>, finish: impl Fn(Pin<&mut C>)) -> C::Output {
    let mut connection = pin!(connection);
    tokio::select! {
        biased;
        ended = connection.as_mut() => return ended,
        () = lame(stage) => {}
    }
    lame_duck::finish(connection, finish).await
}

/// Resolves when callers have had the time to learn that the server stops.
async fn lame(stage: watch::Receiver<Stage>) {
    reached(stage, Stage::Stopping).await;
    tokio::time::sleep(LAME_DUCK).await;
}

/// Resolves when the server is as far as `wanted`.
async fn reached(mut stage: watch::Receiver<Stage>, wanted: Stage) {
    // An error means that the server is gone.
    let _ = stage.wait_for(|stage| *stage >= wanted).await;
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> io::Result<(TcpStream, OwnedSemaphorePermit)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Answers are small and whole: waiting to fill a segment only delays them.
    stream.set_nodelay(true)?;
    Ok((stream, place))
}

fn from_std(stream: std::net::TcpStream) -> io::Result<TcpStream> {
    stream.set_nodelay(true)?;
    stream.set_nonblocking(true)?;
    TcpStream::from_std(stream)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_leave_descriptors_to_others() {
        assert_eq!(connections(None), MAX_CONNECTIONS);
        assert_eq!(connections(Some(1 << 20)), MAX_CONNECTIONS);
        assert_eq!(connections(Some(1024)), 1024 - 64);
        assert_eq!(connections(Some(10)), 1);
    }
}
