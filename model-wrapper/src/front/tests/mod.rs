//! Models that misbehave, behind the whole front. Real models, clients and hostile requests are in tests/front.

mod faults;
mod memory;
mod places;
mod stopping;

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
use gateway_policy::REASON_HEADER;
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

use super::*;
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
        let reason = response.headers().get(REASON_HEADER).map(|reason| reason.to_str().unwrap().to_owned());
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

/// A message of a stream, with the behaviour.
fn message(behaviour: u8) -> ModelInferRequest {
    let x = InferInputTensor { name: "x".into(), datatype: "UINT8".into(), shape: vec![1], ..Default::default() };
    let raw_input_contents = vec![Bytes::from(vec![behaviour])];
    ModelInferRequest { model_name: "fake".into(), inputs: vec![x], raw_input_contents, ..Default::default() }
}
