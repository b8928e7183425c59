//! Streams of gRPC messages, whose clients wait for an answer before they ask on.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::convert::Infallible;
use std::time::Duration;

use bytes::Bytes;
use futures::channel::mpsc::{UnboundedReceiver, UnboundedSender, unbounded};
use gateway::{Limits, ModelRoute};
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::client::legacy::Client;
use hyper_util::rt::TokioExecutor;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{PATIENCE, TestClient, TestGateway, eventually, static_model};

const SILENCE: Duration = Duration::from_millis(300);

/// The least patience with bodies.
fn impatient() -> Limits {
    Limits { body_idle_timeout: SILENCE, body_grace: SILENCE, ..Limits::default() }
}

/// A `ModelInferRequest` for `digits`, padded to this length.
fn message(length: u32) -> Bytes {
    let mut message = [&[0][..], &length.to_be_bytes(), &[0x0a, 6], b"digits"].concat();
    message.resize(5 + length as usize, 0);
    message.into()
}

type Sent = Result<Frame<Bytes>, Infallible>;

/// One stream of a client.
struct Stream {
    messages: UnboundedSender<Sent>,
    headers: HeaderMap,
    answers: Incoming,
    received: Vec<u8>,
}

impl Stream {
    /// Begins with this message, and waits for the head of the answers.
    async fn open(gateway: &TestGateway, first: Bytes) -> Self {
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        let (messages, body): (UnboundedSender<Sent>, UnboundedReceiver<Sent>) = unbounded();
        let request = Request::post(gateway.url("/inference.GRPCInferenceService/ModelStreamInfer"))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .body(StreamBody::new(body))
            .unwrap();
        messages.unbounded_send(Ok(Frame::data(first))).unwrap();
        let asked = tokio::time::timeout(PATIENCE, client.request(request));
        let response = asked.await.expect("the answers begin before the stream ends").unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        let (head, answers) = response.into_parts();
        Self { messages, headers: head.headers, answers, received: Vec::new() }
    }

    fn send(&self, bytes: Bytes) {
        self.messages.unbounded_send(Ok(Frame::data(bytes))).unwrap();
    }

    /// Waits for the answer to one message: the message itself.
    async fn assert_echoed(&mut self, message: &Bytes) {
        while self.received.len() < message.len() {
            let frame = tokio::time::timeout(PATIENCE, self.answers.frame()).await.expect("an answer").unwrap();
            self.received.extend_from_slice(frame.unwrap().data_ref().unwrap());
        }
        let rest = self.received.split_off(message.len());
        assert!(std::mem::replace(&mut self.received, rest) == message[..], "it is the message");
    }

    /// Waits for the end, while the client goes on sending; the status that it comes with, if any.
    async fn ends(self) -> Option<String> {
        let ended = tokio::time::timeout(PATIENCE, self.answers.collect()).await.expect("the stream ends");
        let ended = ended.expect("with trailers, not with a reset");
        let trailers = ended.trailers()?;
        Some(trailers.get("grpc-status").unwrap().to_str().unwrap().to_owned())
    }
}

async fn start(model: impl FnOnce(ModelRoute) -> ModelRoute) -> (FakeWrapper, TestGateway) {
    let wrapper = FakeWrapper::start(Behaviour::EchoFrames);
    let gateway = TestGateway::with_limits(vec![model(static_model("digits", &[(wrapper.addr, 1)]))], impatient());
    (wrapper, gateway)
}

#[tokio::test(flavor = "multi_thread")]
async fn each_message_is_answered_before_the_next_is_sent() {
    let (_wrapper, gateway) = start(|model| model).await;
    let mut length = 20;
    let mut stream = Stream::open(&gateway, message(length)).await;
    for _ in 0..4 {
        stream.assert_echoed(&message(length)).await;
        // A client may think for longer than a body may be silent.
        tokio::time::sleep(2 * SILENCE).await;
        // The second and later ones are longer than what is read of any body beforehand.
        length = 200_000;
        stream.send(message(length));
    }
    stream.assert_echoed(&message(length)).await;
    assert_eq!(gateway.metric("kferving_gateway_in_flight_requests", &[]), 1.0, "a stream is one request");
    drop(std::mem::replace(&mut stream.messages, unbounded().0));
    assert_eq!(stream.ends().await, None);
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_long_stream_of_short_messages_is_served_to_its_end() {
    let wrapper = FakeWrapper::start(Behaviour::EchoFrames);
    let limits = Limits { max_body_bytes: 10_000, ..impatient() };
    let gateway = TestGateway::with_limits(vec![static_model("digits", &[(wrapper.addr, 1)])], limits);
    let mut stream = Stream::open(&gateway, message(9_000)).await;
    for _ in 0..10 {
        stream.assert_echoed(&message(9_000)).await;
        stream.send(message(9_000));
    }
    stream.assert_echoed(&message(9_000)).await;
    stream.send(message(10_001));
    assert_eq!(
        stream.ends().await.as_deref(),
        Some("8"),
        "RESOURCE_EXHAUSTED: one message is longer than a body may be"
    );
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn silence_in_the_middle_of_a_message_ends_the_stream() {
    let (_wrapper, gateway) = start(|model| model).await;
    let mut stream = Stream::open(&gateway, message(20)).await;
    stream.assert_echoed(&message(20)).await;
    stream.send(message(20).slice(..15));
    // The sender is alive for as long as the stream: its end is not the client's doing.
    assert_eq!(stream.ends().await.as_deref(), Some("4"), "as the table of the README has it");
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_keeps_its_replica_until_the_models_timeout_at_most() {
    let (wrapper, gateway) = start(|model| ModelRoute { timeout: Duration::from_secs(1), ..model }).await;
    let mut stream = Stream::open(&gateway, message(20)).await;
    stream.assert_echoed(&message(20)).await;
    gateway.settles().await;
    assert_eq!(gateway.metric("kferving_gateway_requests_total", &[("code", "504"), ("reason", "deadline")]), 1.0);
    eventually("the replica has nothing of it any more", || wrapper.running() == 0).await;
    assert_eq!(stream.ends().await.as_deref(), Some("4"), "DEADLINE_EXCEEDED");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_that_a_replica_refuses_goes_to_another() {
    let refusing = FakeWrapper::start(Behaviour::Refuse(StatusCode::SERVICE_UNAVAILABLE, "replica-busy"));
    let wrapper = FakeWrapper::start(Behaviour::EchoFrames);
    let replicas = [(refusing.addr, 100), (wrapper.addr, 100)];
    let gateway = TestGateway::with_limits(vec![static_model("digits", &replicas)], impatient());
    while refusing.requests() == 0 {
        let mut stream = Stream::open(&gateway, message(20)).await;
        assert_eq!(stream.headers.get("grpc-status"), None);
        stream.assert_echoed(&message(20)).await;
    }
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn how_long_a_client_thinks_says_nothing_of_service_times() {
    let (wrapper, gateway) = start(|model| model).await;
    let mut stream = Stream::open(&gateway, message(20)).await;
    stream.assert_echoed(&message(20)).await;
    drop(std::mem::replace(&mut stream.messages, unbounded().0));
    assert_eq!(stream.ends().await, None);
    gateway.settles().await;
    assert!(!gateway.gateway.explain("vision", "digits", 1).unwrap().devices[0].measured);
    wrapper.behave(Behaviour::Echo(Duration::ZERO));
    TestClient::http1().post(&gateway.url("/v2/models/digits/infer"), "x").await;
    gateway.settles().await;
    assert!(gateway.gateway.explain("vision", "digits", 1).unwrap().devices[0].measured);
    gateway.stop().await;
}
