//! The demand stream: what the gateway tells the autoscaler, and what it does when told.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::{Duration, Instant};

use autoscaler_demand::autoscaler_message::Kind as Told;
use autoscaler_demand::gateway_message::Kind as Tell;
use autoscaler_demand::{ModelState, Redirect, ReplicaGone, ReplicaRemoving};
use gateway::{DemandTarget, ModelRoute};
use http::StatusCode;
use support::autoscaler::FakeAutoscaler;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{Answer, FOREIGN_CALLS, PATIENCE, TestClient, TestGateway, dead_addr, eventually, scaled_model};
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpStream, UnixListener};
use tokio::task::JoinHandle;

const INFER: &str = "/v2/models/digits/infer";

/// A gateway that is connected to an autoscaler, and a directory for the socket.
async fn connected(models: Vec<ModelRoute>) -> (TestGateway, FakeAutoscaler, tempfile::TempDir) {
    let directory = tempfile::tempdir().unwrap();
    let autoscaler = FakeAutoscaler::start(directory.path().join("demand.sock"));
    let gateway = TestGateway::start(models);
    connect(&gateway, &autoscaler);
    eventually("hello", || !autoscaler.heard().is_empty()).await;
    autoscaler.welcome(false).await;
    autoscaler.welcome(true).await;
    (gateway, autoscaler, directory)
}

fn connect(gateway: &TestGateway, autoscaler: &FakeAutoscaler) {
    let target = DemandTarget::Unix(autoscaler.socket.clone());
    gateway.gateway.connect_demand(target, "gateway-1", gateway.shutdown.clone());
}

fn post(gateway: &TestGateway) -> JoinHandle<Answer> {
    let (client, url) = (TestClient::http1(), gateway.url(INFER));
    tokio::spawn(async move { client.post(&url, "x").await })
}

fn replicas(gateway: &TestGateway) -> usize {
    gateway.gateway.snapshot().iter().map(|model| model.replicas.len()).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cold_model_is_reported_at_once_and_answers_when_its_replica_comes() {
    let (gateway, autoscaler, _directory) = connected(vec![scaled_model("digits")]).await;
    let answer = post(&gateway);
    let held = |tell: &Tell| matches!(tell, Tell::Held(held) if held.model == "digits" && held.namespace == "vision");
    eventually("held is reported", || autoscaler.heard().iter().any(held)).await;

    let wrapper = FakeWrapper::start(Behaviour::Headers);
    autoscaler.add("digits", "u1", wrapper.addr, 1).await;
    let answer = answer.await.unwrap();
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(answer.json()["kferving-revision"], "vision/digits-cpu-00001@sha256:00");
    assert_eq!(answer.header("kferving-device"), "cpu");
    assert_eq!(answer.header("kferving-replica"), "wrapper-u1");
    assert_eq!(answer.header("kferving-reason"), "only-candidate");
    let timing = answer.header("server-timing").to_owned();
    for phase in ["hold;dur=", "backoff;dur=500.000", "claim;dur=1.000", "specialize;dur=2.000", "load;dur=3.000"] {
        assert!(timing.contains(phase), "{timing}");
    }

    let warm = TestClient::http1().post(&gateway.url(INFER), "x").await;
    assert_eq!(warm.header("server-timing"), "hold;dur=0", "a warm answer has no phases of a start");
    assert_eq!(gateway.metric("kferving_gateway_cold_start_phase_seconds", &[("phase", "first-byte")]), 1.0);
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_model_server_does_not_have_wakes_no_model_and_reaches_no_replica() {
    let (gateway, autoscaler, _directory) = connected(vec![scaled_model("m")]).await;
    let client = TestClient::http1();
    let refused = async || {
        for (method, path) in FOREIGN_CALLS {
            let answer = client.call(method, &gateway.url(path)).await;
            assert_eq!(answer.status, StatusCode::NOT_FOUND, "a retry would not help: {answer:?}");
            assert_eq!(answer.header("kferving-reason"), "bad-request");
            let message = answer.json()["error"].as_str().unwrap().to_owned();
            assert!(message.contains("vision/m") && message.contains("infer"), "{message}");
        }
    };
    refused().await;
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    autoscaler.add("m", "u1", wrapper.addr, 1).await;
    eventually("the replica is known", || replicas(&gateway) == 1).await;
    refused().await;
    assert_eq!(wrapper.requests(), 0);
    assert!(!autoscaler.heard().iter().any(|tell| matches!(tell, Tell::Held(_))), "nobody hears of a demand");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshots_carry_the_whole_demand() {
    let (gateway, autoscaler, _directory) = connected(vec![scaled_model("digits")]).await;
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::from_millis(5)));
    autoscaler.add("digits", "u1", wrapper.addr, 1).await;
    eventually("the replica is known", || replicas(&gateway) == 1).await;
    for _ in 0..3 {
        post(&gateway).await.unwrap();
    }
    let counted = || {
        autoscaler.heard().into_iter().any(|tell| {
            let Tell::Snapshot(snapshot) = tell else { return false };
            let Some(model) = snapshot.models.first() else { return false };
            let Some(variant) = model.variants.first() else { return false };
            let served: u64 = variant.service_times.iter().map(|times| times.count).sum();
            let total: u64 = variant.service_times.iter().map(|times| times.total_us).sum();
            model.arrivals == 3 && served == 3 && total >= 15_000 && model.average_concurrency > 0.0
        })
    };
    eventually("a snapshot counts the three", counted).await;
    let sequences: Vec<u64> = autoscaler
        .heard()
        .into_iter()
        .filter_map(|tell| match tell {
            Tell::Snapshot(snapshot) => Some(snapshot.sequence),
            Tell::Held(held) => Some(held.sequence),
            _ => None,
        })
        .collect();
    assert!(sequences.windows(2).all(|pair| pair[1] == pair[0] + 1), "{sequences:?}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_is_left_before_its_removal_is_acknowledged() {
    let (gateway, autoscaler, _directory) = connected(vec![scaled_model("digits")]).await;
    let first = FakeWrapper::start(Behaviour::Gated);
    autoscaler.add("digits", "u1", first.addr, 4).await;
    let running = post(&gateway);
    eventually("one runs", || first.running() == 1).await;

    let revision = "vision/digits-cpu-00001".to_owned();
    autoscaler.say(Told::Removing(ReplicaRemoving { revision, uid: "u1".to_owned() })).await;
    let acked = |tell: &Tell| matches!(tell, Tell::RemovalAck(ack) if ack.uid == "u1");
    eventually("the removal is acknowledged", || autoscaler.heard().iter().any(acked)).await;

    let held = post(&gateway);
    eventually("a new request is held", || gateway.metric("kferving_gateway_held_requests", &[]) == 1.0).await;
    assert_eq!(first.requests(), 1);
    first.let_go(1);
    assert_eq!(running.await.unwrap().status, StatusCode::OK, "what ran may end");

    let second = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    autoscaler.add("digits", "u2", second.addr, 4).await;
    assert_eq!(held.await.unwrap().header("kferving-replica"), "wrapper-u2");
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_cannot_be_reached_is_reported_and_the_request_waits_for_another() {
    let (gateway, autoscaler, _directory) = connected(vec![scaled_model("digits")]).await;
    autoscaler.add("digits", "u1", dead_addr(), 4).await;
    eventually("the replica is known", || replicas(&gateway) == 1).await;
    let held = post(&gateway);
    let fault = |tell: &Tell| matches!(tell, Tell::Fault(fault) if fault.uid == "u1" && fault.kind == 1);
    eventually("the fault is reported", || autoscaler.heard().iter().any(fault)).await;
    let revision = "vision/digits-cpu-00001".to_owned();
    autoscaler.say(Told::Gone(ReplicaGone { revision, uid: "u1".to_owned() })).await;
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    autoscaler.add("digits", "u2", wrapper.addr, 4).await;
    assert_eq!(held.await.unwrap().status, StatusCode::OK);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_misdirected_request_is_reported_and_sent_elsewhere() {
    let (gateway, autoscaler, _directory) = connected(vec![scaled_model("digits")]).await;
    let wrong = FakeWrapper::start(Behaviour::Refuse(StatusCode::MISDIRECTED_REQUEST, "misdirected"));
    autoscaler.add("digits", "u1", wrong.addr, 4).await;
    eventually("the replica is known", || replicas(&gateway) == 1).await;
    let held = post(&gateway);
    let fault = |tell: &Tell| matches!(tell, Tell::Fault(fault) if fault.uid == "u1" && fault.kind == 2);
    eventually("the fault is reported", || autoscaler.heard().iter().any(fault)).await;
    let right = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    autoscaler.add("digits", "u2", right.addr, 4).await;
    assert_eq!(held.await.unwrap().status, StatusCode::OK);
    assert_eq!(wrong.bodies(), 0);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_that_hangs_is_ejected_and_reported_though_its_clients_leave_early() {
    let (gateway, autoscaler, _directory) = connected(vec![scaled_model("digits")]).await;
    let (hung, healthy) = (FakeWrapper::start(Behaviour::Gated), FakeWrapper::start(Behaviour::Echo(Duration::ZERO)));
    autoscaler.add("digits", "hung", hung.addr, 4).await;
    autoscaler.add("digits", "healthy", healthy.addr, 4).await;
    eventually("both are known", || replicas(&gateway) == 2).await;
    let clients: Vec<_> = (0..4)
        .map(|_| {
            let url = gateway.url(INFER);
            tokio::spawn(async move {
                loop {
                    let client = TestClient::http1();
                    // Whether it was answered in time is not the question.
                    let _ = tokio::time::timeout(Duration::from_millis(400), client.post(&url, "x")).await;
                }
            })
        })
        .collect();
    eventually("it is ejected", || gateway.metric("kferving_gateway_ejections_total", &[]) >= 1.0).await;
    let reported = |tell: &Tell| matches!(tell, Tell::Fault(fault) if fault.uid == "hung");
    eventually("it is reported", || autoscaler.heard().iter().any(reported)).await;
    clients.iter().for_each(JoinHandle::abort);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_come_up_is_503_with_the_autoscalers_reason() {
    let (gateway, autoscaler, _directory) = connected(vec![scaled_model("digits")]).await;
    let state = ModelState {
        namespace: "vision".to_owned(),
        model: "digits".to_owned(),
        reason: "load-failed".to_owned(),
        message: "the graph has an unknown operator".to_owned(),
        retry_after_ms: 0,
    };
    let held = post(&gateway);
    eventually("one is held", || gateway.metric("kferving_gateway_held_requests", &[]) == 1.0).await;
    autoscaler.say(Told::Model(state.clone())).await;
    let answer = held.await.unwrap();
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("kferving-reason"), "load-failed");
    assert!(answer.json()["error"].as_str().unwrap().contains("unknown operator"), "{answer:?}");
    assert_eq!(post(&gateway).await.unwrap().header("kferving-reason"), "load-failed");
    let client = TestClient::http1();
    let ready = async || client.get(&gateway.url("/v2/models/digits/ready")).await;
    let index = async || client.post(&gateway.url("/v2/repository/index"), "").await.json()[0].clone();
    let answer = ready().await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!((answer.json()["ready"].as_bool(), answer.header("kferving-reason")), (Some(false), "load-failed"));
    let entry = index().await;
    assert_eq!(entry["state"], "UNAVAILABLE");
    assert!(entry["reason"].as_str().unwrap().contains("unknown operator"), "{entry}");

    autoscaler.say(Told::Model(ModelState { reason: String::new(), ..state })).await;
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    autoscaler.add("digits", "u1", wrapper.addr, 1).await;
    eventually("the replica is known", || replicas(&gateway) == 1).await;
    assert_eq!(post(&gateway).await.unwrap().status, StatusCode::OK);
    assert_eq!(ready().await.status, StatusCode::OK);
    assert_eq!(index().await["state"], "READY");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn replicas_stay_in_use_while_the_autoscaler_is_away_and_are_told_to_the_next() {
    let (gateway, autoscaler, directory) = connected(vec![scaled_model("digits")]).await;
    let (kept, dropped) = (FakeWrapper::start(Behaviour::Echo(Duration::ZERO)), dead_addr());
    autoscaler.add("digits", "kept", kept.addr, 4).await;
    eventually("the replica is known", || replicas(&gateway) == 1).await;
    autoscaler.hang_up();
    drop(autoscaler);
    assert_eq!(post(&gateway).await.unwrap().status, StatusCode::OK);

    let next = FakeAutoscaler::start(directory.path().join("demand.sock"));
    let hello = || {
        next.heard().into_iter().find_map(|tell| match tell {
            Tell::Hello(hello) => Some(hello),
            _ => None,
        })
    };
    eventually("hello again", || hello().is_some()).await;
    let hello = hello().unwrap();
    assert_eq!(hello.gateway_id, "gateway-1");
    assert_eq!(hello.replicas.len(), 1);
    assert_eq!(hello.replicas[0].claim_id, "claim-kept");

    next.welcome(false).await;
    next.add("digits", "new", dropped, 4).await;
    eventually("both are known", || replicas(&gateway) == 2).await;
    next.welcome(true).await;
    eventually("what was not announced is dropped", || replicas(&gateway) == 1).await;
    assert_eq!(gateway.gateway.snapshot()[0].replicas[0].name, "wrapper-new");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_announced_before_its_model_is_used_once_the_model_is_there() {
    let (gateway, autoscaler, _directory) = connected(Vec::new()).await;
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    autoscaler.add("digits", "u1", wrapper.addr, 4).await;
    assert_eq!(post(&gateway).await.unwrap().status, StatusCode::NOT_FOUND);
    gateway.gateway.set_models(vec![scaled_model("digits")]);
    assert_eq!(post(&gateway).await.unwrap().status, StatusCode::OK);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_catalogue_wakes_nothing() {
    let (gateway, autoscaler, _directory) = connected(vec![scaled_model("digits")]).await;
    let client = TestClient::http1();
    let metadata = client.get(&gateway.url("/v2/models/digits")).await;
    assert_eq!(metadata.json()["inputs"][0]["name"], "x");
    assert_eq!(client.get(&gateway.url("/v2/models/digits/ready")).await.json()["ready"], true);
    assert_eq!(client.get(&gateway.url("/v1/models/digits")).await.json()["ready"], true);
    assert_eq!(client.get(&gateway.url("/v1/models")).await.json()["models"][0], "digits");
    assert_eq!(client.post(&gateway.url("/v2/repository/index"), "").await.json()[0]["state"], "READY");
    assert_eq!(client.get(&gateway.url("/v2/models/digits/stats")).await.status, StatusCode::NOT_FOUND);
    let woken = |tell: &Tell| match tell {
        Tell::Held(_) => true,
        Tell::Snapshot(snapshot) => snapshot.models.iter().any(|model| model.arrivals > 0 || model.held > 0),
        _ => false,
    };
    let before = autoscaler.heard().len();
    eventually("another snapshot", || autoscaler.heard().len() > before).await;
    assert!(!autoscaler.heard().iter().any(woken));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_that_its_client_breaks_is_no_fault_of_its_replica() {
    let (gateway, autoscaler, _directory) = connected(vec![scaled_model("digits")]).await;
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    autoscaler.add("digits", "u1", wrapper.addr, 1).await;
    eventually("the replica is known", || replicas(&gateway) == 1).await;
    let mut client = TcpStream::connect(gateway.addr).await.unwrap();
    let head = format!("POST {INFER} HTTP/1.1\r\nHost: digits.vision\r\nTransfer-Encoding: chunked\r\n\r\n");
    // More than is read before it is sent on.
    let chunk = format!("{:x}\r\n{}\r\n", 500_000, "x".repeat(500_000));
    client.write_all((head + &chunk).as_bytes()).await.unwrap();
    eventually("it is on its way", || wrapper.running() == 1).await;
    client.write_all(b"no chunk").await.unwrap();
    let refused = [("code", "400"), ("reason", "bad-request")];
    eventually("it is refused", || gateway.metric("kferving_gateway_requests_total", &refused) == 1.0).await;
    // Served after it, so that what was told of it has come before that.
    assert_eq!(post(&gateway).await.unwrap().status, StatusCode::OK);
    let arrivals = |tell: &Tell| matches!(tell, Tell::Snapshot(snapshot) if snapshot.models[0].arrivals == 2);
    eventually("a snapshot counts both", || autoscaler.heard().iter().any(arrivals)).await;
    assert!(!autoscaler.heard().iter().any(|tell| matches!(tell, Tell::Fault(_))), "{:?}", autoscaler.heard());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_autoscaler_that_falls_silent_is_left_for_another() {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("demand.sock");
    // Its connections are taken and nobody is behind them, as of a process that is stopped.
    let stopped = UnixListener::bind(&socket).unwrap();
    let gateway = TestGateway::start(vec![scaled_model("digits")]);
    gateway.gateway.connect_demand(DemandTarget::Unix(socket.clone()), "gateway-1", gateway.shutdown.clone());
    let (_silent, _) = tokio::time::timeout(PATIENCE, stopped.accept()).await.expect("it connects").unwrap();
    std::fs::remove_file(&socket).unwrap();
    let autoscaler = FakeAutoscaler::start(socket);
    eventually("it says hello to the other", || !autoscaler.heard().is_empty()).await;
    drop(stopped);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn autoscalers_that_name_each_other_as_leader_are_not_asked_in_a_loop() {
    let (gateway, autoscaler, _directory) = connected(vec![scaled_model("digits")]).await;
    let leader = format!("unix://{}", autoscaler.socket.display());
    let hellos = || autoscaler.heard().iter().filter(|tell| matches!(tell, Tell::Hello(_))).count();
    let began = Instant::now();
    let mut redirected = 0;
    while began.elapsed() < Duration::from_secs(1) {
        if hellos() > redirected {
            redirected = hellos();
            autoscaler.say(Told::Redirect(Redirect { leader: leader.clone() })).await;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    // Pauses of 50, 100, 200 and 400 ms.
    assert!(redirected <= 6, "{redirected} streams within a second");
    eventually("it goes on asking", || hellos() > redirected).await;
    gateway.stop().await;
}
