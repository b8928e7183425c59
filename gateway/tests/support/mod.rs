//! What the tests of the data plane share: a gateway on a real socket, replicas and an autoscaler that misbehave on demand,
//! and a client.

#![allow(dead_code, unreachable_pub, reason = "each test binary uses a part of it")]

pub mod autoscaler;
pub mod wrapper;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway::{Device, Gateway, GatewaySettings, Limits, ModelRoute, StaticReplica, VariantRoute};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use poolctl_runtime::Shutdown;
use prometheus::Registry;
use tokio::task::JoinHandle;

/// The longest that any test waits for something that must happen.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// Calls about model `m` that KFerving's model server does not have and others do.
pub const FOREIGN_CALLS: [(Method, &str); 5] = [
    (Method::GET, "/v2/models/m/config"),
    (Method::GET, "/v2/models/m/versions/1/stats"),
    (Method::POST, "/v2/models/m/generate"),
    (Method::POST, "/v2/models/m/generate_stream"),
    (Method::POST, "/v1/models/m:explain"),
];

/// A served gateway.
pub struct TestGateway {
    pub gateway: Gateway,
    pub addr: SocketAddr,
    pub registry: Registry,
    pub shutdown: Shutdown,
    pub serving: JoinHandle<std::io::Result<()>>,
}

impl TestGateway {
    pub fn start(models: Vec<ModelRoute>) -> Self {
        Self::with_limits(models, Limits::default())
    }

    pub fn with_limits(models: Vec<ModelRoute>, limits: Limits) -> Self {
        Self::with_settings(models, GatewaySettings { namespace: None, threads: 2, limits })
    }

    pub fn with_settings(models: Vec<ModelRoute>, settings: GatewaySettings) -> Self {
        let registry = Registry::new();
        let gateway = Gateway::new(settings, &registry).unwrap();
        gateway.set_models(models);
        let listeners = gateway.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        let addr = listeners.local_addr();
        let shutdown = Shutdown::new();
        let serving = {
            let (gateway, shutdown) = (gateway.clone(), shutdown.clone());
            tokio::spawn(async move { gateway.serve(listeners, shutdown).await })
        };
        Self { gateway, addr, registry, shutdown, serving }
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    /// Sum of a metric over the series that have all of these labels.
    pub fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().filter(|family| family.name() == name);
        let metrics = family.flat_map(prometheus::proto::MetricFamily::get_metric);
        let matching = metrics.filter(|metric| {
            labels.iter().all(|(name, value)| {
                metric.get_label().iter().any(|label| label.name() == *name && label.value() == *value)
            })
        });
        matching
            .map(|metric| {
                let histogram = metric.get_histogram().get_sample_count() as f64;
                metric.get_counter().get_value() + metric.get_gauge().get_value() + histogram
            })
            .sum()
    }

    /// Waits until nothing is held, in flight or connected.
    pub async fn settles(&self) {
        for gauge in
            ["kferving_gateway_held_requests", "kferving_gateway_held_bytes", "kferving_gateway_in_flight_requests"]
        {
            eventually(gauge, || self.metric(gauge, &[]) == 0.0).await;
        }
    }

    pub async fn stop(self) {
        self.shutdown.request();
        tokio::time::timeout(PATIENCE, self.serving).await.unwrap().unwrap().unwrap();
    }
}

/// A model with static replicas.
pub fn static_model(name: &str, replicas: &[(SocketAddr, u32)]) -> ModelRoute {
    let replica = |(addr, concurrency): &(SocketAddr, u32)| StaticReplica {
        url: format!("http://{addr}"),
        addr: *addr,
        device: Device::Cpu,
        cost: 1.0,
        concurrency: *concurrency,
    };
    ModelRoute { replicas: replicas.iter().map(replica).collect(), variants: Vec::new(), ..scaled_model(name) }
}

/// A model that the autoscaler brings up, on CPU.
pub fn scaled_model(name: &str) -> ModelRoute {
    ModelRoute {
        namespace: "vision".to_owned(),
        name: name.to_owned(),
        generation: 1,
        timeout: Duration::from_secs(15),
        objective: None,
        variants: vec![VariantRoute {
            device: Device::Cpu,
            revision: format!("vision/{name}-cpu-00001"),
            digest: "sha256:00".to_owned(),
            cost: 1.0,
            concurrency: 1,
        }],
        metadata: Some(serde_json::json!({
            "name": name, "versions": ["1"], "platform": "onnx",
            "inputs": [{ "name": "x", "datatype": "FP32", "shape": [-1, 64] }],
            "outputs": [{ "name": "y", "datatype": "INT64", "shape": [-1] }],
        })),
        unavailable: None,
        replicas: Vec::new(),
    }
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    async fn of<B>(response: Response<B>) -> Self
    where
        B: hyper::body::Body<Data = Bytes>,
        B::Error: std::fmt::Debug,
    {
        let (parts, body) = response.into_parts();
        Self { status: parts.status, headers: parts.headers, body: body.collect().await.unwrap().to_bytes() }
    }
}

/// A client with a pool of connections.
#[derive(Clone)]
pub struct TestClient(Client<HttpConnector, Full<Bytes>>);

impl TestClient {
    pub fn http1() -> Self {
        Self(Client::builder(TokioExecutor::new()).build_http())
    }

    pub fn http2() -> Self {
        Self(Client::builder(TokioExecutor::new()).http2_only(true).build_http())
    }

    pub async fn get(&self, url: &str) -> Answer {
        self.send(Request::get(url).body(Full::default()).unwrap()).await
    }

    pub async fn post(&self, url: &str, body: impl Into<Bytes>) -> Answer {
        self.send(Request::post(url).body(Full::new(body.into())).unwrap()).await
    }

    /// A request without a body.
    pub async fn call(&self, method: Method, url: &str) -> Answer {
        self.send(Request::builder().method(method).uri(url).body(Full::default()).unwrap()).await
    }

    pub async fn send(&self, request: Request<Full<Bytes>>) -> Answer {
        let response = tokio::time::timeout(PATIENCE, self.0.request(request)).await.unwrap().unwrap();
        Answer::of(response).await
    }

    /// Like [`TestClient::send`], for answers that may break off.
    pub async fn try_send(&self, request: Request<Full<Bytes>>) -> Result<Answer, String> {
        let exchange = async {
            let response = self.0.request(request).await.map_err(|error| error.to_string())?;
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
            Ok(Answer { status: parts.status, headers: parts.headers, body })
        };
        tokio::time::timeout(PATIENCE, exchange).await.unwrap()
    }
}

/// Waits until `condition` holds.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// An address on which nothing listens.
pub fn dead_addr() -> SocketAddr {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}
