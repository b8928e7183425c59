//! The listener and its connections.

use std::{future::Future, sync::Arc, time::Duration};

use hyper::service::service_fn;
use hyper_util::{
    rt::{TokioExecutor, TokioIo, TokioTimer},
    server::{conn::auto, graceful::GracefulShutdown},
};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};

use super::Front;

/// Connections at a time. A replica's callers are gateways, which pool; the bound keeps anyone else from using up descriptors.
const MAX_CONNECTIONS: usize = 4096;

/// Longest wait for the first bytes of a connection, and for the next request's head on an idle one. Above the 90 s after which
/// a pooling client lets go of an idle connection, so that it is the client who closes and no request meets a closing one.
const IDLE: Duration = Duration::from_secs(120);

/// HTTP/2 streams of a connection: a gateway's requests to one replica, of which few run at a time.
const MAX_STREAMS: u32 = 256;
/// Bytes under way on a stream and on a connection before the reader has taken them: a tensor of an image in one flight.
const STREAM_WINDOW: u32 = 1 << 20;
const CONNECTION_WINDOW: u32 = 4 << 20;
/// Bytes of a request's headers over HTTP/2.
const MAX_HEADERS: u32 = 16 << 10;

/// Pause after an accept that failed for want of descriptors or memory, which soon may be had again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(20);

impl Front {
    /// Serves connections until `shutdown`; returns when the requests under way then have been answered.
    pub async fn serve(self, listener: TcpListener, shutdown: impl Future<Output = ()>) {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .initial_stream_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADERS);
        let builder = Arc::new(builder);
        let graceful = GracefulShutdown::new();
        let (stopping, _) = watch::channel(());
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
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
            let (front, builder) = (self.clone(), Arc::clone(&builder));
            let (watcher, mut stopped) = (graceful.watcher(), stopping.subscribe());
            tokio::spawn(async move {
                let _place = place;
                // hyper's own timers begin with the first bytes, by which it tells HTTP/1 from HTTP/2.
                let mut first = [0];
                let begins = tokio::select! {
                    begins = tokio::time::timeout(IDLE, stream.peek(&mut first)) => matches!(begins, Ok(Ok(1))),
                    _ = stopped.changed() => false,
                };
                if !begins {
                    return;
                }
                let service = service_fn(move |request| front.clone().answer(request));
                let connection = builder.serve_connection(TokioIo::new(stream), service).into_owned();
                // A connection that breaks is its caller's matter.
                if let Err(error) = watcher.watch(connection).await {
                    tracing::debug!(%error, "connection ended");
                }
            });
        }
        drop(listener);
        drop(stopping);
        graceful.shutdown().await;
    }
}

async fn accept(listener: &TcpListener, places: &Arc<Semaphore>) -> std::io::Result<(TcpStream, impl Send + use<>)> {
    let place = Arc::clone(places).acquire_owned().await.map_err(std::io::Error::other)?;
    let (stream, _) = listener.accept().await?;
    // Answers are small and whole: waiting to fill a segment only delays them.
    stream.set_nodelay(true)?;
    Ok((stream, place))
}
