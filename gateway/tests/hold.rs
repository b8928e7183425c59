//! Requests that wait for a replica.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use bytes::Bytes;
use gateway::Limits;
use http::{Request, StatusCode};
use http_body_util::Full;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{PATIENCE, TestClient, TestGateway, eventually, scaled_model, static_model};
use tokio::task::JoinSet;

const INFER: &str = "/v2/models/digits/infer";

fn with_timeout(url: &str, seconds: &str) -> Request<Full<Bytes>> {
    Request::post(url).header("x-request-timeout", seconds).body(Full::from("x")).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_requests_at_once_share_one_replica_of_concurrency_one() {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 1)])]);
    let client = TestClient::http1();
    let mut requests = JoinSet::new();
    for index in 0..1000 {
        let (client, url) = (client.clone(), gateway.url(INFER));
        requests.spawn(async move { (index, client.post(&url, index.to_string()).await) });
    }
    while let Some(answered) = requests.join_next().await {
        let (index, answer) = answered.unwrap();
        assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
        assert_eq!(answer.body, index.to_string());
    }
    assert_eq!(wrapper.peak(), 1, "never above the replica's concurrency");
    assert_eq!(wrapper.requests(), 1000);
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_requests_are_released_in_order_of_arrival() {
    let wrapper = FakeWrapper::start(Behaviour::Gated);
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 1)])]);
    let client = TestClient::http1();
    let mut requests = JoinSet::new();
    for index in 0..5_usize {
        let (client, url) = (client.clone(), gateway.url(INFER));
        requests.spawn(async move {
            client.post(&url, "x").await;
            index
        });
        // Each is in the gateway before the next is sent.
        let present = || gateway.metric("kferving_gateway_held_requests", &[]) as usize + wrapper.requests();
        eventually("the request arrives", || present() == index + 1).await;
    }
    for expected in 0..5 {
        wrapper.let_go(1);
        assert_eq!(requests.join_next().await.unwrap().unwrap(), expected);
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_passes_while_held_and_while_running() {
    let wrapper = FakeWrapper::start(Behaviour::Gated);
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 1)])]);
    let client = TestClient::http1();
    let (url, running) = (gateway.url(INFER), client.clone());
    let running_url = url.clone();
    let running = tokio::spawn(async move { running.send(with_timeout(&running_url, "0.6")).await });
    eventually("one runs", || wrapper.running() == 1).await;

    let began = Instant::now();
    let held = client.send(with_timeout(&url, "0.2")).await;
    assert_eq!(held.status, StatusCode::GATEWAY_TIMEOUT);
    assert_eq!(held.header("kferving-reason"), "deadline");
    assert!(began.elapsed() >= Duration::from_millis(200));
    assert_eq!(wrapper.requests(), 1, "what was only held never reaches a replica");

    let answer = running.await.unwrap();
    assert_eq!(answer.status, StatusCode::GATEWAY_TIMEOUT);
    eventually("the run is cancelled", || wrapper.cancelled() == 1 && wrapper.running() == 0).await;
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_that_is_no_positive_number_is_refused() {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 1)])]);
    let client = TestClient::http1();
    for timeout in ["0", "-1", "soon"] {
        let answer = client.send(with_timeout(&gateway.url(INFER), timeout)).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{timeout}");
        assert!(answer.json()["error"].as_str().unwrap().contains("x-request-timeout"), "{answer:?}");
    }
    assert_eq!(wrapper.requests(), 0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_leaves_frees_its_place() {
    let wrapper = FakeWrapper::start(Behaviour::Gated);
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 1)])]);
    let client = TestClient::http1();
    let (url, first) = (gateway.url(INFER), client.clone());
    let first_url = url.clone();
    let first = tokio::spawn(async move { first.post(&first_url, "x").await });
    eventually("one runs", || wrapper.running() == 1).await;
    let held = || gateway.metric("kferving_gateway_held_requests", &[]);
    let (leaving, leaving_url) = (client.clone(), url.clone());
    let leaving = tokio::spawn(async move { leaving.post(&leaving_url, "x").await });
    eventually("one is held", || held() == 1.0).await;
    leaving.abort();
    eventually("none is held", || held() == 0.0).await;
    wrapper.let_go(1);
    assert_eq!(first.await.unwrap().status, StatusCode::OK);
    assert_eq!(wrapper.requests(), 1, "the one that left never ran");
    gateway.settles().await;
    let gone = [("code", "499"), ("reason", "client-gone"), ("device", "none")];
    assert_eq!(gateway.metric("kferving_gateway_requests_total", &gone), 1.0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_request_whose_client_leaves_is_cancelled() {
    let wrapper = FakeWrapper::start(Behaviour::Gated);
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 1)])]);
    let (client, url) = (TestClient::http1(), gateway.url(INFER));
    let leaving = tokio::spawn(async move { client.post(&url, "x").await });
    eventually("one runs", || wrapper.running() == 1).await;
    leaving.abort();
    eventually("its run is cancelled", || wrapper.cancelled() == 1).await;
    gateway.settles().await;
    let gone = [("code", "499"), ("reason", "client-gone"), ("device", "cpu")];
    eventually("it is counted", || gateway.metric("kferving_gateway_requests_total", &gone) == 1.0).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_exceeds_the_hold_is_refused_at_once() {
    let wrapper = FakeWrapper::start(Behaviour::Gated);
    let limits = Limits { hold_requests: 2, ..Limits::default() };
    let gateway = TestGateway::with_limits(vec![static_model("digits", &[(wrapper.addr, 1)])], limits);
    let client = TestClient::http1();
    let mut waiting = JoinSet::new();
    for _ in 0..3 {
        let (client, url) = (client.clone(), gateway.url(INFER));
        waiting.spawn(async move { client.post(&url, "x").await.status });
    }
    let full = || gateway.metric("kferving_gateway_held_requests", &[]) == 2.0 && wrapper.running() == 1;
    eventually("the hold is full", full).await;
    let answer = client.post(&gateway.url(INFER), "x").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("kferving-reason"), "hold-full");
    assert_eq!(answer.header("retry-after"), "1");
    wrapper.let_go(3);
    while let Some(status) = waiting.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn bytes_held_are_bounded_too() {
    let limits = Limits { hold_bytes: 100, ..Limits::default() };
    let gateway = TestGateway::with_limits(vec![scaled_model("digits")], limits);
    let client = TestClient::http1();
    let (held, url) = (client.clone(), gateway.url(INFER));
    let held = tokio::spawn(async move { held.post(&url, vec![0; 80]).await.status });
    eventually("one is held", || gateway.metric("kferving_gateway_held_bytes", &[]) == 80.0).await;
    let answer = client.post(&gateway.url(INFER), vec![0; 80]).await;
    assert_eq!(answer.header("kferving-reason"), "hold-full");
    held.abort();
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_caller_at_its_limit_gets_429() {
    let wrapper = FakeWrapper::start(Behaviour::Gated);
    let limits = Limits { caller_concurrency: Some(1), ..Limits::default() };
    let gateway = TestGateway::with_limits(vec![static_model("digits", &[(wrapper.addr, 4)])], limits);
    let client = TestClient::http1();
    let (first, url) = (client.clone(), gateway.url(INFER));
    let first = tokio::spawn(async move { first.post(&url, "x").await.status });
    eventually("one runs", || wrapper.running() == 1).await;
    let answer = client.post(&gateway.url(INFER), "x").await;
    assert_eq!(answer.status, StatusCode::TOO_MANY_REQUESTS);
    assert_eq!(answer.header("kferving-reason"), "caller-limit");
    assert_eq!(answer.header("retry-after"), "1");
    wrapper.let_go(2);
    assert_eq!(first.await.unwrap(), StatusCode::OK);
    assert_eq!(client.post(&gateway.url(INFER), "x").await.status, StatusCode::OK);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn held_requests_are_answered_when_the_gateway_stops() {
    let limits = Limits { held_drain_timeout: Duration::from_millis(200), ..Limits::default() };
    let gateway = TestGateway::with_limits(vec![scaled_model("digits")], limits);
    let client = TestClient::http1();
    let mut held = JoinSet::new();
    for _ in 0..20 {
        let (client, url) = (client.clone(), gateway.url(INFER));
        held.spawn(async move { client.post(&url, "x").await });
    }
    eventually("all are held", || gateway.metric("kferving_gateway_held_requests", &[]) == 20.0).await;
    gateway.shutdown.request();
    while let Some(answer) = held.join_next().await {
        let answer = answer.unwrap();
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.header("kferving-reason"), "shutting-down");
    }
    tokio::time::timeout(PATIENCE, gateway.serving).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_in_flight_are_answered_when_the_gateway_stops() {
    let wrapper = FakeWrapper::start(Behaviour::Gated);
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 2)])]);
    let client = TestClient::http1();
    let mut requests = JoinSet::new();
    for _ in 0..10 {
        let (client, url) = (client.clone(), gateway.url(INFER));
        requests.spawn(async move { client.post(&url, "x").await.status });
    }
    let all_in = || gateway.metric("kferving_gateway_held_requests", &[]) == 8.0 && wrapper.running() == 2;
    eventually("two run and eight wait", all_in).await;
    gateway.shutdown.request();
    let addr = gateway.addr;
    eventually("no new connection is taken", || std::net::TcpStream::connect(addr).is_err()).await;
    wrapper.let_go(10);
    while let Some(status) = requests.join_next().await {
        assert_eq!(status.unwrap(), StatusCode::OK);
    }
    tokio::time::timeout(PATIENCE, gateway.serving).await.unwrap().unwrap().unwrap();
}
