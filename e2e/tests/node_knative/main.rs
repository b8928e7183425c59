//! The model server's image as a stock Knative Service: Knative's own queue-proxy beside it, its own activator in front.
//!
//! No ingress is needed: the tests send the activator what an ingress would.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod image;
mod service;

use e2e::cluster::{Inside, TestCluster};
use serde_json::{Value, json};
use service::DigitsService;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a cluster: make e2e"]
async fn a_packaged_model_wakes_through_knatives_activator_and_goes_back_to_zero() {
    let cluster = TestCluster::from_env().await.unwrap();
    if !cluster.has_knative().await.unwrap() {
        return TestCluster::skip("the cluster has no Knative Serving");
    }
    let Some(image) = image::digits_or_skip(&cluster).await else { return };
    cluster
        .in_namespace("knative-service", async |namespace| {
            let service = DigitsService::create(&cluster, &image, namespace).await;
            service.until_at_zero("after its first pod").await;

            let held_out = held_out();
            let request = json!({"instances": held_out["images"]});
            let answer = service.post("/v1/models/digits:predict", &request).await;
            assert_eq!(answer.status, 200, "{}", answer.body);
            let predictions = answer.body["predictions"].as_array().unwrap();
            let labels: Vec<&Value> = predictions.iter().map(|prediction| &prediction["label"]).collect();
            assert_eq!(labels, held_out["label"].as_array().unwrap().iter().collect::<Vec<_>>());
            assert!(answer.server_timing.unwrap().contains("infer;dur="), "it comes from the model server");

            let pod = service.the_pod().await;
            assert_eq!(service::containers(&pod), ["queue-proxy", "user-container"]);
            assert_eq!(service::not_ready(&pod), [""; 0]);
            assert_eq!(service::restarts(&pod), 0);

            let metrics = service.metrics(&pod).await;
            assert!(metrics.contains("kferving_wrapper_state{state=\"serving\"} 1"), "{metrics}");

            // Another way in, while it is warm: its revision is told as a gateway tells it.
            let identity = service.identity(&pod).await;
            let named = service.post_as("/v1/models/digits:predict", &request, Some(&identity)).await;
            assert_eq!(named.status, 200, "{identity}: {}", named.body);
            let other = identity.replace("-00001@", "-00002@");
            assert_eq!(service.post_as("/v1/models/digits:predict", &request, Some(&other)).await.status, 421);

            service.until_at_zero("after the request").await;
        })
        .await;
}

/// One sample: that the figures are right is for quiet machines, that they are of what they say is for this test.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "needs root and a cluster: make e2e"]
async fn the_load_test_takes_a_cold_start_of_stock_knative_apart() {
    let cluster = TestCluster::from_env().await.unwrap();
    let Some(rig) = cluster.rig_or_skip("the load test runs in the cluster's network") else { return };
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("result.json");
    // In the process namespace too: /proc is that one's, and the program asks there where it is.
    let mut loadtest = rig.command(Inside::All, image::built("loadtest").as_os_str()).await.unwrap();
    loadtest.args(["cold-start", "--target", "knative", "--services", "1", "--samples", "1", "--json"]).arg(&json);
    loadtest.arg("--model-file").arg(image::repository().join("examples/models/digits.onnx"));
    image::succeeded("loadtest", &loadtest.output().unwrap());

    let result: Value = serde_json::from_slice(&std::fs::read(json).unwrap()).unwrap();
    let series = &result["series"][0];
    assert_eq!((&series["name"], &series["samples"]), (&json!("knative"), &json!(1)));
    assert_eq!(series["errors"], json!({}));
    let phases = series["phases_us"].as_object().unwrap();
    let names: Vec<_> = phases.keys().map(String::as_str).collect();
    assert_eq!(names, ["activator", "answer", "containers", "load", "sandbox", "schedule"]);
    let parts: f64 = phases.values().map(|phase| phase["max"].as_f64().unwrap()).sum();
    let whole = series["latency_us"]["max"].as_f64().unwrap();
    assert!((parts / whole - 1.0).abs() < 0.01, "the parts add up to {parts} µs of {whole}: {phases:?}");
    assert!(phases["load"]["max"].as_f64().unwrap() > 0.0, "the model server's own clock was read: {phases:?}");
}

/// Pictures of digits that the model was not trained with, and what it says of each.
fn held_out() -> Value {
    let file = image::repository().join("examples/models/digits-heldout.json");
    serde_json::from_slice(&std::fs::read(file).unwrap()).unwrap()
}
