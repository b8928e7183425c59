//! Requests to a replica, as a gateway forwards them.

use autoscaler_demand::ReplicaAdded;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// A request of which the last byte is not sent before it is asked for.
pub(crate) struct SlowRequest {
    stream: TcpStream,
    last: u8,
}

impl SlowRequest {
    /// Sends all of an inference but its last byte, and waits until the replica has seen the head.
    pub(crate) async fn begin(added: &ReplicaAdded) -> Self {
        let mut stream = TcpStream::connect(&added.address).await.unwrap();
        let body = body();
        let (last, most) = body.as_bytes().split_last().unwrap();
        let head = head(added, body.len(), "expect: 100-continue\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut go_on = [0; 25];
        stream.read_exact(&mut go_on).await.unwrap();
        assert_eq!(&go_on, b"HTTP/1.1 100 Continue\r\n\r\n", "{}", String::from_utf8_lossy(&go_on));
        stream.write_all(most).await.unwrap();
        Self { stream, last: *last }
    }

    /// What the replica has answered so far.
    pub(crate) fn interim(&self) -> Option<usize> {
        let mut buffer = [0; 64];
        self.stream.try_read(&mut buffer).ok()
    }

    /// Sends the last byte; the status of the answer.
    pub(crate) async fn finish(mut self) -> u16 {
        self.stream.write_all(&[self.last]).await.unwrap();
        status(&mut self.stream).await
    }
}

/// Asks a replica for the digit that an empty picture shows; the HTTP status.
pub(crate) async fn predict(added: &ReplicaAdded) -> u16 {
    let mut stream = TcpStream::connect(&added.address).await.unwrap();
    let body = body();
    let request = head(added, body.len(), "") + &body;
    stream.write_all(request.as_bytes()).await.unwrap();
    status(&mut stream).await
}

/// An empty picture.
fn body() -> String {
    let inputs = serde_json::json!([{"name": "image", "shape": [1, 64], "datatype": "FP32", "data": vec![0.0; 64]}]);
    serde_json::json!({ "inputs": inputs }).to_string()
}

fn head(added: &ReplicaAdded, length: usize, more: &str) -> String {
    let ReplicaAdded { address, model, revision, digest, .. } = added;
    format!(
        "POST /v2/models/{model}/infer HTTP/1.1\r\nhost: {address}\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\nconnection: close\r\nkferving-revision: {revision}@{digest}\r\n{more}\r\n"
    )
}

/// The status of the answer that is read to its end.
async fn status(stream: &mut TcpStream) -> u16 {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|status| status.parse().ok());
    status.unwrap_or_else(|| panic!("no HTTP answer: {answer}"))
}
