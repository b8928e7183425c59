//! Limits at the ends of their ranges.

#![allow(clippy::unwrap_used, reason = "a test may panic")]

mod support;

use std::time::Duration;

use gateway::{Limits, ModelRoute};
use http::StatusCode;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{TestClient, TestGateway, static_model};

/// More than anybody lives.
const FOREVER: Duration = Duration::from_secs(5_000_000_000);

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_limits_limit_nothing() {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let limits = Limits {
        max_body_bytes: u64::MAX,
        hold_requests: usize::MAX,
        hold_bytes: u64::MAX,
        reading_bytes: u64::MAX,
        caller_concurrency: Some(u32::MAX),
        max_connections: usize::MAX,
        header_timeout: FOREVER,
        idle_timeout: FOREVER,
        body_idle_timeout: FOREVER,
        body_bytes_per_second: u64::MAX,
        body_grace: FOREVER,
        answer_stall_timeout: FOREVER,
        drain_timeout: FOREVER,
        held_drain_timeout: FOREVER,
    };
    let model = static_model("digits", &[(wrapper.addr, u32::MAX)]);
    let model = ModelRoute { timeout: FOREVER, objective: Some(FOREVER), ..model };
    let gateway = TestGateway::with_limits(vec![model], limits);
    for client in [TestClient::http1(), TestClient::http2()] {
        for length in [0, 1, 5_000, 1 << 20] {
            let answer = client.post(&gateway.url("/v2/models/digits/infer"), vec![b'x'; length]).await;
            assert_eq!((answer.status, answer.body.len()), (StatusCode::OK, length));
        }
    }
    gateway.settles().await;
    gateway.stop().await;
}
