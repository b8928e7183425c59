//! Requests that are too large, compressed to burst, broken or slow.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use model_wrapper_protocol::grpc::{
    ModelInferRequest, grpc_inference_service_client::GrpcInferenceServiceClient, model_infer_request::InferInputTensor,
};

use crate::support::Wrapper;

/// The default bound on a body.
const LIMIT: usize = 64 << 20;

#[test]
fn a_body_that_is_declared_too_large_is_never_asked_for() {
    let wrapper = Wrapper::serving("text", &[]);
    for expect in ["expect: 100-continue\r\n", ""] {
        let head = format!(
            "POST /v2/models/text/infer HTTP/1.1\r\nhost: test\r\n{expect}content-length: {}\r\n\r\n",
            LIMIT + 1
        );
        let error = wrapper.connect().exchange(head.as_bytes()).refused(413, "body-too-large");
        assert_eq!(error, format!("the body is larger than {LIMIT} bytes, the limit of this server"));
    }
}

#[test]
fn a_body_that_becomes_too_large_is_refused_when_it_does() {
    let wrapper = Wrapper::serving("text", &[]);
    let mut connection = wrapper.connect();
    connection.send(b"POST /v2/models/text/infer HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n");
    let chunk = [b"100000\r\n", vec![b' '; 1 << 20].as_slice(), b"\r\n"].concat();
    let sent = (0..(2 * LIMIT) >> 20).take_while(|_| connection.try_send(&chunk)).count();
    assert!((LIMIT >> 20..(2 * LIMIT) >> 20).contains(&sent), "{sent} MiB were taken");
    wrapper.post("/v2/models/text/infer", "{}").refused(400, "bad-request");
}

#[test]
fn a_body_that_bursts_is_refused_at_the_limit() {
    let wrapper = Wrapper::serving("text", &[]);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    let zeros = vec![b' '; 1 << 20];
    for _ in 0..=LIMIT >> 20 {
        encoder.write_all(&zeros).expect("memory takes it");
    }
    let bomb = encoder.finish().expect("memory takes it");
    assert!(bomb.len() < 1 << 20);
    for path in ["/v2/models/text/infer", "/v1/models/text:predict"] {
        let error = wrapper.connect().post(path, "content-encoding: gzip\r\n", &bomb).refused(413, "body-too-large");
        assert!(error.starts_with("the decompressed body is larger"), "{error}");
    }
    let error = wrapper
        .connect()
        .post("/v2/models/text/infer", "content-encoding: gzip\r\n", b"no gzip")
        .refused(400, "bad-request");
    assert!(error.starts_with("the body cannot be decompressed"), "{error}");
}

#[test]
fn gzip_in_several_members_is_one_body() {
    let wrapper = Wrapper::serving("text", &[]);
    let member = |part: &str| {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        encoder.write_all(part.as_bytes()).expect("memory takes it");
        encoder.finish().expect("memory takes it")
    };
    let whole = [member(r#"{"instances":"#), member(r#"["a"]}"#)].concat();
    let post = |body: &[u8]| wrapper.connect().post("/v1/models/text:predict", "content-encoding: gzip\r\n", body);
    assert_eq!(post(&whole).ok(), serde_json::json!({"predictions": ["a"]}));
    let error = post(&[whole, b"junk".to_vec()].concat()).refused(400, "bad-request");
    assert!(error.starts_with("the body cannot be decompressed"), "{error}");
}

#[test]
fn an_index_request_that_does_not_end_is_not_waited_for() {
    let wrapper = Wrapper::serving("text", &[]);
    let head = "POST /v2/repository/index HTTP/1.1\r\nhost: test\r\ncontent-length: 9\r\n\r\n{";
    let error = wrapper.connect().exchange(head.as_bytes()).refused(400, "bad-request");
    assert!(error.contains("did not come within"), "{error}");
}

#[tokio::test]
async fn an_error_is_short_whatever_it_is_about() {
    let wrapper = Wrapper::serving("text", &[]);
    let name = "ü".repeat(100_000);
    let input = InferInputTensor { name: name.clone(), datatype: "FP32".into(), ..Default::default() };
    let message = ModelInferRequest {
        model_name: "text".into(),
        inputs: vec![input],
        raw_input_contents: vec![Bytes::from_static(&[0; 4])],
        ..Default::default()
    };
    let mut client =
        GrpcInferenceServiceClient::connect(format!("http://{}", wrapper.addr)).await.expect("it connects");
    let status = client.model_infer(message).await.expect_err("no such input");
    // Longer, it would not fit into the headers that clients take, and the code would be lost with it.
    assert_eq!(status.code(), tonic::Code::InvalidArgument, "{status:?}");
    assert!(status.message().starts_with("unknown input 'üü") && status.message().contains("takes 't'"), "{status:?}");
    let body = format!(r#"{{"inputs":[{{"name":"{name}","shape":[1],"datatype":"{name}","data":[1]}}]}}"#);
    let error = wrapper.post("/v2/models/text/infer", &body).refused(400, "bad-request");
    assert!(error.len() < 4096, "{}", error.len());
}

#[test]
fn grpc_needs_http2() {
    let wrapper = Wrapper::serving("text", &[]);
    let mut connection = wrapper.connect();
    for kind in ["application/grpc", "application/grpc-web+proto"] {
        let headers = format!("content-type: {kind}\r\n");
        connection.post("/inference.GRPCInferenceService/ServerLive", &headers, &[0; 5]).refused(404, "bad-request");
    }
}

#[test]
fn headers_that_lie_are_refused() {
    let wrapper = Wrapper::serving("text", &[]);
    let refused =
        |headers: &str| wrapper.connect().post("/v2/models/text/infer", headers, b"{}").refused(400, "bad-request");
    for value in ["3", "18446744073709551615", "-1", "x", "1.5"] {
        let error = refused(&format!("inference-header-content-length: {value}\r\n"));
        assert!(error.contains("Inference-Header-Content-Length"), "{error}");
    }
    for value in ["0", "-1", "NaN", "never"] {
        assert!(refused(&format!("x-request-timeout: {value}\r\n")).contains("x-request-timeout"));
    }
}

#[test]
fn broken_chunks_cost_their_connection_alone() {
    let wrapper = Wrapper::serving("text", &[]);
    for chunk in ["zz\r\n", "-1\r\n", "fffffffffffffffff\r\n", "1\r\nab\r\n"] {
        let head = "POST /v2/models/text/infer HTTP/1.1\r\nhost: test\r\ntransfer-encoding: chunked\r\n\r\n";
        let answer = wrapper.connect().exchange(format!("{head}{chunk}").as_bytes());
        assert!(answer.refused(400, "bad-request").starts_with("the body broke off"));
    }
    wrapper.post("/v1/models/text:predict", r#"{"instances":["a"]}"#).ok();
}

#[tokio::test]
async fn grpc_is_bounded_and_directed_like_rest() {
    let wrapper = Wrapper::serving("text", &[]);
    let url = format!("http://{}", wrapper.addr);
    let mut client = GrpcInferenceServiceClient::connect(url.clone()).await.expect("it connects");

    let many = vec![InferInputTensor::default(); 5000];
    let status =
        client.model_infer(ModelInferRequest { inputs: many, ..Default::default() }).await.expect_err("too many");
    assert_eq!(
        (status.code(), status.message()),
        (tonic::Code::InvalidArgument, "the message has more than 4096 fields")
    );

    let large = ModelInferRequest { raw_input_contents: vec![Bytes::from(vec![0; LIMIT])], ..Default::default() };
    let status = client.model_infer(large).await.expect_err("too large");
    assert_eq!(status.code(), tonic::Code::ResourceExhausted);
    assert_eq!(
        status.metadata().get("kferving-reason").and_then(|reason| reason.to_str().ok()),
        Some("body-too-large")
    );

    let mut late = tonic::Request::new(ModelInferRequest::default());
    late.metadata_mut().insert("grpc-timeout", "soon".parse().expect("text"));
    assert_eq!(client.model_infer(late).await.expect_err("no timeout").code(), tonic::Code::InvalidArgument);

    let stream = tokio::net::TcpStream::connect(wrapper.addr).await.expect("it listens");
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("it speaks HTTP/2");
    tokio::spawn(connection);
    let request = http::Request::post(format!("{url}/inference.GRPCInferenceService/ModelInfer"))
        .header("content-type", "application/grpc")
        .header("kferving-revision", "vision/other-cpu-00001@sha256:00")
        .body(Full::new(Bytes::from_static(&[0; 5])))
        .expect("a request");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 421);
    assert_eq!(response.headers()["kferving-reason"], "misdirected");
    response.into_body().collect().await.expect("a body");
}

#[tokio::test]
async fn grpc_that_is_not_served_is_told_what_is() {
    let wrapper = Wrapper::serving("text", &[]);
    let stream = tokio::net::TcpStream::connect(wrapper.addr).await.expect("it listens");
    let (mut sender, connection) = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
        .await
        .expect("it speaks HTTP/2");
    tokio::spawn(connection);
    let mut call = async |path: &str| {
        let request = http::Request::post(format!("http://{}{path}", wrapper.addr))
            .header("content-type", "application/grpc")
            .body(Full::new(Bytes::from_static(&[0; 5])))
            .expect("a request");
        let response = sender.send_request(request).await.expect("an answer");
        let headers = response.headers().clone();
        response.into_body().collect().await.expect("a body");
        let said = |name| headers.get(name).map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned());
        (said("grpc-status"), said("grpc-message").unwrap_or_default(), said("kferving-reason"))
    };
    // The last two are taken for inferences by their names.
    let others = [
        "inference.GRPCInferenceService/ModelConfig",
        "grpc.health.v1.Health/Check",
        "x.Y/ModelInfer",
        "x.Y/ModelStreamInfer",
    ];
    for path in others.map(|other| format!("/{other}")) {
        let (status, message, reason) = call(&path).await;
        assert_eq!((status.as_deref(), reason.as_deref()), (Some("12"), Some("bad-request")), "{path}");
        let message = percent_encoding::percent_decode_str(&message).decode_utf8().expect("text").into_owned();
        assert!(message.starts_with(&format!("{path} is not served: ")), "{message}");
        let known =
            message.split_once("inference.GRPCInferenceService, ").and_then(|(_, rest)| rest.split_once(" are;"));
        let known: Vec<&str> = known.expect("what is served").0.split(", ").collect();
        assert!(known.contains(&"ModelMetadata") && !known.contains(&"ModelConfig"), "{message}");
        for known in known {
            let (status, ..) = call(&format!("/inference.GRPCInferenceService/{known}")).await;
            assert_ne!(status.as_deref(), Some("12"), "{known} is served");
        }
    }
    let (_, message, _) = call(&format!("/{}", "x".repeat(5000))).await;
    assert!((1..=3 * 2100).contains(&message.len()), "{}", message.len());
}

#[tokio::test]
async fn grpc_in_an_unknown_encoding_is_told_the_known_ones() {
    let wrapper = Wrapper::serving("text", &[]);
    let mut client =
        GrpcInferenceServiceClient::connect(format!("http://{}", wrapper.addr)).await.expect("it connects");
    let encoded = |encoding: &str| {
        let mut request = tonic::Request::new(ModelInferRequest::default());
        request.metadata_mut().insert("grpc-encoding", encoding.parse().expect("text"));
        request
    };
    let stream = encoded("br").map(|message| futures::stream::iter([message]));
    let statuses = [
        client.model_infer(encoded("br")).await.expect_err("brotli"),
        client.model_stream_infer(stream).await.expect_err("brotli"),
    ];
    for status in statuses {
        let said = |name| status.metadata().get(name).and_then(|value| value.to_str().ok());
        assert_eq!(status.code(), tonic::Code::Unimplemented, "{status:?}");
        assert!(status.message().contains("`br`"), "{status:?}");
        assert_eq!(said("grpc-accept-encoding"), Some("gzip,deflate,identity"));
        assert_eq!(said("kferving-reason"), Some("unsupported-encoding"));
    }
    let counted = r#"kferving_wrapper_requests_total{outcome="unsupported-encoding",protocol="grpc"}"#;
    assert_eq!(wrapper.metric(counted), Some(1.0));
    // The same connection is good for messages that it can read.
    assert_eq!(client.model_infer(encoded("identity")).await.expect_err("no model").code(), tonic::Code::NotFound);
}
