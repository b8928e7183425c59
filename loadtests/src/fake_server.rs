//! A server for tests of the generators: it answers at once until it is told to stall.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

/// Answers requests without a body with 200, one at a time on each connection; while the gate is shut it answers nobody.
pub(crate) struct FakeServer {
    pub(crate) addr: SocketAddr,
    gate: Arc<watch::Sender<bool>>,
}

impl FakeServer {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let gate = Arc::new(watch::Sender::new(true));
        let opened = gate.subscribe();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(serve(stream, opened.clone()));
            }
        });
        Self { addr, gate }
    }

    pub(crate) fn stall(&self) {
        self.gate.send_replace(false);
    }

    pub(crate) fn resume(&self) {
        self.gate.send_replace(true);
    }
}

async fn serve(mut stream: TcpStream, mut opened: watch::Receiver<bool>) {
    let mut request = Vec::new();
    loop {
        while !request.ends_with(b"\r\n\r\n") {
            match stream.read_buf(&mut request).await {
                Ok(0) | Err(_) => return,
                Ok(_) => {}
            }
        }
        request.clear();
        if opened.wait_for(|open| *open).await.is_err() {
            return;
        }
        if stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await.is_err() {
            return;
        }
    }
}
