use super::*;
use crate::fake_server::FakeServer;
use crate::http1;

const LENGTH: Duration = Duration::from_millis(200);

fn closed_loop(addr: SocketAddr, concurrency: usize) -> ClosedLoop {
    ClosedLoop { addr, request: http1::get("h", "/"), concurrency, core: None }
}

#[tokio::test]
async fn every_connection_asks_until_the_end() {
    let server = FakeServer::start().await;
    let load = closed_loop(server.addr, 4).run(LENGTH).await.unwrap();
    assert!(load.recorder.errors.is_empty(), "{:?}", load.recorder.errors);
    assert!(load.recorder.latency.count() >= 4);
    assert!(load.elapsed >= LENGTH);
}

#[tokio::test]
async fn every_connection_asks_once_however_short_the_run() {
    let server = FakeServer::start().await;
    let load = closed_loop(server.addr, 3).run(Duration::ZERO).await.unwrap();
    assert_eq!(load.recorder.latency.count(), 3);
}

/// What it is not to be used for: a stall is seen once by each connection, however many requests were due.
#[tokio::test]
async fn a_stall_is_seen_once_by_each_connection() {
    let server = FakeServer::start().await;
    server.stall();
    let load = closed_loop(server.addr, 2);
    let run = tokio::spawn(load.run(LENGTH));
    server.asked(2).await;
    // Whatever the run's length was counted from, it is over then.
    tokio::time::sleep(LENGTH).await;
    server.resume();
    let load = run.await.unwrap().unwrap();
    assert_eq!(load.recorder.latency.count(), 2);
}

#[tokio::test]
async fn nobody_listening_is_an_error() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap();
    drop(listener);
    let error = format!("{:#}", closed_loop(addr, 1).run(LENGTH).await.unwrap_err());
    assert!(error.contains(&addr.to_string()), "{error}");
}
