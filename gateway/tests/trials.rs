//! Which device gets a request while nothing is known of the cheaper one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use gateway::{ModelExplanation, ModelRoute};
use gateway_policy::Device;
use http::{Request, StatusCode};
use support::wrapper::{Behaviour, FakeWrapper};
use support::{Answer, TestClient, TestGateway, static_model};

const INFER: &str = "/v2/models/digits/infer";

/// Less than an unmeasured CPU is expected to take, more than an unmeasured GPU.
const OBJECTIVE: Duration = Duration::from_millis(20);

/// A model with a replica on CPU, and one on GPU at twelve times the cost.
fn on_both_devices(cpu: &FakeWrapper, gpu: &FakeWrapper) -> ModelRoute {
    let mut model = static_model("digits", &[(cpu.addr, 8), (gpu.addr, 8)]);
    model.replicas[1].device = Device::Gpu;
    model.replicas[1].cost = 12.0;
    model.objective = Some(OBJECTIVE);
    model
}

fn explained(gateway: &TestGateway) -> ModelExplanation {
    gateway.gateway.explain("vision", "digits", 1).unwrap()
}

/// Sends a request when no other is there; it goes where the explanation of the next one says.
async fn send(gateway: &TestGateway, client: &TestClient) -> (String, String) {
    gateway.settles().await;
    let said = explained(gateway);
    let answer = client.post(&gateway.url(INFER), "x").await;
    assert_eq!(answer.status, StatusCode::OK, "{answer:?}");
    let (device, reason) = served(&answer);
    assert_eq!((said.chosen, said.reason), (Some(device.as_str()), reason.as_str()));
    (device, reason)
}

fn served(answer: &Answer) -> (String, String) {
    (answer.header("kferving-device").to_owned(), answer.header("kferving-reason").to_owned())
}

fn predicted_ms(gateway: &TestGateway, name: &str) -> f64 {
    let device = explained(gateway).devices.into_iter().find(|device| device.device == name).unwrap();
    assert!(device.measured);
    device.predicted_ms
}

/// A gateway whose first request has shown a GPU that is fast: as long as a machine is busy enough that it was not, another.
async fn beside_a_fast_gpu(cpu: &FakeWrapper, gpu: &FakeWrapper, client: &TestClient) -> TestGateway {
    for _ in 0..20 {
        let gateway = TestGateway::start(vec![on_both_devices(cpu, gpu)]);
        assert_eq!(send(&gateway, client).await, ("gpu".to_owned(), "cheapest-within-target".to_owned()));
        gateway.settles().await;
        if predicted_ms(&gateway, "gpu") <= OBJECTIVE.as_secs_f64() * 1e3 {
            return gateway;
        }
        gateway.stop().await;
    }
    panic!("no answer of the GPU within the objective");
}

fn trial() -> (String, String) {
    ("cpu".to_owned(), "trial".to_owned())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cpu_that_is_fast_enough_serves_after_one_trial() {
    let cpu = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let gpu = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let client = TestClient::http1();
    // On a machine that is busy enough the trial may take longer than the objective: then another gateway tries.
    for _ in 0..20 {
        let gateway = beside_a_fast_gpu(&cpu, &gpu, &client).await;
        assert_eq!(send(&gateway, &client).await, trial());
        gateway.settles().await;
        let is_fast = predicted_ms(&gateway, "cpu") <= OBJECTIVE.as_secs_f64() * 1e3;
        if is_fast {
            let next = send(&gateway, &client).await;
            assert_eq!(next, ("cpu".to_owned(), "cheapest-within-target".to_owned()));
            for _ in 0..20 {
                assert_ne!(send(&gateway, &client).await.1, "trial");
            }
            let trials = [("device", "cpu"), ("reason", "trial")];
            gateway.settles().await;
            assert_eq!(gateway.metric("kferving_gateway_requests_total", &trials), 1.0);
        }
        gateway.stop().await;
        if is_fast {
            return;
        }
    }
    panic!("no trial within the objective");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cpu_that_is_too_slow_is_left_after_one_trial() {
    let cpu = FakeWrapper::start(Behaviour::Echo(Duration::from_millis(500)));
    let gpu = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let client = TestClient::http1();
    let gateway = beside_a_fast_gpu(&cpu, &gpu, &client).await;
    assert_eq!(send(&gateway, &client).await, trial());
    for _ in 0..20 {
        assert_eq!(send(&gateway, &client).await.0, "gpu");
    }
    assert_eq!(cpu.requests(), 1);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trial_that_ends_at_its_deadline_is_not_repeated() {
    let cpu = FakeWrapper::start(Behaviour::Silent);
    let gpu = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let client = TestClient::http1();
    let gateway = beside_a_fast_gpu(&cpu, &gpu, &client).await;
    // More than a CPU is expected to take, too little to say that its replica is at fault.
    let hasty = Request::post(gateway.url(INFER)).header("x-request-timeout", "0.2").body("x".into()).unwrap();
    let lost = client.send(hasty).await;
    assert_eq!((lost.status, lost.header("kferving-reason")), (StatusCode::GATEWAY_TIMEOUT, "deadline"));
    cpu.behave(Behaviour::Echo(Duration::ZERO));
    for _ in 0..10 {
        gateway.settles().await;
        assert_ne!(explained(&gateway).reason, "trial");
        assert_ne!(client.post(&gateway.url(INFER), "x").await.header("kferving-reason"), "trial");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_run_of_the_model_is_no_trial() {
    let cpu = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let gpu = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let client = TestClient::http1();
    let gateway = beside_a_fast_gpu(&cpu, &gpu, &client).await;
    let statistics = client.get(&gateway.url("/v2/models/digits/stats")).await;
    assert_eq!(served(&statistics).0, "gpu");
    assert_eq!(send(&gateway, &client).await, trial());
    gateway.stop().await;
}
