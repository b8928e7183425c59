//! Hostile HTTP/2 in hand-made frames, against a gateway with a replica behind it.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod h2_frames;
mod support;

use std::time::Duration;

use gateway::{Limits, ModelRoute};
use h2_frames::{
    END_HEADERS, END_STREAM, H2Attacker, Heard, continuation, data, header_block, headers, ping, reset, settings,
};
use support::wrapper::{Behaviour, FakeWrapper};
use support::{TestClient, TestGateway, eventually, static_model};

const INFER: &str = "/v2/models/digits/infer";

fn start(behaviour: Behaviour) -> (FakeWrapper, TestGateway) {
    let wrapper = FakeWrapper::start(behaviour);
    let model = ModelRoute { timeout: Duration::from_secs(2), ..static_model("digits", &[(wrapper.addr, 4)]) };
    let gateway = TestGateway::with_limits(vec![model], Limits::default());
    (wrapper, gateway)
}

/// A head that asks for an inference.
fn infer() -> Vec<u8> {
    header_block(&[(":method", "POST"), (":scheme", "http"), (":path", INFER), (":authority", "digits.vision")])
}

/// A healthy client is served, no slot is taken, and no attacker's connection is open.
async fn assert_unharmed(wrapper: &FakeWrapper, gateway: TestGateway) {
    wrapper.behave(Behaviour::Echo(Duration::ZERO));
    for client in [TestClient::http1(), TestClient::http2()] {
        assert_eq!(client.post(&gateway.url(INFER), "x").await.status, 200);
    }
    gateway.settles().await;
    eventually("the replica is idle", || wrapper.running() == 0).await;
    eventually("connections close", || gateway.metric("kferving_gateway_connections", &[]) == 0.0).await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rapid_resets_end_the_connection_and_leave_no_slot_taken() {
    let (wrapper, gateway) = start(Behaviour::Gated);
    let mut attacker = H2Attacker::connect(gateway.addr).await;
    let flood = (0..20_000_u32).flat_map(|index| {
        let stream = 2 * index + 1;
        [headers(stream, END_HEADERS | END_STREAM, &infer()), reset(stream)].concat()
    });
    attacker.send(&flood.collect::<Vec<_>>()).await;
    assert!(attacker.heard_until_closed().await.contains(&Heard::GoAway), "the gateway says why");
    drop(attacker);
    wrapper.let_go(100_000);
    assert_unharmed(&wrapper, gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn heads_without_end_are_cut_off() {
    let (wrapper, gateway) = start(Behaviour::Echo(Duration::ZERO));
    let mut attacker = H2Attacker::connect(gateway.addr).await;
    let mut flood = headers(1, END_STREAM, &infer());
    for _ in 0..5_000 {
        flood.extend(continuation(1, 0, &header_block(&[("x-padding", &"x".repeat(100))])));
    }
    attacker.send(&flood).await;
    assert!(attacker.heard_until_closed().await.contains(&Heard::GoAway));
    assert_eq!(wrapper.requests(), 0);
    drop(attacker);
    assert_unharmed(&wrapper, gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_header_list_that_unpacks_beyond_the_limit_is_not_served() {
    let (wrapper, gateway) = start(Behaviour::Echo(Duration::ZERO));
    let mut attacker = H2Attacker::connect(gateway.addr).await;
    // One large entry in the dynamic table, and thousands of one-byte references to it.
    let mut block = infer();
    block.extend(h2_frames::indexed_header("x-bomb", &"x".repeat(100)));
    block.extend(std::iter::repeat_n(h2_frames::FIRST_DYNAMIC_ENTRY, 10_000));
    attacker.send(&headers(1, END_HEADERS | END_STREAM, &block)).await;
    attacker.send(&ping()).await;
    let heard = attacker.heard_until(&[Heard::PingAck, Heard::GoAway, Heard::Closed]).await;
    assert!(!heard.contains(&Heard::Status(200)), "{heard:?}");
    assert_eq!(wrapper.requests(), 0);
    drop(attacker);
    assert_unharmed(&wrapper, gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_hosts_are_refused() {
    for fields in [
        &[(":authority", "digits.vision"), ("host", "other.vision")][..],
        &[(":authority", "digits.vision"), (":authority", "other.vision")],
        &[("host", "digits.vision"), ("host", "other.vision")],
    ] {
        let (wrapper, gateway) = start(Behaviour::Echo(Duration::ZERO));
        let mut attacker = H2Attacker::connect(gateway.addr).await;
        let mut all = vec![(":method", "POST"), (":scheme", "http"), (":path", INFER)];
        all.extend(fields);
        attacker.send(&headers(1, END_HEADERS | END_STREAM, &header_block(&all))).await;
        let heard = attacker
            .heard_until(&[Heard::Status(400), Heard::Status(200), Heard::Reset, Heard::GoAway, Heard::Closed])
            .await;
        assert!(!heard.contains(&Heard::Status(200)), "{fields:?}: {heard:?}");
        assert_eq!(wrapper.requests(), 0, "{fields:?} reached the replica");
        drop(attacker);
        assert_unharmed(&wrapper, gateway).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn targets_that_http1_does_not_take_are_refused() {
    for target in ["?\u{e9}", "?\u{7f}", "?\""] {
        let (wrapper, gateway) = start(Behaviour::Echo(Duration::ZERO));
        let mut attacker = H2Attacker::connect(gateway.addr).await;
        let path = format!("{INFER}{target}");
        let head = [(":method", "POST"), (":scheme", "http"), (":path", &path), (":authority", "digits.vision")];
        attacker.send(&headers(1, END_HEADERS | END_STREAM, &header_block(&head))).await;
        let heard = attacker
            .heard_until(&[Heard::Status(400), Heard::Status(200), Heard::Reset, Heard::GoAway, Heard::Closed])
            .await;
        assert!(!heard.contains(&Heard::Status(200)), "{target:?}: {heard:?}");
        assert_eq!(wrapper.requests(), 0, "{target:?} reached the replica");
        drop(attacker);
        assert_unharmed(&wrapper, gateway).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_of_small_frames_do_not_grow_or_stop_the_gateway() {
    let (wrapper, gateway) = start(Behaviour::Echo(Duration::ZERO));
    let open = headers(1, END_HEADERS, &infer());
    let floods = [
        [open, data(1, 0, b"").repeat(100_000)].concat(),
        ping().repeat(100_000),
        settings(&[(4, 65_535)]).repeat(100_000),
    ];
    for flood in floods {
        let mut attacker = H2Attacker::connect(gateway.addr).await;
        let healthy = async { TestClient::http1().post(&gateway.url(INFER), "x").await.status };
        let (_, status) = tokio::join!(attacker.flood(&flood), healthy);
        assert_eq!(status, 200);
    }
    assert_unharmed(&wrapper, gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn connect_opens_no_tunnel() {
    let (wrapper, gateway) = start(Behaviour::Echo(Duration::ZERO));
    let mut attacker = H2Attacker::connect(gateway.addr).await;
    let connect = header_block(&[(":method", "CONNECT"), (":authority", "digits.vision:80")]);
    attacker.send(&headers(1, END_HEADERS, &connect)).await;
    attacker.send(&ping()).await;
    let heard = attacker.heard_until(&[Heard::PingAck, Heard::GoAway, Heard::Closed]).await;
    assert!(!heard.contains(&Heard::Status(200)), "{heard:?}");
    assert_eq!(wrapper.requests(), 0);
    drop(attacker);
    assert_unharmed(&wrapper, gateway).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_never_takes_its_answer_does_not_keep_the_slot() {
    let (wrapper, gateway) = start(Behaviour::Echo(Duration::ZERO));
    // No byte of any answer may be sent.
    let mut attacker = H2Attacker::connect_with(gateway.addr, &[(4, 0)]).await;
    // Two answers that are there at once, and two that are longer than the gateway reads ahead.
    for (stream, frames) in [(1, 1), (3, 1), (5, 20), (7, 20)] {
        attacker.send(&headers(stream, END_HEADERS, &infer())).await;
        attacker.send(&data(stream, 0, &[b'x'; 16_000]).repeat(frames)).await;
        attacker.send(&data(stream, END_STREAM, b"x")).await;
    }
    attacker.heard_until(&[Heard::Status(200)]).await;
    // The model's timeout is 2 s: the connection is still open when the slots must be free.
    gateway.settles().await;
    let answer = TestClient::http1().post(&gateway.url(INFER), "x").await;
    assert_eq!(answer.status, 200);
    drop(attacker);
    assert_unharmed(&wrapper, gateway).await;
}
