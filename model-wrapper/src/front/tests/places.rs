//! Peers that do not take what they asked for: whose place they keep, and for how long.

use super::*;
use crate::front::server::Patience;

/// Asks until an echo is answered.
async fn until_answered(other: &mut Served) {
    let patience = std::time::Instant::now() + Duration::from_secs(30);
    while other.infer(ECHO, "30").await.0 != 200 {
        assert!(std::time::Instant::now() < patience, "the place is still taken");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn an_answer_that_is_not_read_keeps_its_place() {
    let (listener, front, let_go) = front(one()).await;
    let addr = listener.local_addr().unwrap();
    tokio::spawn(front.serve(listener, std::future::pending()));
    let mut other = Served { connection: connect(addr).await, let_go };

    let mut reader = TcpStream::connect(addr).await.unwrap();
    let body = body(HUGE);
    let head = format!("POST /v2/models/fake/infer HTTP/1.1\r\nhost: test\r\ncontent-length: {}\r\n\r\n", body.len());
    reader.write_all((head + &body).as_bytes()).await.unwrap();
    let mut status = [0; 12];
    reader.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    let (status, reason, _) = other.infer(ECHO, "30").await;
    assert_eq!((status, reason.as_deref()), (503, Some("replica-busy")));

    drop(reader);
    until_answered(&mut other).await;
}

#[tokio::test]
async fn a_streams_answer_that_is_not_read_keeps_its_place() {
    let (listener, front, let_go) = front(one()).await;
    let addr = listener.local_addr().unwrap();
    let metrics = front.metrics.clone();
    tokio::spawn(front.serve(listener, std::future::pending()));
    let mut other = Served { connection: connect(addr).await, let_go };

    let client = GrpcInferenceServiceClient::connect(format!("http://{addr}")).await.unwrap();
    let (messages, sent) = tokio::sync::mpsc::unbounded_channel();
    let mut client = client.max_decoding_message_size(usize::MAX);
    // The second comes while the answer to the first holds the only place.
    messages.send(message(HUGE)).unwrap();
    messages.send(message(ECHO)).unwrap();
    let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(sent);
    let mut answers = client.model_stream_infer(stream).await.unwrap().into_inner();
    let patience = std::time::Instant::now() + Duration::from_secs(30);
    while metrics.answered(Protocol::Grpc) == 0 {
        assert!(std::time::Instant::now() < patience, "the message was not run");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let (status, reason, _) = other.infer(ECHO, "30").await;
    assert_eq!((status, reason.as_deref()), (503, Some("replica-busy")));

    for bytes in [HUGE_BYTES, 1] {
        let answer = answers.message().await.unwrap().unwrap();
        assert_eq!(answer.error_message, "");
        assert_eq!(answer.infer_response.unwrap().raw_output_contents[0].len(), bytes);
    }
    until_answered(&mut other).await;
}

#[tokio::test]
async fn a_window_that_stays_closed_keeps_no_place_for_good() {
    let (listener, front, let_go) = front(one()).await;
    let addr = listener.local_addr().unwrap();
    let metrics = front.metrics.clone();
    let patience = Patience { stalled_stream: Duration::from_secs(2), ..Patience::default() };
    tokio::spawn(front.serve_with(patience, listener, std::future::pending()));
    let mut other = Served { connection: connect(addr).await, let_go };

    for (window, behaviour) in [(0, ECHO), (20, ECHO), (1 << 20, HUGE)] {
        let answered = metrics.answered(Protocol::V2);
        let stream = TcpStream::connect(addr).await.unwrap();
        let mut client = hyper::client::conn::http2::Builder::new(hyper_util::rt::TokioExecutor::new());
        let (mut sender, driver) =
            client.initial_stream_window_size(window).handshake(TokioIo::new(stream)).await.unwrap();
        let ended = tokio::spawn(driver);
        let uri = format!("http://{addr}/v2/models/fake/infer");
        let request = Request::post(uri).body(Full::<Bytes>::from(body(behaviour))).unwrap();
        // Its body is never read.
        let response = sender.send_request(request).await.unwrap();
        assert_eq!((response.status().as_u16(), metrics.answered(Protocol::V2)), (200, answered + 1));
        assert_eq!(other.infer(ECHO, "30").await.0, 503);
        until_answered(&mut other).await;
        tokio::time::timeout(Duration::from_secs(30), ended).await.expect("its connection ends").unwrap().ok();
    }
}

#[tokio::test]
async fn a_silent_http2_peer_keeps_no_connection() {
    let (listener, front, _let_go) = front(Settings::default()).await;
    let addr = listener.local_addr().unwrap();
    let brief = Duration::from_millis(20);
    let patience = Patience { sign_of_life: brief, sign_takes: brief, ..Patience::default() };
    tokio::spawn(front.serve_with(patience, listener, std::future::pending()));
    let mut silent = TcpStream::connect(addr).await.unwrap();
    // The preface and empty settings; no ping is answered.
    silent.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut ignored = Vec::new();
    let ended = tokio::time::timeout(Duration::from_secs(30), silent.read_to_end(&mut ignored)).await;
    assert!(ended.is_ok(), "its connection is still open");
}
