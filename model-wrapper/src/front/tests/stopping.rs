//! What becomes of connections when the server stops.

use super::*;

/// Sends a request that is answered at once.
async fn ask(stream: &mut TcpStream) {
    stream.write_all(b"GET /v2/health/live HTTP/1.1\r\nhost: test\r\n\r\n").await.unwrap();
}

#[tokio::test]
async fn what_callers_have_sent_is_answered_when_the_server_stops() {
    let (listener, front, _let_go) = front(Settings::default()).await;
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(front.serve(listener, async move { drop(stopped.await) }));
    let mut kept = Vec::new();
    for _ in 0..50 {
        let mut stream = TcpStream::connect(addr).await.unwrap();
        ask(&mut stream).await;
        let mut head = [0; 12];
        stream.read_exact(&mut head).await.unwrap();
        assert_eq!(&head, b"HTTP/1.1 200");
        kept.push(stream);
    }
    let mut fresh = Vec::new();
    for _ in 0..50 {
        fresh.push(TcpStream::connect(addr).await.unwrap());
    }
    for stream in kept.iter_mut().chain(&mut fresh) {
        ask(stream).await;
    }
    stop.send(()).unwrap();
    for (index, stream) in kept.iter_mut().chain(&mut fresh).enumerate() {
        let mut rest = String::new();
        stream.read_to_string(&mut rest).await.unwrap();
        assert!(rest.contains("HTTP/1.1 200"), "connection {index}: {rest:?}");
    }
    server.await.unwrap();
}

#[tokio::test]
async fn an_idle_stream_is_told_that_its_server_stops() {
    let (listener, front, _let_go) = front(Settings::default()).await;
    let addr = listener.local_addr().unwrap();
    let (stop, stopped) = tokio::sync::oneshot::channel::<()>();
    let server = tokio::spawn(front.serve(listener, async move { drop(stopped.await) }));
    let mut client = GrpcInferenceServiceClient::connect(format!("http://{addr}")).await.unwrap();
    let (messages, sent) = tokio::sync::mpsc::unbounded_channel();
    messages.send(message(ECHO)).unwrap();
    let stream = tokio_stream::wrappers::UnboundedReceiverStream::new(sent);
    let mut answers = client.model_stream_infer(stream).await.unwrap().into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().error_message, "");
    stop.send(()).unwrap();
    let status = answers.message().await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::Unavailable);
    assert_eq!(status.metadata().get(REASON_HEADER).unwrap(), "shutting-down");
    drop((messages, client));
    tokio::time::timeout(Duration::from_secs(30), server).await.expect("the server ends").unwrap();
}
