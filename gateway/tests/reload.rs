//! Configurations that change under load.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::collections::BTreeSet;
use std::time::Duration;

use gateway::ModelRoute;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{TestClient, TestGateway, eventually, static_model};
use tokio::task::JoinSet;

/// How often the configuration changes.
const CHANGES: usize = 10_000;

/// Clients that ask all the time.
const CLIENTS: usize = 4;

/// Changes the configuration to each of `configurations` in turn, under load; the statuses of the answers.
async fn change(gateway: &TestGateway, configurations: &[Vec<ModelRoute>]) -> BTreeSet<u16> {
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let (client, url, stopped) = (TestClient::http1(), gateway.url("/v2/models/digits/infer"), stopped.clone());
        clients.spawn(async move {
            let mut statuses = BTreeSet::new();
            while !*stopped.borrow() {
                statuses.insert(client.post(&url, "x").await.status.as_u16());
            }
            statuses
        });
    }
    for change in 1..=CHANGES {
        gateway.gateway.set_models(configurations[change % configurations.len()].clone());
        tokio::task::yield_now().await;
    }
    stop.send(true).unwrap();
    clients.join_all().await.into_iter().flatten().collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_model_whose_replicas_are_exchanged_is_never_without_one() {
    let wrappers = [(); 2].map(|()| FakeWrapper::start(Behaviour::Echo(Duration::ZERO)));
    let [one, other] = wrappers.each_ref().map(|wrapper| wrapper.addr);
    let models = [
        vec![static_model("digits", &[(one, 0)])],
        vec![static_model("digits", &[(other, 0)])],
        // The same replica as the first's, changed.
        vec![static_model("digits", &[(one, 64)])],
    ];
    let gateway = TestGateway::start(models[0].clone());
    assert_eq!(change(&gateway, &models).await, BTreeSet::from([200]));
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_runs_on_a_replica_counts_when_its_concurrency_and_cost_change() {
    let wrapper = FakeWrapper::start(Behaviour::Gated);
    let on_terms = |concurrency, cost| {
        let mut model = static_model("digits", &[(wrapper.addr, concurrency)]);
        model.replicas[0].cost = cost;
        vec![model]
    };
    let gateway = TestGateway::start(on_terms(2, 1.0));
    let mut requests = JoinSet::new();
    let mut ask = || {
        let (client, url) = (TestClient::http1(), gateway.url("/v2/models/digits/infer"));
        requests.spawn(async move { client.post(&url, "x").await.status.as_u16() });
    };
    let held = || gateway.metric("kferving_gateway_held_requests", &[]);
    ask();
    ask();
    eventually("two run", || wrapper.running() == 2).await;

    gateway.gateway.set_models(on_terms(1, 5.0));
    let device = gateway.gateway.explain("vision", "digits", 1).unwrap().devices.remove(0);
    assert!((device.cost - 5.0).abs() < f64::EPSILON);
    assert_eq!((device.replicas[0].in_flight, device.replicas[0].concurrency), (2, 1));
    ask();
    eventually("the third waits", || held() == 1.0).await;
    wrapper.let_go(1);
    eventually("one has ended", || gateway.metric("kferving_gateway_in_flight_requests", &[]) == 1.0).await;
    assert_eq!((held(), wrapper.running()), (1.0, 1), "one is as many as it may have now");

    gateway.gateway.set_models(on_terms(2, 5.0));
    eventually("the third runs", || wrapper.running() == 2).await;
    wrapper.let_go(2);
    assert_eq!(requests.join_all().await, [200; 3]);
    assert_eq!((wrapper.peak(), wrapper.requests()), (2, 3));
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_model_that_comes_and_goes_serves_or_does_not_exist() {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let model = vec![static_model("digits", &[(wrapper.addr, 1)])];
    let gateway = TestGateway::start(model.clone());
    let statuses = change(&gateway, &[model.clone(), Vec::new()]).await;
    assert!(statuses.is_subset(&BTreeSet::from([200, 404])), "{statuses:?}");
    gateway.gateway.set_models(model);
    assert_eq!(TestClient::http1().post(&gateway.url("/v2/models/digits/infer"), "x").await.status, 200);
    gateway.settles().await;
    gateway.gateway.set_models(Vec::new());
    let of_models = || gateway.metric("kferving_gateway_requests_total", &[("model", "digits")]);
    eventually("its series go with it", || of_models() == 0.0).await;
    gateway.stop().await;
}
