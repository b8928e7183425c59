//! Models that misbehave, behind the whole front. Real models, clients and hostile requests are in tests/front.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use model_wrapper_protocol::{
    Backend, Cancel, DataType, ModelMetadata, Tensor, TensorMetadata,
    grpc::{
        ModelInferRequest, grpc_inference_service_client::GrpcInferenceServiceClient,
        model_infer_request::InferInputTensor,
    },
};
use prometheus::Registry;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream},
};

use super::{server::Patience, *};
use crate::{metrics::WrapperMetrics, serving::ModelSpec, test_runtime::runtime};

/// What the model does, by the first byte of its input.
const ECHO: u8 = 0;
const HANG: u8 = 1;
const PANIC: u8 = 2;
const HUGE: u8 = 3;

/// Bytes of the huge answer: far more than any buffer on its way.
const HUGE_BYTES: usize = 32 << 20;

/// A model with the faults that a runtime can have. Hanging, it heeds no cancel, until it is let go.
struct FakeModel {
    metadata: ModelMetadata,
    let_go: Arc<AtomicBool>,
}

impl Backend for FakeModel {
    fn metadata(&self) -> &ModelMetadata {
        &self.metadata
    }

    fn run(&mut self, inputs: &[Tensor], _: &[String]) -> Result<Vec<Tensor>, InferError> {
        let model_wrapper_protocol::TensorData::Fixed(data) = &inputs[0].data else {
            return Err(InferError::Internal("not fixed".into()));
        };
        let answer = match data[0] {
            HANG => {
                while !self.let_go.load(Ordering::SeqCst) {
                    std::thread::sleep(Duration::from_millis(1));
                }
                data.clone()
            }
            PANIC => panic!("a fake fault"),
            HUGE => Bytes::from(vec![7; HUGE_BYTES]),
            _ => data.clone(),
        };
        Ok(vec![Tensor::fixed("y", DataType::Uint8, vec![answer.len()], answer)?])
    }

    fn canceller(&self) -> Arc<dyn Cancel> {
        struct Deaf;
        impl Cancel for Deaf {
            fn cancel(&self) {}
        }
        Arc::new(Deaf)
    }
}

/// A front that serves the fake model; its thread is let go when this is dropped.
struct Served {
    connection: SendRequest<Full<Bytes>>,
    let_go: Arc<AtomicBool>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.let_go.store(true, Ordering::SeqCst);
    }
}

async fn serve() -> Served {
    let (listener, front, let_go) = front(Settings::default()).await;
    let addr = listener.local_addr().unwrap();
    tokio::spawn(front.serve(listener, std::future::pending()));
    Served { connection: connect(addr).await, let_go }
}

async fn connect(addr: SocketAddr) -> SendRequest<Full<Bytes>> {
    let stream = TcpStream::connect(addr).await.unwrap();
    let (connection, driver) = handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(driver);
    connection
}

/// How the fake model is served.
#[derive(Default)]
struct Settings {
    concurrency: Option<usize>,
    memory: Option<usize>,
    registry: Registry,
}

/// One request at a time.
fn one() -> Settings {
    Settings { concurrency: Some(1), ..Settings::default() }
}

/// A front for the fake model, a listener for it, and what lets the model's thread go.
async fn front(Settings { concurrency, memory, registry }: Settings) -> (TcpListener, Front, Arc<AtomicBool>) {
    let tensor = |name: &str| TensorMetadata { name: name.into(), datatype: DataType::Uint8, shape: vec![-1] };
    let metadata = ModelMetadata {
        name: "fake".into(),
        versions: vec!["1".into()],
        platform: "fake_platform".into(),
        inputs: vec![tensor("x")],
        outputs: vec![tensor("y")],
        optional_inputs: Vec::new(),
        properties: Vec::new(),
    };
    let let_go = Arc::new(AtomicBool::new(false));
    let serving = Serving::idle(runtime(), None, WrapperMetrics::register(&registry).unwrap());
    let backend = FakeModel { metadata, let_go: Arc::clone(&let_go) };
    let mut spec = ModelSpec { concurrency, ..ModelSpec::new("fake".into(), PathBuf::new()) };
    spec.memory = memory.unwrap_or(spec.memory);
    serving.serve_backend(Box::new(backend), &spec).unwrap();
    let front = Front::new(serving, FrontMetrics::register(&registry).unwrap());

    (TcpListener::bind("127.0.0.1:0").await.unwrap(), front, let_go)
}

/// A request for the behaviour, to be answered in binary.
fn body(behaviour: u8) -> String {
    format!(
        r#"{{"inputs":[{{"name":"x","shape":[1],"datatype":"UINT8","data":[{behaviour}]}}],"outputs":[{{"name":"y","parameters":{{"binary_data":true}}}}]}}"#
    )
}

impl Served {
    async fn send(&mut self, request: http::request::Builder, body: String) -> (u16, Option<String>, Bytes) {
        self.connection.ready().await.unwrap();
        let request = request.header("host", "test").body(Full::from(body)).unwrap();
        let response = self.connection.send_request(request).await.unwrap();
        let reason = response.headers().get(error::REASON).map(|reason| reason.to_str().unwrap().to_owned());
        (response.status().as_u16(), reason, response.into_body().collect().await.unwrap().to_bytes())
    }

    async fn infer(&mut self, behaviour: u8, within: &str) -> (u16, Option<String>, Bytes) {
        let request = Request::post("/v2/models/fake/infer").header("x-request-timeout", within);
        self.send(request, body(behaviour)).await
    }

    async fn ready(&mut self) -> u16 {
        self.send(Request::get("/v2/models/fake/ready"), String::new()).await.0
    }
}

#[tokio::test]
async fn a_model_that_hangs_costs_deadlines_and_nothing_else() {
    let mut served = serve().await;
    for _ in 0..2 {
        let (status, reason, _) = served.infer(HANG, "0.05").await;
        assert_eq!((status, reason.as_deref()), (504, Some("deadline")));
        assert_eq!(served.ready().await, 200);
    }
    served.let_go.store(true, Ordering::SeqCst);
    assert_eq!(served.infer(ECHO, "30").await.0, 200);
}

#[tokio::test]
async fn a_model_that_panics_costs_its_request() {
    let mut served = serve().await;
    for _ in 0..3 {
        let (status, reason, _) = served.infer(PANIC, "30").await;
        assert_eq!((status, reason.as_deref()), (500, Some("internal")));
        assert_eq!(served.infer(ECHO, "30").await.0, 200);
    }
}

#[tokio::test]
async fn a_huge_answer_arrives_whole() {
    let mut served = serve().await;
    let (status, _, body) = served.infer(HUGE, "60").await;
    assert_eq!(status, 200);
    assert!(body.ends_with(&vec![7; HUGE_BYTES]));

    let body = format!(r#"{{"instances":[{HUGE}]}}"#);
    let (status, _, body) = served.send(Request::post("/v1/models/fake:predict"), body).await;
    assert_eq!(status, 200);
    assert_eq!(body.len(), r#"{"predictions":[]}"#.len() + 2 * HUGE_BYTES - 1);
}

#[tokio::test]
async fn an_answer_that_is_not_read_keeps_its_place() {
    let (listener, front, let_go) = front(one()).await;
    let addr = listener.local_addr().unwrap();
    tokio::spawn(front.serve(listener, std::future::pending()));
    let mut other = Served { connection: connect(addr).await, let_go };

    let mut reader = TcpStream::connect(addr).await.unwrap();
    let body = body(HUGE);
    let head = format!("POST /v2/models/fake/infer HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
    reader.write_all((head + &body).as_bytes()).await.unwrap();
    let mut status = [0; 12];
    reader.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    let (status, reason, _) = other.infer(ECHO, "30").await;
    assert_eq!((status, reason.as_deref()), (503, Some("replica-busy")));

    drop(reader);
    let patience = std::time::Instant::now() + Duration::from_secs(30);
    while other.infer(ECHO, "30").await.0 != 200 {
        assert!(std::time::Instant::now() < patience, "the place is still taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// A message of a stream, with the behaviour.
fn message(behaviour: u8) -> ModelInferRequest {
    let x = InferInputTensor { name: "x".into(), datatype: "UINT8".into(), shape: vec![1], ..Default::default() };
    let raw_input_contents = vec![Bytes::from(vec![behaviour])];
    ModelInferRequest { model_name: "fake".into(), inputs: vec![x], raw_input_contents, ..Default::default() }
}

#[tokio::test]
async fn a_streams_answer_that_is_not_read_keeps_its_place() {
    let (listener, front, let_go) = front(one()).await;
    let addr = listener.local_addr().unwrap();
    let metrics = front.metrics.clone();
    tokio::spawn(front.serve(listener, std::future::pending()));
    let mut other = Served { connection: connect(addr).await, let_go };

    let client = GrpcInferenceServiceClient::connect(format!("http://{addr}")).await.unwrap();
    let (messages, sent) = tokio::sync::mpsc::unbounded_channel();
    let mut client = client.max_decoding_message_size(usize::MAX);
    // The second comes while the answer to the first holds the only place.
    messages.send(message(HUGE)).unwrap();
    messages.send(message(ECHO)).unwrap();
    let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(sent);
    let mut answers = client.model_stream_infer(stream).await.unwrap().into_inner();
    let patience = std::time::Instant::now() + Duration::from_secs(30);
    while metrics.answered(Protocol::Grpc) == 0 {
        assert!(std::time::Instant::now() < patience, "the message was not run");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (status, reason, _) = other.infer(ECHO, "30").await;
    assert_eq!((status, reason.as_deref()), (503, Some("replica-busy")));

    for bytes in [HUGE_BYTES, 1] {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.error_message, "");
        assert_eq!(answer.infer_response.unwrap().raw_output_contents[0].len(), bytes);
    }
    while other.infer(ECHO, "30").await.0 != 200 {
        assert!(std::time::Instant::now() < patience, "the place is still taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Sends a request that is answered at once.
async fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
}

#[tokio::test]
async fn what_callers_have_sent_is_answered_when_the_server_stops() {
    let (listener, front, _let_go) = front(Settings::default()).await;
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(front.serve(listener, async move { drop(stopped.await) }));
    let mut kept = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        ask(&mut stream).await;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        kept.push(stream);
    }
    let mut fresh = Vec::new();
    for _ in 0..50 {
        fresh.push(TcpStream::connect(addr).await.unwrap());
    }
    for stream in kept.iter_mut().chain(&mut fresh) {
        ask(stream).await;
    }
    stop.send(()).unwrap();
    for (index, stream) in kept.iter_mut().chain(&mut fresh).enumerate() {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert!(rest.contains("HTTP/1.1 200"), "connection {index}: {rest:?}");
    }
    server.await.unwrap();
}

/// Asks until an echo is answered.
async fn until_answered(other: &mut Served) {
    let patience = std::time::Instant::now() + Duration::from_secs(30);
    while other.infer(ECHO, "30").await.0 != 200 {
        assert!(std::time::Instant::now() < patience, "never answered");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_window_that_stays_closed_keeps_no_place_for_good() {
    let (listener, front, let_go) = front(one()).await;
    let addr = listener.local_addr().unwrap();
    let metrics = front.metrics.clone();
    let patience = Patience { stalled_stream: Duration::from_millis(300), ..Patience::default() };
    tokio::spawn(front.serve_with(patience, listener, std::future::pending()));
    let mut other = Served { connection: connect(addr).await, let_go };

    for (window, behaviour) in [(0, ECHO), (20, ECHO), (1 << 20, HUGE)] {
        let answered = metrics.answered(Protocol::V2);
        let stream = TcpStream::connect(addr).await.unwrap();
        let mut client = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
        let (mut sender, driver) =
            client.initial_stream_window_size(window).handshake(TokioIo::new(stream)).await.unwrap();
        let ended = tokio::spawn(driver);
        let uri = format!("http://{addr}/v2/models/fake/infer");
        let request = Request::post(uri).body(Full::<Bytes>::from(body(behaviour))).unwrap();
        // Its body is never read.
        let response = sender.send_request(request).await.unwrap();
        assert_eq!((response.status().as_u16(), metrics.answered(Protocol::V2)), (200, answered + 1));
        assert_eq!(other.infer(ECHO, "30").await.0, 503);
        until_answered(&mut other).await;
        tokio::time::timeout(Duration::from_secs(30), ended).await.expect("its connection ends").unwrap().ok();
    }
}

#[tokio::test]
async fn a_silent_http2_peer_keeps_no_connection() {
    let (listener, front, _let_go) = front(Settings::default()).await;
    let addr = listener.local_addr().unwrap();
    let brief = Duration::from_millis(20);
    let patience = Patience { sign_of_life: brief, sign_takes: brief, ..Patience::default() };
    tokio::spawn(front.serve_with(patience, listener, std::future::pending()));
    let mut silent = TcpStream::connect(addr).await.unwrap();
    // The preface and empty settings; no ping is answered.
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut ignored = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(30), silent.read_to_end(&mut ignored)).await;
    assert!(ended.is_ok(), "its connection is still open");
}

#[tokio::test]
async fn an_idle_stream_is_told_that_its_server_stops() {
    let (listener, front, _let_go) = front(Settings::default()).await;
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(front.serve(listener, async move { drop(stopped.await) }));
    let mut client = GrpcInferenceServiceClient::connect(format!("http://{addr}")).await.unwrap();
    let (messages, sent) = tokio::sync::mpsc::unbounded_channel();
    messages.send(message(ECHO)).unwrap();
    let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(sent);
    let mut answers = client.model_stream_infer(stream).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().error_message, "");
    stop.send(()).unwrap();
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(status.metadata().get(error::REASON).unwrap(), "shutting-down");
    drop((messages, client));
    tokio::time::timeout(Duration::from_secs(30), server).await.expect("the server ends").unwrap();
}

/// Bytes of all requests in the tests of that bound, and of a body that takes most of them.
const MEMORY: usize = 1 << 20;
const MOST: usize = 700 << 10;

/// A body of about [`MOST`] bytes for an echo.
fn large() -> String {
    let mut body = body(ECHO);
    body.insert_str(1, &" ".repeat(MOST));
    body
}

#[tokio::test]
async fn bodies_that_do_not_go_on_are_bounded_together() {
    let registry = Registry::new();
    let settings = Settings { memory: Some(MEMORY), registry: registry.clone(), ..Settings::default() };
    let (listener, front, let_go) = front(settings).await;
    let addr = listener.local_addr().unwrap();
    tokio::spawn(front.serve(listener, std::future::pending()));
    let mut other = Served { connection: connect(addr).await, let_go };
    let whole = || Request::post("/v2/models/fake/infer");
    assert_eq!(other.send(whole(), large()).await.0, 200);

    let mut unfinished = TcpStream::connect(addr).await.unwrap();
    let head = format!("POST /v2/models/fake/infer HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", 2 * MOST);
    unfinished.write_all((head + &" ".repeat(MOST)).as_bytes()).await.unwrap();
    until_held(&registry, MOST).await;
    assert_eq!(large_at(addr).await, (503, Some("replica-busy".to_owned())));
    assert_eq!(other.infer(ECHO, "30").await.0, 200);
    drop(unfinished);
    until_held(&registry, 0).await;
    assert_eq!(large_at(addr).await, (200, None));

    // A message of a stream, which has no place while it comes.
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let driver = tokio::spawn(driver);
    let (frames, sent) = tokio::sync::mpsc::unbounded_channel::<Result<_, Infallible>>();
    let body = http_body_util::StreamBody::new(tokio_stream::wrappers::UnboundedReceiverStream::new(sent));
    let request = Request::post(format!("http://{addr}/inference.GRPCInferenceService/ModelStreamInfer"))
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap();
    let call = tokio::spawn(async move { sender.send_request(request).await.map(|response| (sender, response)) });
    let prefix = [&[0][..], &u32::try_from(2 * MOST).unwrap().to_be_bytes()].concat();
    frames.send(Ok(http_body::Frame::data(Bytes::from([prefix, vec![0; MOST]].concat())))).unwrap();
    until_held(&registry, MOST).await;
    assert_eq!(large_at(addr).await, (503, Some("replica-busy".to_owned())));
    driver.abort();
    drop((frames, call));
    until_held(&registry, 0).await;
    assert_eq!(large_at(addr).await, (200, None));
}

/// Waits until requests have this many bytes in memory, or a few more.
async fn until_held(registry: &Registry, bytes: usize) {
    let patience = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let families = registry.gather();
        let family = families.iter().find(|family| family.name() == "kferving_wrapper_request_bytes").unwrap();
        let held = family.get_metric()[0].get_gauge().get_value() as usize;
        if (bytes..=bytes + 100).contains(&held) {
            return;
        }
        assert!(std::time::Instant::now() < patience, "still {held}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Status and reason of the answer to a large body.
async fn large_at(addr: SocketAddr) -> (u16, Option<String>) {
    let mut served = Served { connection: connect(addr).await, let_go: Arc::default() };
    let (status, reason, _) = served.send(Request::post("/v2/models/fake/infer"), large()).await;
    (status, reason)
}

#[tokio::test]
async fn what_a_body_becomes_counts_as_it_does() {
    use std::io::Write as _;

    let (listener, front, let_go) = front(Settings { memory: Some(MEMORY), ..Settings::default() }).await;
    let addr = listener.local_addr().unwrap();
    tokio::spawn(front.serve(listener, std::future::pending()));
    let mut served = Served { connection: connect(addr).await, let_go };
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(" ".repeat(3 * MEMORY).as_bytes()).unwrap();
    let request = Request::post("/v2/models/fake/infer").header("host", "test").header("content-encoding", "gzip");
    let request = request.body(Full::from(encoder.finish().unwrap())).unwrap();
    let response = served.connection.send_request(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.headers()[error::REASON].to_str().unwrap()),
        (503, "replica-busy")
    );
}
