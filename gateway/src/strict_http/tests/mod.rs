//! The filter in front of a real hyper server, and on its own.

mod refusals;
mod stream;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

use super::{Bypass, StrictHttp, Turns, Violation};

/// Longer than any test takes, also on a slow machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// What a service behind the filter was given: method, target and body length of each request, `broken` for a body that
/// could not be read.
type Seen = Arc<Mutex<Vec<String>>>;

async fn serve(io: DuplexStream, head_timeout: Duration, seen: Seen) {
    let (bypass, turns) = (Arc::new(Bypass::default()), Arc::new(Turns::default()));
    let io = TokioIo::new(StrictHttp::new(io, head_timeout, Arc::clone(&bypass), Arc::clone(&turns)));
    let service = service_fn(move |request: Request<Incoming>| {
        let (seen, bypassed, turns) = (Arc::clone(&seen), bypass.take(), Arc::clone(&turns));
        async move { Ok::<_, http::Error>(answer(request, bypassed, &seen).await?.map(|body| turns.answer(body))) }
    });
    // A broken body or a client that has gone ends a connection with an error: the tests look at the bytes.
    let _ = auto::Builder::new(TokioExecutor::new()).serve_connection(io, service).await;
}

async fn answer(
    request: Request<Incoming>,
    bypassed: Option<Bytes>,
    seen: &Seen,
) -> Result<Response<Full<Bytes>>, http::Error> {
    if let Some(violation) = Violation::in_request(&request) {
        return Response::builder().status(violation.status()).body(Full::from(violation.to_string()));
    }
    let (head, body) = request.into_parts();
    match body.collect().await {
        Ok(body) => {
            let body = bypassed.unwrap_or(body.to_bytes());
            seen.lock().push(format!("{} {} {}", head.method, head.uri, body.len()));
            Response::builder().body(Full::from("fine"))
        }
        Err(error) => {
            seen.lock().push("broken".to_owned());
            let message = Violation::in_error(&error).map_or(error.to_string(), |violation| violation.to_string());
            Response::builder().status(400).body(Full::from(message))
        }
    }
}

/// What came back for some bytes.
struct Outcome {
    /// The status of each answer, in order.
    statuses: Vec<u16>,
    /// All bytes.
    text: String,
    seen: Vec<String>,
}

/// Sends `bytes` to a server through a pipe of `pipe_bytes`, and reads until the server closes.
async fn exchange(bytes: &[u8], pipe_bytes: usize) -> Outcome {
    let (mut client, server) = tokio::io::duplex(pipe_bytes);
    let seen = Seen::default();
    let server = tokio::spawn(serve(server, PATIENCE, Arc::clone(&seen)));
    let (mut read, mut write) = tokio::io::split(&mut client);
    let send = async {
        // The server may close before it has read all.
        let _ = write.write_all(bytes).await;
    };
    let mut received = Vec::new();
    let exchanged = async { tokio::join!(send, read.read_to_end(&mut received)) };
    tokio::time::timeout(PATIENCE, exchanged).await.expect("the server closes").1.unwrap();
    drop(client);
    server.await.unwrap();
    let text = String::from_utf8_lossy(&received).into_owned();
    let statuses = text.split("HTTP/1.").skip(1).filter_map(|answer| answer.get(2..5)?.parse().ok()).collect();
    let seen = seen.lock().clone();
    Outcome { statuses, text, seen }
}
