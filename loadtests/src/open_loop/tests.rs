use super::*;
use crate::arrivals::{Arrivals, Spread};
use crate::fake_server::FakeServer;

const PATIENCE: Duration = Duration::from_secs(30);

fn target(addr: SocketAddr) -> Target {
    Target { addr, request: http1::get("h", "/"), keep: Keep::Nothing, patience: PATIENCE }
}

fn plan(per_second: f64, length: Duration) -> Vec<Shot> {
    Arrivals::new(Spread::Constant, per_second, 1).until(length).into_iter().map(|at| Shot { at, target: 0 }).collect()
}

#[tokio::test]
async fn every_shot_has_an_outcome_and_none_leaves_early() {
    let server = FakeServer::start().await;
    let plan = plan(1000.0, Duration::from_millis(300));
    let mut outcomes = Vec::new();
    run(plan.clone(), &[target(server.addr)], Instant::now(), |outcome| outcomes.push(outcome)).await;
    assert_eq!(outcomes.len(), plan.len());
    for outcome in &outcomes {
        assert!(outcome.succeeded(), "{outcome:?}");
        assert!(
            outcome.intended <= outcome.sent
                && outcome.sent <= outcome.first_byte
                && outcome.first_byte <= outcome.done
        );
    }
}

/// The stall must show in every request that was due during it, not in those alone that were on the wire when it began.
#[tokio::test]
async fn a_stall_counts_against_every_request_due_during_it() {
    let server = FakeServer::start().await;
    server.stall();
    let stall = Duration::from_millis(400);
    let start = Instant::now();
    let (resumed, resume) = tokio::sync::oneshot::channel();
    let addr = server.addr;
    tokio::spawn(async move {
        tokio::time::sleep(stall).await;
        let _ = resumed.send(start.elapsed());
        server.resume();
        // The server lives as long as its gate.
        tokio::time::sleep(PATIENCE).await;
    });
    let mut outcomes = Vec::new();
    run(plan(100.0, stall * 2), &[target(addr)], start, |outcome| outcomes.push(outcome)).await;
    let resumed = resume.await.unwrap();

    let during: Vec<_> = outcomes.iter().filter(|outcome| outcome.intended < resumed).collect();
    assert!(during.len() >= 40, "{}", during.len());
    for outcome in during {
        assert!(outcome.latency() >= resumed.saturating_sub(outcome.intended), "{outcome:?}");
    }
}

#[tokio::test]
async fn a_server_that_never_answers_ends_in_timeouts() {
    let server = FakeServer::start().await;
    server.stall();
    let target = Target { patience: Duration::from_millis(50), ..target(server.addr) };
    let mut names = Vec::new();
    run(plan(100.0, Duration::from_millis(50)), &[target], Instant::now(), |outcome| names.push(outcome.name())).await;
    assert_eq!(names, vec!["timeout"; 5]);
}

#[tokio::test]
async fn nobody_listening_is_a_failure_of_each_request() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let target = target(listener.local_addr().unwrap());
    drop(listener);
    let mut names = Vec::new();
    run(plan(100.0, Duration::from_millis(30)), &[target], Instant::now(), |outcome| names.push(outcome.name())).await;
    assert_eq!(names, vec!["connect"; 3]);
}
