//! A replica whose faults are chosen by the test.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use parking_lot::Mutex;
use tokio::sync::Semaphore;

type Body = http_body_util::combinators::BoxBody<Bytes, std::io::Error>;

/// What a replica does with a request.
#[derive(Clone, Debug)]
pub enum Behaviour {
    /// Answers with the request's body after this time.
    Echo(Duration),
    /// Sends each piece of the request's body back when it comes.
    EchoFrames,
    /// Sends the request's body back, and then neither more nor an end.
    EchoWithoutEnd,
    /// Sends the request's body back, and breaks off a little later.
    EchoAndBreak,
    /// Answers with so many bytes.
    Long(usize),
    /// Waits for [`FakeWrapper::let_go`], once per request, then echoes.
    Gated,
    /// Sends the head and half of the promised body, then nothing.
    HalfBody,
    /// Closes the connection without an answer, once the request has been read.
    Reset,
    /// Answers this, with a `kferving-reason`, before reading the body.
    Refuse(StatusCode, &'static str),
    /// Answers a call of gRPC with this status and a `kferving-reason`, before reading the message.
    RefuseCall(&'static str, &'static str),
    /// Answers a call of gRPC with a message, and fails it in the trailers.
    FailCall(&'static str),
    /// Reads the request and says nothing.
    Silent,
    /// Answers 200 and what it was sent as headers, as JSON.
    Headers,
}

#[derive(Default)]
struct Seen {
    connections: AtomicUsize,
    requests: AtomicUsize,
    running: AtomicUsize,
    peak: AtomicUsize,
    cancelled: AtomicUsize,
    bodies: AtomicUsize,
}

/// A replica on a thread and runtime of its own, so that it can be killed like a process.
pub struct FakeWrapper {
    pub addr: SocketAddr,
    seen: Arc<Seen>,
    gate: Arc<Semaphore>,
    behaviour: Arc<Mutex<Behaviour>>,
    /// And the task that holds its listener.
    runtime: Option<(tokio::runtime::Runtime, tokio::task::JoinHandle<()>)>,
}

/// Counts a request as running, and as cancelled when it ends without having been answered.
struct Running {
    seen: Arc<Seen>,
    answered: bool,
}

impl Running {
    fn new(seen: Arc<Seen>) -> Self {
        let running = seen.running.fetch_add(1, Ordering::SeqCst) + 1;
        seen.peak.fetch_max(running, Ordering::SeqCst);
        Self { seen, answered: false }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.seen.running.fetch_sub(1, Ordering::SeqCst);
        if !self.answered {
            self.seen.cancelled.fetch_add(1, Ordering::SeqCst);
        }
    }
}

impl FakeWrapper {
    pub fn start(behaviour: Behaviour) -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        Self::on(listener, behaviour)
    }

    pub fn on(listener: std::net::TcpListener, behaviour: Behaviour) -> Self {
        listener.set_nonblocking(true).unwrap();
        let addr = listener.local_addr().unwrap();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let seen = Arc::new(Seen::default());
        let gate = Arc::new(Semaphore::new(0));
        let behaviour = Arc::new(Mutex::new(behaviour));
        let shared = (Arc::clone(&seen), Arc::clone(&gate), Arc::clone(&behaviour));
        let listening = runtime.spawn(async move {
            let listener = tokio::net::TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let shared = shared.clone();
                shared.0.connections.fetch_add(1, Ordering::SeqCst);
                let service = service_fn(move |request| {
                    let (seen, gate, behaviour) = shared.clone();
                    let behaviour = behaviour.lock().clone();
                    answer(request, seen, gate, behaviour)
                });
                tokio::spawn(async move {
                    // Broken connections are what these tests make.
                    let _ =
                        auto::Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
                });
            }
        });
        Self { addr, seen, gate, behaviour, runtime: Some((runtime, listening)) }
    }

    pub fn behave(&self, behaviour: Behaviour) {
        *self.behaviour.lock() = behaviour;
    }

    /// Lets this many gated requests finish.
    pub fn let_go(&self, requests: usize) {
        self.gate.add_permits(requests);
    }

    /// Connections taken so far.
    pub fn connections(&self) -> usize {
        self.seen.connections.load(Ordering::SeqCst)
    }

    /// Requests whose head arrived.
    pub fn requests(&self) -> usize {
        self.seen.requests.load(Ordering::SeqCst)
    }

    /// Requests being worked on.
    pub fn running(&self) -> usize {
        self.seen.running.load(Ordering::SeqCst)
    }

    /// The most at a time.
    pub fn peak(&self) -> usize {
        self.seen.peak.load(Ordering::SeqCst)
    }

    /// Requests dropped before their answer.
    pub fn cancelled(&self) -> usize {
        self.seen.cancelled.load(Ordering::SeqCst)
    }

    /// Bodies read whole.
    pub fn bodies(&self) -> usize {
        self.seen.bodies.load(Ordering::SeqCst)
    }

    /// Ends it at once, as SIGKILL would: nobody connects any more when its connections break.
    pub fn kill(&mut self) {
        if let Some((runtime, listening)) = self.runtime.take() {
            listening.abort();
            while !listening.is_finished() {
                std::thread::yield_now();
            }
            runtime.shutdown_background();
        }
    }
}

impl Drop for FakeWrapper {
    fn drop(&mut self) {
        self.kill();
    }
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Seen>,
    gate: Arc<Semaphore>,
    behaviour: Behaviour,
) -> Result<Response<Body>, std::io::Error> {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    let mut running = Running::new(Arc::clone(&seen));
    if let Behaviour::Refuse(status, reason) = behaviour {
        running.answered = true;
        let response = Response::builder().status(status).header("kferving-reason", reason);
        return Ok(response.body(full(Bytes::from_static(b"{\"error\":\"refused\"}"))).unwrap());
    }
    if let Behaviour::RefuseCall(status, reason) = behaviour {
        running.answered = true;
        let response = call().header("grpc-status", status).header("kferving-reason", reason);
        return Ok(response.body(full(Bytes::new())).unwrap());
    }
    if let Behaviour::EchoFrames = behaviour {
        running.answered = true;
        // It runs for as long as its answer.
        let echo = request.into_body().map_frame(move |frame| {
            let _running = &running;
            frame
        });
        return Ok(Response::new(echo.map_err(std::io::Error::other).boxed()));
    }
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(std::io::Error::other)?.to_bytes();
    seen.bodies.fetch_add(1, Ordering::SeqCst);
    match behaviour {
        Behaviour::Echo(delay) => tokio::time::sleep(delay).await,
        Behaviour::Gated => gate.acquire().await.unwrap().forget(),
        Behaviour::Reset => return Err(std::io::Error::other("a reset was asked for")),
        Behaviour::HalfBody => {
            running.answered = true;
            let half = StreamBody::new(futures::stream::unfold(0, |step| async move {
                if step > 0 {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    return Some((Err(std::io::Error::other("a broken body was asked for")), step + 1));
                }
                Some((Ok(Frame::data(Bytes::from_static(b"half"))), 1))
            }));
            let response = Response::builder().header("content-length", "8");
            return Ok(response.body(http_body_util::BodyExt::boxed(half)).unwrap());
        }
        Behaviour::EchoWithoutEnd | Behaviour::EchoAndBreak => {
            running.answered = true;
            let breaks = matches!(behaviour, Behaviour::EchoAndBreak);
            let frames = StreamBody::new(futures::stream::unfold(Some(body), move |body| async move {
                if let Some(body) = body {
                    return Some((Ok(Frame::data(body)), None));
                }
                if !breaks {
                    std::future::pending::<()>().await;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                Some((Err(std::io::Error::other("a broken body was asked for")), None))
            }));
            return Ok(call().body(http_body_util::BodyExt::boxed(frames)).unwrap());
        }
        Behaviour::Headers => {
            running.answered = true;
            let headers = parts.headers.iter().map(|(name, value)| {
                (name.as_str().to_owned(), serde_json::Value::from(String::from_utf8_lossy(value.as_bytes())))
            });
            let json = serde_json::Value::Object(headers.collect());
            return Ok(Response::new(full(Bytes::from(json.to_string()))));
        }
        Behaviour::FailCall(status) => {
            running.answered = true;
            let trailers =
                HeaderMap::from_iter([(HeaderName::from_static("grpc-status"), HeaderValue::from_static(status))]);
            let frames = [Frame::data(body), Frame::trailers(trailers)].map(Ok);
            let body = StreamBody::new(futures::stream::iter(frames));
            return Ok(call().body(http_body_util::BodyExt::boxed(body)).unwrap());
        }
        Behaviour::Long(bytes) => {
            running.answered = true;
            return Ok(Response::new(full(Bytes::from(vec![b'x'; bytes]))));
        }
        Behaviour::Silent => std::future::pending().await,
        Behaviour::EchoFrames | Behaviour::Refuse(..) | Behaviour::RefuseCall(..) => unreachable!("answered above"),
    }
    running.answered = true;
    let response = Response::builder().header("server-timing", "queue;dur=0.1, infer;dur=0.2");
    let response = match parts.headers.get(http::header::CONTENT_TYPE) {
        Some(content_type) => response.header(http::header::CONTENT_TYPE, content_type),
        None => response,
    };
    Ok(response.body(full(body)).unwrap())
}

/// The head of an answer of gRPC.
fn call() -> http::response::Builder {
    Response::builder().header("content-type", "application/grpc")
}

fn full(bytes: Bytes) -> Body {
    Full::new(bytes).map_err(|never: Infallible| match never {}).boxed()
}
