//! Concurrency, deadlines and callers that leave.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper_util::rt::TokioIo;

use crate::wrapper::{FOREVER, Wrapper, admin_client, eventually, iterations, numbers, send, specialize, token};

#[tokio::test]
async fn the_surplus_is_refused_and_was_not_run() {
    let wrapper = Wrapper::serving("loop.onnx", &["--concurrency", "2", "--timeout", "5"]);
    let traffic = wrapper.traffic;
    let slow: Vec<_> = (0..2)
        .map(|_| tokio::spawn(send(traffic, "POST", "/v2/models/loop/infer", &[], iterations(FOREVER).to_string())))
        .collect();
    eventually("both places are taken", async || wrapper.in_flight().await == 2).await;
    let runs = wrapper.metric("kferving_wrapper_infer_duration_seconds_count").await;
    for _ in 0..10 {
        let surplus = wrapper.infer("loop", &iterations(1), &[]).await;
        assert_eq!(surplus.status, 503);
        assert_eq!(surplus.headers["kferving-reason"], "replica-busy");
    }
    assert_eq!(wrapper.metric("kferving_wrapper_infer_duration_seconds_count").await, runs);
    for answer in slow {
        assert_eq!(answer.await.unwrap().unwrap().status, 504);
    }
    eventually("the places are free", async || wrapper.in_flight().await == 0).await;
    assert_eq!(wrapper.infer("loop", &iterations(1), &[]).await.status, 200);
}

#[tokio::test]
async fn a_deadline_ends_the_run() {
    let wrapper = Wrapper::serving("loop.onnx", &[]);
    let late = wrapper.infer("loop", &iterations(FOREVER), &[("x-request-timeout", "0.2")]).await;
    assert_eq!((late.status.as_u16(), late.headers["kferving-reason"].to_str().unwrap()), (504, "deadline"));
    // Only a cancelled run makes way for this one.
    assert_eq!(wrapper.infer("loop", &iterations(1), &[]).await.status, 200);
}

#[tokio::test]
async fn a_run_that_turned_out_long_is_cancelled_although_the_model_was_brief() {
    let wrapper = Wrapper::serving("loop.onnx", &[]);
    for _ in 0..50 {
        assert_eq!(wrapper.infer("loop", &iterations(1), &[]).await.status, 200);
    }
    let late = wrapper.infer("loop", &iterations(FOREVER), &[("x-request-timeout", "0.2")]).await;
    assert_eq!(late.status, 504);
    assert_eq!(wrapper.infer("loop", &iterations(1), &[]).await.status, 200);
}

#[tokio::test]
async fn a_caller_that_leaves_makes_way() {
    let wrapper = Wrapper::serving("loop.onnx", &["--concurrency", "1"]);
    let stream = tokio::net::TcpStream::connect(wrapper.traffic).await.unwrap();
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let request = http::Request::post("/v2/models/loop/infer")
        .header("host", "test")
        .body(Full::new(Bytes::from(iterations(FOREVER).to_string())))
        .unwrap();
    let waiting = tokio::spawn(async move { sender.send_request(request).await });
    eventually("it runs", async || wrapper.in_flight().await == 1).await;
    waiting.abort();
    driver.abort();
    eventually("its place is free", async || wrapper.in_flight().await == 0).await;
    assert_eq!(wrapper.infer("loop", &iterations(1), &[]).await.status, 200);
}

#[tokio::test]
async fn batches_form_under_load_and_everyone_gets_its_own() {
    let wrapper = Wrapper::pooled();
    let mut request = specialize("a", "fp32.onnx");
    request.limits.insert("maxBatchSize".into(), 8);
    request.limits.insert("maxBatchLatencyUs".into(), 2000);
    admin_client().specialize(wrapper.admin, &request, Some(&token(&request))).await.unwrap();
    let identity = format!("{}@{}", request.revision, request.digest);
    let calls: Vec<_> = (0..200u16)
        .map(|index| {
            let (traffic, identity) = (wrapper.traffic, identity.clone());
            tokio::spawn(async move {
                let body = numbers([f32::from(index), 0.0, 1.0]).to_string();
                let answer =
                    send(traffic, "POST", "/v2/models/m/infer", &[("kferving-revision", &identity)], body).await;
                (index, answer.unwrap())
            })
        })
        .collect();
    for call in calls {
        let (index, answer) = call.await.unwrap();
        assert_eq!(answer.status, 200, "{}", answer.body);
        let expected = [f32::from(index) * 2.0, 0.0, 2.0];
        assert_eq!(answer.body["outputs"][0]["data"], serde_json::json!(expected));
    }
    assert_eq!(wrapper.metric("kferving_wrapper_batch_rows_sum").await, 200.0);
    assert_eq!(wrapper.metric("kferving_wrapper_batch_rows_bucket{le=\"8\"}").await, {
        wrapper.metric("kferving_wrapper_batch_rows_count").await
    });
}

#[tokio::test]
async fn a_body_beyond_the_limit_of_the_claim_is_refused() {
    let wrapper = Wrapper::pooled();
    let mut request = specialize("a", "fp32.onnx");
    request.limits.insert("maxBodyBytes".into(), 1000);
    admin_client().specialize(wrapper.admin, &request, Some(&token(&request))).await.unwrap();
    let identity = format!("{}@{}", request.revision, request.digest);
    let body = format!("{}{}", numbers([1.0; 3]), " ".repeat(2000));
    let refused =
        send(wrapper.traffic, "POST", "/v2/models/m/infer", &[("kferving-revision", &identity)], body).await.unwrap();
    assert_eq!(refused.status, 413);
    tokio::time::timeout(Duration::from_secs(30), async {
        eventually("its place is free", async || wrapper.in_flight().await == 0).await;
    })
    .await
    .unwrap();
}
