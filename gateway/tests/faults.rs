//! Replicas that fail, refuse or lie.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use gateway::Limits;
use http::{Request, StatusCode};
use http_body_util::Full;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{TestClient, TestGateway, dead_addr, eventually, static_model};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;

const INFER: &str = "/v2/models/digits/infer";

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_breaks_off_never_looks_complete() {
    let wrapper = FakeWrapper::start(Behaviour::HalfBody);
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 1)])]);
    for client in [TestClient::http1(), TestClient::http2()] {
        let request = Request::post(gateway.url(INFER)).body(Full::<Bytes>::from("x")).unwrap();
        let outcome = client.try_send(request).await;
        assert!(outcome.is_err(), "{outcome:?}");
    }
    gateway.settles().await;
    let lost = [("reason", "replica-lost")];
    assert_eq!(gateway.metric("kferving_gateway_requests_total", &lost), 2.0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_may_have_run_is_not_sent_again() {
    let first = FakeWrapper::start(Behaviour::Reset);
    let second = FakeWrapper::start(Behaviour::Reset);
    let gateway = TestGateway::start(vec![static_model("digits", &[(first.addr, 1), (second.addr, 1)])]);
    let answer = TestClient::http1().post(&gateway.url(INFER), "x").await;
    assert_eq!(answer.status, StatusCode::BAD_GATEWAY);
    assert_eq!(answer.header("kferving-reason"), "replica-lost");
    assert_eq!(first.requests() + second.requests(), 1, "at most one execution");
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_cannot_be_reached_is_passed_over() {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let replicas = [(dead_addr(), 4), (wrapper.addr, 4)];
    let gateway = TestGateway::start(vec![static_model("digits", &replicas)]);
    let client = TestClient::http1();
    for _ in 0..20 {
        assert_eq!(client.post(&gateway.url(INFER), "x").await.status, StatusCode::OK);
    }
    assert!(gateway.metric("kferving_gateway_retries_total", &[("cause", "unsent")]) >= 1.0);
    gateway.stop().await;
}

/// A replica that closes each connection after one answer, without saying so.
async fn answer_once_per_connection(listener: TcpListener, closed: mpsc::Sender<()>) {
    loop {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut request = Vec::new();
        while !request.ends_with(b"\r\n\r\nx") {
            assert_ne!(stream.read_buf(&mut request).await.unwrap(), 0, "the request is cut off");
        }
        stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
        drop(stream);
        closed.send(()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_closed_while_idle_is_not_held_against_its_replica() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let addr = listener.local_addr().unwrap();
    let (closed, mut is_closed) = mpsc::channel(1);
    let replica = tokio::spawn(answer_once_per_connection(listener, closed));
    let gateway = TestGateway::start(vec![static_model("digits", &[(addr, 1)])]);
    let client = TestClient::http1();
    for _ in 0..5 {
        let answer = client.post(&gateway.url(INFER), "x").await;
        assert_eq!(answer.status, StatusCode::OK);
        is_closed.recv().await.unwrap();
    }
    assert_eq!(gateway.metric("kferving_gateway_retries_total", &[]), 0.0);
    replica.abort();
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_any_reachable_replica_it_is_503() {
    let gateway = TestGateway::start(vec![static_model("digits", &[(dead_addr(), 4)])]);
    let answer = TestClient::http1().post(&gateway.url(INFER), "x").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("kferving-reason"), "no-capacity");
    assert_eq!(answer.header("retry-after"), "1");
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_by_sentinel_is_picked_again() {
    for (status, reason) in [
        (StatusCode::MISDIRECTED_REQUEST, "misdirected"),
        (StatusCode::SERVICE_UNAVAILABLE, "replica-busy"),
        (StatusCode::SERVICE_UNAVAILABLE, "draining"),
    ] {
        let refusing = FakeWrapper::start(Behaviour::Refuse(status, reason));
        let serving = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
        let replicas = [(refusing.addr, 1), (serving.addr, 1)];
        let gateway = TestGateway::start(vec![static_model("digits", &replicas)]);
        let client = TestClient::http1();
        let mut served = 0;
        while refusing.requests() == 0 && served < 200 {
            let answer = client.post(&gateway.url(INFER), "x").await;
            assert_eq!(answer.status, StatusCode::OK, "{reason}: {answer:?}");
            served += 1;
        }
        assert!(refusing.requests() > 0, "{reason}: the refusing replica was never picked");
        assert_eq!(refusing.bodies(), 0);
        gateway.settles().await;
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_that_is_no_sentinel_is_passed_on() {
    let wrapper = FakeWrapper::start(Behaviour::Refuse(StatusCode::BAD_REQUEST, "bad-request"));
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 1)])]);
    let answer = TestClient::http1().post(&gateway.url(INFER), "x").await;
    assert_eq!(answer.status, StatusCode::BAD_REQUEST);
    assert_eq!(answer.header("kferving-reason"), "bad-request");
    assert_eq!(answer.header("kferving-device"), "cpu");
    assert_eq!(wrapper.requests(), 1);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_without_a_known_reason_gets_that_of_its_status() {
    for (status, reason) in [
        (StatusCode::UNSUPPORTED_MEDIA_TYPE, "bad-request"),
        (StatusCode::UNPROCESSABLE_ENTITY, "bad-request"),
        (StatusCode::PAYLOAD_TOO_LARGE, "body-too-large"),
        (StatusCode::INTERNAL_SERVER_ERROR, "upstream-error"),
    ] {
        let wrapper = FakeWrapper::start(Behaviour::Refuse(status, "a reason of its own"));
        let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 1)])]);
        let answer = TestClient::http1().post(&gateway.url(INFER), "x").await;
        assert_eq!((answer.status, answer.header("kferving-reason")), (status, reason));
        gateway.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redirect_is_no_error_but_over_grpc() {
    let wrapper = FakeWrapper::start(Behaviour::Refuse(StatusCode::FOUND, "a reason of its own"));
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 1)])]);
    let call = Request::post(gateway.url(INFER)).header("content-type", "application/grpc");
    for (client, request, reason) in [
        (TestClient::http1(), Request::post(gateway.url(INFER)), "static"),
        (TestClient::http2(), call, "upstream-error"),
    ] {
        let answer = client.send(request.body(Full::<Bytes>::from("x")).unwrap()).await;
        assert_eq!((answer.status, answer.header("kferving-reason")), (StatusCode::FOUND, reason));
        let counted = || gateway.metric("kferving_gateway_requests_total", &[("code", "302"), ("reason", reason)]);
        eventually("it is counted", || counted() == 1.0).await;
    }
    gateway.settles().await;
    assert!(!gateway.gateway.explain("vision", "digits", 1).unwrap().devices[0].measured, "it is no run");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_refusal_took_is_no_service_time() {
    let wrapper = FakeWrapper::start(Behaviour::Refuse(StatusCode::BAD_REQUEST, "bad-request"));
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 1)])]);
    let measured = || gateway.gateway.explain("vision", "digits", 1).unwrap().devices[0].measured;
    assert_eq!(TestClient::http1().post(&gateway.url(INFER), "x").await.status, StatusCode::BAD_REQUEST);
    assert!(!measured());
    wrapper.behave(Behaviour::Echo(Duration::ZERO));
    assert_eq!(TestClient::http1().post(&gateway.url(INFER), "x").await.status, StatusCode::OK);
    assert!(measured());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_keeps_failing_is_ejected() {
    let failing = FakeWrapper::start(Behaviour::Refuse(StatusCode::INTERNAL_SERVER_ERROR, "internal"));
    let serving = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let replicas = [(failing.addr, 8), (serving.addr, 8)];
    let gateway = TestGateway::start(vec![static_model("digits", &replicas)]);
    let client = TestClient::http1();
    let ejected = || gateway.metric("kferving_gateway_ejections_total", &[]) == 1.0;
    for _ in 0..1000 {
        if ejected() {
            break;
        }
        client.post(&gateway.url(INFER), "x").await;
    }
    assert!(ejected());
    let before = failing.requests();
    assert!(before >= 5);
    for _ in 0..20 {
        assert_eq!(client.post(&gateway.url(INFER), "x").await.status, StatusCode::OK);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_is_streamed_once_the_replica_consents() {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 1)])]);
    let client = TestClient::http1();
    let body: Vec<u8> = (0..600 << 10).map(|index: u32| (index % 251) as u8).collect();
    for _ in 0..3 {
        let answer = client.post(&gateway.url(INFER), body.clone()).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert!(answer.body == body);
    }
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_answers_before_it_consents_gets_the_body() {
    let wrapper = FakeWrapper::start(Behaviour::EchoFrames);
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 1)])]);
    let body = vec![7_u8; 300 << 10];
    let request = Request::post(gateway.url(INFER)).body(Full::from(body.clone())).unwrap();
    let answer = TestClient::http1().try_send(request).await.expect("an answer that ends");
    assert_eq!((answer.status, answer.body == body), (StatusCode::OK, true));
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_body_goes_to_another_replica_when_the_first_refuses_it() {
    let refusing = FakeWrapper::start(Behaviour::Refuse(StatusCode::MISDIRECTED_REQUEST, "misdirected"));
    let serving = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let replicas = [(refusing.addr, 1), (serving.addr, 1)];
    let gateway = TestGateway::start(vec![static_model("digits", &replicas)]);
    let client = TestClient::http1();
    let body = vec![7_u8; 300 << 10];
    for _ in 0..200 {
        let answer = client.post(&gateway.url(INFER), body.clone()).await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert!(answer.body == body);
        if refusing.requests() > 0 {
            break;
        }
    }
    assert!(refusing.requests() > 0);
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_above_the_limit_is_refused_before_it_is_asked_for() {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let limits = Limits { max_body_bytes: 100_000, ..Limits::default() };
    let gateway = TestGateway::with_limits(vec![static_model("digits", &[(wrapper.addr, 1)])], limits);
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let head = format!("POST {INFER} HTTP/1.1\r\nhost: a\r\ncontent-length: 100001\r\nexpect: 100-continue\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 413");

    let chunk = format!("{:x}\r\n{}\r\n", 50_000, "x".repeat(50_000));
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let head = format!("POST {INFER} HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n");
    stream.write_all(format!("{head}{chunk}{chunk}{chunk}").as_bytes()).await.unwrap();
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 413");
    gateway.settles().await;
    let counted = [("code", "413"), ("reason", "body-too-large")];
    assert_eq!(gateway.metric("kferving_gateway_requests_total", &counted), 2.0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_stalls_holds_no_slot_and_ends_with_408() {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let limits = Limits { body_idle_timeout: Duration::from_millis(200), ..Limits::default() };
    let gateway = TestGateway::with_limits(vec![static_model("digits", &[(wrapper.addr, 1)])], limits);
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let head = format!("POST {INFER} HTTP/1.1\r\nhost: a\r\ncontent-length: 10\r\n\r\n12345");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut first = [0; 12];
    stream.read_exact(&mut first).await.unwrap();
    assert_eq!(&first, b"HTTP/1.1 408");
    assert_eq!(wrapper.requests(), 0);
    let counted = [("model", "digits"), ("code", "408"), ("reason", "upload-stalled")];
    assert_eq!(gateway.metric("kferving_gateway_requests_total", &counted), 1.0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_killed_under_load_costs_only_what_ran_on_it() {
    let mut dying = FakeWrapper::start(Behaviour::Gated);
    let staying = FakeWrapper::start(Behaviour::Echo(Duration::from_millis(1)));
    let replicas = [(dying.addr, 2), (staying.addr, 2)];
    let gateway = TestGateway::start(vec![static_model("digits", &replicas)]);
    let client = TestClient::http1();
    let mut requests = tokio::task::JoinSet::new();
    for _ in 0..50 {
        let (client, url) = (client.clone(), gateway.url(INFER));
        requests.spawn(async move { client.post(&url, "x").await.status });
    }
    eventually("two run on it", || dying.running() == 2).await;
    dying.kill();
    let mut lost = 0;
    while let Some(status) = requests.join_next().await {
        match status.unwrap() {
            StatusCode::OK => {}
            StatusCode::BAD_GATEWAY => lost += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!(lost, 2);
    gateway.settles().await;
    gateway.stop().await;
}

/// A connection on which a long body was announced and only this much of it sent.
async fn announce(gateway: &TestGateway, headers: &str, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(gateway.addr).await.unwrap();
    let head = format!("POST {INFER} HTTP/1.1\r\nhost: x\r\n{headers}content-length: 9000000\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    stream.write_all(&vec![b'x'; sent]).await.unwrap();
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn bodies_that_are_only_announced_take_no_slot() {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 4)])]);
    let mut stalled = Vec::new();
    for _ in 0..8 {
        stalled.push(announce(&gateway, "", 14).await);
    }
    eventually("all are connected", || gateway.metric("kferving_gateway_connections", &[]) >= 8.0).await;
    for _ in 0..10 {
        let answer = TestClient::http1().post(&gateway.url(INFER), "x").await;
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    }
    assert_eq!(wrapper.requests(), 10);
    drop(stalled);
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_passes_during_the_upload_is_not_the_replicas_fault() {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 8)])]);
    let mut uploads = Vec::new();
    for _ in 0..8 {
        uploads.push(announce(&gateway, "x-request-timeout: 0.6\r\n", 100 << 10).await);
    }
    for upload in &mut uploads {
        let mut head = [0; 12];
        upload.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 504");
    }
    assert_eq!(gateway.metric("kferving_gateway_ejections_total", &[]), 0.0);
    drop(uploads);
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_trickles_gives_its_slot_back() {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let limits = Limits { body_bytes_per_second: 1 << 20, body_grace: Duration::from_millis(500), ..Limits::default() };
    let gateway = TestGateway::with_limits(vec![static_model("digits", &[(wrapper.addr, 1)])], limits);
    let stream = announce(&gateway, "", 100 << 10).await;
    let (mut read, mut write) = stream.into_split();
    let trickle = tokio::spawn(async move {
        while write.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
    let mut first = [0; 12];
    tokio::time::timeout(support::PATIENCE, read.read_exact(&mut first)).await.unwrap().unwrap();
    assert_eq!(&first, b"HTTP/1.1 408");
    let counted = [("model", "digits"), ("code", "408"), ("reason", "upload-too-slow")];
    eventually("the upload is counted as too slow", || {
        gateway.metric("kferving_gateway_requests_total", &counted) == 1.0
    })
    .await;
    assert_eq!(TestClient::http1().post(&gateway.url(INFER), "x").await.status, StatusCode::OK);
    trickle.abort();
    gateway.settles().await;
    gateway.stop().await;
}
