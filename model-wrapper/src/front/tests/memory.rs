//! The bound of what all requests have in memory.

use super::*;

/// Bytes of all requests in the tests of that bound, and of a body that takes most of them.
const MEMORY: usize = 1 << 20;
const MOST: usize = 700 << 10;

/// A body of about [`MOST`] bytes for an echo.
fn large() -> String {
    let mut body = body(ECHO);
    body.insert_str(1, &" ".repeat(MOST));
    body
}

#[tokio::test]
async fn bodies_that_do_not_go_on_are_bounded_together() {
    let registry = Registry::new();
    let settings = Settings { memory: Some(MEMORY), registry: registry.clone(), ..Settings::default() };
    let (listener, front, let_go) = front(settings).await;
    let addr = listener.local_addr().unwrap();
    tokio::spawn(front.serve(listener, std::future::pending()));
    let mut other = Served { connection: connect(addr).await, let_go };
    let whole = || Request::post("/v2/models/fake/infer");
    assert_eq!(other.send(whole(), large()).await.0, 200);

    let mut unfinished = TcpStream::connect(addr).await.unwrap();
    let head = format!("POST /v2/models/fake/infer HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", 2 * MOST);
    unfinished.write_all((head + &" ".repeat(MOST)).as_bytes()).await.unwrap();
    until_held(&registry, MOST).await;
    assert_eq!(large_at(addr).await, (503, Some("replica-busy".to_owned())));
    assert_eq!(other.infer(ECHO, "30").await.0, 200);
    drop(unfinished);
    until_held(&registry, 0).await;
    assert_eq!(large_at(addr).await, (200, None));

    // A message of a stream, which has no place while it comes.
    let stream = TcpStream::connect(addr).await.unwrap();
    let (mut sender, driver) =
        hyper::client::conn::http2::handshake(hyper_util::rt::TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    let driver = tokio::spawn(driver);
    let (frames, sent) = tokio::sync::mpsc::unbounded_channel::<Result<_, Infallible>>();
    let body = http_body_util::StreamBody::new(tokio_stream::wrappers::UnboundedReceiverStream::new(sent));
    let request = Request::post(format!("http://{addr}/inference.GRPCInferenceService/ModelStreamInfer"))
        .header("content-type", "application/grpc")
        .body(body)
        .unwrap();
    let call = tokio::spawn(async move { sender.send_request(request).await.map(|response| (sender, response)) });
    let prefix = [&[0][..], &u32::try_from(2 * MOST).unwrap().to_be_bytes()].concat();
    frames.send(Ok(http_body::Frame::data(Bytes::from([prefix, vec![0; MOST]].concat())))).unwrap();
    until_held(&registry, MOST).await;
    assert_eq!(large_at(addr).await, (503, Some("replica-busy".to_owned())));
    driver.abort();
    drop((frames, call));
    until_held(&registry, 0).await;
    assert_eq!(large_at(addr).await, (200, None));
}

/// Waits until requests have this many bytes in memory, or a few more.
async fn until_held(registry: &Registry, bytes: usize) {
    let patience = std::time::Instant::now() + Duration::from_secs(30);
    loop {
        let families = registry.gather();
        let family = families.iter().find(|family| family.name() == "kferving_wrapper_request_bytes").unwrap();
        let held = family.get_metric()[0].get_gauge().get_value() as usize;
        if (bytes..=bytes + 100).contains(&held) {
            return;
        }
        assert!(std::time::Instant::now() < patience, "still {held}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// Status and reason of the answer to a large body.
async fn large_at(addr: SocketAddr) -> (u16, Option<String>) {
    let mut served = Served { connection: connect(addr).await, let_go: Arc::default() };
    let (status, reason, _) = served.send(Request::post("/v2/models/fake/infer"), large()).await;
    (status, reason)
}

#[tokio::test]
async fn what_a_body_becomes_counts_as_it_does() {
    use std::io::Write as _;

    let (listener, front, let_go) = front(Settings { memory: Some(MEMORY), ..Settings::default() }).await;
    let addr = listener.local_addr().unwrap();
    tokio::spawn(front.serve(listener, std::future::pending()));
    let mut served = Served { connection: connect(addr).await, let_go };
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(" ".repeat(3 * MEMORY).as_bytes()).unwrap();
    let request = Request::post("/v2/models/fake/infer").header("host", "test").header("content-encoding", "gzip");
    let request = request.body(Full::from(encoder.finish().unwrap())).unwrap();
    let response = served.connection.send_request(request).await.unwrap();
    assert_eq!(
        (response.status().as_u16(), response.headers()[REASON_HEADER].to_str().unwrap()),
        (503, "replica-busy")
    );
}
