use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use http::Response;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;

use super::*;
use crate::{Phases, WrapperState};

/// An admin port with canned answers that counts its connections.
struct FakeAdminPort {
    address: SocketAddr,
    connections: Arc<AtomicUsize>,
}

impl FakeAdminPort {
    async fn start(answer: impl Fn(&Request<Incoming>) -> (u16, String) + Clone + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let connections = Arc::new(AtomicUsize::new(0));
        let count = connections.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                count.fetch_add(1, Ordering::SeqCst);
                let answer = answer.clone();
                tokio::spawn(async move {
                    let service = service_fn(move |request: Request<Incoming>| {
                        let (status, body) = answer(&request);
                        async move {
                            request.into_body().collect().await.unwrap();
                            let response = Response::builder().status(status).body(Full::new(Bytes::from(body)));
                            Ok::<_, Infallible>(response.unwrap())
                        }
                    });
                    let _ = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        Self { address, connections }
    }

    fn connections(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }
}

fn request() -> SpecializeRequest {
    SpecializeRequest {
        claim_id: "claim-1".into(),
        pod_uid: "uid-1".into(),
        revision: "default/digits-cpu-00001".into(),
        digest: "sha256:00".into(),
        model: crate::ModelSource {
            uri: "file:///m.onnx".into(),
            format: "onnx".into(),
            name: "digits".into(),
            config: Default::default(),
        },
        container_concurrency: 1,
        timeout_ms: 1000,
        limits: Default::default(),
    }
}

fn client() -> AdminClient {
    AdminClient::new(Timeouts { state: Duration::from_millis(300), ..Timeouts::default() })
}

#[tokio::test]
async fn a_prepared_connection_is_the_one_used() {
    let port = FakeAdminPort::start(|request| {
        assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer t");
        let response = SpecializeResponse {
            claim_id: "claim-1".into(),
            phases: Phases::default(),
            metadata: serde_json::json!({"name": "digits"}),
        };
        (200, serde_json::to_string(&response).unwrap())
    })
    .await;
    let client = client();
    client.prepare(port.address).await.unwrap();
    client.prepare(port.address).await.unwrap();
    for _ in 0..3 {
        let response = client.specialize(port.address, &request(), Some("t")).await.unwrap();
        assert_eq!(response.claim_id, "claim-1");
    }
    assert_eq!(port.connections(), 1);
}

#[tokio::test]
async fn each_status_has_its_outcome() {
    let conflict = ConflictResponse { error: "taken".into(), claim_id: "other".into(), revision: "ns/r".into() };
    let cases = [
        (409, serde_json::to_string(&conflict).unwrap(), AdminError::Conflict(conflict)),
        (409, "{}".into(), AdminError::Unexpected { status: 409, message: "{}".into() }),
        (421, r#"{"error":"uid"}"#.into(), AdminError::WrongReplica("uid".into())),
        (422, r#"{"error":"digest"}"#.into(), AdminError::Rejected("digest".into())),
        (401, r#"{"error":"token"}"#.into(), AdminError::Unauthorized("token".into())),
        (500, "boom".into(), AdminError::Unexpected { status: 500, message: "boom".into() }),
    ];
    for (status, body, expected) in cases {
        let port = FakeAdminPort::start(move |_| (status, body.clone())).await;
        assert_eq!(client().specialize(port.address, &request(), None).await, Err(expected));
    }
}

#[tokio::test]
async fn an_answer_beyond_the_limit_is_not_collected() {
    let port = FakeAdminPort::start(|_| (200, " ".repeat(MAX_RESPONSE_BYTES + 1))).await;
    let error = client().state(port.address).await.unwrap_err();
    assert!(matches!(error, AdminError::Unexpected { status: 200, .. }), "{error}");
}

#[tokio::test]
async fn nobody_listening_is_unreachable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let error = client().state(address).await.unwrap_err();
    assert!(matches!(error, AdminError::Unreachable(_)), "{error}");
}

#[tokio::test]
async fn silence_and_a_broken_connection_are_told_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        let (mut first, _) = listener.accept().await.unwrap();
        assert!(first.read(&mut [0; 1024]).await.unwrap() > 0);
        drop(first);
        let (_second, _) = listener.accept().await.unwrap();
        std::future::pending::<()>().await;
    });
    let client = client();
    let broken = client.state(address).await.unwrap_err();
    assert!(matches!(broken, AdminError::Interrupted(_)), "{broken}");
    assert_eq!(client.state(address).await, Err(AdminError::Timeout(Duration::from_millis(300))));
}

#[tokio::test]
async fn a_connection_that_died_while_idle_is_replaced_and_forgotten() {
    let state = StateResponse {
        state: WrapperState::Idle,
        pod_uid: None,
        claim_id: None,
        revision: None,
        digest: None,
        error: None,
        phases: None,
        metadata: None,
        in_flight: 0,
    };
    let body = serde_json::to_string(&state).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let client = client();
    client.prepare(address).await.unwrap();
    let (stream, _) = listener.accept().await.unwrap();
    assert_eq!(client.connections.idle_addresses(), 1);
    drop(stream);
    drop(listener);
    let deadline = tokio::time::Instant::now() + Duration::from_secs(10);
    while client.connections.idle_addresses() > 0 {
        assert!(tokio::time::Instant::now() < deadline, "the dead connection is still kept");
        tokio::task::yield_now().await;
    }
    let port = FakeAdminPort::start(move |_| (200, body.clone())).await;
    assert_eq!(client.state(port.address).await.unwrap(), state);
    client.forget(port.address);
    assert_eq!(client.connections.idle_addresses(), 0);
}

#[tokio::test]
async fn a_unix_socket_is_called_like_a_port() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("admin.sock");
    let address = AdminAddress::Path(path.clone());
    assert!(matches!(client().state(address.clone()).await, Err(AdminError::Unreachable(_))));
    let listener = tokio::net::UnixListener::bind(path).unwrap();
    tokio::spawn(async move {
        let (stream, _) = listener.accept().await.unwrap();
        let service = service_fn(|request: Request<Incoming>| async move {
            assert_eq!((request.method().as_str(), request.uri().path()), ("POST", "/wait-for-drain"));
            assert_eq!(request.headers()[header::AUTHORIZATION], "Bearer t");
            Ok::<_, Infallible>(Response::new(Full::new(Bytes::from(r#"{"drainedAfterMs":7}"#))))
        });
        hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await.unwrap();
    });
    let client = client();
    for _ in 0..2 {
        let drained = client.wait_for_drain(address.clone(), Duration::from_secs(1), Some("t")).await.unwrap();
        assert_eq!(drained.drained_after_ms, 7);
    }
}
